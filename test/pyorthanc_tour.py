"""Every method of pyorthanc's generated client, called once against a running server in a way that must succeed."""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
from pyorthanc import Orthanc

from orthanctw.model import ResourceLevel
from test.rest_samples import dicom_object, pixels

#: Methods of what is not built, which are answered 501.
MISSING: Final[frozenset[str]] = frozenset()
#: Methods of pyorthanc that no Orthanc answers well, with the status: paths that do not exist, and a forgotten body.
MISTAKEN: Final = {"get_tools_generate_uid": 404, "post_tools_invalid_ate_tags": 404, "put_patients_id_protected": 400}
#: They end the server, and come last.
LAST: Final = ("post_tools_reset", "post_tools_shutdown")
#: Beginnings of names by which generated methods are told from those of httpx.
_VERBS: Final = ("get_", "post_", "put_", "delete_")
_LEVELS: Final = tuple(level.plural for level in ResourceLevel)
_UNCHANGED: Final = ("attachments", "labels", "metadata")


def methods() -> list[str]:
    """Names of the generated methods: what is read, then what is written, then what is deleted, then `LAST`."""
    order = {verb: place for place, verb in enumerate(_VERBS)}
    names = [name for name in dir(Orthanc) if name.startswith(_VERBS) and name not in LAST]
    return [*sorted(names, key=lambda name: (order[name.partition("_")[0] + "_"], name)), *LAST]


@attrs.frozen
class Arguments:
    """Of one call."""

    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = attrs.field(factory=dict)


