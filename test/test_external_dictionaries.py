"""``ExternalDictionaries``: files in DCMTK's format in place of what is built in."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
from pydicom.filewriter import dcmwrite
from pydicom.uid import ImplicitVRLittleEndian
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom.dictionary import Dictionary, DictionaryEntry, dictionary_of
from orthanctw.errors import ConfigurationError
from test.rest_samples import RestCase, dicom_object, pixels

_CREATOR = "SOME SITE"
_STANDARD = (
    "# A comment\n"
    "(0008,0016)\tUI\tSOPClassUID\t1\tDICOM\n"
    "(0008,0018)\tUI\tSOPInstanceUID\t1\tDICOM\n"
    "(0008,0060)\tCS\tKindOfMachine\t1\tDICOM # renamed\n"
    "(0010,0010)\tPN\tPatientName\t1\tDICOM\n"
    "(0010,0020)\tLO\tPatientID\t1\tDICOM\n"
    "(0020,000d)\tUI\tStudyInstanceUID\t1\tDICOM\n"
    "(0020,000e)\tUI\tSeriesInstanceUID\t1\tDICOM\n"
    "(0028,0002)\txs\tSamples\t1\tDICOM\n"
    "\n"
    "(6000-60FF,0010)\tUS\tOverlayRows\t1\tDICOM\n"
)
_PRIVATE = (
    f'(0099,"{_CREATOR}",01)\tDS\tSiteDose\t1\tSite\n'
    f'(0099,"{_CREATOR}",1020)\tUS\tSiteFixed\t1\tSite\n'
    f'(0097-o-009B,"{_CREATOR}",02)\tLO\tSiteText\t1\tSite\n'
    f'(0099,"{_CREATOR}",30-u-3F)\tSH\tSiteRange\t1\tSite\n'
)


def _implicit() -> bytes:
    """An image with private tags, whose VRs are in no file."""
    dataset = pydicom.dcmread(io.BytesIO(dicom_object(**pixels(8, 8))))
    block = dataset.private_block(0x0099, _CREATOR, create=True)
    block.add_new(1, "DS", "1.5")
    block.add_new(2, "LO", "text")
    block.add_new(0x33, "SH", "short")
    block.add_new(0x50, "SH", "nobody")
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, implicit_vr=True, little_endian=True, enforce_file_format=True)
    return buffer.getvalue()


class FileTests(SynchronousTestCase):
    """The files alone."""

    def written(self, *texts: str) -> list[str]:
        paths = []
        for text in texts:
            path = Path(self.mktemp())
            path.write_text(text, encoding="utf-8")
            paths.append(str(path))
        return paths

    def test_standard_tags(self) -> None:
        """Only tags of the files are known; of a range, even groups."""
        dictionary = Dictionary(files=self.written(_STANDARD))
        self.assertEqual(dictionary.parse("KindOfMachine"), 0x00080060)
        self.assertEqual((dictionary.vr(0x00280002), dictionary.name(0x00280002, None)), ("US", "Samples"))
        self.assertEqual([dictionary.vr(tag) for tag in (0x60020010, 0x60FE0010, 0x61000010)], ["US", "US", "UN"])
        self.assertEqual(dictionary.parse("OverlayRows"), 0x60000010)
        self.assertEqual(dictionary.name(0x00081030, None), "Unknown Tag & Data")
        self.assertEqual(dictionary.name(0x00080000, None), "GenericGroupLength")

    def test_private_tags(self) -> None:
        """Private tags by the low byte of their element, whole, and in ranges; later files override earlier ones."""
        later = f'(0099,"{_CREATOR}",01)\tDS\tNewDose\t1\tSite\n'
        dictionary = Dictionary(files=self.written(_PRIVATE, later))
        names = [
            dictionary.name(tag, _CREATOR)
            for tag in (0x00991001, 0x0099AB01, 0x00991020, 0x00971102, 0x009B1102, 0x00991035, 0x00991040)
        ]
        unknown = "Unknown Tag & Data"
        self.assertEqual(
            names, ["NewDose", "NewDose", "SiteFixed", "SiteText", "SiteText", "SiteRange", unknown]
        )
        self.assertEqual(dictionary.name(0x00991001, "ANOTHER"), unknown)
        self.assertEqual(dictionary.name(0x00191010, "SIEMENS CT VA0  COAD"), unknown)

    def test_configured(self) -> None:
        """Entries of the option ``Dictionary`` come on top, here and in another process."""
        entry = DictionaryEntry(tag=0x00100010, vr="PN", name="Who")
        dictionary = Dictionary([entry], files=self.written(_STANDARD, _PRIVATE))
        for each in (dictionary, dictionary_of(dictionary.description)):
            self.assertEqual(each.name(0x00100010, None), "Who")
            self.assertEqual(each.name(0x00991001, _CREATOR), "SiteDose")
            self.assertEqual(each.name(0x00081030, None), "Unknown Tag & Data")

    def test_mistakes(self) -> None:
        """Files that are not there, and lines that cannot be read, keep the server from starting; all is told."""
        missing = self.mktemp()
        self.assertIn(missing, str(self.assertRaises(ConfigurationError, Dictionary, files=[missing])))
        for line in ("nonsense", "(0010,0010) PN Name", "(0010)\tPN\tA", "(0010,0010)\tP\tA", "(0010-,1)\tPN\tA"):
            (path,) = self.written(f"# first\n{line}\n")
            error = self.assertRaises(ConfigurationError, Dictionary, files=[path])
            self.assertIn(f"{path}:2: ", str(error))


class ServerTests(RestCase):
    """``ExternalDictionaries`` of a server."""

    async def test_names_and_vrs(self) -> None:
        """What is uploaded shows with the names and VRs of the files; so does what child processes encode anew."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / "standard.dic").write_text(_STANDARD, "utf-8")
        (folder / "private.dic").write_text(_PRIVATE, "utf-8")
        await self.restart(ExternalDictionaries=[str(folder / "standard.dic"), str(folder / "private.dic")])
        instance = (await self.client.store(_implicit()))["ID"]
        tags = await self.client.json(f"/instances/{instance}/simplified-tags")
        self.assertEqual((tags["PatientName"], tags["KindOfMachine"]), ("DOE^JOHN", "CT"))
        self.assertEqual((tags["SiteDose"], tags["SiteText"], tags["SiteRange"]), ("1.5", "text", "short"))
        self.assertNotIn("StudyDescription", tags)
        file = (await self.client.get(f"/instances/{instance}/file", transcode="1.2.840.10008.1.2.1")).body
        dataset = pydicom.dcmread(io.BytesIO(file))
        self.assertEqual([dataset[0x0099, 0x1000 + low].VR for low in (1, 2, 0x33, 0x50)], ["DS", "LO", "SH", "UN"])

    async def test_built_in(self) -> None:
        """Without the option, standard tags have their names and a site's private ones have none."""
        instance = (await self.client.store(_implicit()))["ID"]
        tags = await self.client.json(f"/instances/{instance}/simplified-tags")
        self.assertEqual((tags["Modality"], tags["StudyDescription"]), ("CT", "HEAD"))
        self.assertNotIn("SiteDose", tags)
