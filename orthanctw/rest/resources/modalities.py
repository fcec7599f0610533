"""``/modalities``: configuring remote modalities, and what can be asked of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from orthanctw.dicom.authoring import ValueOptions, elements_of
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.dictionary import Dictionary, format_tag
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.jsonforms import FormOptions, TagFormat, form_of, tags
from orthanctw.dicom.scanner import scan
from orthanctw.dicom.scuqueries import (
    ACCESSION_NUMBER,
    LEVEL_TEXTS,
    PATIENT_ID,
    QUERY_RETRIEVE_LEVEL,
    SERIES_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    keys_below,
    parse_query,
    template,
)
from orthanctw.dicom.uids import WORKLIST_FIND
from orthanctw.errors import (
    BadFileFormat,
    BadParameterType,
    EmptyAnswer,
    ParameterOutOfRange,
)
from orthanctw.exports import ExportLog
from orthanctw.interfaces import IDicomScu, IIndex
from orthanctw.jobs.kinds.parameters import remote_to_json
from orthanctw.jobs.kinds.retrieve import GET, MOVE
from orthanctw.jobs.kinds.store import STORE
from orthanctw.modalities import Modalities, configurations, parse_modality
from orthanctw.model import ResourceLevel
from orthanctw.queries import QueryArchive
from orthanctw.remote import Outgoing, Remote
from orthanctw.rest.arguments import EXPAND, JOB, LOCAL_AET, RESOURCES, TIMEOUT
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import JSON, KINDS, TEXT, Argument, Body, route
from orthanctw.rest.reply import DICOM, EMPTY, EMPTY_JSON, Reply, json_reply
from orthanctw.rest.submission import Submission
from orthanctw.rest.transfers import resources_of, shown_resources, store_body
from orthanctw.retrieval import Retrieval
from orthanctw.settings.options import options_of
from orthanctw.settings.structures import Modality, modality_json
from orthanctw.storefilters import StoreFilters

#: Fields of a modality that need not be configured.
_ADDRESS: Final = ("AET", "Host", "Port", "Manufacturer", "UseDicomTls", "LocalAet")
_OPERATIONS: Final = (
    *("configuration", "echo", "find", "find-instance", "find-patient", "find-series", "find-study", "find-worklist"),
    *("get", "move", "query", "storage-commitment", "store", "store-straight"),
)
#: Kinds of arguments by the word that the label of an option begins with.
_KINDS: Final = {"boolean": "boolean", "integer": "integer", "unsigned": "integer", "string": "string"}
_MODALITY: Final = tuple(
    Argument(declared.name, _KINDS[declared.kind.label.split()[0]], declared.meaning, declared.required)
    for _, declared in options_of(Modality)
)
_AS_ARRAY: Final = Body(fields=_MODALITY, schema=KINDS["array"], summary="An object, or AET, Host, Port, Manufacturer")
_CHECK_FIND: Final = Argument("CheckFind", "boolean", "Whether a C-FIND without matches follows the C-ECHO")
_ECHOED: Final = (
    *(field for field in _MODALITY if field.name in _ADDRESS),
    _CHECK_FIND,
    TIMEOUT,
)
_STORE: Final = (
    RESOURCES,
    LOCAL_AET,
    TIMEOUT,
    Argument("CalledAet", "string", "AE title of the modality, other than configured"),
    Argument("Host", "string", "Its host, other than configured"),
    Argument("Port", "integer", "Its port, other than configured"),
    Argument("MoveOriginatorAet", "string", "Who has asked for it by C-MOVE"),
    Argument("MoveOriginatorID", "integer", "Message ID of that C-MOVE"),
    Argument("StorageCommitment", "boolean", "Whether the modality is asked to commit to what was sent"),
    *JOB,
)
LEVEL: Final = Argument("Level", "string", "Level of the query", True, tuple(level.title for level in ResourceLevel))
QUERY: Final = Argument("Query", "object", "Texts to match, by tags")
_QUERY: Final = (
    LEVEL,
    QUERY,
    Argument("Normalize", "boolean", "Whether the query is reduced to what the level has"),
    LOCAL_AET,
    TIMEOUT,
)
TARGET_AET: Final = Argument("TargetAet", "string", "AE title that the objects are sent to")
_RETRIEVED: Final = Argument("Resources", "objects", "Texts of the unique keys, by tags", required=True)
_RETRIEVE: Final = (LEVEL, _RETRIEVED, LOCAL_AET, TIMEOUT, *JOB)
_WORKLIST: Final = Body(
    fields=(
        QUERY,
        Argument("Short", "boolean", "Whether tags are shown by their numbers only"),
        Argument("Full", "boolean", "Whether tags are shown with their numbers, names and types"),
    ),
    schema=KINDS["object"],
    summary="Texts to match, by tags; or these as Query",
)
_KEYS: Final = Body(schema=KINDS["object"], summary="Texts to match, by tags")
#: Keys of which the older routes need one each: without them, or with wildcards in them, nothing is asked.
_PATIENT_OR_REQUEST: Final = (PATIENT_ID, ACCESSION_NUMBER)
_NEEDED: Final[Mapping[str, tuple[tuple[int, ...], ...]]] = {
    "find-patient": (),
    "find-study": (_PATIENT_OR_REQUEST,),
    "find-series": (_PATIENT_OR_REQUEST, (STUDY_INSTANCE_UID,)),
    "find-instance": (_PATIENT_OR_REQUEST, (STUDY_INSTANCE_UID,), (SERIES_INSTANCE_UID,)),
}
_LEVELS: Final = {
    "find-patient": ResourceLevel.PATIENT,
    "find-study": ResourceLevel.STUDY,
    "find-series": ResourceLevel.SERIES,
    "find-instance": ResourceLevel.INSTANCE,
}


def timeout_of(body: Mapping[str, Any]) -> int | None:
    """Field ``Timeout`` in seconds, or None."""
    if "Timeout" not in body:
        return None
    seconds: int = field(body, "Timeout", int, 0, BadFileFormat)
    if not 0 <= seconds < 2**31:
        raise ParameterOutOfRange("Timeout is out of range")
    return seconds


async def needed_object(call: Call) -> dict[str, Any]:
    """The body as a JSON object. BadFileFormat for anything else, as Orthanc has it here."""
    value = await call.json()
    if not isinstance(value, dict):
        raise BadFileFormat("The body must be a JSON object")
    return value


async def optional_object(call: Call) -> dict[str, Any]:
    """The body as a JSON object; an empty body is an empty object."""
    return await needed_object(call) if (await call.content()).strip() else {}


class ModalityRoutes:
    """Remote modalities."""

    def __init__(
        self,
        modalities: Modalities,
        scu: IDicomScu,
        queries: QueryArchive,
        retrieval: Retrieval,
        submission: Submission,
        exports: ExportLog,
        index: IIndex,
        dictionary: Dictionary,
        store_filters: StoreFilters,
        *,
        checks_find: bool,
        default_encoding: DefaultEncoding,
    ) -> None:
        self._modalities = modalities
        self._scu = scu
        self._queries = queries
        self._retrieval = retrieval
        self._submission = submission
        self._exports = exports
        self._index = index
        self._dictionary = dictionary
        self._store_filters = store_filters
        self._checks_find = checks_find
        self._default_encoding = default_encoding

    # Configuration

    @route("GET", "/modalities", query=[EXPAND])
    async def list(self, call: Call) -> Reply:
        """Names, or names with configurations."""
        known = dict(sorted(self._modalities.all().items()))
        return json_reply(configurations(known) if call.boolean("expand") else list(known))

    @route("GET", "/modalities/<id>")
    async def operations(self, call: Call) -> Reply:
        """What can be done with a modality."""
        if call["id"] not in self._modalities.all():
            raise EmptyAnswer(404)
        return json_reply(_OPERATIONS)

    @route("GET", "/modalities/<id>/configuration")
    async def configuration(self, call: Call) -> Reply:
        """How a modality is reached, and what it may do."""
        return json_reply(modality_json(self._modalities.get(call["id"])))

    @route("PUT", "/modalities/<id>", body=_AS_ARRAY, answers=[TEXT])
    async def put(self, call: Call) -> Reply:
        """Add or replace a modality."""
        await self._modalities.put(call["id"], parse_modality(await call.json()))
        return EMPTY

    @route("DELETE", "/modalities/<id>", answers=[TEXT])
    async def delete(self, call: Call) -> Reply:
        """Remove a modality."""
        await self._modalities.delete(call["id"])
        return EMPTY

    def _remote(self, call: Call, body: Mapping[str, Any]) -> Remote:
        return self._modalities.remote(
            self._modalities.get(call["id"]),
            local_aet=field(body, "LocalAet", str, "", BadFileFormat),
            timeout=timeout_of(body),
        )

    # Echo

    @route("POST", "/modalities/<id>/echo", body=Body(fields=(_CHECK_FIND, LOCAL_AET, TIMEOUT), required=False))
    async def echo(self, call: Call) -> Reply:
        """C-ECHO to a modality."""
        self._modalities.get(call["id"])
        body = await optional_object(call)
        checks_find = field(body, "CheckFind", bool, self._checks_find, BadFileFormat)
        await self._scu.echo(self._remote(call, body), checks_find=checks_find)
        return EMPTY_JSON

    @route("POST", "/tools/dicom-echo", body=Body(fields=_ECHOED))
    async def echo_anybody(self, call: Call) -> Reply:
        """C-ECHO to an application entity that is not configured."""
        body = await needed_object(call)
        for name in ("AET", "Host"):
            field({name: body.get(name)}, name, str, "", BadFileFormat)
        modality = parse_modality({name: body[name] for name in _ADDRESS if name in body})
        remote = self._modalities.remote(modality, timeout=timeout_of(body))
        checks_find = field(body, "CheckFind", bool, self._checks_find, BadFileFormat)
        await self._scu.echo(remote, checks_find=checks_find)
        return EMPTY_JSON

    # Store

    @route("POST", "/modalities/<id>/store", body=Body(fields=_STORE, schema=KINDS["strings"], content=(JSON, TEXT)))
    async def store(self, call: Call) -> Reply:
        """Send resources, as a job."""
        modality = self._modalities.get(call["id"])
        body = await store_body(call)
        remote = self._remote(call, body)
        resources = await resources_of(self._index, body)
        objects = await self._retrieval.below(resources)
        await self._exports.add(resources, call["id"])
        values = {
            "aet": field(body, "CalledAet", str, remote.aet, BadFileFormat),
            "host": field(body, "Host", str, remote.host, BadFileFormat),
            "port": field(body, "Port", int, modality.port, BadFileFormat),
        }
        parameters = {
            "Remote": {**remote_to_json(remote), **values},
            "Instances": [item.public_id for item in objects],
            **shown_resources(resources),
            "StorageCommitment": field(body, "StorageCommitment", bool, False, BadFileFormat),
            "MoveOriginatorAET": field(body, "MoveOriginatorAet", str, "", BadFileFormat),
            "MoveOriginatorID": field(body, "MoveOriginatorID", int, 0, BadFileFormat),
        }
        return await self._submission.submit(STORE, parameters, body, synchronous=True)

    @route("POST", "/modalities/<id>/store-straight", body=Body(content=(DICOM,)))
    async def store_straight(self, call: Call) -> Reply:
        """Send the DICOM file of the body, without storing it."""
        remote = self._remote(call, {})
        content = await call.content()
        scanned = scan(content, default_encoding=self._default_encoding.name, dictionary=self._dictionary)
        sop_class, sop_instance = scanned.text(0x00080016) or "", scanned.text(0x00080018) or ""
        outgoing = Outgoing(
            sop_class_uid=sop_class,
            sop_instance_uid=sop_instance,
            transfer_syntax=scanned.transfer_syntax,
            content=content,
        )

        async def shown() -> Mapping[str, object]:
            options = FormOptions(dictionary=self._dictionary, default_encoding=self._default_encoding.name)
            return tags(scanned, TagFormat.SIMPLIFY, options)

        if await self._store_filters.sends_what(shown, remote.host, remote.aet):
            await self._scu.store(remote, outgoing, ((sop_class, scanned.transfer_syntax),))
        return json_reply({"SOPClassUID": sop_class, "SOPInstanceUID": sop_instance})

    # Query and retrieve

    @route("POST", "/modalities/<id>/query", body=Body(fields=_QUERY))
    async def query(self, call: Call) -> Reply:
        """C-FIND; the answers are under ``/queries``."""
        self._modalities.get(call["id"])
        body = await needed_object(call)
        if "Level" not in body:
            raise BadFileFormat("Field Level is missing")
        identifier = await self._queries.add(
            call["id"],
            field(body, "Level", str, "", BadFileFormat),
            parse_query(body.get("Query", {}), self._dictionary),
            local_aet=field(body, "LocalAet", str, "", BadFileFormat),
            timeout=timeout_of(body),
            normalize=field(body, "Normalize", bool, True, BadFileFormat),
        )
        return json_reply({"ID": identifier, "Path": f"/queries/{identifier}"})

    @route("POST", *(f"/modalities/<id>/{name}" for name in _LEVELS), body=_KEYS)
    async def find_level(self, call: Call) -> Reply:
        """C-FIND of the level in the path (deprecated)."""
        name = call.path.rpartition("/")[2]
        self._modalities.get(call["id"])
        query = parse_query(await optional_object(call), self._dictionary)
        texts = {element[0]: element[2] for element in query}
        for alternatives in _NEEDED[name]:
            values = [texts.get(tag, "") for tag in alternatives]
            if not any(isinstance(value, str) and value and not {"*", "?"} & set(value) for value in values):
                raise EmptyAnswer(400)
        return json_reply([self._simplified(answer) for answer in await self._find(call, _LEVELS[name], query)])

    @route("POST", "/modalities/<id>/find", body=_KEYS)
    async def find(self, call: Call) -> Reply:
        """C-FIND of patients, and of what is below each (deprecated)."""
        self._modalities.get(call["id"])
        query = parse_query(await optional_object(call), self._dictionary)
        found = []
        for patient in await self._find(call, ResourceLevel.PATIENT, query):
            shown = self._simplified(patient)
            shown["Studies"] = []
            keys = _below(keys_below(query, ResourceLevel.PATIENT), patient, (PATIENT_ID,))
            for study in await self._find(call, ResourceLevel.STUDY, keys):
                keys = _below(keys_below(query, ResourceLevel.STUDY), study, (PATIENT_ID, STUDY_INSTANCE_UID))
                series = await self._find(call, ResourceLevel.SERIES, keys)
                shown["Studies"].append(
                    {**self._simplified(study), "Series": [self._simplified(item) for item in series]}
                )
            found.append(shown)
        return json_reply(found)

    async def _find(self, call: Call, level: ResourceLevel, query: Elements) -> Sequence[Elements]:
        usual = {element[0]: element for element in template(level, self._dictionary)}
        asked = {**usual, **{element[0]: element for element in query}}
        return await self._queries.find(self._remote(call, {}), level, [asked[tag] for tag in sorted(asked)])

    def _simplified(self, answer: Elements) -> dict[str, Any]:
        return form_of(answer, TagFormat.SIMPLIFY, FormOptions(dictionary=self._dictionary, maximum_length=0))

    @route("POST", "/modalities/<id>/find-worklist", body=_WORKLIST)
    async def find_worklist(self, call: Call) -> Reply:
        """C-FIND of modality worklists (PS3.4 annex K)."""
        body = await needed_object(call)
        remote = self._remote(call, {})
        query, form = body, TagFormat.SIMPLIFY
        if "Query" in body:
            query = field(body, "Query", dict, {}, BadParameterType)
            if field(body, "Short", bool, False, BadFileFormat):
                form = TagFormat.SHORT
            elif field(body, "Full", bool, False, BadFileFormat):
                form = TagFormat.FULL
        keys = elements_of(query, ValueOptions(dictionary=self._dictionary))
        found = await self._scu.find(remote, WORKLIST_FIND, keys)
        options = FormOptions(dictionary=self._dictionary, maximum_length=0)
        return json_reply([form_of(answer, form, options) for answer in found])

    @route("POST", "/modalities/<id>/move", body=Body(fields=(TARGET_AET, *_RETRIEVE)))
    async def move(self, call: Call) -> Reply:
        """C-MOVE, as a job."""
        self._modalities.get(call["id"])
        body = await needed_object(call)
        remote = self._remote(call, body)
        target = field(body, "TargetAet", str, remote.local_aet, BadFileFormat)
        parameters = {"Remote": remote_to_json(remote), "Queries": self._keys(body), "TargetAet": target}
        return await self._submission.submit(MOVE, parameters, body, synchronous=True)

    @route("POST", "/modalities/<id>/get", body=Body(fields=_RETRIEVE))
    async def get(self, call: Call) -> Reply:
        """C-GET, as a job."""
        self._modalities.get(call["id"])
        body = await needed_object(call)
        parameters = {"Remote": remote_to_json(self._remote(call, body)), "Queries": self._keys(body)}
        return await self._submission.submit(GET, parameters, body, synchronous=True)

    def _keys(self, body: Mapping[str, Any]) -> Sequence[Mapping[str, str]]:
        """``Level`` and ``Resources`` of a retrieval as identifiers."""
        if "Level" not in body or "Resources" not in body:
            raise BadFileFormat("Fields Level and Resources are needed")
        level = ResourceLevel.parse(field(body, "Level", str, "", BadFileFormat))
        if level is None:
            raise ParameterOutOfRange("Unknown level")
        return [
            identifier_json(level, parse_query(item, self._dictionary))
            for item in field(body, "Resources", list, [], BadFileFormat)
        ]


def identifier_json(level: ResourceLevel, elements: Elements) -> dict[str, str]:
    """The identifier of a retrieval, as jobs keep and show it."""
    texts = {format_tag(element[0]): element[2] for element in elements if isinstance(element[2], str)}
    return dict(sorted({**texts, format_tag(QUERY_RETRIEVE_LEVEL): LEVEL_TEXTS[level]}.items()))


def _below(query: Elements, answer: Elements, keys: Sequence[int]) -> Elements:
    """The query for what is below an answer."""
    found = {element[0]: element for element in answer if element[0] in keys}
    kept = {element[0]: element for element in query}
    return [element for _, element in sorted({**kept, **found}.items())]
