"""pyorthanc, a client that many scripts use, against a server of its own process: all that it knows works."""

from __future__ import annotations

import contextlib
import inspect
import io
import zipfile
from datetime import datetime
from pathlib import Path

import pydicom
from pyorthanc import (
    Modality,
    Orthanc,
    Patient,
    delete_queries,
    find,
    find_instances,
    find_patients,
    find_series,
    find_studies,
    query_orthanc,
    retrieve_and_write_patients,
    trim_patients,
    upload,
)
from pyorthanc.errors import TagDoesNotExistError
from pyorthanc.jobs import State
from twisted.trial.unittest import SynchronousTestCase

from test.pyorthanc_tour import LAST, MISSING, MISTAKEN, Tour, methods
from test.rest_samples import dicom_object, hierarchy
from test.servers import ORTHANCTW, ServerProcess, free_port, is_answering, wait_until

_OPTIONS = {
    "DicomServerEnabled": True,
    "DicomAlwaysAllowFind": True,
    "DicomAlwaysAllowFindWorklist": True,
    "DicomAlwaysAllowGet": True,
    "DicomAlwaysAllowMove": True,
    "ExecuteLuaEnabled": True,
    "RestApiWriteToFileSystemEnabled": True,
    "Worklists": {"Enable": True, "SaveInOrthancDatabase": True},
    "UserMetadata": {"mine": 1024},
    "UserContentType": {"mine": 1024},
    "JobsHistorySize": 100,
}


class PyOrthancCase(SynchronousTestCase):
    maxDiff = None
    """A test with a server as a process: pyorthanc blocks."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.server = ServerProcess(self.folder, ORTHANCTW, {**_OPTIONS, "DicomPort": free_port()})
        self.addCleanup(self.server.kill)
        self.server.start()
        self.url = f"http://127.0.0.1:{self.server.port}"


class MethodTests(PyOrthancCase):
    """The generated methods."""

    def test_every_method(self) -> None:
        """Each succeeds, but for those that the tables name: of what is not built, and what pyorthanc asks wrongly."""
        tour = Tour(self.url, str(self.folder))
        self.addCleanup(tour.close)
        refused = {**dict.fromkeys(MISSING, 501), **MISTAKEN}
        known = methods()
        self.assertGreater(len(known), 280)
        self.assertLessEqual(set(refused), set(known))
        failures: dict[str, object] = {}
        for name in known:
            if name in LAST:
                continue
            if name in refused:
                status = tour.status_of(name)
                if status != refused[name]:
                    failures[name] = status
                continue
            try:
                tour.call(name)
            except Exception as e:  # noqa: BLE001 - whatever pyorthanc makes of an answer
                failures[name] = repr(e)
            if "_jobs_" in name:
                tour.end_jobs()
        self.assertEqual(failures, {})
        self.assertNotIn("Traceback", self.server.printed())

    def test_end(self) -> None:
        """``post_tools_reset`` starts the server anew, ``post_tools_shutdown`` ends it."""
        with Orthanc(self.url) as client:
            client.post_tools_reset()
        wait_until(lambda: self.server.printed().count("HTTP server: ") == 2, self.server.printed)
        wait_until(lambda: is_answering(self.server.port), self.server.printed)
        with Orthanc(self.url) as client:
            client.post_tools_shutdown()
        self.assertEqual(self.server.wait(), 0)


class ResourceTests(PyOrthancCase):
    """The classes of resources."""

    def setUp(self) -> None:
        super().setUp()
        self.client = Orthanc(self.url)
        self.addCleanup(self.client.close)
        for data in hierarchy():
            self.client.post_instances(data)
        (self.patient,) = find_patients(self.client, query={"PatientID": "P1"})

    def test_levels(self) -> None:
        """Resources lead to those below and above, and show their tags."""
        patient = self.patient
        self.assertEqual((patient.patient_id, patient.name, patient.sex), ("P1", "DOE^JOHN", "M"))
        self.assertEqual(patient.birth_date, datetime(1970, 1, 1))
        (study,) = patient.studies
        self.assertEqual((study.uid, study.date), ("1.2.1", datetime(2024, 1, 2, 10, 11, 12)))
        self.assertEqual((study.accession_number, study.description, study.study_id), ("ACC-1", "HEAD", "1"))
        self.assertEqual(study.parent_patient.id_, patient.id_)
        self.assertEqual({series.modality for series in study.series}, {"CT", "MR"})
        series = next(item for item in study.series if item.modality == "CT")
        self.assertEqual((series.uid, series.series_number, series.description), ("1.2.1.1", 1, "AXIAL"))
        self.assertEqual(series.parent_study.id_, study.id_)
        instance = min(series.instances, key=lambda item: item.instance_number)
        self.assertEqual((instance.uid, instance.instance_number), ("1.2.1.1.1", 1))
        self.assertEqual(instance.parent_patient.id_, patient.id_)
        self.assertEqual(instance.file_size, len(instance.get_dicom_file_content()))
        self.assertEqual(instance.get_pydicom().PatientName, "DOE^JOHN")
        self.assertEqual(instance.get_content_by_tag("0010-0020"), "P1")
        self.assertEqual(instance.simplified_tags["Modality"], "CT")

    def test_every_property(self) -> None:
        """Every property of every level is there, or is said to be missing by pyorthanc's own error."""
        (study,) = self.patient.studies
        series = study.series[0]
        for resource in (self.patient, study, series, series.instances[0]):
            found = inspect.getmembers(type(resource), lambda value: isinstance(value, property))
            names = [name for name, _ in found if name != "first_level_tags"]
            self.assertGreater(len(names), 10)
            for name in names:
                with contextlib.suppress(TagDoesNotExistError):
                    getattr(resource, name)

    def test_labels_and_protection(self) -> None:
        """Labels come and go at all levels; patients are protected."""
        (study,) = self.patient.studies
        for resource in (self.patient, study, study.series[0], study.series[0].instances[0]):
            resource.add_label("mine")
            self.assertEqual(resource.labels, ["mine"])
            resource.remove_label("mine")
            self.assertEqual(resource.labels, [])
        self.patient.protected = True
        self.assertTrue(self.patient.protected)
        self.patient.protected = False
        self.assertFalse(self.patient.protected)

    def test_archives(self) -> None:
        """Resources are downloaded as archives and files."""
        (study,) = self.patient.studies
        for resource, count in ((self.patient, 3), (study, 3)):
            with zipfile.ZipFile(io.BytesIO(resource.get_zip())) as archive:
                self.assertEqual(len(archive.namelist()), count)
        target = io.BytesIO()
        study.series[0].instances[0].download(target)
        self.assertEqual(target.getvalue()[128:132], b"DICM")
        retrieve_and_write_patients([self.patient], self.folder / "written")
        self.assertEqual(len(list((self.folder / "written").rglob("*.dcm"))), 3)

    def test_changed_copies(self) -> None:
        """Modified and anonymised resources are new ones; jobs tell of them."""
        (study,) = self.patient.studies
        copy = study.anonymize(replace={"PatientName": "NOBODY"}, force=True)
        self.assertEqual(copy.patient_information["PatientName"], "NOBODY")
        self.assertNotEqual(copy.uid, study.uid)
        changed = study.modify(replace={"StudyDescription": "NEW"})
        self.assertEqual(changed.description, "NEW")
        job = self.patient.anonymize_as_job(replace={"PatientName": "JOB"}, force=True)
        wait_until(lambda: job.state is not State.running and job.state is not State.pending, self.server.printed)
        self.assertEqual((job.state, job.type, job.progress), (State.success, "ResourceModification", 100))
        self.assertEqual(Patient(job.content["ID"], self.client).name, "JOB")
        file = study.series[0].instances[0].anonymize(replace={"PatientName": "FILE"}, force=True)
        self.assertEqual(pydicom.dcmread(io.BytesIO(file)).PatientName, "FILE")


