"""Private tags of objects that are transcoded: their VRs are those of the configured dictionary."""

from __future__ import annotations

import io
from typing import ClassVar

import pydicom
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.dictionary import STANDARD, Dictionary, DictionaryEntry, dictionary_of
from test.rest_samples import RestCase, dicom_object, pixels

_CREATOR = "SOME SITE"
_CONFIGURED = {
    "0099,1001": ["DS", "SiteDose", 1, 1, _CREATOR],
    "0099,1002": ["SQ", "SiteSequence", 1, 1, _CREATOR],
    "0099,1003": ["US", "SiteNumber", 1, 1, _CREATOR],
}
#: Known without options.
_SIEMENS, _SIEMENS_BLOCK = "SIEMENS CT VA0  COAD", 0x0019


def _private() -> bytes:
    """An image in implicit VR with private tags, also within a private sequence and a standard one."""
    dataset = pydicom.dcmread(io.BytesIO(dicom_object(**pixels(8, 8))))

    def site(inner: Dataset) -> Dataset:
        block = inner.private_block(0x0099, _CREATOR, create=True)
        block.add_new(1, "DS", "1.5")
        block.add_new(3, "US", 513)
        return inner

    site(dataset).private_block(0x0099, _CREATOR).add_new(2, "SQ", Sequence([site(Dataset())]))
    dataset.ReferencedImageSequence = Sequence([site(Dataset())])
    dataset.private_block(_SIEMENS_BLOCK, _SIEMENS, create=True).add_new(0x10, "DS", "7")
    buffer = io.BytesIO()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    dcmwrite(buffer, dataset, implicit_vr=True, little_endian=True)
    return buffer.getvalue()


def _vrs(dataset: Dataset) -> list[str]:
    return [dataset[tag].VR for tag in (0x00990010, 0x00991001, 0x00991003)]


class DictionaryTests(RestCase):
    """``Dictionary`` and ``LoadPrivateDictionary``, by the server itself and by the children alike."""

    SYNTAXES: ClassVar = (ExplicitVRLittleEndian, JPEGLSLossless, RLELossless)

    async def setUp(self) -> None:
        # pydicom has a dictionary of its own.
        self.patch(pydicom.config, "replace_un_with_known_vr", False)
        await super().setUp()

    async def transcoded(self, syntax: str) -> Dataset:
        (instance,) = await self.client.json("/instances")
        answer = await self.client.get(f"/instances/{instance}/file", transcode=syntax)
        self.assertEqual(answer.status, 200)
        file = pydicom.dcmread(io.BytesIO(answer.body))
        self.assertEqual(file.file_meta.TransferSyntaxUID, syntax)
        return file

    async def test_configured(self) -> None:
        """Configured private tags get their VR at every depth; without the option they are UN."""
        await self.client.store(_private())
        for syntax in self.SYNTAXES:
            file = await self.transcoded(syntax)
            self.assertEqual(_vrs(file), ["LO", "UN", "UN"])
            self.assertEqual(file[0x00191010].VR, "DS")
        await self.restart(Dictionary=_CONFIGURED)
        for syntax in self.SYNTAXES:
            file = await self.transcoded(syntax)
            self.assertEqual(file[0x00991002].VR, "SQ")
            for dataset in (file, file[0x00991002].value[0], file.ReferencedImageSequence[0]):
                self.assertEqual(_vrs(dataset), ["LO", "DS", "US"])
                self.assertEqual((dataset[0x00991001].value, dataset[0x00991003].value), (1.5, 513))

    async def test_no_private_dictionary(self) -> None:
        """Without the private dictionary its tags are UN."""
        await self.restart(LoadPrivateDictionary=False)
        await self.client.store(_private())
        for syntax in self.SYNTAXES:
            self.assertEqual((await self.transcoded(syntax))[0x00191010].VR, "UN")


class DescriptionTests(SynchronousTestCase):
    """How a dictionary is told to another process."""

    def test_description(self) -> None:
        """The dictionary of a description answers as the one that was described."""
        entry = DictionaryEntry(tag=0x00991001, vr="DS", name="SiteDose", private_creator=_CREATOR)
        other = DictionaryEntry(tag=0x00100010, vr="LO", name="OwnName")
        for private in (True, False):
            dictionary = Dictionary([entry, other], private=private)
            found = dictionary_of(dictionary.description)
            for tag, creator in (
                (0x00991001, _CREATOR),
                (0x00991001, None),
                (0x00100010, None),
                (0x00191010, _SIEMENS),
            ):
                self.assertEqual(found.vr(tag, creator), dictionary.vr(tag, creator))
                self.assertEqual(found.name(tag, creator), dictionary.name(tag, creator))
        self.assertEqual(found.vr(0x00991001, _CREATOR), "DS")

    def test_without_options(self) -> None:
        """There is nothing to tell."""
        self.assertEqual(STANDARD.description, "")
        self.assertIs(dictionary_of(""), STANDARD)
