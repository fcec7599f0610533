"""The DICOM dictionary in Python scripts."""

from __future__ import annotations

import io

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from test.log_lines import log_lines
from test.python_case import example
from test.rest_samples import dicom_object
from test.script_case import ScriptCase

REGISTER = """
    VR = orthanc.ValueRepresentation
    orthanc.RegisterDictionaryTag(0x4322, 0x1012, VR.LO, 'RoomOfScanner', 1, 0)
    orthanc.RegisterPrivateDictionaryTag(0x4343, 0x1001, VR.DS, 'Slope', 1, 2, 'ACME 1.0')
"""


def acme_object() -> bytes:
    """An object whose own tags have no VR in the file."""
    dataset = pydicom.dcmread(io.BytesIO(dicom_object()))
    dataset.add_new(0x43221012, "LO", "R-5")
    dataset.add_new(0x43430010, "LO", "ACME 1.0")
    dataset.add_new(0x43431001, "DS", "2.5")
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    buffer = io.BytesIO()
    dataset.save_as(buffer, implicit_vr=True, little_endian=True)
    return buffer.getvalue()


class DictionaryTests(ScriptCase):
    """Looking up, and adding."""

    async def test_example(self) -> None:
        """That of the documentation."""
        log = log_lines(self, self.levels)
        await self.start_scripts(example("Dictionary"))
        self.assertIn("RoomOfScanner 0010,0010", log.getvalue())

    async def test_lookup(self) -> None:
        """Names and tags as text; what is unknown is a TypeError."""
        noted = await self.run_script(
            """
    for name in ('PatientID', '0010-0010', '0010,0010', '00100010', 'ImageType', 'Rows', 'PixelData',
                 'ReferencedStudySequence', 'PixelSpacing', 'EncryptedAttributesSequence'):
        found = orthanc.LookupDictionary(name)
        note([found[key] for key in ('Group', 'Element', 'ValueRepresentation', 'MinMultiplicity', 'MaxMultiplicity')])
        assert len(found) == 5
    for name in ('Nope', '', '0011-1001', '9998,9998', 'Unknown Tag & Data', 5, None):
        attempt(orthanc.LookupDictionary, name)
    for tag in ((0x10, 0x10, ''), (0x11, 0x10, ''), (0x9998, 0x9998, ''), (0x11, 0x1001, 'abc'),
                (0x0009, 0x1002, 'GEMS_IDEN_01')):
        note(orthanc.GetTagName(*tag))
    attempt(orthanc.GetTagName, 0x10000, 0, '')
    attempt(orthanc.GetTagName, -1, 0, '')
    attempt(orthanc.GetTagName, 0x10, 0x10, None)
"""
        )
        name = [0x10, 0x10, 16, 1, 1]
        self.assertEqual([found for (found,) in noted[:4]], [[0x10, 0x20, 11, 1, 1], name, name, name])
        self.assertEqual(
            [found for (found,) in noted[4:10]],
            [
                [0x08, 0x08, 4, 2, 0],
                [0x28, 0x10, 26, 1, 1],
                [0x7FE0, 0x10, 15, 1, 1],
                [0x08, 0x1110, 19, 1, 1],
                [0x28, 0x30, 6, 2, 2],
                [0x400, 0x500, 19, 1, 1],
            ],
        )
        self.assertEqual([found for (found,) in noted[10:17]], ["TypeError"] * 7)
        unknown = "Unknown Tag & Data"
        names = ["PatientName", "PrivateCreator", unknown, unknown, "SuiteId"]
        self.assertEqual([found for (found,) in noted[17:]], [*names, 3, 3, "TypeError"])

    async def test_register(self) -> None:
        """Registered tags are known to scripts; what is there already, or cannot be, is an exception."""
        noted = await self.run_script(
            REGISTER
            + """
    note(orthanc.LookupDictionary('RoomOfScanner'))
    note(orthanc.GetTagName(0x4322, 0x1012, ''), orthanc.GetTagName(0x4343, 0x1101, 'ACME 1.0'),
         orthanc.GetTagName(0x4343, 0x1101, 'OTHER'))
    def register(*arguments):
        attempt(orthanc.RegisterDictionaryTag, *arguments)
    register(0x4322, 0x1012, VR.LO, 'RoomOfScanner', 1, 0)
    register(0x10, 0x10, VR.LO, 'PatientName', 1, 1)
    register(0x4324, 0x1012, 99, 'X', 1, 1)
    register(0x4324, 0x1012, VR.LO, 'X', 0, 1)
    register(0x4324, 0x1012, VR.LO, 'X', 3, 2)
    register(0x14324, 0x1012, VR.LO, 'X', 1, 1)
    register(0x4324, 0x1012, VR.LO, 5, 1, 1)
    attempt(orthanc.RegisterPrivateDictionaryTag, 0x4342, 0x1001, VR.LO, 'X', 1, 1, 'ACME 1.0')
    attempt(orthanc.RegisterPrivateDictionaryTag, 0x4343, 0x1001, VR.LO, 'X', 1, 1, 'ACME 1.0')
    attempt(orthanc.RegisterPrivateDictionaryTag, 0x4343, 0x1001, VR.LO, 'X', 1, 1, 'ACME 2.0')
"""
        )
        room = {"Group": 0x4322, "Element": 0x1012, "ValueRepresentation": 11, "MinMultiplicity": 1}
        self.assertEqual(noted[0], [{**room, "MaxMultiplicity": 0}])
        self.assertEqual(noted[1], ["RoomOfScanner", "Slope", "Unknown Tag & Data"])
        codes = [2042, 2042, 3, 3, 3, 3, "TypeError", 3, 2042, "done"]
        self.assertEqual([code for (code,) in noted[2:]], codes)

    async def test_server(self) -> None:
        """The server shows, finds, makes, modifies and transcodes objects by these tags."""
        await self.run_script(REGISTER)
        stored = await self.client.store(acme_object())
        tags = await self.client.json(f"/instances/{stored['ID']}/tags")
        private = {"Name": "Slope", "PrivateCreator": "ACME 1.0", "Type": "String", "Value": "2.5"}
        self.assertEqual(tags["4322,1012"], {"Name": "RoomOfScanner", "Type": "String", "Value": "R-5"})
        self.assertEqual(tags["4343,1001"], private)
        self.assertEqual(await self.client.find("Instance", {"RoomOfScanner": "R-*"}), [stored["ID"]])
        self.assertEqual(await self.client.find("Instance", {"RoomOfScanner": "S-*"}), [])
        made = await self.client.post("/tools/create-dicom", {"Tags": {"RoomOfScanner": "R-6"}})
        self.assertEqual(await self.client.find("Instance", {"RoomOfScanner": "R-6"}), [made.json()["ID"]])
        modified = await self.client.post(f"/instances/{stored['ID']}/modify", {"Replace": {"RoomOfScanner": "R-7"}})
        changed = pydicom.dcmread(io.BytesIO(modified.body))
        self.assertEqual(bytes(changed[0x43221012].value), b"R-7 ")
        answer = await self.client.get(f"/instances/{stored['ID']}/file?transcode={ExplicitVRLittleEndian}")
        explicit = pydicom.dcmread(io.BytesIO(answer.body))
        self.assertEqual((explicit[0x43221012].VR, explicit[0x43431001].VR), ("LO", "DS"))

    async def test_reload(self) -> None:
        """Scripts that are loaded anew register the same tags again."""
        await self.run_script(REGISTER + "    note('loaded')\n")
        await self.server.python.reload()
        self.assertEqual(self.noted(), [["loaded"], ["loaded"]])
