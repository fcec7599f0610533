"""``/queries``: the answers of remote modalities, and their retrieval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from orthanctw.dicom.dictionary import Dictionary
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.jsonforms import FormOptions, TagFormat, form_of
from orthanctw.dicom.scuqueries import UNIQUE_KEYS, parse_query, retrieve_query
from orthanctw.errors import BadFileFormat, EmptyAnswer, ParameterOutOfRange, UnknownResource
from orthanctw.jobs.kinds.parameters import remote_to_json
from orthanctw.jobs.kinds.retrieve import GET, MOVE
from orthanctw.modalities import Modalities
from orthanctw.model import ResourceLevel
from orthanctw.queries import QueryArchive, RemoteQuery
from orthanctw.rest.arguments import EXPAND, FULL, JOB, SHORT, SIMPLIFY, TIMEOUT
from orthanctw.rest.call import Call, field, parse_integer
from orthanctw.rest.declaration import JSON, TEXT, Argument, Body, route
from orthanctw.rest.encoding import JsonEncoder
from orthanctw.rest.reply import EMPTY, Reply, json_reply, text_reply
from orthanctw.rest.resources.browsing import format_of
from orthanctw.rest.resources.modalities import (
    QUERY,
    TARGET_AET,
    identifier_json,
    needed_object,
    optional_object,
    timeout_of,
)
from orthanctw.rest.submission import Submission
from orthanctw.settings.structures import RetrieveMethod

#: Levels below, by the routes that query them.
_BELOW: Final = {
    "query-studies": ResourceLevel.STUDY,
    "query-series": ResourceLevel.SERIES,
    "query-instances": ResourceLevel.INSTANCE,
}
_FORMAT: Final = (SIMPLIFY, SHORT, FULL)
#: How the job shows what it has asked for.
_SHOWN: Final = tuple(Argument(form.name.title(), "boolean", form.summary) for form in _FORMAT)
_METHODS: Final = tuple(method.value for method in RetrieveMethod)
_RETRIEVE: Final = Body(
    fields=(
        TARGET_AET,
        Argument("RetrieveMethod", "string", "How it is retrieved", values=_METHODS),
        TIMEOUT,
        *_SHOWN,
        *JOB,
    ),
    content=(JSON, TEXT),
    summary="An object, or the AE title that the objects are sent to",
    required=False,
)
#: What Orthanc lists; the first name is not that of a route.
_LISTED: Final = (
    (ResourceLevel.STUDY, "query-study"),
    (ResourceLevel.SERIES, "query-series"),
    (ResourceLevel.INSTANCE, "query-instances"),
)


class QueryRoutes:
    """Queries by their identifiers."""

    def __init__(
        self,
        queries: QueryArchive,
        modalities: Modalities,
        submission: Submission,
        dictionary: Dictionary,
        encoder: JsonEncoder,
        *,
        aet: str,
        retrieve_method: RetrieveMethod,
    ) -> None:
        self._queries = queries
        self._modalities = modalities
        self._submission = submission
        self._dictionary = dictionary
        self._encoder = encoder
        self._aet = aet
        self._retrieve_method = retrieve_method

    @route("GET", "/queries")
    async def list(self, call: Call) -> Reply:
        """Identifiers of the queries that are kept."""
        return json_reply(self._queries.ids())

    @route("GET", "/queries/<id>")
    async def operations(self, call: Call) -> Reply:
        """What can be read of a query."""
        try:
            self._queries.get(call["id"])
        except UnknownResource:
            raise EmptyAnswer(404) from None
        return json_reply(("answers", "level", "modality", "query", "retrieve"))

    @route("DELETE", "/queries/<id>", answers=[TEXT])
    async def delete(self, call: Call) -> Reply:
        """Forget a query."""
        self._queries.delete(call["id"])
        return EMPTY

    @route("GET", "/queries/<id>/level", answers=[TEXT])
    async def level(self, call: Call) -> Reply:
        """The level of a query, as it was given."""
        return text_reply(self._queries.get(call["id"]).level_text)

    @route("GET", "/queries/<id>/modality", answers=[TEXT])
    async def modality(self, call: Call) -> Reply:
        """The name of the modality that was asked."""
        return text_reply(self._queries.get(call["id"]).modality)

    @route("GET", "/queries/<id>/query", query=_FORMAT)
    async def query(self, call: Call) -> Reply:
        """The tags that were asked for."""
        return json_reply(self._form(self._queries.get(call["id"]).query, call))

    def _form(self, elements: Elements, call: Call) -> dict[str, Any]:
        form = format_of(call, TagFormat.FULL)
        return form_of(elements, form, FormOptions(dictionary=self._dictionary, maximum_length=0))

    # Answers

    @route("GET", "/queries/<id>/answers", query=(EXPAND, *_FORMAT))
    async def answers(self, call: Call) -> Reply:
        """Numbers of the answers, or the answers."""
        query = self._queries.get(call["id"])
        if call.boolean("expand"):
            answers = query.answers
            return await self._encoder.reply_of(
                len(answers), lambda: [self._form(answer, call) for answer in answers]
            )
        return json_reply([str(number) for number in range(len(query.answers))])

    def _answer(self, call: Call) -> tuple[RemoteQuery, int]:
        query = self._queries.get(call["id"])
        index = parse_integer(call["index"], "the number of an answer")
        query.answer(index)
        return query, index

    @route("GET", "/queries/<id>/answers/<index>")
    async def answer_operations(self, call: Call) -> Reply:
        """What can be done with an answer."""
        query, _ = self._answer(call)
        return json_reply(("content", "retrieve", *(name for level, name in _LISTED if level > query.level)))

    @route("GET", "/queries/<id>/answers/<index>/content", query=_FORMAT)
    async def content(self, call: Call) -> Reply:
        """The tags of an answer."""
        query, index = self._answer(call)
        return json_reply(self._form(query.answer(index), call))

    @route(
        "POST",
        *(f"/queries/<id>/answers/<index>/{name}" for name in _BELOW),
        body=Body(fields=(QUERY, TIMEOUT), required=False),
    )
    async def query_below(self, call: Call) -> Reply:
        """Ask for what is below an answer."""
        query, index = self._answer(call)
        level = _BELOW[call.path.rpartition("/")[2]]
        if level <= query.level:
            raise UnknownResource()
        body = await optional_object(call)
        keys = {element[0]: element for element in parse_query(body.get("Query", {}), self._dictionary)}
        texts = query.texts(index)
        for tag in UNIQUE_KEYS[query.level]:
            if tag in texts:
                keys[tag] = (tag, self._dictionary.vr(tag), texts[tag])
        identifier = await self._queries.add(
            query.modality,
            level.title,
            [keys[tag] for tag in sorted(keys)],
            local_aet=query.remote.local_aet,
            timeout=timeout_of(body),
        )
        return json_reply({"ID": identifier, "Path": f"/queries/{identifier}"})

    # Retrieval

    @route("POST", "/queries/<id>/retrieve", body=_RETRIEVE)
    async def retrieve(self, call: Call) -> Reply:
        """Retrieve every answer, as a job."""
        query = self._queries.get(call["id"])
        return await self._retrieve(call, query, range(len(query.answers)))

    @route("POST", "/queries/<id>/answers/<index>/retrieve", body=_RETRIEVE)
    async def retrieve_one(self, call: Call) -> Reply:
        """Retrieve one answer, as a job."""
        query, index = self._answer(call)
        return await self._retrieve(call, query, (index,))

    async def _retrieve(self, call: Call, query: RemoteQuery, indexes: Sequence[int]) -> Reply:
        body = await _retrieve_body(call)
        remote, timeout = query.remote, timeout_of(body)
        modality = self._modalities.all().get(query.modality)
        if modality is not None:
            remote = self._modalities.remote(modality, local_aet=remote.local_aet, timeout=timeout)
        elif timeout is not None:
            remote = attrs.evolve(remote, timeout=timeout)
        asked = [retrieve_query(query.level, query.texts(index), self._dictionary) for index in indexes]
        parameters: dict[str, Any] = {
            "Remote": remote_to_json(remote),
            "Queries": [identifier_json(query.level, elements) for elements in asked],
        }
        form = _form_of_job(body)
        if form is not TagFormat.SHORT:
            options = FormOptions(dictionary=self._dictionary)
            parameters["Shown"] = [form_of(elements, form, options) for elements in asked]
        kind = GET
        if self._method(body, remote.retrieve_method) is RetrieveMethod.C_MOVE:
            kind = MOVE
            parameters["TargetAet"] = field(body, "TargetAet", str, self._aet, BadFileFormat) or self._aet
        return await self._submission.submit(kind, parameters, body, synchronous=True)

    def _method(self, body: Mapping[str, Any], of_modality: RetrieveMethod) -> RetrieveMethod:
        method = of_modality
        if "RetrieveMethod" in body:
            name = field(body, "RetrieveMethod", str, "", BadFileFormat)
            found = next((item for item in RetrieveMethod if item.value == name), None)
            if found is None:
                raise ParameterOutOfRange("Unknown RetrieveMethod")
            method = found
        return self._retrieve_method if method is RetrieveMethod.SYSTEM_DEFAULT else method


def _form_of_job(body: Mapping[str, Any]) -> TagFormat:
    for form in (TagFormat.SIMPLIFY, TagFormat.SHORT, TagFormat.FULL):
        if field(body, form.value, bool, False, BadFileFormat):
            return form
    return TagFormat.SHORT


async def _retrieve_body(call: Call) -> dict[str, Any]:
    """The body: an object, the AE title of the target as text, or nothing."""
    text = await call.text()
    if text.startswith("{"):
        return await needed_object(call)
    return {"TargetAet": text.strip('"')} if text else {}