class Tour:
    """Prepares what each method needs, and calls it.

    Parameters
    ----------
    url : str
        Of the server, which has a DICOM server with worklists, and may export files and run scripts.
    folder : str
        Where it may export to.
    """

    def __init__(self, url: str, folder: str) -> None:
        self.client: Any = Orthanc(url)
        self._url = url
        self.folder = folder
        self._number = 0
        system = self.client.get_system()
        self._slots = int(system["Performance"]["ConcurrentJobs"])
        self.client.put_modalities_id("self", json=[system["DicomAet"], "127.0.0.1", system["DicomPort"]])
        self.client.put_peers_id("self", json={"Url": url})
        #: Takes connections, and never says anything.
        self._silent = socket.create_server(("127.0.0.1", 0))
        self.client.put_modalities_id("silent", json=["SILENT", "127.0.0.1", self._silent.getsockname()[1]])
        self.ids = self.store()

    def close(self) -> None:
        self.client.close()
        self._silent.close()

    def store(self) -> dict[str, str]:
        """Upload an object of a new patient; identifiers of all its levels."""
        self._number += 1
        root = f"1.2.{self._number}"
        values = {**pixels(8, 8), "ProtocolName": "p"}
        data = dicom_object(f"P{self._number}", root, f"{root}.1", f"{root}.1.1", **values)
        stored = self.client.post_instances(data)
        ids = [stored["ParentPatient"], stored["ParentStudy"], stored["ParentSeries"], stored["ID"]]
        for level, public_id in zip(_LEVELS, ids, strict=True):
            self._equip(level, public_id)
        return dict(zip(_LEVELS, ids, strict=True))

    def _equip(self, level: str, public_id: str) -> None:
        """Give a resource metadata, an attachment and a label."""
        base = f"{self._url}/{level}/{public_id}"
        for path in ("metadata/1024", "attachments/1024", "labels/mine"):
            self.client.put(f"{base}/{path}", content=b"text")

    def call(self, name: str) -> Any:
        """What a method answers. Raises httpx.HTTPError when the server refuses."""
        arguments = self._arguments(name)
        return getattr(self.client, name)(*arguments.positional, **arguments.named)

    def status_of(self, name: str) -> int:
        """The HTTP status of a method's answer, whatever it is."""
        raw = Orthanc(self._url, return_raw_response=True)
        try:
            arguments = self._arguments(name)
            return int(getattr(raw, name)(*arguments.positional, **arguments.named).status_code)
        finally:
            raw.close()

    def _arguments(self, name: str) -> Arguments:
        special = _SPECIAL.get(name)
        if special is not None:
            return special(self)
        verb, topic, *rest = name.split("_")
        if topic in _LEVELS and rest[:1] == ["id"]:
            return self._of_resource(verb, topic, "_".join(rest[1:]))
        return Arguments()

    def _of_resource(self, verb: str, level: str, operation: str) -> Arguments:
        ids = self.ids
        if verb == "delete" or operation in ("merge", "split") or operation.startswith(_UNCHANGED):
            # They take something away, or refuse to do it twice.
            ids = self.store()
        public_id = ids[level]
        if operation.startswith("frames_frame"):
            return Arguments(("0", public_id))
        if operation.startswith(_UNCHANGED) and operation not in _UNCHANGED:
            return self._of_part(verb, public_id, operation)
        named = _BODIES.get(operation)
        return Arguments((public_id,), {} if named is None else named(self, level))

    @staticmethod
    def _of_part(verb: str, public_id: str, operation: str) -> Arguments:
        part = "mine" if operation.startswith("labels") else "1024"
        named: dict[str, Any] = {}
        if verb == "put":
            # What is there is replaced; labels have no body.
            named = {} if part == "mine" else {"data" if operation.startswith("metadata") else "content": b"other"}
        return Arguments((public_id, part), named)

    # What methods need

    def query(self, level: str = "Study") -> str:
        """The identifier of a query to ourselves that has answers."""
        body = {"Level": level, "Query": {"PatientID": "P1"}}
        return str(self.client.post_modalities_id_query("self", json=body)["ID"])

    def archive_job(self) -> str:
        """A job that has made an archive."""
        body = {"Resources": [self.ids["studies"]], "Synchronous": False}
        job = str(self.client.post_tools_create_archive(json=body)["ID"])
        self._until(job, "Success")
        return job

    def pending_job(self) -> str:
        """A job that waits, since others keep all slots busy."""
        for _ in range(self._slots):
            self._until(self._silent_job(), "Running")
        job = self._silent_job()
        self._until(job, "Pending")
        return job

    def _silent_job(self) -> str:
        body = {"Resources": [self.ids["instances"]], "Synchronous": False, "Timeout": 600}
        return str(self.client.post_modalities_id_store("silent", json=body)["ID"])

    def _until(self, job: str, state: str) -> None:
        found = ""
        while found != state:
            found = self.client.get_jobs_id(job)["State"]
            if found == "Failure":
                raise AssertionError(f"A job has failed: {self.client.get_jobs_id(job)}")

    def end_jobs(self) -> None:
        """Cancel what runs or waits."""
        for job in self.client.get_jobs():
            if self.client.get_jobs_id(job)["State"] in ("Pending", "Running", "Paused"):
                self.client.post_jobs_id_cancel(job)

    def paused_job(self) -> str:
        """A job that waits for nothing but being resumed."""
        job = self.pending_job()
        self.client.post_jobs_id_pause(job)
        return job

    def failed_job(self) -> str:
        """A job that was cancelled."""
        job = self.pending_job()
        self.client.post_jobs_id_cancel(job)
        return job

    def commitment(self) -> str:
        """The identifier of a request for storage commitment whose report has come."""
        body = {"Resources": [self.ids["instances"]]}
        transaction = str(self.client.post_modalities_id_storage_commitment("self", json=body)["ID"])
        while self.client.get_storage_commitment_id(transaction)["Status"] == "Pending":
            pass
        return transaction

    def document(self) -> str:
        """An instance with a PDF."""
        pdf = base64.b64encode(b"%PDF-1.4\n%%EOF\n").decode("ascii")
        body = {"Content": f"data:application/pdf;base64,{pdf}", "Tags": {"PatientName": "DOCUMENT"}}
        return str(self.client.post_tools_create_dicom(json=body)["ID"])

    def modality(self) -> dict[str, Any]:
        """Ourselves."""
        configured = self.client.get_modalities_id_configuration("self")
        return {key: configured[key] for key in ("AET", "Host", "Port")}


def _asking(body: Any) -> Callable[[Tour], Arguments]:
    """Something is asked of ourselves as a modality."""
    return lambda tour: Arguments(("self",), {"json": body})


def _plain(*arguments: Any, **named: Any) -> Callable[[Tour], Arguments]:
    return lambda tour: Arguments(arguments, named)


