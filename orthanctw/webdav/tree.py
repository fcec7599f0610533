"""The tree of folders and files that WebDAV shows: views of the index, and the folder of uploads (level 4)."""

from __future__ import annotations

import enum
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

import attrs

from orthanctw.archives.names import clean
from orthanctw.interfaces import IIndex
from orthanctw.model import Attachment, AttachmentType, MetadataType, Resource, ResourceLevel
from orthanctw.webdav.listings import Listing, Listings, Named, batches
from orthanctw.webdav.uploading import UPLOADS, UploadFolder

_PATIENT_ID: Final = 0x00100020
_PATIENT_NAME: Final = 0x00100010
_STUDY_DATE: Final = 0x00080020
_STUDY_DESCRIPTION: Final = 0x00081030
_STUDY: Final = (_PATIENT_ID, _PATIENT_NAME, _STUDY_DESCRIPTION)
_SERIES: Final = (0x00080060, 0x0008103E)
_BY_DATES: Final = "by-dates"
_BY_UIDS: Final = "by-uids"
#: The levels of folders and files in each view, and the tags that name them; without tags, their identifiers do.
_VIEWS: Final[Mapping[str, Mapping[ResourceLevel, Sequence[int]]]] = {
    _BY_DATES: {ResourceLevel.STUDY: _STUDY, ResourceLevel.SERIES: _SERIES, ResourceLevel.INSTANCE: ()},
    "by-patients": {
        ResourceLevel.PATIENT: (_PATIENT_ID, _PATIENT_NAME),
        ResourceLevel.STUDY: (_STUDY_DATE, _STUDY_DESCRIPTION),
        ResourceLevel.SERIES: _SERIES,
        ResourceLevel.INSTANCE: (),
    },
    "by-studies": {ResourceLevel.STUDY: _STUDY, ResourceLevel.SERIES: _SERIES, ResourceLevel.INSTANCE: ()},
    _BY_UIDS: {
        ResourceLevel.STUDY: (0x0020000D,),
        ResourceLevel.SERIES: (0x0020000E,),
        ResourceLevel.INSTANCE: (0x00080018,),
    },
}
_SEPARATOR: Final = " - "
_EXTENSION: Final = ".dcm"
#: Files that tell of the folder in which they lie, in `_BY_UIDS`.
_JSON: Final = {ResourceLevel.STUDY: "study.json", ResourceLevel.SERIES: "series.json"}
_DATE: Final = re.compile(r"([0-9]{4})([0-9]{2})[0-9]{2}\Z")

Path = tuple[str, ...]


class Kind(enum.Enum):
    """What a node is."""

    FOLDER = "folder"
    #: A DICOM file.
    DICOM = "dicom"
    #: The JSON of the resource in whose folder it lies.
    JSON = "json"


@attrs.frozen(kw_only=True)
class Node:
    """A folder or file. `date` is the year or month that a folder is of, ``yyyy`` or ``yyyy-mm``.

    What stands for nothing that is stored has no `resource`; a DICOM file has its `attachment`, too.
    """

    path: Path
    kind: Kind = Kind.FOLDER
    date: str = ""
    resource: Resource | None = None
    attachment: Attachment | None = None

    @property
    def modified(self) -> str:
        """When it changed last, as the index tells it (``yyyymmddThhmmss``); empty for what is always new."""
        if self.resource is None:
            return ""
        metadata = self.resource.metadata
        value = metadata.get(MetadataType.LAST_UPDATE) or metadata.get(MetadataType.RECEPTION_DATE)
        return "" if value is None else value.value