class FunctionTests(PyOrthancCase):
    """Functions: upload, find and trim."""

    def setUp(self) -> None:
        super().setUp()
        self.client = Orthanc(self.url)
        self.addCleanup(self.client.close)

    def test_upload(self) -> None:
        """Files, folders, archives and data sets are uploaded; what is there already can be found out."""
        source = self.folder / "source"
        source.mkdir()
        for number, data in enumerate(hierarchy()):
            (source / f"{number}.dcm").write_bytes(data)
        upload(self.client, source)
        self.assertEqual(self.client.get_statistics()["CountInstances"], 4)
        (again,) = upload(self.client, source / "0.dcm")
        self.assertEqual(again.uid, "1.2.1.1.1")
        (known,) = upload(self.client, source / "0.dcm", check_before_upload=True)
        self.assertEqual(known.id_, again.id_)
        dataset = pydicom.dcmread(source / "0.dcm")
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.1.1.9"
        (added,) = upload(self.client, dataset)
        self.assertEqual(added.uid, "1.2.1.1.9")

    def test_find(self) -> None:
        """All finding functions find, by tags, labels and pages; filters of pyorthanc's own trim."""
        for data in hierarchy():
            self.client.post_instances(data)
        self.assertEqual(len(find_studies(self.client, query={"PatientID": "P*"})), 2)
        self.assertEqual(len(find_series(self.client, query={"Modality": "MR"})), 1)
        self.assertEqual(len(find_instances(self.client)), 4)
        self.assertEqual(len(query_orthanc(self.client, level="Instance", limit=1, retrieve_all_resources=True)), 4)
        (study,) = find_studies(self.client, query={"StudyDescription": "KNEE"})
        study.add_label("knee")
        self.assertEqual([item.id_ for item in find_studies(self.client, labels="knee")], [study.id_])
        found = find(self.client, series_filter=lambda series: series.modality == "MR")
        self.assertEqual(sum(len(item.series) for patient in found for item in patient.studies), 1)
        self.assertEqual(len(trim_patients(found)), 1)

    def test_modality(self) -> None:
        """`Modality` verifies, queries, retrieves and stores."""
        stored = self.client.post_instances(dicom_object())
        self.client.put_modalities_id("me", json=["ORTHANC", "127.0.0.1", self.server.options["DicomPort"]])
        modality = Modality(self.client, "me")
        self.assertTrue(modality.echo())
        query = modality.find({"Level": "Study", "Query": {"PatientID": "P1"}})
        (answer,) = modality.get_query_answers(query["ID"])
        self.assertEqual(answer["StudyInstanceUID"], "1.2.1")
        self.assertEqual(modality.move(query["ID"], {"TargetAet": "ORTHANC"})["TargetAet"], "ORTHANC")
        self.assertEqual(modality.store(stored["ID"])["InstancesCount"], 1)
        modality.get("Study", {"StudyInstanceUID": "1.2.1"})
        delete_queries(self.client)
        self.assertEqual(self.client.get_queries(), [])
        self.client.delete_modalities_id("me")
        self.assertEqual(self.client.get_modalities(), [])
