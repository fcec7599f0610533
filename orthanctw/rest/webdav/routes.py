"""The methods of WebDAV (RFC 4918, classes 1 and 2 as Orthanc has them) on ``/webdav`` and all below."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

import attrs

from orthanctw.bulk import Bulk
from orthanctw.catalog import Catalog
from orthanctw.catalog import Wanted as Shown
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import BadParameterType, BadRequest, EmptyAnswer, OrthancError
from orthanctw.interfaces import IStorageArea
from orthanctw.model import OriginKind
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import route
from orthanctw.rest.encoding import streamed
from orthanctw.rest.ranges import file_reply
from orthanctw.rest.reply import PLAIN_JSON, Reply, encode
from orthanctw.rest.resources.attached import tagged
from orthanctw.rest.serialisers import ResourceSerialiser
from orthanctw.rest.webdav import answers
from orthanctw.rest.webdav.requests import Wanted, parse_body, wanted_of
from orthanctw.stability import timestamp
from orthanctw.versions import of_attachment
from orthanctw.webdav.tree import Kind, Node, Path, Tree
from orthanctw.webdav.uploading import UPLOADS, UploadFolder

_PATHS: Final = ("/webdav", "/webdav/<path:path>")
_METHODS: Final = "GET, PUT, DELETE, OPTIONS, PROPFIND, HEAD, LOCK, UNLOCK, PROPPATCH, MKCOL"
_CREATED: Final = Reply(content_type=None, status=201)
_NO_CONTENT: Final = Reply(content_type=None, status=204)
_TOKEN: Final = re.compile(r"\(\s*<(opaquelocktoken:0x[0-9a-f]{32})>\s*\)")


def _forbidden() -> EmptyAnswer:
    return EmptyAnswer(403)


class WebDavRoutes:
    """Stored objects as a network drive.

    Parameters
    ----------
    uploads : UploadFolder, optional
        None when nothing may be uploaded.
    bulk : Bulk, optional
        Deletes; None when nothing may be deleted.
    wall_clock : callable
        Seconds since 1970.
    """

    def __init__(
        self,
        tree: Tree,
        catalog: Catalog,
        storage: IStorageArea,
        serialiser: ResourceSerialiser,
        *,
        uploads: UploadFolder | None,
        bulk: Bulk | None,
        wall_clock: Callable[[], float],
    ) -> None:
        self._tree = tree
        self._catalog = catalog
        self._storage = storage
        self._serialiser = serialiser
        self._uploads = uploads
        self._bulk = bulk
        self._wall_clock = wall_clock

    # Reading

    @route("OPTIONS", *_PATHS, answers=[])
    async def options(self, _: Call) -> Reply:
        """Classes and methods."""
        return Reply(content_type=None, headers=(("DAV", "1,2"), ("Allow", _METHODS)))

    @route("PROPFIND", *_PATHS, answers=[])
    async def propfind(self, call: Call) -> Reply:
        """Properties of a node, and with ``Depth: 1`` of what lies in it."""
        depth = call.headers.get("depth")
        if depth is None:
            raise OrthancError("PROPFIND needs a depth", code=ErrorCode.NETWORK_PROTOCOL, http_status=400)
        if depth not in ("0", "1"):
            raise BadParameterType("The depth must be 0 or 1")
        wanted = wanted_of(await parse_body(call, "propfind"))
        node = await self._node(call)
        pieces = self._multistatus(node, wanted, with_children=depth == "1" and node.kind is Kind.FOLDER)
        return attrs.evolve(await streamed(pieces, answers.CONTENT_TYPE), status=207)

    async def _multistatus(self, node: Node, wanted: Wanted, *, with_children: bool) -> AsyncGenerator[bytes, None]:
        now = timestamp(self._wall_clock)
        href = answers.href_of(node.path, is_folder=node.kind is Kind.FOLDER)
        yield (answers.OPENING + answers.response(node, href, await self._size(node), now, wanted)).encode("utf-8")
        if with_children:
            async for batch in self._tree.children(node):
                shown = [(child, answers.href_of(child.path), await self._size(child)) for child in batch]
                text = "".join(answers.response(child, href, size, now, wanted) for child, href, size in shown)
                yield text.encode("utf-8")
        yield answers.CLOSING.encode("utf-8")

    @route("GET", *_PATHS, answers=[])
    async def get(self, call: Call) -> Reply:
        """A file."""
        node = await self._node(call)
        if node.kind is Kind.JSON:
            return Reply(await self._json(node), PLAIN_JSON, compressible=True)
        if node.attachment is None:
            if call.is_head:
                # Clients look by HEAD whether there is a folder.
                return Reply(content_type=None)
            raise EmptyAnswer(404)
        headers = (
            *tagged(call, of_attachment(node.attachment).etag),
            ("Last-Modified", answers.http_date(node.modified)),
            ("Accept-Ranges", "bytes"),
        )
        return await file_reply(self._storage, node.attachment, call, answers.MEDIA_TYPES[node.kind], headers)

    async def _node(self, call: Call) -> Node:
        node = await self._tree.find(_path(call))
        if node is None:
            raise EmptyAnswer(404)
        return node

    async def _size(self, node: Node) -> int:
        if node.kind is Kind.JSON:
            return len(await self._json(node))
        return 0 if node.attachment is None else node.attachment.size

    async def _json(self, node: Node) -> bytes:
        assert node.resource is not None
        view = await self._catalog.view(node.resource.level, node.resource.public_id, Shown())
        if view is None:
            raise EmptyAnswer(404)
        return encode(self._serialiser.resource(view))

    # Writing

    @route("PUT", *_PATHS, answers=[])
    async def put(self, call: Call) -> Reply:
        """Store what is put into the folder of uploads."""
        folder, path = self._upload_place(call)
        if path in folder or path[:-1] not in folder:
            raise _forbidden()
        if "content-range" in call.headers:
            raise BadRequest("A file can only be put as a whole")
        gzip = call.headers.get("content-encoding", "").strip().lower() == "gzip"
        if _is_empty(call):
            # Some clients make a file before they write it.
            return _CREATED
        await folder.store(call.body, attrs.evolve(call.origin, kind=OriginKind.WEB_DAV), gzip=gzip)
        return _CREATED

    @route("MKCOL", *_PATHS, answers=[])
    async def make_folder(self, call: Call) -> Reply:
        """Make a folder in the folder of uploads."""
        folder, path = self._upload_place(call)
        if not _is_empty(call):
            # RFC 4918 section 9.3.
            raise EmptyAnswer(415)
        if not folder.make(path):
            raise _forbidden()
        return _CREATED

    @route("DELETE", *_PATHS, answers=[])
    async def delete(self, call: Call) -> Reply:
        """Delete what a folder or file stands for."""
        path = _path(call)
        if self._bulk is None:
            raise _forbidden()
        if self._uploads is not None and path[:1] == (UPLOADS,):
            if not self._uploads.remove(path[1:]):
                raise _forbidden()
            return _NO_CONTENT
        public_ids = await self._tree.targets(path)
        if public_ids is None:
            raise _forbidden()
        await self._bulk.delete(public_ids)
        return _NO_CONTENT

    def _upload_place(self, call: Call) -> tuple[UploadFolder, Path]:
        path = _path(call)
        if self._uploads is None or len(path) < 2 or path[0] != UPLOADS:
            raise _forbidden()
        return self._uploads, path[1:]

    # What is answered for the sake of clients that insist on it

    @route("PROPPATCH", *_PATHS, answers=[])
    async def proppatch(self, call: Call) -> Reply:
        """Nothing changes."""
        await parse_body(call, "propertyupdate")
        return Reply(answers.unchanged(_path(call)).encode("utf-8"), answers.CONTENT_TYPE, 207)

    @route("LOCK", *_PATHS, answers=[])
    async def lock(self, call: Call) -> Reply:
        """A lock that keeps nobody out; without a body, the one that ``If`` names goes on."""
        known = _TOKEN.search(call.headers.get("if", ""))
        refreshes = not await parse_body(call, "lockinfo") and known is not None
        token = known[1] if refreshes and known is not None else f"opaquelocktoken:0x{secrets.token_hex(16)}"
        headers = () if refreshes else (("Lock-Token", token),)
        body = answers.lock(_path(call), token).encode("utf-8")
        return Reply(body, answers.CONTENT_TYPE, 200 if refreshes else 201, headers)

    @route("UNLOCK", *_PATHS, answers=[])
    async def unlock(self, call: Call) -> Reply:
        """No lock keeps anybody out."""
        _path(call)
        return _NO_CONTENT

    @route("COPY", *_PATHS, answers=[])
    @route("MOVE", *_PATHS, answers=[])
    async def move(self, _: Call) -> Reply:
        """Objects lie where their tags say."""
        raise EmptyAnswer(405, (("Allow", _METHODS),))


def _path(call: Call) -> Path:
    """Names of the folders down to a node. BadRequest for control characters: no name has any."""
    names: Sequence[str] = call.path.split("/")[2:]
    if any(char < " " or char == "\x7f" for name in names for char in name):
        raise BadRequest("The path has control characters")
    return tuple(names)


def _is_empty(call: Call) -> bool:
    return not (len(call.body) if isinstance(call.body, bytes) else call.body.size)
