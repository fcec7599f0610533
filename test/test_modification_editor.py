"""The editor of the server, with children and a storage area."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any

import attrs
import pydicom
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import TestCase

from orthanctw.dicom.dictionary import STANDARD
from orthanctw.dicom.editing.editor import EditedObject, Editor, EditorOptions
from orthanctw.dicom.editing.modification import Modification
from orthanctw.dicom.elements import EXPLICIT_LITTLE_ENDIAN
from orthanctw.dicom.pixels.syntaxes import JPEG_2000_LOSSLESS, JPEG_BASELINE
from orthanctw.dicom.transcode import NativeTranscoder
from orthanctw.dicom.transcoder import CodecTranscoder
from orthanctw.error_codes import ErrorCode
from orthanctw.errors import OrthancError
from orthanctw.interfaces import ISpool
from orthanctw.processes import ProcessPool
from orthanctw.remote import Outgoing
from orthanctw.storage.filesystem import FilesystemStorage
from orthanctw.threads import NamedPool
from test.dicom_files import dicom_file, element
from test.editing_samples import KEY, anonymization, edited, modification
from test.pixel_samples import INSTANCE, SECONDARY_CAPTURE, grey, image, wave

_THRESHOLD = 50_000


def outgoing(data: bytes, path: str = "") -> Outgoing:
    """An object as the editor takes it, in a file or in memory."""
    if path:
        Path(path).write_bytes(data)
    return Outgoing(
        sop_class_uid=SECONDARY_CAPTURE,
        sop_instance_uid=INSTANCE,
        transfer_syntax=EXPLICIT_LITTLE_ENDIAN,
        path=path,
        content=b"" if path else data,
    )


class EditorTests(TestCase):
    """What the editor makes, and what it leaves behind."""

    async def setUp(self) -> None:
        self.processes = ProcessPool(
            reactor, ("-m", "orthanctw.dicom.pixels.child"), size=1, memory=2 << 30, timeout=60
        )
        # One thread: what is asked of it is done when anything that is asked later is done.
        self.pool = NamedPool(reactor, "test-editor", 1)  # type: ignore[arg-type]
        self.pool.start()
        self.addCleanup(self.pool.stop)
        self.addCleanup(self.processes.close)
        self.root = Path(self.mktemp()).absolute()
        self.storage = FilesystemStorage(str(self.root), self.pool)
        await self.storage.open()
        self.addCleanup(self.storage.close)
        self.options = EditorOptions(version="1.2.3", threshold=_THRESHOLD)
        self.source = str(self.root / "source")

    def editor(self, **changes: Any) -> Editor:
        transcoder = CodecTranscoder(
            self.processes,
            self.pool,
            NativeTranscoder(self.pool),
            self.storage.spool_path,
            quality=90,
            threshold=_THRESHOLD,
        )
        options = attrs.evolve(self.options, **changes)
        return Editor(self.processes, self.storage, transcoder, options, STANDARD)

    async def content(self, made: EditedObject) -> bytes:
        """The bytes of a result, which is discarded."""
        content = made.content
        if isinstance(content, bytes):
            return content
        with content.open() as file:
            data = file.read()
        await made.discard()
        return data

    def files(self) -> set[Path]:
        """Results that nobody has discarded."""
        return {path for path in self.root.rglob("*") if path.is_file() and len(path.name) == 32}

    async def test_small_and_large(self) -> None:
        """Small results are bytes, large ones files, from memory or from a file; all are what a child makes."""
        editor, made = self.editor(), anonymization({})
        for size, kind in ((10, bytes), (400, ISpool)):
            pixels = grey(size, size)
            data = image(pixels, wave(pixels).tobytes())
            expected = edited(data, made)
            for path in ("", self.source):
                result = await editor.edit(outgoing(data, path), made, KEY)
                self.assertEqual(isinstance(result.content, bytes), kind is bytes)
                self.assertEqual(len(self.files()), 0 if kind is bytes else 1)
                self.assertEqual(await self.content(result), expected)
                self.assertEqual(result.transfer_syntax, EXPLICIT_LITTLE_ENDIAN)
                self.assertEqual(result.source_identifiers[3], INSTANCE)
                found = pydicom.dcmread(io.BytesIO(expected))
                uids = (found.PatientID, found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID)
                self.assertEqual(result.identifiers, uids)
        self.assertEqual(self.files(), set())

    async def test_broken(self) -> None:
        """A broken object is an error of its own; others are edited meanwhile, and no file is left."""
        editor, made = self.editor(), modification({"Replace": {"PatientName": "A"}})
        pixels = grey(400, 400)
        good = image(pixels, wave(pixels).tobytes())
        bad = dicom_file(element(0x00400275, "SQ", "no items at all "), element(0x7FE00010, "OW", bytes(100_000)))
        running = [Deferred.fromCoroutine(editor.edit(outgoing(data), made, KEY)) for data in (bad, good, bad)]
        for one in (running[0], running[2]):
            error = await self.assertFailure(one, OrthancError)
            self.assertIs(error.code, ErrorCode.BAD_FILE_FORMAT)
        await (await running[1]).discard()
        self.assertEqual(self.files(), set())

    async def test_gone(self) -> None:
        """An object whose file is gone is an error."""
        missing = attrs.evolve(outgoing(b""), path=self.source)
        error = await self.assertFailure(
            Deferred.fromCoroutine(self.editor().edit(missing, anonymization({}), KEY)), OrthancError
        )
        self.assertIs(error.code, ErrorCode.INEXISTENT_FILE)

    async def test_transcoding(self) -> None:
        """A result in another transfer syntax has the identifiers that it has without, and is not its own source."""
        pixels = grey(64, 64)
        data = image(pixels, wave(pixels).tobytes())
        plain = await self.editor().edit(outgoing(data), anonymization({}), KEY)
        for syntax in (JPEG_2000_LOSSLESS, JPEG_BASELINE):
            made = await self.editor().edit(outgoing(data), anonymization({"Transcode": syntax}), KEY)
            self.assertEqual((made.transfer_syntax, made.identifiers), (syntax, plain.identifiers))
            self.assertEqual(made.source_identifiers, plain.source_identifiers)
            found = pydicom.dcmread(io.BytesIO(await self.content(made)))
            self.assertEqual(found.SOPInstanceUID, made.identifiers[3])
            self.assertNotIn("SourceImageSequence", found)
        made = await self.editor().edit(outgoing(data), modification({"Transcode": JPEG_BASELINE}), KEY)
        found = pydicom.dcmread(io.BytesIO(await self.content(made)))
        self.assertEqual(found.SourceImageSequence[0].ReferencedSOPInstanceUID, INSTANCE)

    async def test_impossible_transcoding(self) -> None:
        """What cannot be transcoded is an error."""
        made = modification({"Transcode": JPEG_BASELINE})
        error = await self.assertFailure(
            Deferred.fromCoroutine(self.editor().edit(outgoing(dicom_file()), made, KEY)), OrthancError
        )
        self.assertEqual((error.code, error.http_status), (ErrorCode.NOT_IMPLEMENTED, 400))

    async def test_deidentification_key(self) -> None:
        """With a key of the server, every job anonymises alike; modifications are new ones in each job."""
        editor = self.editor(deidentification_key="secret")
        self.assertEqual((editor.is_reproducible, self.editor().is_reproducible), (True, False))
        data = dicom_file(element(0x00200010, "SH", "1"))

        async def identifiers(used: Editor, made: Modification, key: bytes) -> tuple[str, ...]:
            return (await used.edit(outgoing(data), made, key)).identifiers

        one = await identifiers(editor, anonymization({}), KEY)
        self.assertEqual(one, await identifiers(editor, anonymization({}), KEY[::-1]))
        self.assertNotEqual(one, await identifiers(self.editor(), anonymization({}), KEY))
        self.assertNotEqual(
            await identifiers(editor, modification({}), KEY), await identifiers(editor, modification({}), KEY[::-1])
        )

    async def test_cancelled(self) -> None:
        """Whoever gives up leaves no file behind."""
        pixels = grey(400, 400)
        data = image(pixels, wave(pixels).tobytes())
        editor = self.editor()
        await (await editor.edit(outgoing(data), anonymization({}), KEY)).discard()
        running = Deferred.fromCoroutine(editor.edit(outgoing(data), anonymization({}), KEY))
        self.assertEqual(self.processes.running, 1)
        running.cancel()
        await self.assertFailure(running, CancelledError)
        # There is one child: this comes after what nobody waits for.
        await (await editor.edit(outgoing(data), anonymization({}), KEY)).discard()
        await self.pool.call(int)
        self.assertEqual(self.files(), set())

    async def test_killed(self) -> None:
        """A child that is killed is an error of the object it was at; the next one is edited."""
        pixels = grey(400, 400)
        data = image(pixels, wave(pixels).tobytes())
        editor = self.editor()
        running = Deferred.fromCoroutine(editor.edit(outgoing(data), anonymization({}), KEY))
        for pid in self.processes.pids:
            os.kill(pid, signal.SIGKILL)
        error = await self.assertFailure(running, OrthancError)
        self.assertIs(error.code, ErrorCode.NOT_ENOUGH_MEMORY)
        await (await editor.edit(outgoing(data), anonymization({}), KEY)).discard()
        await self.pool.call(int)
        self.assertEqual(self.files(), set())
