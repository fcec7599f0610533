"""Reading resources, editing what belongs to them, the logs, key-value stores and queues."""

from __future__ import annotations

import attrs

from orthanctw.errors import ParameterOutOfRange, RevisionMismatch, UnknownResource
from orthanctw.model import (
    Change,
    ChangeType,
    ExportedResource,
    MetadataType,
    MetadataValue,
    NewInstance,
    ResourceLevel,
)
from orthanctw.versions import Version, of_attachment, of_metadata
from test.index_samples import DATE, attachment, ids, new_instance
from test.test_index import INSTANCE, NOW, PATIENT, SERIES, STUDY, IndexTestCase, titles

ANY_TYPE: frozenset[ChangeType] = frozenset()


class TreeTests(IndexTestCase):
    """Two patients; the first has two studies of two series of two instances."""

    def setUp(self) -> None:
        super().setUp()
        self.objects = [
            new_instance(study=study, series=series, instance=instance)
            for study in "12"
            for series in "12"
            for instance in "12"
        ]
        self.objects.append(new_instance(patient="Q", study="9"))
        for item in self.objects:
            self.store(item)

    def level_ids(self, level: ResourceLevel, objects: list[NewInstance] | None = None) -> list[str]:
        found = [ids(item)[level - 1] for item in (self.objects if objects is None else objects)]
        return list(dict.fromkeys(found))

    def test_lists(self) -> None:
        """Each level is listed in the order of creation, in windows if wanted."""
        for level in ResourceLevel:
            self.assertEqual(self.result(self.index.list_ids(level)), self.level_ids(level))
        self.assertEqual(self.result(self.index.list_ids(INSTANCE, 2, 3)), self.level_ids(INSTANCE)[2:5])
        resources = self.result(self.index.list_resources(SERIES, 1, 2))
        self.assertEqual([item.public_id for item in resources], self.level_ids(SERIES)[1:3])
        self.failureResultOf(self.index.list_ids(SERIES, -1, 2), ParameterOutOfRange)

    def test_descendants(self) -> None:
        """Children of any lower level, in the order of creation; none for an unknown resource."""
        patient = ids(self.objects[0])[0]
        for level in ResourceLevel:
            wanted = self.level_ids(level, self.objects[:8])
            self.assertEqual(self.result(self.index.children(PATIENT, patient, level)), wanted)
            found = self.result(self.index.children_resources(PATIENT, patient, level))
            self.assertEqual([item.public_id for item in found], wanted)
        self.assertIsNone(self.result(self.index.children(STUDY, patient, SERIES)))
        self.assertIsNone(self.result(self.index.children_resources(STUDY, "unknown", SERIES)))
        self.failureResultOf(self.index.children(PATIENT, "unknown", STUDY).addCallback(len), TypeError)
        self.failureResultOf(
            self.index.children(SERIES, ids(self.objects[0])[2], STUDY), ParameterOutOfRange
        )

    def test_ancestors(self) -> None:
        """The resource of a higher level above one, or above many."""
        for level in ResourceLevel:
            found = self.result(self.index.ancestor(INSTANCE, ids(self.objects[0])[3], level))
            self.assertEqual(found.public_id, ids(self.objects[0])[level - 1])
        wanted = {ids(item)[3]: ids(item)[1] for item in self.objects}
        many = self.result(self.index.ancestors(INSTANCE, [*wanted, "unknown"], STUDY))
        self.assertEqual({key: item.public_id for key, item in many.items()}, wanted)
        self.assertIsNone(self.result(self.index.ancestor(INSTANCE, "unknown", STUDY)))
        self.failureResultOf(self.index.ancestor(STUDY, "unknown", SERIES), ParameterOutOfRange)

    def test_several_resources(self) -> None:
        """They come in the order asked, without those that are unknown or of another level."""
        series = self.level_ids(SERIES)[::-1]
        asked = ["unknown", *series, ids(self.objects[0])[0]]
        found = self.result(self.index.resources(SERIES, asked))
        self.assertEqual([item.public_id for item in found], series)
        self.assertIsNone(self.result(self.index.resource(STUDY, series[0])))

    def test_levels_and_first_instances(self) -> None:
        """The level of an id, and one instance below it."""
        for level, public_id in zip(ResourceLevel, ids(self.objects[0]), strict=True):
            self.assertIs(self.result(self.index.lookup_level(public_id)), level)
            self.assertEqual(self.result(self.index.first_instance(level, public_id)), ids(self.objects[0])[3])
        self.assertIsNone(self.result(self.index.lookup_level("unknown")))
        self.assertIsNone(self.result(self.index.first_instance(STUDY, "unknown")))

    def test_expanding(self) -> None:
        """One read gathers children, files and indices, each only when wanted."""
        series = self.level_ids(SERIES)[:2]
        both = self.result(self.index.expand(SERIES, series, children=True, attachments=True, indices=True))
        self.assertEqual([item.resource.public_id for item in both], series)
        self.assertEqual(both[0].children, tuple(self.level_ids(INSTANCE)[:2]))
        self.assertEqual(both[1].indices, ("1", "2"))
        self.assertEqual(both[0].attachments, {})
        instance = self.objects[0]
        (one,) = self.result(
            self.index.expand(INSTANCE, [ids(instance)[3]], children=False, attachments=True, indices=False)
        )
        self.assertEqual((one.children, one.indices), ((), ()))
        self.assertEqual(one.attachments, {1: instance.attachments[0]})
        nothing = self.index.expand(INSTANCE, ["unknown"], children=True, attachments=True, indices=True)
        self.assertEqual(self.result(nothing), [])

    def test_headers_and_files_of_many(self) -> None:
        """Those of unknown resources are left out."""
        wanted = [ids(item)[3] for item in self.objects[:3]]
        headers = self.result(self.index.headers([*wanted, "unknown"]))
        self.assertEqual(headers, {ids(item)[3]: item.header for item in self.objects[:3]})
        files = self.result(self.index.instance_attachments([*wanted, "unknown"]))
        self.assertEqual(files, {ids(item)[3]: {1: item.attachments[0]} for item in self.objects[:3]})
        self.assertIsNone(self.result(self.index.header("unknown")))
        self.assertIsNone(self.result(self.index.attachments(INSTANCE, "unknown")))

    def test_statistics_of_a_resource(self) -> None:
        """What is below a resource, and the sizes of all files."""
        patient = ids(self.objects[0])[0]
        self.result(self.index.add_attachment(PATIENT, patient, attachment(1024, size=5)))
        found = self.result(self.index.resource_statistics(PATIENT, patient))
        self.assertEqual((found.patients, found.studies, found.series, found.instances), (0, 2, 4, 8))
        self.assertEqual((found.disk_size, found.dicom_disk_size), (8005, 8000))
        self.assertEqual((found.uncompressed_size, found.dicom_uncompressed_size), (8005, 8000))
        self.assertIsNone(self.result(self.index.resource_statistics(STUDY, patient)))


