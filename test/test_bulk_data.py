"""Videos, documents, signals and spectra over REST: nothing decodes them, and their bytes come as they are."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
from collections.abc import Mapping
from typing import ClassVar, Final

import numpy as np
import pydicom
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from orthanctw.dicom.scanner import scan
from orthanctw.dicom.uids import VIDEO
from test.dicom_files import DEFLATED
from test.pixel_samples import coloured, grey, image
from test.rest_samples import RestCase, dicom_object
from test.test_transcode import transcoded

_BINARY: Final = "application/octet-stream"
#: Not a real stream: nobody looks into it.
_STREAM: Final = b"\0\0\1\xb3" + bytes(range(256)) * 5
_FRAMES: Final = 25


def video(syntax: str, *fragments: bytes) -> bytes:
    """A video of several frames, in one fragment or several."""
    described = coloured(48, 64, photometric_interpretation="YBR_PARTIAL_420", number_of_frames=_FRAMES)
    return image(described, fragments or (_STREAM,), syntax)


def deflated(data: bytes) -> bytes:
    """A file in the deflated transfer syntax."""
    found = transcoded(data, DEFLATED)
    assert found is not None
    return found


class BulkCase(RestCase):
    """One instance after the other."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"OverwriteInstances": True}

    async def store(self, data: bytes) -> str:
        """The path of the stored instance, whose file is what was sent."""
        path = f"/instances/{(await self.client.store(data))['ID']}"
        answer = await self.client.get(f"{path}/file")
        self.assertEqual((answer.headers["content-type"], answer.body == data), ("application/dicom", True))
        return path

    async def check(self, path: str, content: bytes) -> None:
        """A path answers these bytes."""
        answer = await self.client.get(path)
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, _BINARY), path)
        self.assertEqual(answer.body, content, path)


class VideoTests(BulkCase):
    """MPEG2, MPEG4 and HEVC (PS3.5 sections 8.2.5 to 8.2.8)."""

    async def test_stream(self) -> None:
        """A video is one frame: its stream, in every transfer syntax."""
        for syntax in sorted(VIDEO):
            path = await self.store(video(syntax))
            self.assertEqual(await self.client.json(f"{path}/frames"), [0])
            await self.check(f"{path}/frames/0/raw", _STREAM)
            self.assertEqual(gzip.decompress((await self.client.get(f"{path}/frames/0/raw.gz")).body), _STREAM)
            self.assertEqual((await self.client.json(f"{path}/simplified-tags"))["NumberOfFrames"], str(_FRAMES))

    async def test_fragments(self) -> None:
        """Fragments belong to one stream, even as many as there are frames; ``content`` shows each."""
        parts = [_STREAM[start : start + 100] for start in range(0, 1000, 100)]
        for pieces in (parts[:3], [bytes([number, 0]) for number in range(_FRAMES)]):
            path = await self.store(video("1.2.840.10008.1.2.4.102", *pieces))
            await self.check(f"{path}/frames/0/raw", b"".join(pieces))
            for number in (1, _FRAMES - 1, _FRAMES):
                self.assertError(await self.client.get(f"{path}/frames/{number}/raw"), 400, 3)
            children = await self.client.json(f"{path}/content/7fe0-0010")
            self.assertEqual(children, [str(number) for number in range(len(pieces) + 1)])
            await self.check(f"{path}/content/7fe0-0010/0", b"")
            await self.check(f"{path}/content/7fe0-0010/2", pieces[1])

    async def test_not_decoded(self) -> None:
        """Pictures and arrays of it cannot be had; neither can another transfer syntax."""
        path = await self.store(video("1.2.840.10008.1.2.4.100"))
        for name in ("preview", "rendered", "image-uint8", "frames/0/preview"):
            self.assertEmpty(await self.client.get(f"{path}/{name}"), 415)
        for name in ("numpy", "frames/0/numpy", "matlab"):
            self.assertError(await self.client.get(f"{path}/{name}"), 415, 2)
        (series,) = await self.client.json("/series")
        self.assertError(await self.client.get(f"/series/{series}/numpy"), 415, 2)
        self.assertError(await self.client.get(f"{path}/file?transcode=1.2.840.10008.1.2"), 400, 2)
        self.assertEmpty(await self.client.get(f"{path}/pdf"), 404)

    async def test_frames_of_others(self) -> None:
        """What is no video keeps its frames."""
        first, second = b"\xff\xd8\xff\xd9", b"\xff\xd8\1\2\xff\xd9"
        path = await self.store(image(coloured(number_of_frames=2), [first, second], "1.2.840.10008.1.2.4.50"))
        self.assertEqual(await self.client.json(f"{path}/frames"), [0, 1])
        await self.check(f"{path}/frames/1/raw", second)


