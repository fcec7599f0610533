"""Tags of instances in Orthanc's formats, from stored headers: of one, of many, those shared (level 4)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Generator, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import attrs

from orthanctw.catalog import Catalog
from orthanctw.contents import Contents
from orthanctw.dicom.charset import DefaultEncoding
from orthanctw.dicom.dictionary import Dictionary, creator_tag, is_private
from orthanctw.dicom.elements import Elements
from orthanctw.dicom.header import Header, decode
from orthanctw.dicom.jsonforms import (
    FormOptions,
    RangeReader,
    TagFormat,
    form_of,
    leaf_type,
    meta_tags,
    until_pixel_data,
)
from orthanctw.dicom.modules import module_tags
from orthanctw.dicom.webforms import blocks
from orthanctw.errors import UnknownResource
from orthanctw.model import Attachment, ResourceLevel
from orthanctw.threads import NamedPool

T = TypeVar("T")
Tags = dict[str, Any]
WebForm = Callable[[Header, RangeReader, Dictionary, str], Iterator[bytes]]
#: Headers that are read and shown at once.
_BATCH: Final = 32
#: Bytes of stored headers that are shown at once.
_PORTION: Final = 256 * 1024
#: Bytes of a stored header up to which the reactor itself shows it: less than a millisecond.
_SMALL: Final = 4096


@attrs.frozen(kw_only=True)
class TagView:
    """How tags are shown.

    Parameters
    ----------
    ignore_length : frozenset of int
        Tags that are shown however long they are.
    is_whole : bool
        What follows PixelData, too.
    only : frozenset of int, optional
        The tags that are shown.
    is_meta : bool
        Group 0002 instead of the data set.
    """

    format: TagFormat = TagFormat.FULL
    ignore_length: frozenset[int] = frozenset()
    is_whole: bool = False
    only: frozenset[int] | None = None
    is_meta: bool = False


class TagViews:
    """Shows tags. What is made of them is made where they are, perhaps on a thread.

    Parameters
    ----------
    pool : NamedPool
        Threads for what takes longer than the reactor has time.
    default_encoding : DefaultEncoding
        Of files without SpecificCharacterSet.
    """

    def __init__(
        self, catalog: Catalog, contents: Contents, pool: NamedPool, default_encoding: DefaultEncoding
    ) -> None:
        self._index = catalog.index
        self._contents = contents
        self._pool = pool
        self._dictionary = catalog.dictionary
        self._default_encoding = default_encoding

    def _options(self) -> FormOptions:
        return FormOptions(dictionary=self._dictionary, default_encoding=self._default_encoding.name)

    async def instance(self, public_id: str, view: TagView, finish: Callable[[Tags], T]) -> T:
        """What `finish` makes of the tags of an instance, perhaps on a thread. UnknownResource."""
        stored = await self._index.header(public_id)
        if stored is None:
            raise UnknownResource()
        result: T
        if view.ignore_length:
            header = await self._pool.call(decode, stored)
            if _stays_in_file(header.elements, view.ignore_length):
                result = await self._contents.with_file(
                    public_id, header, lambda read: finish(self._shown(header, view, read))
                )
                return result

        def work() -> T:
            return finish(self._shown(decode(stored), view))

        if len(stored) <= _SMALL:
            return work()
        result = await self._pool.call(work)
        return result

    async def module(
        self, level: ResourceLevel, public_id: str, module: ResourceLevel, view: TagView, finish: Callable[[Tags], T]
    ) -> T:
        """As `instance`, the tags that describe a level, from any instance of a resource. UnknownResource."""
        instance = await self._index.first_instance(level, public_id)
        if instance is None:
            raise UnknownResource()
        return await self.instance(instance, attrs.evolve(view, only=module_tags()[module], is_whole=True), finish)

    async def batches(
        self, public_ids: Sequence[str], view: TagView, finish: Callable[[dict[str, Tags]], T]
    ) -> AsyncGenerator[T, None]:
        """What `finish` makes on a thread of the tags of some instances by id, some more, and so on.

        Those that are deleted meanwhile are left out.
        """
        for start in range(0, len(public_ids), _BATCH):
            batch = public_ids[start : start + _BATCH]
            for stored in _portions(await self._index.headers(batch)):
                shown, in_files = await self._pool.call(self._batch, stored, view)
                for public_id, header in in_files.items():
                    shown[public_id] = await self._contents.with_file(
                        public_id, header, partial(self._shown, header, view)
                    )
                made: T = await self._pool.call(finish, shown)
                yield made

    async def each(self, public_ids: Sequence[str], tell: Callable[[Header], T]) -> dict[str, T]:
        """What `tell` says, on a thread, of the header of each instance, in the order asked; without those unknown."""
        result: dict[str, T] = {}
        for start in range(0, len(public_ids), _BATCH):
            batch = public_ids[start : start + _BATCH]
            stored: dict[str, bytes] = await self._index.headers(batch)
            told: dict[str, T] = await self._pool.call(_told, stored, tell)
            result.update({public_id: told[public_id] for public_id in batch if public_id in told})
        return result

    async def shared(self, level: ResourceLevel, public_id: str, form: TagFormat) -> Tags:
        """Tags that have the same text in all instances of a resource. UnknownResource."""
        ids = await self._index.children(level, public_id, ResourceLevel.INSTANCE)
        if not ids:
            raise UnknownResource()
        shared = _Shared()
        for start in range(0, len(ids), _BATCH):
            stored: dict[str, bytes] = await self._index.headers(ids[start : start + _BATCH])
            await self._pool.call(shared.add, list(stored.values()))
        result: Tags = await self._pool.call(shared.shown, form, self._options())
        return result

    async def whole(self, public_id: str, attachment: Attachment, form: WebForm) -> AsyncGenerator[bytes, None]:
        """An object in one of the forms of `webforms`, in the pieces in which storage threads make it."""
        stored = await self._index.header(public_id)
        if stored is None:
            raise UnknownResource()

        def pieces() -> Generator[bytes, None, None]:
            header = decode(stored)
            with self._contents.values(attachment, header) as read:
                yield from blocks(form(header, read, self._dictionary, self._default_encoding.name))

        call, made = self._contents.storage.call, pieces()
        try:
            # An exhausted generator gives an empty piece, for Deferreds cannot carry StopIteration.
            while piece := await call(next, made, b""):
                yield piece
        finally:
            await call(made.close)

    # On threads

    def _batch(self, stored: Mapping[str, bytes], view: TagView) -> tuple[dict[str, Tags], dict[str, Header]]:
        """The tags of some instances; the headers of those of which more is in the file."""
        shown: dict[str, Tags] = {}
        in_files = {}
        for public_id, data in stored.items():
            header = decode(data)
            if view.ignore_length and _stays_in_file(header.elements, view.ignore_length):
                in_files[public_id] = header
            else:
                shown[public_id] = self._shown(header, view)
        return shown, in_files

    def _shown(self, header: Header, view: TagView, read: RangeReader | None = None) -> Tags:
        options = self._options()
        if view.is_meta:
            return meta_tags(header, view.format, options)
        if view.ignore_length:
            options = attrs.evolve(options, ignore_length=view.ignore_length, read=read)
        elements = header.elements if view.is_whole else until_pixel_data(header.elements)
        if view.only is not None:
            elements = [element for element in elements if element[0] in view.only]
        return form_of(elements, view.format, options, header)


def _told(stored: Mapping[str, bytes], tell: Callable[[Header], T]) -> dict[str, T]:
    return {public_id: tell(decode(data)) for public_id, data in stored.items()}


def _portions(stored: Mapping[str, bytes]) -> Iterator[dict[str, bytes]]:
    """Headers in portions of which none takes much memory when it is shown."""
    portion: dict[str, bytes] = {}
    size = 0
    for public_id, data in stored.items():
        if portion and size + len(data) > _PORTION:
            yield portion
            portion, size = {}, 0
        portion[public_id] = data
        size += len(data)
    if portion:
        yield portion


class _Shared:
    """Tags that all headers have in common so far."""

    def __init__(self) -> None:
        self._first: Header | None = None
        #: Text by tag; of private tags with that of their creator (PS3.5 section 7.8.1).
        self._values: dict[int, tuple[str, str | None]] = {}

    def add(self, stored: Sequence[bytes]) -> None:
        for header in map(decode, stored):
            values = _texts(header)
            if self._first is None:
                self._first, self._values = header, values
            else:
                self._values = {tag: text for tag, text in self._values.items() if values.get(tag) == text}

    def shown(self, form: TagFormat, options: FormOptions) -> Tags:
        if self._first is None:
            return {}
        # All of the first header: the names of private tags need their creators, shared or not.
        full = form_of(until_pixel_data(self._first.elements), TagFormat.FULL, options, self._first)
        shared = {
            key: entry
            for key, entry in full.items()
            if entry["Type"] == "String" and int(key[:4] + key[5:], 16) in self._values
        }
        if form is TagFormat.FULL:
            return shared
        is_short = form is TagFormat.SHORT
        return {key if is_short else entry["Name"]: entry["Value"] for key, entry in shared.items()}


def _texts(header: Header) -> dict[int, tuple[str, str | None]]:
    by_tag = header.by_tag
    values: dict[int, tuple[str, str | None]] = {}
    for element in until_pixel_data(header.elements):
        tag, value = element[0], element[2]
        if value.__class__ is str:
            creator = by_tag.get(creator_tag(tag)) if is_private(tag) else None
            values[tag] = value, None if creator is None else str(creator[2])
    return values


def _stays_in_file(elements: Elements, tags: Collection[int]) -> bool:
    """Whether one of the tags has a long text, at any depth, that is not in the header."""
    for element in elements:
        if element[1] == "SQ" and len(element) == 3:
            if any(_stays_in_file(item, tags) for item in element[2]):
                return True
        elif element[0] in tags and leaf_type(element) == "TooLong":
            return True
    return False
