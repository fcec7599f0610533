"""What the index does with an object: levels, overwriting, changes, counters, quotas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from orthanctw.errors import FullStorage, UnknownResource
from orthanctw.index.database import SqliteIndex
from orthanctw.interfaces import IIndex
from orthanctw.model import (
    Change,
    ChangeType,
    NewInstance,
    OverwriteMode,
    ResourceLevel,
    StorageMode,
    Stored,
    StoreStatus,
)
from test.index_samples import DATE, attachment, ids, new_instance

PATIENT, STUDY, SERIES, INSTANCE = ResourceLevel
#: 2026-03-01 00:00:00 UTC, after `DATE`.
NOW, NOW_TEXT = 1772323200.0, "20260301T000000"


def titles(changes: Sequence[Change]) -> list[str]:
    return [change.change_type.title for change in changes]


class IndexTestCase(SynchronousTestCase):
    """An index whose work is done at once; `options` are those of `SqliteIndex`."""

    def open_index(self, **options: Any) -> SqliteIndex:
        self.now = NOW
        index = SqliteIndex(
            reactor,  # type: ignore[arg-type]
            self.mktemp(),
            synchronous=True,
            clock=lambda: self.now,
            **options,
        )
        self.successResultOf(index.open())
        self.addCleanup(index.close)
        return index

    def setUp(self) -> None:
        self.index = self.open_index()

    def result(self, deferred: Deferred[Any]) -> Any:
        return self.successResultOf(deferred)

    def store(self, instance: NewInstance, index: SqliteIndex | None = None) -> Stored:
        return self.successResultOf((index or self.index).store(instance))

    def logged(self, index: SqliteIndex | None = None) -> list[str]:
        changes, _ = self.result((index or self.index).changes(0, 100000, None, frozenset()))
        return titles(changes)

    def present(self, level: ResourceLevel, public_id: str, index: SqliteIndex | None = None) -> bool:
        return self.result((index or self.index).resource(level, public_id)) is not None


class StoreTests(IndexTestCase):
    def test_the_index_keeps_its_contract(self) -> None:
        """The class provides what the interface names, with its arguments."""
        verifyObject(IIndex, self.index)

    def test_first_object_of_a_patient(self) -> None:
        """Four resources and their changes, from the instance upwards."""
        stored = self.store(new_instance())
        expected = ["NewInstance", "NewSeries", "NewStudy", "NewPatient"]
        self.assertIs(stored.status, StoreStatus.SUCCESS)
        self.assertEqual(titles(stored.changes), expected)
        self.assertEqual([change.seq for change in stored.changes], [1, 2, 3, 4])
        self.assertEqual(stored.created, frozenset(ResourceLevel))
        self.assertEqual(self.logged(), expected)

    def test_later_objects_create_what_is_new(self) -> None:
        """Only the levels that a study, series or instance begins are created."""
        self.store(new_instance())
        self.assertEqual(titles(self.store(new_instance(instance="2")).changes), ["NewInstance"])
        self.assertEqual(self.store(new_instance(series="2")).created, frozenset({SERIES, INSTANCE}))
        self.assertEqual(self.store(new_instance(study="2")).created, frozenset({STUDY, SERIES, INSTANCE}))

    def test_what_is_stored_can_be_read(self) -> None:
        """Tags, metadata, header and files come back as they were given."""
        instance = new_instance(number="7")
        self.store(instance)
        read = self.result(self.index.resource(INSTANCE, ids(instance)[3]))
        self.assertEqual(read.main_tags, instance.instance.main_tags)
        self.assertEqual(
            {number: value.value for number, value in read.metadata.items()}, instance.instance.metadata
        )
        self.assertEqual({value.revision for value in read.metadata.values()}, {0})
        self.assertEqual((read.level, read.parent_id), (INSTANCE, ids(instance)[2]))
        self.assertEqual(self.result(self.index.header(ids(instance)[3])), instance.header)
        files = self.result(self.index.attachments(INSTANCE, ids(instance)[3]))
        self.assertEqual(files, {1: instance.attachments[0]})

    def test_parents_keep_the_tags_of_their_first_object(self) -> None:
        """A later object changes neither tags nor metadata of its parents, except LastUpdate."""
        first = new_instance(expected="9")
        self.store(first)
        self.store(new_instance(instance="2", name="Other", expected="5", date="20260102T030406"))
        for level, public_id, given in zip(
            (PATIENT, STUDY, SERIES), ids(first), (first.patient, first.study, first.series), strict=False
        ):
            read = self.result(self.index.resource(level, public_id))
            self.assertEqual(read.main_tags, given.main_tags)
            metadata = {number: value.value for number, value in read.metadata.items()}
            self.assertEqual(metadata, {**given.metadata, 7: "20260102T030406"})

    def test_an_older_date_in_another_series_does_not_stick(self) -> None:
        """Every object sets LastUpdate of its study, whichever series was busy before."""
        for series, date in (("1", "20260102T000001"), ("2", "20260102T000002"), ("1", "20260102T000003")):
            self.store(new_instance(series=series, instance=date[-1], date=date))
            study = self.result(self.index.resource(STUDY, ids(new_instance())[1]))
            self.assertEqual(study.metadata[7].value, date)

    def test_already_stored(self) -> None:
        """The same object again changes and logs nothing."""
        self.store(new_instance())
        before = self.result(self.index.statistics())
        stored = self.store(new_instance(date="20270101T000000"))
        self.assertEqual(stored, Stored(status=StoreStatus.ALREADY_STORED))
        self.assertEqual(self.result(self.index.statistics()), before)
        self.assertEqual(len(self.logged()), 4)
        study = self.result(self.index.resource(STUDY, ids(new_instance())[1]))
        self.assertEqual(study.metadata[7].value, DATE)

    def test_overwriting(self) -> None:
        """An overwritten object is deleted and created again; its old file is to be removed."""
        first = new_instance()
        self.store(first)
        self.store(new_instance(instance="2"))
        self.result(self.index.add_label(INSTANCE, ids(first)[3], "kept"))
        again = new_instance(overwrite=OverwriteMode.ALWAYS)
        stored = self.store(again)
        self.assertEqual(titles(stored.changes), ["Deleted", "NewInstance"])
        self.assertEqual(stored.removed_files, (first.attachments[0].uuid,))
        self.assertEqual(self.result(self.index.pending_removals()), stored.removed_files)
        read = self.result(self.index.resource(INSTANCE, ids(first)[3]))
        self.assertEqual(read.labels, ())
        self.assertEqual(self.result(self.index.attachments(INSTANCE, ids(first)[3])), {1: again.attachments[0]})
        self.assertEqual(self.result(self.index.statistics()).instances, 2)

    def test_overwriting_the_only_object(self) -> None:
        """Its parents go with it and are made anew."""
        self.store(new_instance())
        stored = self.store(new_instance(overwrite=OverwriteMode.ALWAYS, name="Renamed"))
        self.assertEqual(
            titles(stored.changes), ["Deleted"] * 4 + ["NewInstance", "NewSeries", "NewStudy", "NewPatient"]
        )
        patient = self.result(self.index.resource(PATIENT, ids(new_instance())[0]))
        self.assertIn("Renamed", patient.main_tags.values())

    def test_overwriting_if_changed(self) -> None:
        """The digest of the file decides, and its absence means that it changed."""
        same, other = attachment(md5="aa"), attachment(md5="bb")
        self.store(new_instance(files=(same,)))
        mode = OverwriteMode.IF_CHANGED
        again = self.store(new_instance(files=(attachment(md5="aa"),), overwrite=mode))
        self.assertIs(again.status, StoreStatus.ALREADY_STORED)
        changed = self.store(new_instance(files=(other,), overwrite=mode))
        self.assertEqual((changed.status, changed.removed_files), (StoreStatus.SUCCESS, (same.uuid,)))

    def test_completed_series(self) -> None:
        """The object that completes a series logs so, and every later one that leaves it complete."""
        self.assertNotIn("CompletedSeries", titles(self.store(new_instance(expected="2")).changes))
        self.assertEqual(titles(self.store(new_instance(instance="2")).changes), ["NewInstance", "CompletedSeries"])
        repeated = self.store(new_instance(instance="3", number="2"))
        self.assertEqual(titles(repeated.changes), ["NewInstance", "CompletedSeries"])
        beyond = self.store(new_instance(instance="4", number="4"))
        self.assertEqual(titles(beyond.changes), ["NewInstance"])

    def test_counters(self) -> None:
        """The totals count resources and the sizes of files, DICOM files apart."""
        files = (attachment(size=100, compressed=40), attachment(3, size=10))
        self.store(new_instance(files=files))
        self.store(new_instance(patient="Q", study="2"))
        totals = self.result(self.index.statistics())
        self.assertEqual((totals.patients, totals.studies, totals.series, totals.instances), (2, 2, 2, 2))
        self.assertEqual((totals.disk_size, totals.uncompressed_size), (1050, 1110))
        self.assertEqual((totals.dicom_disk_size, totals.dicom_uncompressed_size), (1040, 1100))

    def test_text_that_is_not_unicode_is_refused(self) -> None:
        """Half a surrogate pair fails this object and leaves nothing behind."""
        failure = self.failureResultOf(self.index.store(new_instance(name="\ud800")))
        self.assertEqual(failure.value.http_status, 400)
        self.assertEqual(self.result(self.index.statistics()).patients, 0)
        self.assertIs(self.store(new_instance()).status, StoreStatus.SUCCESS)


class QuotaTests(IndexTestCase):
    def small(self, patient: str, **options: Any) -> NewInstance:
        return new_instance(patient=patient, study=patient, files=(attachment(size=100),), **options)

    def test_the_oldest_patients_are_recycled(self) -> None:
        """Room is made in the transaction that stores, and no more than needed."""
        index = self.open_index(maximum_size=300)
        objects = [self.small(patient) for patient in ("1", "2", "3")]
        for item in objects:
            self.store(item, index)
        stored = self.store(self.small("4"), index)
        self.assertEqual(stored.removed_files, (objects[0].attachments[0].uuid,))
        self.assertEqual(titles(stored.changes)[:5], ["Deleted"] * 4 + ["NewInstance"])
        self.assertEqual(stored.changes[3].public_id, ids(objects[0])[0])
        self.assertFalse(self.present(PATIENT, ids(objects[0])[0], index))
        self.assertTrue(self.present(PATIENT, ids(objects[1])[0], index))

    def test_a_patient_in_use_moves_to_the_end(self) -> None:
        """A new object of an old patient saves it from being the next."""
        index = self.open_index(maximum_patients=2)
        self.store(self.small("1"), index)
        self.store(self.small("2"), index)
        self.store(self.small("1", instance="2"), index)
        self.store(self.small("3"), index)
        self.assertTrue(self.present(PATIENT, ids(self.small("1"))[0], index))
        self.assertFalse(self.present(PATIENT, ids(self.small("2"))[0], index))

    def test_protected_patients_stay(self) -> None:
        """A protected patient is never recycled; one that is free again is the last."""
        index = self.open_index(maximum_patients=2)
        self.store(self.small("1"), index)
        self.store(self.small("2"), index)
        first = ids(self.small("1"))[0]
        self.result(index.set_protected(first, True))
        self.assertTrue(self.result(index.resource(PATIENT, first)).is_protected)
        self.store(self.small("3"), index)
        self.assertTrue(self.present(PATIENT, first, index))
        self.result(index.set_protected(first, False))
        self.store(self.small("4"), index)
        self.assertTrue(self.present(PATIENT, first, index))
        self.assertFalse(self.present(PATIENT, ids(self.small("3"))[0], index))

    def test_no_room_at_all(self) -> None:
        """When everything is protected, or the object alone is too large, nothing is stored nor recycled."""
        index = self.open_index(maximum_size=250)
        self.store(self.small("1"), index)
        self.store(self.small("2"), index)
        self.result(index.set_protected(ids(self.small("1"))[0], True))
        before = self.result(index.statistics()), self.logged(index)
        large = new_instance(patient="3", files=(attachment(size=200),))
        self.failureResultOf(index.store(large), FullStorage)
        self.assertEqual((self.result(index.statistics()), self.logged(index)), before)
        self.assertTrue(self.present(PATIENT, ids(self.small("2"))[0], index))
        self.assertEqual(self.result(index.pending_removals()), ())

    def test_the_patient_being_stored_is_never_recycled(self) -> None:
        """A patient larger than the quota is refused, not eaten from behind."""
        index = self.open_index(maximum_size=150)
        self.store(self.small("1"), index)
        self.failureResultOf(index.store(self.small("1", instance="2")), FullStorage)
        self.assertTrue(self.present(INSTANCE, ids(self.small("1"))[3], index))

    def test_reject(self) -> None:
        """In the mode Reject a full storage refuses new objects, by size and by patients."""
        for options in ({"maximum_size": 150}, {"maximum_patients": 1}):
            index = self.open_index(mode=StorageMode.REJECT, **options)
            self.store(self.small("1"), index)
            failure = self.failureResultOf(index.store(self.small("2")), FullStorage)
            self.assertEqual(failure.value.http_status, 507)
            self.assertEqual(self.result(index.statistics()).patients, 1)

    def test_overwriting_frees_the_old_size_first(self) -> None:
        """An object may be replaced by one of its size in a full storage."""
        index = self.open_index(mode=StorageMode.REJECT, maximum_size=100)
        self.store(self.small("1"), index)
        again = self.store(self.small("1", overwrite=OverwriteMode.ALWAYS), index)
        self.assertIs(again.status, StoreStatus.SUCCESS)

    def test_attachments_count_too(self) -> None:
        """An attachment that does not fit is refused; the patient that it belongs to stays."""
        index = self.open_index(maximum_size=150)
        self.store(self.small("1"), index)
        public_id = ids(self.small("1"))[0]
        adding = index.add_attachment(PATIENT, public_id, attachment(1024, size=100))
        self.failureResultOf(adding, FullStorage)
        self.assertEqual(self.result(index.attachments(PATIENT, public_id)), {})
        self.assertEqual(self.result(index.statistics()).disk_size, 100)


class DeleteTests(IndexTestCase):
    def test_deleting_downwards(self) -> None:
        """A study goes with all below it; the patient remains and is named."""
        instances = [new_instance(study=s, series=r, instance=i) for s in "12" for r in "12" for i in "12"]
        for item in instances:
            self.store(item)
        deleted = self.result(self.index.delete(STUDY, ids(instances[0])[1]))
        self.assertEqual(deleted.remaining, (PATIENT, ids(instances[0])[0]))
        self.assertEqual([c.level for c in deleted.changes], [INSTANCE] * 4 + [SERIES] * 2 + [STUDY])
        self.assertEqual({c.change_type for c in deleted.changes}, {ChangeType.DELETED})
        self.assertEqual(set(deleted.removed_files), {item.attachments[0].uuid for item in instances[:4]})
        self.assertEqual(self.result(self.index.statistics()).instances, 4)
        self.assertEqual(self.result(self.index.list_ids(INSTANCE)), [ids(item)[3] for item in instances[4:]])
        changes, _ = self.result(self.index.changes(0, 100, None, frozenset()))
        self.assertFalse({c.public_id for c in changes} & {c.public_id for c in deleted.changes})

    def test_deleting_the_last_child_deletes_the_parents(self) -> None:
        """Empty ancestors go; the nearest that is not empty remains."""
        first, second = new_instance(series="1"), new_instance(series="2")
        self.store(first)
        self.store(second)
        deleted = self.result(self.index.delete(INSTANCE, ids(first)[3]))
        self.assertEqual(deleted.remaining, (STUDY, ids(first)[1]))
        deleted = self.result(self.index.delete(INSTANCE, ids(second)[3]))
        self.assertIsNone(deleted.remaining)
        self.assertEqual([c.level for c in deleted.changes], [INSTANCE, SERIES, STUDY, PATIENT])
        totals = self.result(self.index.statistics())
        self.assertEqual((totals.patients, totals.disk_size, totals.dicom_disk_size), (0, 0, 0))

    def test_remaining_ancestors_are_updated(self) -> None:
        """LastUpdate of what remains above is the time of the deletion."""
        first = new_instance()
        self.store(first)
        self.store(new_instance(instance="2"))
        self.result(self.index.delete(INSTANCE, ids(first)[3]))
        for level, public_id in zip((PATIENT, STUDY, SERIES), ids(first), strict=False):
            read = self.result(self.index.resource(level, public_id))
            self.assertEqual(read.metadata[7].value, NOW_TEXT)

    def test_storing_again_after_a_deletion(self) -> None:
        """What was remembered of a deleted series does not outlive it."""
        self.store(new_instance())
        self.result(self.index.delete(SERIES, ids(new_instance())[2]))
        self.assertEqual(self.store(new_instance()).created, frozenset(ResourceLevel))
        self.assertTrue(self.present(PATIENT, ids(new_instance())[0]))

    def test_no_row_is_left_behind(self) -> None:
        """After the deletion of everything only the sequence numbers and the files to remove are left."""
        instance = new_instance()
        self.store(instance)
        self.result(self.index.add_label(STUDY, ids(instance)[1], "seen"))
        self.result(self.index.add_attachment(STUDY, ids(instance)[1], attachment(1024)))
        self.result(self.index.delete_many([ids(instance)[0], "unknown", ids(instance)[3]]))
        tables = ("resources", "details", "attachments", "search", "labels", "changes", "recycling")
        for table in tables:
            rows = self.result(
                self.index._read(lambda c, name: c.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0], table)
            )
            self.assertEqual(rows, 0, table)
        self.assertEqual(len(self.result(self.index.pending_removals())), 2)

    def test_delete_many(self) -> None:
        """Several levels in one call, overlapping or not."""
        instances = [new_instance(patient=p, study=p, instance=i) for p in "12" for i in "123"]
        for item in instances:
            self.store(item)
        chosen = [ids(instances[0])[0], ids(instances[1])[3], ids(instances[3])[3]]
        deleted = self.result(self.index.delete_many(chosen))
        self.assertEqual(len(deleted.removed_files), 4)
        self.assertEqual(self.result(self.index.list_ids(INSTANCE)), [ids(item)[3] for item in instances[4:]])

    def test_unknown_resources(self) -> None:
        """Nothing is deleted, not even by the identifier of another level."""
        self.store(new_instance())
        self.assertIsNone(self.result(self.index.delete(STUDY, "unknown")))
        self.assertIsNone(self.result(self.index.delete(STUDY, ids(new_instance())[0])))
        self.assertEqual(self.result(self.index.statistics()).instances, 1)
        self.failureResultOf(self.index.set_protected("unknown", True), UnknownResource)

    def test_files_to_remove_are_kept_until_they_are_gone(self) -> None:
        """The list of removals shrinks by what is confirmed."""
        instances = [new_instance(instance=i) for i in "12"]
        for item in instances:
            self.store(item)
        uuids = tuple(sorted(item.attachments[0].uuid for item in instances))
        self.assertEqual(self.result(self.index.known_files([*uuids, "stray"])), frozenset(uuids))
        self.result(self.index.delete(PATIENT, ids(instances[0])[0]))
        self.assertEqual(self.result(self.index.known_files(uuids)), frozenset())
        self.assertEqual(self.result(self.index.pending_removals()), uuids)
        self.result(self.index.forget_removals(uuids[:1]))
        self.assertEqual(self.result(self.index.pending_removals()), uuids[1:])
