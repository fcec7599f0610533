"""Making objects from tags, images and documents; what is made enters through the one ingest (level 4)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import attrs
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.python.failure import Failure

from orthanctw.catalog import Catalog
from orthanctw.dicom.authoring import ValueOptions
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.creation import Content, Draft, PictureFacts, content_of
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadFileFormat, BadParameterType, OrthancError
from orthanctw.ingest import Ingest, Ingested
from orthanctw.interfaces import ISpool, IStorageArea
from orthanctw.model import Origin, ResourceLevel, StoreStatus
from orthanctw.processes import ProcessPool
from orthanctw.removal import Removal

_T = TypeVar("_T")
#: What children say of images that nobody can read: the image is to blame, not the server.
_BLAMED: Final = frozenset({ErrorCode.NOT_IMPLEMENTED, ErrorCode.NOT_ENOUGH_MEMORY, ErrorCode.INTERNAL_ERROR})


@attrs.frozen(kw_only=True)
class CreationOptions:
    """What the configuration says.

    Parameters
    ----------
    threshold : int
        Files of more bytes are not held in memory until they are stored.
    at_once : int
        Contents that are worked on at the same time.
    """

    default_encoding: DefaultEncoding
    private_creator: str
    nesting: int
    threshold: int
    at_once: int


@attrs.frozen(kw_only=True)
class CreationRequest:
    """What is to be made.

    Parameters
    ----------
    tags : mapping
        Names of tags to JSON values.
    contents : sequence, optional
        Data URIs, or objects with ``Content`` and maybe ``Tags``, of a series that is made; None for one instance.
    content : str, optional
        Data URI of one instance.
    parent : str, optional
        Orthanc identifier.
    is_plain : bool
        The old form of requests, in which tags are text that replaces whatever was generated, and nothing is dated.
    """

    tags: Mapping[str, Any]
    contents: Sequence[Any] | None = None
    content: str | None = None
    parent: str | None = None
    private_creator: str | None = None
    interprets_binary: bool = True
    force: bool = False
    encapsulates: bool = False
    is_plain: bool = False


class Creation:
    """Makes objects. Images are decoded by child processes, a few at a time, so that memory is bounded."""

    def __init__(
        self,
        ingest: Ingest,
        catalog: Catalog,
        storage: IStorageArea,
        processes: ProcessPool,
        removal: Removal,
        wall_clock: Callable[[], float],
        options: CreationOptions,
    ) -> None:
        self._ingest = ingest
        self._catalog = catalog
        self._storage = storage
        self._processes = processes
        self._removal = removal
        self._wall_clock = wall_clock
        self._options = options
        self._turns = DeferredSemaphore(options.at_once)

    async def create(self, request: CreationRequest, origin: Origin) -> list[Ingested]:
        """The instances that have been made: one, or those of a series in their order.

        When one of a series cannot be made, nothing of it stays.

        Raises
        ------
        OrthancError
            CREATE_DICOM_BAD_PARENT, CREATE_DICOM_PARENT_IS_INSTANCE; what `Draft.add` and `content_of` raise;
            BadFileFormat for an image that cannot be read.
        """
        base = Draft(self._options.default_encoding.term, self._catalog.dictionary)
        base.identify(*ResourceLevel)
        if request.parent is not None:
            await self._inherit(base, request.parent)
        drafts: list[Draft] = await self._storage.call(self._prepare, base, request)
        return await self._make_all(drafts, request.encapsulates, origin)

    async def _inherit(self, draft: Draft, parent: str) -> None:
        level = await self._catalog.index.lookup_level(parent)
        if level is None:
            raise OrthancError("There is no such parent", code=ErrorCode.CREATE_DICOM_BAD_PARENT)
        if level is ResourceLevel.INSTANCE:
            raise OrthancError("An instance is no parent", code=ErrorCode.CREATE_DICOM_PARENT_IS_INSTANCE)
        headers = await self._catalog.any_headers(level, (parent,))
        if parent not in headers:
            # It has just been deleted.
            raise OrthancError("There is no such parent", code=ErrorCode.CREATE_DICOM_BAD_PARENT)
        draft.inherit(level, headers[parent])

    def _prepare(self, base: Draft, request: CreationRequest) -> list[Draft]:
        """All that the request says, but for images, which are not decoded (blocking)."""
        creator = self._options.private_creator if request.private_creator is None else request.private_creator
        options = ValueOptions(
            dictionary=self._catalog.dictionary,
            private_creator=creator,
            interprets_binary=request.interprets_binary,
            depth=self._options.nesting,
        )
        base.add(request.tags, options, force=request.force or request.is_plain)
        if request.content is not None:
            base.content = content_of(request.content)
        drafts = [base]
        if request.contents:
            drafts = [
                self._member(base, item, options, request.force, place)
                for place, item in enumerate(request.contents)
            ]
        now = time.localtime(self._wall_clock())
        for number, draft in enumerate(drafts, 1):
            if not request.is_plain:
                draft.date(time.strftime("%Y%m%d", now), time.strftime("%H%M%S.000000", now))
            if request.contents:
                draft.number(number, len(drafts))
        return drafts

    def _member(self, base: Draft, item: Any, options: ValueOptions, force: bool, place: int) -> Draft:
        draft = base.copy()
        draft.identify(ResourceLevel.INSTANCE)
        if isinstance(item, dict):
            tags = item.get("Tags", {})
            if not isinstance(tags, dict):
                raise BadParameterType("Tags of an item of Content must be an object")
            draft.add(tags, options, force=force)
            item = item.get("Content")
        if item is None:
            raise OrthancError(f"Item {place} has no Content", code=ErrorCode.CREATE_DICOM_NO_PAYLOAD)
        if not isinstance(item, str):
            raise OrthancError("A content must be text", code=ErrorCode.CREATE_DICOM_USE_DATA_URI_SCHEME)
        draft.content = content_of(item)
        return draft

    async def _make_all(self, drafts: Sequence[Draft], encapsulates: bool, origin: Origin) -> list[Ingested]:
        pending: list[Deferred[Ingested | None]] = []
        failures: list[Failure] = []
        for draft in drafts:
            takes_turn = draft.content is not None
            if takes_turn:
                await self._turns.acquire()
            if failures:
                # Only members of a series have others before them, and all of those have a content.
                self._turns.release()
                break
            making: Deferred[Any] = Deferred.fromCoroutine(self._make(draft, encapsulates, origin))
            making.addErrback(failures.append)
            if takes_turn:
                making.addBoth(_took_turn, self._turns)
            pending.append(making)
        results = [await making for making in pending]
        made = [result for result in results if result is not None]
        if failures:
            await self._removal.delete_many(
                [result.instance for result in made if result.status is StoreStatus.SUCCESS]
            )
            failures[0].raiseException()
        return made

    async def _make(self, draft: Draft, encapsulates: bool, origin: Origin) -> Ingested:
        """Store a draft, which is used up."""
        content, draft.content = draft.content, None
        if content is not None and content.is_picture:
            await self._add_picture(draft, content, encapsulates)
        elif content is not None:
            draft.add_document(content)
        file: bytes | ISpool = await self._storage.call(self._file, draft)
        draft.elements.clear()
        try:
            return await self._ingest.store(file, origin)
        finally:
            if not isinstance(file, bytes):
                await file.discard()

    async def _add_picture(self, draft: Draft, content: Content, encapsulates: bool) -> None:
        header = {"Mime": content.mime, "Encapsulate": encapsulates}
        try:
            facts, pieces = await self._processes.call_for_pieces("read", header, content.data)
        except OrthancError as e:
            if e.code in _BLAMED:
                raise OrthancError(e.details, code=e.code, http_status=BadFileFormat.code.http_status) from e
            raise
        draft.add_picture(PictureFacts(**facts), pieces)

    def _file(self, draft: Draft) -> bytes | ISpool:
        """The DICOM file, in a spool file if it is large (blocking)."""
        parts = draft.file_parts()
        size = sum(map(len, parts))
        if size <= self._options.threshold:
            return b"".join(parts)
        spool = self._storage.spool()
        try:
            spool.append_blocking(parts)
        except BaseException:
            spool.discard()
            raise
        spool.size = size
        return spool


def _took_turn(result: _T, turns: DeferredSemaphore) -> _T:
    turns.release()
    return result