class OtherBulkTests(BulkCase):
    """Values that are no pixels, by ``content``."""

    async def test_documents(self) -> None:
        """Encapsulated documents (PS3.3 section C.24.2): their bytes, padding included; only a PDF is one."""
        for mime, document in (
            ("model/stl", b"solid x\nendsolid x\n\0"),
            ("text/XML", b"<ClinicalDocument/>\n"),
            ("model/obj", b"v 0 0 0\n" * 200_000),
        ):
            data = dicom_object(EncapsulatedDocument=document, MIMETypeOfEncapsulatedDocument=mime)
            path = await self.store(data)
            await self.check(f"{path}/content/0042-0011", document)
            self.assertEmpty(await self.client.get(f"{path}/pdf"), 404)
            self.assertEmpty(await self.client.get(f"{path}/preview"), 415)
            self.assertError(await self.client.get(f"{path}/frames/0/raw"), 400, 8)
            self.assertEqual(await self.client.json(f"{path}/frames"), [0])

    async def test_waveforms(self) -> None:
        """WaveformData within its sequence (PS3.3 section C.10.9)."""
        signal = struct.pack("<2000h", *range(-1000, 1000))
        channels = Dataset()
        channels.NumberOfWaveformChannels, channels.WaveformBitsAllocated = 1, 16
        channels.add_new("WaveformData", "OW", signal)
        path = await self.store(dicom_object(WaveformSequence=Sequence([channels])))
        await self.check(f"{path}/content/5400-0100/0/5400-1010", signal)
        self.assertEmpty(await self.client.get(f"{path}/content/5400-0100/1/5400-1010"), 404)

    async def test_spectra(self) -> None:
        """SpectroscopyData (PS3.3 section C.8.14.4), in little endian whatever the file has."""
        spectrum = struct.pack("<300f", *range(300))
        dataset = pydicom.dcmread(io.BytesIO(dicom_object()))
        dataset.add_new("SpectroscopyData", "OF", spectrum)
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        path = await self.store(buffer.getvalue())
        await self.check(f"{path}/content/5600-0020", spectrum)
        tags = await self.client.json(f"{path}/tags?short")
        self.assertIsNone(tags["5600,0020"])
        self.assertError(await self.client.get(f"{path}/numpy"), 400, 15)


class StoredFormTests(BulkCase):
    """What is compressed on the disk."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"StorageCompression": True}

    async def test_deflated(self) -> None:
        """Of a deflated data set, what lies in it and not in the file."""
        document, values = b"%PDF-1.4 " + os.urandom(500), np.arange(96, dtype="u1")
        plain = dicom_object(EncapsulatedDocument=document + b"\0", MIMETypeOfEncapsulatedDocument="application/pdf")
        path = await self.store(deflated(plain))
        self.assertEqual((await self.client.get(f"{path}/pdf")).body, document + b"\0")
        path = await self.store(deflated(image(grey(number_of_frames=4), values.tobytes())))
        for number in range(4):
            await self.check(f"{path}/frames/{number}/raw", values[24 * number : 24 * number + 24].tobytes())

    async def test_large(self) -> None:
        """Streams that are longer than what is read at a time, in many fragments or one."""
        stream = os.urandom(3_000_000)
        small = [stream[start : start + 1000] for start in range(0, len(stream), 1000)]
        for number, fragments in enumerate(([stream], small, [b"", stream[:2], b"", stream[2:], b""])):
            data = video("1.2.840.10008.1.2.4.102", *fragments)
            path = await self.store(data.replace(b".7433.7", b".743%d.7" % number))
            await self.check(f"{path}/frames/0/raw", stream)
            self.assertEqual(gzip.decompress((await self.client.get(f"{path}/frames/0/raw.gz")).body), stream)

    async def test_all(self) -> None:
        """The same bytes."""
        data = video("1.2.840.10008.1.2.4.107", _STREAM[:700], _STREAM[700:])
        self.assertEqual(scan(data).pixels.frames, 1)  # type: ignore[union-attr]
        path = await self.store(data)
        await self.check(f"{path}/frames/0/raw", _STREAM)
        self.assertEqual((await self.client.get(f"{path}/attachments/dicom/md5")).text, hashlib.md5(data).hexdigest())
