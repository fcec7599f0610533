"""Frames of instances as images, numbers and bytes."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Final

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import EmptyAnswer, OrthancError, UnknownResource
from orthanctw.interfaces import IIndex
from orthanctw.model import ResourceLevel
from orthanctw.pictures import Image, Picture, Pictures
from orthanctw.rest.call import Call
from orthanctw.rest.declaration import TEXT, Argument, route
from orthanctw.rest.frames import GZIP, FrameSource, gzip_reply, numpy_reply, raw_reply
from orthanctw.rest.reply import BINARY, Reply, json_reply, text_reply

_PNG: Final = "image/png"
_JPEG: Final = "image/jpeg"
_PAM: Final = "image/x-portable-arbitrarymap"
_PDF: Final = "application/pdf"
_OPERATIONS: Final = (
    *("image-int16", "image-uint16", "image-uint8", "matlab", "numpy", "preview", "raw", "raw.gz", "rendered"),
)
_KINDS: Final = {
    "preview": "preview",
    "rendered": "rendered",
    "image-uint8": "uint8",
    "image-uint16": "uint16",
    "image-int16": "int16",
}
_UNSUPPORTED: Final = Argument("returnUnsupportedImage", "boolean", "A picture that says so, where there is none")
_PICTURE: Final = (_UNSUPPORTED, Argument("quality", "quality", "Quality of a JPEG image"))
_WINDOW: Final = (
    Argument("width", "integer", "Most columns of the image"),
    Argument("height", "integer", "Most rows of the image"),
    Argument("smooth", "boolean", "Whether pixels are averaged where the size changes"),
    Argument("window-center", "number", "Center of the window"),
    Argument("window-width", "number", "Width of the window"),
)
_ACCEPT: Final = Argument("Accept", "string", "Type of the image")
_IMAGES: Final = (_PNG, _JPEG, _PAM)
_ARRAY: Final = (
    Argument("compress", "boolean", "An .npz file in place of .npy"),
    Argument("rescale", "boolean", "Whether slope and intercept are applied"),
)
_ANY: Final = ("*/*", "image/*")
_QUALITY: Final = re.compile(r"q\s*=\s*([0-9.]+)\Z")


def image_type(accept: str | None) -> str | None:
    """The image type that a client likes best, or None when it likes none of ours."""
    if accept is None or not accept.strip():
        return _PNG
    best, best_quality = None, 0.0
    for item in accept.split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            match = _QUALITY.match(parameter)
            if match:
                try:
                    quality = float(match[1])
                except ValueError:
                    quality = 0.0
        found = _PNG if name in _ANY else name if name in (_PNG, _JPEG, _PAM) else None
        if found is not None and quality > best_quality:
            best, best_quality = found, quality
    return best


def _instance_paths(name: str) -> tuple[str, str]:
    return f"/instances/<id>/{name}", f"/instances/<id>/frames/<frame>/{name}"


class ImageRoutes:
    """Pictures of frames; without a frame in the path, of the first one."""

    def __init__(self, pictures: Pictures, index: IIndex) -> None:
        self._pictures = pictures
        self._index = index

    async def _image(self, call: Call) -> Image:
        """The instance of an image route: unknown ones have an empty answer."""
        try:
            return await self._pictures.image(call["id"])
        except UnknownResource:
            raise EmptyAnswer(404) from None

    @staticmethod
    def _frame(call: Call) -> int:
        text = call.parameters.get("frame", "0")
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise EmptyAnswer(404)
        return int(text)

    @route("GET", "/instances/<id>/frames/<frame>")
    async def operations(self, call: Call) -> Reply:
        """What can be had of a frame."""
        await self._image(call)
        self._frame(call)
        return json_reply(_OPERATIONS)

    @route(
        "GET", *_instance_paths("rendered"), query=(*_PICTURE, *_WINDOW), headers=[_ACCEPT], answers=_IMAGES
    )
    @route(
        "GET",
        *(path for name in _KINDS if name != "rendered" for path in _instance_paths(name)),
        query=_PICTURE,
        headers=[_ACCEPT],
        answers=_IMAGES,
    )
    async def picture(self, call: Call) -> Reply:
        """A frame as PNG, JPEG or PAM."""
        kind = _KINDS[call.path.rpartition("/")[2]]
        image, frame = await self._image(call), self._frame(call)
        mime = image_type(call.headers.get("accept"))
        if mime is None:
            raise EmptyAnswer(404)
        wanted = _wanted(call, kind, mime)
        try:
            content = await self._pictures.picture(image, frame, wanted)
        except OrthancError as e:
            # A server that stops, or has no child, is not the picture's fault.
            if e.http_status == 503:
                raise
            if call.boolean("returnUnsupportedImage"):
                up = "../" * (call.path.count("/") - 1)
                headers = (("Location", f"{up}app/images/unsupported.png"),)
                return Reply(content_type=None, status=307, headers=headers)
            raise EmptyAnswer(415) from e
        return Reply(content, mime)

    @route("GET", *_instance_paths("matlab"), answers=[TEXT])
    async def matlab(self, call: Call) -> Reply:
        """A frame as text of an Octave matrix."""
        image, frame = await self._image(call), self._frame(call)
        with _decoding():
            content = await self._pictures.matlab(image, frame)
        return text_reply(content.decode("ascii"))

    @route("GET", "/instances/<id>/numpy", query=_ARRAY, answers=[BINARY])
    async def numpy(self, call: Call) -> Reply:
        """All frames as a numpy array."""
        image = await self._image(call)
        sources = [FrameSource(image, frame) for frame in range(image.frames)]
        with _decoding():
            return await numpy_reply(self._pictures, sources, call, is_stack=True)

    @route("GET", "/instances/<id>/frames/<frame>/numpy", query=_ARRAY, answers=[BINARY])
    async def frame_numpy(self, call: Call) -> Reply:
        """One frame as a numpy array."""
        image, frame = await self._image(call), self._frame(call)
        with _decoding():
            return await numpy_reply(self._pictures, [FrameSource(image, frame)], call, is_stack=False)

    @route("GET", "/series/<id>/numpy", query=_ARRAY, answers=[BINARY])
    async def series_numpy(self, call: Call) -> Reply:
        """All frames of a series, in their order, as a numpy array."""
        ids: Sequence[str] | None = await self._index.children(
            ResourceLevel.SERIES, call["id"], ResourceLevel.INSTANCE
        )
        if ids is None:
            raise UnknownResource()
        sources = []
        for image in await self._pictures.ordered(ids):
            sources += [FrameSource(image, frame) for frame in range(image.frames)]
        with _decoding():
            return await numpy_reply(self._pictures, sources, call, is_stack=True)

    @route("GET", "/instances/<id>/frames/<frame>/raw", answers=[BINARY])
    async def raw(self, call: Call) -> Reply:
        """The bytes of a frame as they are stored."""
        return await raw_reply(self._pictures, await self._image(call), self._frame(call))

    @route("GET", "/instances/<id>/frames/<frame>/raw.gz", answers=[GZIP])
    async def raw_gzip(self, call: Call) -> Reply:
        """The bytes of a frame as they are stored, within gzip."""
        return await gzip_reply(self._pictures, await self._image(call), self._frame(call))

    @route("GET", "/instances/<id>/pdf", answers=[_PDF])
    async def pdf(self, call: Call) -> Reply:
        """The PDF of an instance."""
        reader = await self._pictures.pdf(await self._image(call))
        if reader is None:
            raise EmptyAnswer(404)
        return Reply(content_type=_PDF, reader=reader)


@contextlib.contextmanager
def _decoding() -> Iterator[None]:
    """What cannot be decoded, as a video, is no failure of ours."""
    try:
        yield
    except OrthancError as e:
        if e.code is ErrorCode.NOT_IMPLEMENTED:
            raise OrthancError(e.details, code=e.code, http_status=415) from e
        raise


def _wanted(call: Call, kind: str, mime: str) -> Picture:
    """The picture that the arguments describe. EmptyAnswer 404 for a bad window or size, 415 for a bad quality."""
    quality = 90
    if "quality" in call.arguments and mime == _JPEG:
        text = call.arguments["quality"]
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:4]) <= 100):
            raise EmptyAnswer(415)
        quality = int(text)
    if kind != "rendered":
        return Picture(kind=kind, mime=mime, quality=quality)
    return Picture(
        kind=kind,
        mime=mime,
        quality=quality,
        width=_side(call, "width"),
        height=_side(call, "height"),
        smooth=call.boolean("smooth", True),
        window_center=_number(call, "window-center"),
        window_width=_number(call, "window-width"),
    )


def _side(call: Call, name: str) -> int | None:
    text = call.arguments.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 7):
        raise EmptyAnswer(404)
    return int(text) or None


def _number(call: Call, name: str) -> float | None:
    text = call.arguments.get(name)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        raise EmptyAnswer(404) from None
    if value - value != 0:
        raise EmptyAnswer(404)
    return value
