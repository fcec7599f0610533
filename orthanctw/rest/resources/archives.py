"""``/archive`` and ``/media`` of resources, and those of several: ZIP files, streamed or made by a job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs
from twisted.internet.defer import Deferred
from twisted.logger import Logger

from orthanctw.archives.building import ArchiveOptions, Archives, Selected
from orthanctw.archives.layout import Layout
from orthanctw.archives.shelf import Shelf
from orthanctw.dicom.uids import TRANSFER_SYNTAXES
from orthanctw.errors import BadFileFormat, BadRequest, ParameterOutOfRange
from orthanctw.jobs.kinds.archive import ARCHIVE, MEDIA, ZIP, archive_parameters
from orthanctw.model import ResourceLevel
from orthanctw.rest.arguments import (
    FILENAME,
    IF_NONE_MATCH,
    LOSSY_QUALITY,
    RANGE,
    RESOURCES,
    SUBMISSION,
    TRANSCODE,
)
from orthanctw.rest.call import Call, field
from orthanctw.rest.declaration import JSON, KINDS, Argument, Body, route
from orthanctw.rest.ranges import parse_range
from orthanctw.rest.reply import Headers, Reply, content_disposition
from orthanctw.rest.resources.attached import tagged
from orthanctw.rest.submission import Submission, is_synchronous, priority_of

log = Logger(namespace="orthanctw.http")
_LEVELS: Final = tuple(level.plural for level in ResourceLevel if level is not ResourceLevel.INSTANCE)
_ARCHIVE: Final = tuple(f"/{level}/<id>/archive" for level in _LEVELS)
_MEDIA: Final = tuple(f"/{level}/<id>/media" for level in _LEVELS)
_OPTIONS: Final = (FILENAME, TRANSCODE, LOSSY_QUALITY)
_SEVERAL: Final = (*_OPTIONS, Argument("resources", "string", "Identifiers, separated by commas", required=True))
_EXTENDED: Final = Argument("extended", "flag", "A DICOMDIR with more in its records")
_PART: Final = (
    RANGE,
    Argument("If-Range", "string", "ETag of the archive of which the part is wanted"),
    IF_NONE_MATCH,
)
_ARCHIVE_FIELDS: Final = (
    Argument("Filename", "string", FILENAME.summary),
    Argument("Transcode", "string", TRANSCODE.summary),
    Argument("LossyQuality", "quality", LOSSY_QUALITY.summary),
    Argument("Utf8", "boolean", "Names in UTF-8 in place of ASCII"),
    Argument("UserData", "string", "Kept with the job and shown with it"),
    *SUBMISSION,
)
_MEDIA_FIELDS: Final = (*_ARCHIVE_FIELDS, Argument("Extended", "boolean", _EXTENDED.summary))
_MADE: Final = (ZIP, JSON)
_SYNTAXES: Final = frozenset(TRANSFER_SYNTAXES)
_QUALITIES: Final = range(1, 101)


def _of_listed(fields: Sequence[Argument]) -> Body:
    """A body that names resources and options, or is an array of resources."""
    return Body(fields=(RESOURCES, *fields), schema=KINDS["strings"])


@attrs.frozen(kw_only=True)
class Asked:
    """A request for an archive."""

    resources: Sequence[str]
    options: ArchiveOptions
    file_name: str

    @property
    def kind(self) -> str:
        """The type of its job."""
        return MEDIA if self.options.media else ARCHIVE


class ArchiveRoutes:
    """Downloads of several objects at once.

    Parameters
    ----------
    utf8 : bool
        ``ZipUseUtf8``.
    is_streaming : bool
        ``SynchronousZipStream``.
    """

    def __init__(
        self, archives: Archives, shelf: Shelf, submission: Submission, *, utf8: bool, is_streaming: bool
    ) -> None:
        self._archives = archives
        self._shelf = shelf
        self._submission = submission
        self._utf8 = utf8
        self._is_streaming = is_streaming

    # One resource

    @route("GET", *_ARCHIVE, query=_OPTIONS, headers=_PART, answers=[ZIP])
    async def archive(self, call: Call) -> Reply:
        """All below a resource, as a ZIP file."""
        return await self._download(call, self._of_arguments(call, [call["id"]], media=False))

    @route("POST", *_ARCHIVE, body=Body(fields=_ARCHIVE_FIELDS), answers=_MADE)
    async def make_archive(self, call: Call) -> Reply:
        """All below a resource, as a ZIP file, now or by a job."""
        return await self._of_one(call, media=False)

    @route("GET", *_MEDIA, query=(*_OPTIONS, _EXTENDED), headers=_PART, answers=[ZIP])
    async def media(self, call: Call) -> Reply:
        """All below a resource, as a DICOM file-set."""
        asked = self._of_arguments(call, [call["id"]], media=True, extended=call.flag("extended"))
        return await self._download(call, asked)

    @route("POST", *_MEDIA, body=Body(fields=_MEDIA_FIELDS), answers=_MADE)
    async def make_media(self, call: Call) -> Reply:
        """All below a resource, as a DICOM file-set, now or by a job."""
        return await self._of_one(call, media=True)

    # Several resources

    @route("GET", "/tools/create-archive", query=_SEVERAL, headers=_PART, answers=[ZIP])
    async def archive_of_several(self, call: Call) -> Reply:
        """All below several resources, as a ZIP file."""
        return await self._download(call, self._of_arguments(call, _listed(call), media=False))

    @route("POST", "/tools/create-archive", body=_of_listed(_ARCHIVE_FIELDS), answers=_MADE)
    async def make_archive_of_several(self, call: Call) -> Reply:
        """All below several resources, as a ZIP file, now or by a job."""
        return await self._of_several(call, media=False)

    @route("GET", "/tools/create-media", query=_SEVERAL, headers=_PART, answers=[ZIP])
    async def media_of_several(self, call: Call) -> Reply:
        """All below several resources, as a DICOM file-set."""
        return await self._download(call, self._of_arguments(call, _listed(call), media=True))

    @route("POST", "/tools/create-media", body=_of_listed(_MEDIA_FIELDS), answers=_MADE)
    async def make_media_of_several(self, call: Call) -> Reply:
        """All below several resources, as a DICOM file-set, now or by a job."""
        return await self._of_several(call, media=True)

    @route("GET", "/tools/create-media-extended", query=_SEVERAL, headers=_PART, answers=[ZIP])
    async def extended_media_of_several(self, call: Call) -> Reply:
        """A DICOM file-set of several resources whose DICOMDIR tells more."""
        return await self._download(call, self._of_arguments(call, _listed(call), media=True, extended=True))

    @route("POST", "/tools/create-media-extended", body=_of_listed(_MEDIA_FIELDS), answers=_MADE)
    async def make_extended_media_of_several(self, call: Call) -> Reply:
        """A DICOM file-set of several resources whose DICOMDIR tells more, now or by a job."""
        return await self._of_several(call, media=True, extended=True)

    # What is asked

    def _of_arguments(self, call: Call, resources: Sequence[str], *, media: bool, extended: bool = False) -> Asked:
        arguments = call.arguments
        options = ArchiveOptions(
            media=media,
            extended=extended,
            utf8=self._utf8,
            transcode=_syntax(arguments["transcode"]) if "transcode" in arguments else None,
            lossy_quality=_quality(call.integer("lossy-quality")),
        )
        return Asked(
            resources=resources, options=options, file_name=arguments.get("filename", _file_name(call))
        )

    def _of_body(
        self, call: Call, body: Mapping[str, Any], resources: Sequence[str], *, media: bool, extended: bool
    ) -> Asked:
        options = ArchiveOptions(
            media=media,
            extended=field(body, "Extended", bool, extended, BadFileFormat) and media,
            utf8=field(body, "Utf8", bool, self._utf8, BadFileFormat),
            transcode=_syntax(field(body, "Transcode", str, "", BadFileFormat)) if "Transcode" in body else None,
            lossy_quality=_quality(field(body, "LossyQuality", int, None, BadFileFormat)),
        )
        name = field(body, "Filename", str, _file_name(call), BadFileFormat)
        return Asked(resources=resources, options=options, file_name=name)

    async def _of_one(self, call: Call, *, media: bool) -> Reply:
        body = await call.json()
        if not isinstance(body, dict):
            # As Orthanc does: any JSON will do.
            body = {}
        asked = self._of_body(call, body, [call["id"]], media=media, extended=False)
        return await self._answer(call, body, asked)

    async def _of_several(self, call: Call, *, media: bool, extended: bool = False) -> Reply:
        body = await call.json()
        if isinstance(body, list):
            body = {"Resources": body}
        if not isinstance(body, dict):
            raise BadFileFormat("A list of resources, or an object that has one, is needed")
        resources = body.get("Resources")
        if not isinstance(resources, list) or not all(isinstance(item, str) for item in resources):
            raise BadFileFormat("Field Resources must be an array of strings")
        asked = self._of_body(call, body, resources, media=media, extended=extended)
        return await self._answer(call, body, asked)

    # Answers

    async def _answer(self, call: Call, body: Mapping[str, Any], asked: Asked) -> Reply:
        text = body.get("UserData")
        job = {"Priority": priority_of(body), "UserData": text if isinstance(text, str) else None}
        if is_synchronous(body, self._is_streaming):
            return await self._download(call, asked)
        await self._archives.check(asked.resources)
        parameters = archive_parameters(asked.resources, asked.options, asked.file_name)
        return await self._submission.submit(asked.kind, parameters, job, synchronous=False)

    async def _download(self, call: Call, asked: Asked) -> Reply:
        selected, made = await self._archives.make(asked.resources, asked.options)
        if isinstance(made, Layout):
            return self._stored(call, asked, selected, made)
        headers = (content_disposition(asked.file_name),)
        if call.is_head:
            # Its length is only known when all of it has been made.
            return Reply(content_type=ZIP, headers=headers, length=-1)
        reader = self._archives.open(made, self._noting(asked, selected, lambda: made.size))
        if not self._is_streaming:
            reader = await self._shelf.buffer(reader)
        return Reply(content_type=ZIP, headers=headers, reader=reader)

    def _stored(self, call: Call, asked: Asked, selected: Selected, layout: Layout) -> Reply:
        tag = f'"{layout.digest}"'
        headers: Headers = (content_disposition(asked.file_name), ("Accept-Ranges", "bytes"), ("ETag", tag))
        if call.method != "GET":
            return self._whole(asked, selected, layout, headers)
        tagged(call, tag)
        if call.is_head:
            return Reply(content_type=ZIP, headers=headers, length=layout.size)
        requested = call.headers.get("range")
        if requested is None or call.headers.get("if-range", tag) != tag:
            return self._whole(asked, selected, layout, headers)
        first, last = parse_range(requested, layout.size)
        reader = self._archives.reader(layout, first, last - first + 1)
        headers = (("Content-Range", f"bytes {first}-{last}/{layout.size}"), *headers)
        return Reply(content_type=ZIP, status=206, headers=headers, reader=reader)

    def _whole(self, asked: Asked, selected: Selected, layout: Layout, headers: Headers) -> Reply:
        reader = self._archives.open(layout, self._noting(asked, selected, lambda: layout.size))
        return Reply(content_type=ZIP, headers=headers, reader=reader)

    def _noting(self, asked: Asked, selected: Selected, size: Callable[[], int]) -> Callable[[bool], None]:
        """What lists a download among the jobs, when it is over: a slow client must not take a job's slot."""

        def ended(is_complete: bool) -> None:
            position = {"Instances": len(selected.names), "Size": selected.size, "ArchiveSize": size()}
            streamed = {"IsComplete": is_complete, "Position": position}
            parameters = archive_parameters(asked.resources, asked.options, asked.file_name, streamed)
            noted = Deferred.fromCoroutine(self._submission.note(asked.kind, parameters))
            noted.addErrback(lambda failure: log.debug("{reason}", reason=failure.getErrorMessage()))

        return ended


def _file_name(call: Call) -> str:
    return f"{call['id']}.zip" if "id" in call.parameters else "Archive.zip"


def _listed(call: Call) -> list[str]:
    text = call.arguments.get("resources")
    if text is None:
        raise BadRequest("Argument resources is missing")
    return [item.strip() for item in text.split(",") if item.strip()]


def _syntax(text: str) -> str:
    if text not in _SYNTAXES:
        raise ParameterOutOfRange("Unknown transfer syntax")
    return text


def _quality(value: int | None) -> int | None:
    if value is not None and value not in _QUALITIES:
        raise ParameterOutOfRange("The quality must be 1 to 100")
    return value