_MODIFIED: Final = {
    "patients": {"PatientID": "NEW", "PatientName": "NEW"},
    "studies": {"StudyDescription": "NEW"},
    "series": {"SeriesDescription": "NEW"},
    "instances": {"ImageComments": "NEW"},
}
#: Named arguments of operations on resources, by the end of the method's name.
_BODIES: Final[Mapping[str, Callable[[Tour, str], dict[str, Any]]]] = {
    "anonymize": lambda tour, level: {"json": {}},
    "modify": lambda tour, level: {"json": {"Replace": _MODIFIED[level], "Force": True}},
    "reconstruct": lambda tour, level: {"json": {}},
    "archive": lambda tour, level: {},
    "media": lambda tour, level: {},
    "merge": lambda tour, level: {"json": {"Resources": [tour.store()["series"]], "Synchronous": True}},
    "split": lambda tour, level: {"json": {"Series": [_series_of_last(tour)], "Synchronous": True}},
    "protected": lambda tour, level: {},
    "export": lambda tour, level: {"data": f"{tour.folder}/exported.dcm"},
}


def _series_of_last(tour: Tour) -> str:
    """The series of the object that was stored last."""
    return str(tour.client.get_series()[-1])


_RESOURCES: Final = {"Level": "Study", "Resources": [{"StudyInstanceUID": "1.2.1"}]}
_SPECIAL: Final[Mapping[str, Callable[[Tour], Arguments]]] = {
    "get_instances_id_content_path": lambda tour: Arguments((tour.ids["instances"], "0010-0010")),
    "get_instances_id_pdf": lambda tour: Arguments((tour.document(),)),
    "post_instances": lambda tour: Arguments((), {"content": dicom_object("NEW", "1.3", "1.3.1", "1.3.1.1")}),
    # Jobs
    "get_jobs_id": lambda tour: Arguments((tour.archive_job(),)),
    "get_jobs_id_key": lambda tour: Arguments((tour.archive_job(), "archive")),
    "delete_jobs_id": lambda tour: Arguments((tour.archive_job(),)),
    "delete_jobs_id_key": lambda tour: Arguments((tour.archive_job(), "archive")),
    "post_jobs_id_cancel": lambda tour: Arguments((tour.pending_job(),)),
    "post_jobs_id_pause": lambda tour: Arguments((tour.pending_job(),)),
    "post_jobs_id_resume": lambda tour: Arguments((tour.paused_job(),)),
    "post_jobs_id_resubmit": lambda tour: Arguments((tour.failed_job(),)),
    # Modalities
    "get_modalities_id": _plain("self"),
    "get_modalities_id_configuration": _plain("self"),
    "put_modalities_id": _plain("other", json=["OTHER", "127.0.0.1", 104]),
    "delete_modalities_id": _plain("silent"),
    "post_modalities_id_echo": _asking({}),
    "post_modalities_id_find": _asking({"PatientID": "P1"}),
    "post_modalities_id_find_patient": _asking({"PatientID": "P1"}),
    "post_modalities_id_find_study": _asking({"PatientID": "P1"}),
    "post_modalities_id_find_series": _asking({"PatientID": "P1", "StudyInstanceUID": "1.2.1"}),
    "post_modalities_id_find_instance": _asking(
        {"PatientID": "P1", "StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.1.1"}
    ),
    "post_modalities_id_find_worklist": _asking({"Query": {"PatientID": ""}}),
    "post_modalities_id_query": _asking({"Level": "Study", "Query": {"PatientID": "P1"}}),
    "post_modalities_id_move": lambda tour: Arguments(("self",), {"json": {**_RESOURCES, "TargetAet": "ORTHANC"}}),
    "post_modalities_id_get": _asking(_RESOURCES),
    "post_modalities_id_store": lambda tour: Arguments(("self",), {"json": [tour.ids["instances"]]}),
    "post_modalities_id_store_straight": _plain("self", content=dicom_object("S", "1.4", "1.4.1", "1.4.1.1")),
    "post_modalities_id_storage_commitment": lambda tour: Arguments(
        ("self",), {"json": {"Resources": [tour.ids["instances"]]}}
    ),
    "get_storage_commitment_id": lambda tour: Arguments((tour.commitment(),)),
    "post_storage_commitment_id_remove": lambda tour: Arguments((tour.commitment(),)),
    # Peers
    "get_peers_id": _plain("self"),
    "get_peers_id_configuration": _plain("self"),
    "get_peers_id_system": _plain("self"),
    "put_peers_id": _plain("other", json={"Url": "http://127.0.0.1:1/"}),
    "delete_peers_id": _plain("other"),
    "post_peers_id_store": lambda tour: Arguments(("self",), {"json": [tour.ids["instances"]]}),
    "post_peers_id_store_straight": _plain("self", content=dicom_object("T", "1.5", "1.5.1", "1.5.1.1")),
    # Queries
    "get_queries_id": lambda tour: Arguments((tour.query(),)),
    "delete_queries_id": lambda tour: Arguments((tour.query(),)),
    "get_queries_id_answers": lambda tour: Arguments((tour.query(),)),
    "get_queries_id_answers_index": lambda tour: Arguments((tour.query(), "0")),
    "get_queries_id_answers_index_content": lambda tour: Arguments((tour.query(), "0")),
    "get_queries_id_level": lambda tour: Arguments((tour.query(),)),
    "get_queries_id_modality": lambda tour: Arguments((tour.query(),)),
    "get_queries_id_query": lambda tour: Arguments((tour.query(),)),
    "post_queries_id_answers_index_query_studies": lambda tour: Arguments((tour.query("Patient"), "0"), {"json": {}}),
    "post_queries_id_answers_index_query_series": lambda tour: Arguments((tour.query(), "0"), {"json": {}}),
    "post_queries_id_answers_index_query_instances": lambda tour: Arguments((tour.query("Series"), "0"), {"json": {}}),
    "post_queries_id_answers_index_retrieve": lambda tour: Arguments((tour.query(), "0"), {"json": {}}),
    "post_queries_id_retrieve": lambda tour: Arguments((tour.query(),), {"json": {}}),
    # Plugins
    "get_plugins_id": _plain("explorer.js"),
    # Tools
    **{
        f"{verb}_tools_create_{kind}": (
            (lambda tour: Arguments((), {"params": {"resources": tour.ids["studies"]}}))
            if verb == "get"
            else (lambda tour: Arguments((), {"json": {"Resources": [tour.ids["studies"]], "Synchronous": True}}))
        )
        for verb in ("get", "post")
        for kind in ("archive", "media", "media_extended")
    },
    "get_tools_generate_uid": _plain(params={"level": "study"}),
    "post_tools_bulk_content": lambda tour: Arguments((), {"json": {"Resources": [tour.ids["studies"]]}}),
    "post_tools_bulk_delete": lambda tour: Arguments((), {"json": {"Resources": [tour.store()["studies"]]}}),
    "post_tools_bulk_anonymize": lambda tour: Arguments((), {"json": {"Resources": [tour.store()["studies"]]}}),
    "post_tools_bulk_modify": lambda tour: Arguments(
        (), {"json": {"Resources": [tour.store()["studies"]], "Level": "Study", "Replace": {"StudyDescription": "N"}}}
    ),
    "post_tools_count_resources": _plain(json={"Level": "Study", "Query": {}}),
    "post_tools_create_dicom": _plain(json={"Tags": {"PatientName": "MADE"}}),
    "post_tools_dicom_echo": lambda tour: Arguments((), {"json": tour.modality()}),
    "post_tools_execute_script": _plain(data="print(42)"),
    "post_tools_find": _plain(json={"Level": "Study", "Query": {"PatientID": "P1"}}),
    "post_tools_lookup": _plain(data="P1"),
    "put_tools_accepted_transfer_syntaxes": _plain(json=["1.2.840.10008.1.*"]),
    "put_tools_default_encoding": _plain(data="Latin1"),
    "put_tools_metrics": _plain(data="1"),
    "put_tools_unknown_sop_class_accepted": _plain(data="0"),
    **{
        f"put_tools_log_level{category}": _plain(data="default")
        for category in ("", "_dicom", "_generic", "_http", "_jobs", "_lua", "_plugins", "_sqlite")
    },
}