class EditTests(IndexTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.store(new_instance())
        self.patient, self.study, self.series, self.instance = ids(new_instance())

    def test_revisions_of_metadata(self) -> None:
        """Each write of a value counts its revision up; the present one can be demanded."""
        index, study = self.index, self.study
        unseen = Version(7, "?")
        first = self.result(index.set_metadata(STUDY, study, 1024, "a", unseen, True)).version
        self.assertEqual(first, of_metadata(MetadataValue("a", 0)))
        second = self.result(index.set_metadata(STUDY, study, 1024, "b", first, True)).version
        self.assertEqual(second, of_metadata(MetadataValue("b", 1)))
        for expected, check in ((first, True), (first, False), (unseen, False), (None, True)):
            self.failureResultOf(index.set_metadata(STUDY, study, 1024, "c", expected, check), RevisionMismatch)
            self.failureResultOf(index.delete_metadata(STUDY, study, 1024, expected, check), RevisionMismatch)
        self.assertEqual(self.result(index.resource(STUDY, study)).metadata[1024], MetadataValue("b", 1))
        self.result(index.delete_metadata(STUDY, study, 1024, second, True))
        self.assertNotIn(1024, self.result(index.resource(STUDY, study)).metadata)
        self.failureResultOf(index.delete_metadata(STUDY, study, 1024, None, False), UnknownResource)
        self.failureResultOf(index.set_metadata(SERIES, study, 1024, "c", None, False), UnknownResource)

    def test_last_update_is_metadata_too(self) -> None:
        """It is read, written and removed as any other, and the next object sets it again."""
        kind = MetadataType.LAST_UPDATE
        self.result(self.index.set_metadata(SERIES, self.series, kind, "20300101T000000", None, False))
        self.assertEqual(self.result(self.index.resource(SERIES, self.series)).metadata[kind].value, "20300101T000000")
        self.result(self.index.delete_metadata(SERIES, self.series, kind, None, False))
        self.assertNotIn(kind, self.result(self.index.resource(SERIES, self.series)).metadata)
        self.failureResultOf(self.index.delete_metadata(SERIES, self.series, kind, None, False), UnknownResource)
        self.store(new_instance(instance="2"))
        self.assertEqual(self.result(self.index.resource(SERIES, self.series)).metadata[kind].value, DATE)

    def test_metadata_that_a_series_status_needs(self) -> None:
        """A changed IndexInSeries or expected number counts at once."""
        self.result(self.index.set_metadata(INSTANCE, self.instance, MetadataType.INDEX_IN_SERIES, "2", None, False))
        (found,) = self.result(
            self.index.expand(SERIES, [self.series], children=False, attachments=False, indices=True)
        )
        self.assertEqual(found.indices, ("2",))
        kind = MetadataType.EXPECTED_NUMBER_OF_INSTANCES
        self.result(self.index.set_metadata(SERIES, self.series, kind, "2", None, False))
        self.assertIn("CompletedSeries", titles(self.store(new_instance(instance="9", number="1")).changes))

    def test_attachments(self) -> None:
        """A replaced attachment gets the next revision, and its file is to be removed."""
        first, second = attachment(1024, size=10), attachment(1024, size=30)
        edited = self.result(self.index.add_attachment(STUDY, self.study, first))
        self.assertEqual((edited.version, edited.removed_files), (of_attachment(first), ()))
        self.assertEqual(titles(edited.changes), ["UpdatedAttachment"])
        edited = self.result(self.index.add_attachment(STUDY, self.study, second))
        present = attrs.evolve(second, revision=1)
        self.assertEqual((edited.version, edited.removed_files), (of_attachment(present), (first.uuid,)))
        self.assertEqual(self.result(self.index.attachments(STUDY, self.study)), {1024: present})
        self.assertEqual(self.result(self.index.statistics()).disk_size, 1030)
        removed = self.result(self.index.delete_attachment(STUDY, self.study, 1024))
        self.assertEqual((removed.removed_files, titles(removed.changes)), ((second.uuid,), ["UpdatedAttachment"]))
        self.assertEqual(set(self.result(self.index.pending_removals())), {first.uuid, second.uuid})
        self.assertEqual(self.result(self.index.statistics()).disk_size, 1000)
        self.failureResultOf(self.index.delete_attachment(STUDY, self.study, 1024), UnknownResource)
        self.failureResultOf(
            self.index.add_attachment(STUDY, "unknown", first), UnknownResource
        )

    def test_labels(self) -> None:
        """Labels are sets; all that are in use are listed once, sorted."""
        for label in ("b", "a", "b"):
            self.result(self.index.add_label(STUDY, self.study, label))
        self.result(self.index.add_label(SERIES, self.series, "b"))
        self.assertEqual(self.result(self.index.resource(STUDY, self.study)).labels, ("a", "b"))
        self.assertEqual(self.result(self.index.all_labels()), ["a", "b"])
        for _ in range(2):
            self.result(self.index.remove_label(STUDY, self.study, "a"))
        self.assertEqual(self.result(self.index.all_labels()), ["b"])
        self.failureResultOf(self.index.add_label(STUDY, "unknown", "a"), UnknownResource)

    def test_protection(self) -> None:
        """Patients are protected or not, however often it is said."""
        for protected in (True, True, False, False):
            self.result(self.index.set_protected(self.patient, protected))
            self.assertEqual(self.result(self.index.resource(PATIENT, self.patient)).is_protected, protected)
        self.assertFalse(self.result(self.index.resource(STUDY, self.study)).is_protected)


class JournalTests(IndexTestCase):
    def setUp(self) -> None:
        super().setUp()
        for instance in "123456":
            self.store(new_instance(instance=instance))

    def seqs(self, since: int | None, limit: int, to: int | None = None, *types: ChangeType) -> tuple[list[int], bool]:
        changes, done = self.result(self.index.changes(since, limit, to, frozenset(types)))
        return [change.seq for change in changes], done

    def test_forwards(self) -> None:
        """From a number on, which is excluded, and whether that was all."""
        self.assertEqual(self.seqs(0, 100), ([1, 2, 3, 4, 5, 6, 7, 8, 9], True))
        self.assertEqual(self.seqs(None, 100), self.seqs(0, 100))
        self.assertEqual(self.seqs(2, 3), ([3, 4, 5], False))
        self.assertEqual(self.seqs(6, 3), ([7, 8, 9], True))
        self.assertEqual(self.seqs(9, 3), ([], True))
        self.assertEqual(self.seqs(0, 0), ([], False))
        self.assertEqual(self.seqs(2, 100, 5), ([3, 4, 5], True))
        self.assertEqual(self.seqs(0, 1 << 64), self.seqs(0, 100))

    def test_backwards(self) -> None:
        """Up to a number, which is included; the answer ascends all the same."""
        self.assertEqual(self.seqs(None, 3, 8), ([6, 7, 8], False))
        self.assertEqual(self.seqs(None, 3, 3), ([1, 2, 3], True))
        self.assertEqual(self.seqs(None, 3, 100), ([7, 8, 9], False))

    def test_kinds(self) -> None:
        """Only entries of the wanted types count, also for the limit."""
        self.assertEqual(self.seqs(0, 10, None, ChangeType.NEW_STUDY, ChangeType.NEW_PATIENT), ([3, 4], True))
        self.assertEqual(self.seqs(0, 2, None, ChangeType.NEW_INSTANCE), ([1, 5], False))
        self.assertEqual(self.seqs(None, 1, 9, ChangeType.NEW_SERIES), ([2], True))

    def test_logging(self) -> None:
        """Changes of resources that exist get numbers; LastUpdate follows if wanted."""
        study = ids(new_instance())[1]
        wanted = [
            Change(change_type=ChangeType.STABLE_STUDY, level=STUDY, public_id=study, date=DATE),
            Change(change_type=ChangeType.STABLE_STUDY, level=STUDY, public_id="unknown", date=DATE),
            Change(change_type=ChangeType.NEW_CHILD_INSTANCE, level=STUDY, public_id=study, date=DATE),
        ]
        logged = self.result(self.index.log_changes(wanted, {study: "20310101T000000"}))
        self.assertEqual([change.seq for change in logged], [10, 0])
        self.assertEqual(self.seqs(9, 10), ([10], True))
        self.assertEqual(self.result(self.index.resource(STUDY, study)).metadata[7].value, "20310101T000000")

    def test_the_last_number_outlives_its_entry(self) -> None:
        """Sequence numbers go on after a deletion and after clearing."""
        last, number = self.result(self.index.last_change())
        self.assertEqual((last.seq, number), (9, 9))
        self.result(self.index.delete(INSTANCE, last.public_id))
        last, number = self.result(self.index.last_change())
        self.assertEqual((last.seq, number), (8, 9))
        self.result(self.index.clear_changes())
        self.assertEqual(self.result(self.index.last_change()), (None, 9))
        self.assertEqual([change.seq for change in self.store(new_instance(instance="7")).changes], [10])

    def test_exports(self) -> None:
        """The log of exports has its own numbers, which go on too."""
        entry = ExportedResource(
            level=SERIES, public_id="x", remote_modality="PACS", date=DATE, patient_id="P", study_instance_uid="1",
            series_instance_uid="2",
        )  # fmt: skip
        self.assertEqual(self.result(self.index.last_export()), (None, 0))
        for _ in range(3):
            self.result(self.index.log_exported(entry))
        exports, done = self.result(self.index.exports(1, 1))
        self.assertEqual(([item.seq for item in exports], done), ([2], False))
        self.assertEqual((exports[0].study_instance_uid, exports[0].level), ("1", SERIES))
        self.result(self.index.clear_exports())
        self.assertEqual(self.result(self.index.last_export()), (None, 3))
        self.assertEqual(self.result(self.index.exports(0, 10)), ([], True))


class KeyValueTests(IndexTestCase):
    def test_properties_and_values(self) -> None:
        """What is written last is read; stores do not see each other's keys."""
        self.assertIsNone(self.result(self.index.global_property(5)))
        for text in ("a", "b"):
            self.result(self.index.set_global_property(5, text))
        self.assertEqual(self.result(self.index.global_property(5)), "b")
        for key in ("b", "a", "c", "a"):
            self.result(self.index.store_value("s", key, key.encode() * 2))
        self.result(self.index.store_value("t", "z", b""))
        self.assertEqual(self.result(self.index.value("s", "a")), b"aa")
        self.assertEqual(self.result(self.index.value("t", "z")), b"")
        self.assertIsNone(self.result(self.index.value("t", "a")))
        self.assertEqual(self.result(self.index.keys("s", None, 0)), ["a", "b", "c"])
        self.assertEqual(self.result(self.index.keys("s", "a", 1)), ["b"])
        self.result(self.index.delete_value("s", "a"))
        self.result(self.index.delete_value("s", "a"))
        self.assertIsNone(self.result(self.index.value("s", "a")))

    def test_queues(self) -> None:
        """Values leave at the front or at the back, each once."""
        for value in (b"1", b"2", b"3"):
            self.result(self.index.enqueue("q", value))
        self.assertEqual(self.result(self.index.queue_size("q")), 3)
        self.assertEqual(self.result(self.index.dequeue("q", True)), b"1")
        self.assertEqual(self.result(self.index.dequeue("q", False)), b"3")
        self.assertIsNone(self.result(self.index.dequeue("other", True)))
        self.assertEqual(self.result(self.index.dequeue("q", True)), b"2")
        self.assertIsNone(self.result(self.index.dequeue("q", True)))

    def test_reserved_values(self) -> None:
        """A reserved value is hidden until it is acknowledged, or until its time is over."""
        for value in (b"1", b"2"):
            self.result(self.index.enqueue("q", value))
        number, value = self.result(self.index.reserve("q", True, 10))
        self.assertEqual((value, self.result(self.index.queue_size("q"))), (b"1", 2))
        other, value = self.result(self.index.reserve("q", True, 20))
        self.assertEqual(value, b"2")
        self.assertIsNone(self.result(self.index.reserve("q", True, 10)))
        self.assertIsNone(self.result(self.index.dequeue("q", True)))
        self.now = NOW + 11
        self.assertEqual(self.result(self.index.reserve("q", True, 10)), (number, b"1"))
        self.result(self.index.acknowledge("q", number))
        self.result(self.index.acknowledge("wrong queue", other))
        self.assertEqual(self.result(self.index.queue_size("q")), 1)

    def test_numbers_and_texts_that_do_not_fit(self) -> None:
        """They are the caller's mistake, and nothing else fails with them."""
        self.failureResultOf(self.index.set_global_property(1 << 70, ""), ParameterOutOfRange)
        failure = self.failureResultOf(self.index.value("s", "\ud800"))
        self.assertEqual(failure.value.http_status, 400)
        failure = self.failureResultOf(self.index.resources(STUDY, ["\ud800"]))
        self.assertEqual(failure.value.http_status, 400)
