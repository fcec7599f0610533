"""Files that a running server has transcoded, as GDCM, DCMTK and dciodvfy see them."""

from __future__ import annotations

import io
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import _gdcm
import attrs
import numpy as np
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.pixels.syntaxes import (
    ENCODABLE,
    JPEG_2000,
    JPEG_2000_LOSSLESS,
    JPEG_BASELINE,
    JPEG_EXTENDED,
    JPEG_LOSSLESS,
    JPEG_LOSSLESS_SV1,
    JPEG_LS_LOSSLESS,
    JPEG_LS_NEAR_LOSSLESS,
    LOSSY,
    NATIVE,
    RLE,
)
from test.dicom_files import DEFLATED
from test.pixel_samples import grey, image, wave
from test.servers import shared_server

#: The program itself: the command of the wheel starts it, and forgets how it ended.
_GDCMCONV: Final = str(Path(_gdcm.__file__).parent / "gdcmconv")
_ALL: Final = ENCODABLE | NATIVE
#: What a file is not given in: what it would ruin. JPEG is for unsigned pixels, of 8 or 12 bits.
_REFUSED: Final[Mapping[str, frozenset[str]]] = {
    "signed": frozenset((JPEG_BASELINE, JPEG_EXTENDED)),
    "unsigned": frozenset((JPEG_BASELINE,)),
    "grey": frozenset(),
    "RGB": frozenset(),
    "RGB frames": frozenset(),
    "YBR": frozenset(),
    "palette": LOSSY,
    "frames": frozenset((JPEG_BASELINE,)),
    "compressed": frozenset(),
}
_FILES: Final[Mapping[str, str]] = {
    "signed": "CT_small.dcm",
    "grey": "vlut_04.dcm",
    "RGB": "SC_rgb.dcm",
    "RGB frames": "SC_rgb_2frame.dcm",
    "YBR": "SC_ybr_full_uncompressed.dcm",
    "palette": "OBXXXX1A.dcm",
    "frames": "emri_small.dcm",
    "compressed": "SC_rgb_rle_2frame.dcm",
}


def _source(name: str) -> bytes:
    if name in _FILES:
        path = get_testdata_file(_FILES[name], download=False)
        assert isinstance(path, str), name
        return Path(path).read_bytes()
    form = grey(96, 130, bits_allocated=16, bits_stored=12, high_bit=11)
    return image(form, wave(form).tobytes())


@attrs.frozen
class _Transcoded:
    """A file that the server has given."""

    name: str
    source: bytes
    syntax: str
    content: bytes

    @property
    def title(self) -> str:
        return f"{self.name} in {self.syntax}"


class _Owner:
    """Of the server that all tests of this module share."""


@cache
def _answers() -> Mapping[str, tuple[bytes, Mapping[str, tuple[int, bytes]]]]:
    """What the server answers to requests for each file in each syntax, with the file itself."""
    server = shared_server(_Owner)
    found = {}
    for name in _REFUSED:
        source = _source(name)
        instance = server.upload(source)
        answers = {}
        for syntax in sorted(_ALL):
            answer = server.request("GET", f"/instances/{instance}/file?transcode={syntax}")
            answers[syntax] = (answer.status, answer.body)
        # The files are those of one object, some of them.
        server.request("DELETE", f"/instances/{instance}")
        found[name] = (source, answers)
    return found


def _given(syntaxes: frozenset[str]) -> Iterator[_Transcoded]:
    for name, (source, answers) in _answers().items():
        for syntax in sorted(syntaxes):
            status, content = answers[syntax]
            if status == 200:
                yield _Transcoded(name, source, syntax, content)


def _read(data: bytes) -> FileDataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return dcmread(io.BytesIO(data))