class Tree:
    """Finds nodes.

    Parameters
    ----------
    listings : Listings
        To be told of changes.
    uploads : UploadFolder, optional
        Shown when there is one.
    utf8 : bool
        Names keep characters beyond ASCII.
    """

    def __init__(self, index: IIndex, listings: Listings, uploads: UploadFolder | None, *, utf8: bool) -> None:
        self._index = index
        self._listings = listings
        self._uploads = uploads
        self._utf8 = utf8

    async def find(self, path: Path) -> Node | None:
        """The node at a path; None when there is none."""
        node: Node | None = Node(path=())
        for name in path:
            if node is None or node.kind is not Kind.FOLDER:
                return None
            node = await self._child(node, name)
        return node

    async def children(self, folder: Node) -> AsyncIterator[Sequence[Node]]:
        """What lies in a folder, a few at a time."""
        fixed = [attrs.evolve(folder, path=(*folder.path, name), date=date) for name, date in await self._fixed(folder)]
        description = self._description(folder)
        yield fixed if description is None else [description, *fixed]
        level = self._level_below(folder)
        if level is not None:
            names = await self._listing(folder, level).names(folder.date)
            for batch in batches(list(names.items())):
                yield await self._nodes(folder, level, dict(batch))

    async def targets(self, path: Path) -> Sequence[str] | None:
        """Public ids of all that a path stands for; None for the folders that are always there."""
        if len(path) < 2 or path[0] not in _VIEWS:
            return None
        node = await self.find(path)
        if node is None or node.kind is Kind.JSON:
            return ()
        if node.resource is not None:
            return (node.resource.public_id,)
        listing = self._listing(node, ResourceLevel.STUDY)
        months = [month for month in await listing.groups() if month.startswith(node.date)]
        return [public_id for month in months for public_id in (await listing.names(month)).values()]

    # One step down

    async def _child(self, folder: Node, name: str) -> Node | None:
        path = (*folder.path, name)
        description = self._description(folder)
        if description is not None and description.path == path:
            return description
        level = self._level_below(folder)
        if level is not None:
            public_id = await self._listing(folder, level).find(name, folder.date)
            nodes = [] if public_id is None else await self._nodes(folder, level, {name: public_id})
            return nodes[0] if nodes else None
        date = dict(await self._fixed(folder)).get(name)
        return None if date is None else attrs.evolve(folder, path=path, date=date)

    async def _fixed(self, folder: Node) -> list[tuple[str, str]]:
        """Names of the folders in a folder that stand for nothing that is stored, and their dates."""
        path = folder.path
        if not path:
            return [(name, "") for name in _VIEWS] + ([] if self._uploads is None else [(UPLOADS, "")])
        if path[0] == UPLOADS and self._uploads is not None:
            return [(name, "") for name in self._uploads.folders_in(path[1:])]
        if path[0] == _BY_DATES and folder.resource is None and len(path) < 3:
            months = await self._listing(folder, ResourceLevel.STUDY).groups()
            if not folder.date:
                return [(year, year) for year in sorted({month[:4] for month in months})]
            return [(month, month) for month in sorted(months) if month.startswith(folder.date)]
        return []

    def _level_below(self, folder: Node) -> ResourceLevel | None:
        """The level of the resources in a folder; None when it has none."""
        if not folder.path or folder.path[0] not in _VIEWS:
            return None
        if folder.path[0] == _BY_DATES and len(folder.path) < 3:
            return None
        levels = list(_VIEWS[folder.path[0]])
        return levels[0] if folder.resource is None else ResourceLevel(folder.resource.level + 1)

    def _description(self, folder: Node) -> Node | None:
        """The JSON file in a folder."""
        if folder.resource is None or folder.path[0] != _BY_UIDS:
            return None
        return attrs.evolve(folder, path=(*folder.path, _JSON[folder.resource.level]), kind=Kind.JSON)

    # Names

    def _listing(self, folder: Node, level: ResourceLevel) -> Listing:
        view = folder.path[0]
        public_id = "" if folder.resource is None else folder.resource.public_id
        return self._listings.get((view, public_id), partial(self._make_listing, view, folder.resource, level))

    def _make_listing(self, view: str, parent: Resource | None, level: ResourceLevel) -> Listing:
        identify: Callable[[], Awaitable[Sequence[str] | None]] = partial(self._index.list_ids, level)
        if parent is not None:
            identify = partial(self._index.children, parent.level, parent.public_id, level)
        tags = _VIEWS[view][level]
        if not tags:
            return Listing(identify, _named_by_id)
        by_month = view == _BY_DATES and parent is None
        return Listing(identify, partial(self._describe, level, tags, by_month=by_month))

    async def _describe(
        self, level: ResourceLevel, tags: Sequence[int], public_ids: Sequence[str], *, by_month: bool
    ) -> list[Named]:
        described = []
        for resource in await self._index.resources(level, tuple(public_ids)):
            month = _month(resource) if by_month else ""
            if month is not None:
                described.append(Named(resource.public_id, self._name(resource, tags), month))
        return described

    def _name(self, resource: Resource, tags: Sequence[int]) -> str:
        text = _SEPARATOR.join(resource.main_tags.get(tag, "").replace("/", "") for tag in tags)
        name = clean(text, utf8=self._utf8) or resource.public_id
        return name + _EXTENSION if resource.level is ResourceLevel.INSTANCE else name

    async def _nodes(self, folder: Node, level: ResourceLevel, names: Mapping[str, str]) -> list[Node]:
        """The nodes of resources that are still there, by name."""
        public_ids = tuple(names.values())
        resources = {item.public_id: item for item in await self._index.resources(level, public_ids)}
        found = ((name, resources[public_id]) for name, public_id in names.items() if public_id in resources)
        if level is not ResourceLevel.INSTANCE:
            return [Node(path=(*folder.path, name), resource=resource) for name, resource in found]
        attachments = await self._index.instance_attachments(public_ids)
        return [
            Node(path=(*folder.path, name), kind=Kind.DICOM, resource=resource, attachment=attachment)
            for name, resource in found
            if (attachment := attachments.get(resource.public_id, {}).get(AttachmentType.DICOM)) is not None
        ]


async def _named_by_id(public_ids: Sequence[str]) -> list[Named]:
    return [Named(public_id, public_id + _EXTENSION) for public_id in public_ids]


def _month(study: Resource) -> str | None:
    """The month of a study, ``yyyy-mm``."""
    match = _DATE.match(study.main_tags.get(_STUDY_DATE, ""))
    return None if match is None else "-".join(match.groups())