class ForeignDecodersTest(SynchronousTestCase):
    """Every syntax that there is an encoder for, and files of every kind."""

    def decoded(self, tool: str, *options: str, file: _Transcoded) -> Any:
        """The pixels that a program finds, which must write a file without compression."""
        before, after = Path(self.mktemp()), Path(self.mktemp())
        before.write_bytes(file.content)
        ran = subprocess.run([tool, *options, before, after], capture_output=True, text=True, check=False)
        self.assertEqual((ran.returncode, after.exists()), (0, True), (file.title, tool, ran.stderr))
        dataset = _read(after.read_bytes())
        self.assertIn(dataset.file_meta.TransferSyntaxUID, NATIVE)
        return dataset.pixel_array

    def check(self, file: _Transcoded, found: Any) -> None:
        """The pixels are those of the source, nearly so after losses."""
        dataset = _read(file.source)
        expected = dataset.pixel_array
        if file.syntax not in LOSSY:
            np.testing.assert_array_equal(found, expected, file.title)
            return
        self.assertEqual(found.shape, expected.shape, file.title)
        mean = np.abs(found.astype(float) - expected).mean()
        self.assertLess(mean / (1 << dataset.BitsStored), 0.01, file.title)

    def test_given(self) -> None:
        """A file is given in every syntax but those that would ruin it, and is in the syntax that was asked for."""
        for name, (_, answers) in _answers().items():
            self.assertEqual({uid for uid, (status, _) in answers.items() if status != 200}, _REFUSED[name], name)
            self.assertLessEqual({status for status, _ in answers.values()}, {200, 400}, name)
        for file in _given(_ALL):
            dataset = _read(file.content)
            self.assertEqual(dataset.file_meta.TransferSyntaxUID, file.syntax, file.title)
            same = dataset.SOPInstanceUID == _read(file.source).SOPInstanceUID
            self.assertEqual(same, file.syntax not in LOSSY, file.title)

    def test_gdcm(self) -> None:
        """GDCM finds the pixels in all of them."""
        for file in _given(_ALL):
            self.check(file, self.decoded(_GDCMCONV, "--raw", file=file))

    def test_dcmtk(self) -> None:
        """DCMTK finds the pixels in all that it has a decoder for, which JPEG 2000 is not among."""
        tools = dict.fromkeys((JPEG_BASELINE, JPEG_EXTENDED, JPEG_LOSSLESS, JPEG_LOSSLESS_SV1), "dcmdjpeg")
        tools |= dict.fromkeys((JPEG_LS_LOSSLESS, JPEG_LS_NEAR_LOSSLESS), "dcmdjpls")
        tools |= {RLE: "dcmdrle", **dict.fromkeys(NATIVE, "dcmconv")}
        self.assertEqual(_ALL - tools.keys(), {JPEG_2000, JPEG_2000_LOSSLESS})
        for file in _given(frozenset(tools)):
            self.check(file, self.decoded(f"/usr/bin/{tools[file.syntax]}", "+te", file=file))


class ValidityTest(SynchronousTestCase):
    """What dciodvfy says of the objects."""

    def errors(self, data: bytes, title: str) -> set[str]:
        path = Path(self.mktemp())
        path.write_bytes(data)
        ran = subprocess.run(
            ["/usr/bin/dciodvfy", path], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
        # It has come to its end, and has known the object.
        self.assertIn(ran.returncode, (0, 1), (title, ran.stderr))
        self.assertRegex(ran.stderr, r"(?m)^\w+Image$", title)
        return {line for line in ran.stderr.splitlines() if line.startswith("Error")}

    def test_no_new_errors(self) -> None:
        """dciodvfy finds no error that the source has not. It cannot read deflated files."""
        known: dict[str, set[str]] = {}
        for file in _given(_ALL - {DEFLATED}):
            if file.name not in known:
                known[file.name] = self.errors(file.source, file.name)
            found = self.errors(file.content, file.title) - known[file.name]
            if file.name == "frames" and file.syntax in LOSSY:
                # What an enhanced image has of its acquisition must go when it is derived, dciodvfy says; but PS3.3
                # section C.8.13 has many conditions of this kind, and what was acquired is still true.
                found = {line for line in found if "Attribute present when condition unsatisfied" not in line}
            self.assertEqual(found, set(), file.title)
