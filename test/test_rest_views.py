"""Views of resources over HTTP: modules, tags of many instances, slices in order, objects as JSON and XML."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from test.dicom_files import DEFLATED, EXPLICIT, JPEG_BASELINE, element, encapsulated, meta, uids
from test.rest_samples import NOBODY, RestCase, Wire, dicom_object, item, pixels, wire

XML = "application/xml"
#: Where the answer to an upload tells the identifier of each level.
_KEYS = {"patients": "ParentPatient", "studies": "ParentStudy", "series": "ParentSeries", "instances": "ID"}
NATIVE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


def slices(count: int, **values: object) -> Iterator[bytes]:
    """Objects of one series, the last slice first."""
    for number in range(count, 0, -1):
        yield dicom_object(sop=f"1.2.1.1.{number}", **pixels(2, 2), **values)


def _sample() -> bytes:
    items = Sequence([item(CodeValue="C1", CodeMeaning='<"&">'), Dataset()])
    return dicom_object(
        PatientName="MÜLLER^ANNA=漢^字",
        OtherPatientIDs=["a", "", "b"],
        ImageComments="one\\two\r\nthree",
        PatientWeight="70.50",
        FrameIncrementPointer=0x00181063,
        ProcedureCodeSequence=items,
        **pixels(2, 3),
    )


def _plain(sop: str, more: bytes, transfer_syntax: str = EXPLICIT) -> bytes:
    """An object of a few identifiers and further elements."""
    data = element(0x00080018, "UI", sop) + uids() + more
    if transfer_syntax == DEFLATED:
        packer = zlib.compressobj(wbits=-15)
        data = packer.compress(data) + packer.flush()
    return meta(transfer_syntax) + data


class ViewCase(RestCase):
    """A test that stores objects of one series."""

    async def store(self, *objects: bytes) -> list[dict[str, str]]:
        return [await self.client.store(data) for data in objects]

    async def as_xml(self, path: str) -> ElementTree.Element:
        answer = await self.client.ask("GET", path, headers={"Accept": XML})
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, f"{XML}; charset=utf-8"))
        return ElementTree.fromstring(answer.body)


class ModuleTests(ViewCase):
    """``module`` and ``module-patient``."""

    async def setUp(self) -> None:
        await super().setUp()
        (self.ids,) = await self.store(dicom_object(PatientComments="c" * 300, SliceThickness="2", Rows=4))

    async def module(self, level: str, name: str = "module", **arguments: object) -> set[str]:
        return set(await self.client.json(f"/{level}/{self.ids[_KEYS[level]]}/{name}", **arguments))

    async def test_levels(self) -> None:
        """Each level has the tags of its own modules."""
        patient = {"PatientName", "PatientID", "PatientBirthDate", "PatientSex", "PatientComments"}
        self.assertEqual(await self.module("patients", simplify=""), patient)
        self.assertEqual(await self.module("studies", "module-patient", simplify=""), patient)
        study = {"StudyDate", "StudyTime", "AccessionNumber", "StudyDescription", "StudyInstanceUID", "StudyID"}
        self.assertEqual(await self.module("studies", simplify=""), study)
        series = {"Modality", "SeriesDescription", "SeriesInstanceUID", "SeriesNumber"}
        self.assertEqual(await self.module("series", simplify=""), series)
        instance = {"SpecificCharacterSet", "SOPClassUID", "SOPInstanceUID", "InstanceNumber"}
        self.assertEqual(await self.module("instances", simplify=""), instance)

    async def test_formats(self) -> None:
        """The full format is the default; long texts are shown when they are asked for."""
        path = f"/patients/{self.ids['ParentPatient']}/module"
        full = await self.client.json(path)
        self.assertEqual(full["0010,0010"], {"Name": "PatientName", "Type": "String", "Value": "DOE^JOHN"})
        self.assertEqual(full["0010,4000"]["Type"], "TooLong")
        short = await self.client.json(path, short="", **{"ignore-length": "PatientName, 0010-4000"})
        self.assertEqual((short["0010,0010"], short["0010,4000"]), ("DOE^JOHN", "c" * 300))

    async def test_refusals(self) -> None:
        """Unknown resources and tags."""
        for path in ("patients", "studies", "series", "instances"):
            self.assertError(await self.client.get(f"/{path}/{NOBODY}/module"), 404, 17)
        self.assertError(await self.client.get(f"/studies/{NOBODY}/module-patient"), 404, 17)
        path = f"/instances/{self.ids['ID']}/module"
        self.assertError(await self.client.get(path, **{"ignore-length": "None"}), 400, 27)


class ManyInstancesTests(ViewCase):
    """``shared-tags`` and ``instances-tags``."""

    async def test_shared(self) -> None:
        """Tags with the same text in all instances: no sequences, no binary or long values."""
        common = {"PatientComments": "x" * 300, "ReferencedStudySequence": Sequence([item(CodeValue="1")])}
        ids = await self.store(*slices(3, ImageComments="same", **common))
        for level in ("patients", "studies", "series"):
            path = f"/{level}/{ids[0][_KEYS[level]]}"
            shared = await self.client.json(f"{path}/shared-tags", simplify="")
            self.assertEqual(shared["ImageComments"], "same")
            self.assertEqual(shared["Rows"], "2")
            absent = {"SOPInstanceUID", "InstanceNumber", "PixelData", "PatientComments", "ReferencedStudySequence"}
            self.assertEqual(absent & set(shared), set())
        full = await self.client.json(f"{path}/shared-tags")
        self.assertEqual(full["0020,4000"], {"Name": "ImageComments", "Type": "String", "Value": "same"})
        self.assertEqual((await self.client.json(f"{path}/shared-tags", short=""))["0020,4000"], "same")

    async def test_private(self) -> None:
        """A private tag of another creator is another tag, whatever its text."""
        both = element(0x00091001, "LO", "same") + element(0x000B0010, "LO", "BOTH") + element(0x000B1001, "LO", "same")
        objects = [
            _plain(f"1.2.{creator}", element(0x00090010, "LO", f"C{creator}") + both)
            for creator in (1, 2)
        ]
        ids = await self.store(*objects)
        shared = await self.client.json(f"/series/{ids[0]['ParentSeries']}/shared-tags", short="")
        self.assertEqual(shared.get("000b,1001"), "same")
        self.assertNotIn("0009,1001", shared)

    async def test_instances_tags(self) -> None:
        """The tags of each instance, as it shows them itself; of many, in pieces without a length."""
        ids = await self.store(*slices(2))
        path = f"/series/{ids[0]['ParentSeries']}/instances-tags"
        answer = await self.client.get(path)
        self.assertIn("content-length", answer.headers)
        self.assertEqual(set(answer.json()), {one["ID"] for one in ids})
        await self.store(*(dicom_object(sop=f"1.2.1.1.{number}") for number in range(10, 80)))
        for form in ("", "simplify", "short"):
            answer = await self.client.get(path, **({form: ""} if form else {}))
            self.assertNotIn("content-length", answer.headers)
            shown = answer.json()
            self.assertEqual(list(shown), sorted(await self.client.json(path.replace("-tags", ""), expand="false")))
            public_id = ids[1]["ID"]
            alone = await self.client.json(f"/instances/{public_id}/tags", **({form: ""} if form else {}))
            self.assertEqual(shown[public_id], alone)
        root = await self.as_xml(f"{path}?simplify")
        self.assertEqual(len(root), 72)
        self.assertEqual({child.findtext("PatientID") for child in root}, {"P1"})

    async def test_long_texts(self) -> None:
        """Long texts come from the files of the instances that have one, deflated or not."""
        text = "t" * 70000
        deflated = _plain("1.2.9", element(0x0040A160, "UT", text), DEFLATED)
        ids = await self.store(_plain("1.2.8", element(0x0040A160, "UT", text)), deflated)
        path = f"/series/{ids[0]['ParentSeries']}/instances-tags"
        for arguments, expected in (({}, None), ({"ignore-length": "TextValue"}, text)):
            shown = await self.client.json(path, simplify="", **arguments)
            self.assertEqual([shown[one["ID"]]["TextValue"] for one in ids], [expected] * 2)
            for one in ids:
                alone = await self.client.json(f"/instances/{one['ID']}/simplified-tags", **arguments)
                self.assertEqual(alone["TextValue"], expected)

    async def test_refusals(self) -> None:
        """Unknown resources; instances have neither."""
        for level in ("patients", "studies", "series"):
            for route in ("shared-tags", "instances-tags"):
                self.assertError(await self.client.get(f"/{level}/{NOBODY}/{route}"), 404, 17)
        self.assertError(await self.client.get(f"/instances/{NOBODY}/shared-tags"), 404, 17)

    async def test_client_leaves(self) -> None:
        """A client that leaves while tags are streamed disturbs nobody."""
        ids = await self.store(*(dicom_object(sop=f"1.2.1.1.{number}") for number in range(80)))
        path = f"/series/{ids[0]['ParentSeries']}/instances-tags"
        connection: Wire = await wire(self.port)
        connection.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await connection.until(b"\r\n\r\n")
        connection.abort()
        self.assertEqual(len(await self.client.json(path)), 80)


class OrderedSlicesTests(ViewCase):
    """``ordered-slices``."""

    async def ordered(self, *objects: bytes) -> tuple[dict[str, Any], list[str]]:
        stored = await self.store(*objects)
        ids = [one["ID"] for one in stored]
        return await self.client.json(f"/series/{stored[0]['ParentSeries']}/ordered-slices"), ids

    async def test_volume(self) -> None:
        """Slices with places of their own are a volume, in the order of the places."""
        axes = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        places = [(1, 5.0), (2, -1.0), (3, 2.0)]
        objects = [
            dicom_object(sop=f"1.2.1.1.{n}", ImagePositionPatient=[0, 0, z], **axes, **pixels(2, 2)) for n, z in places
        ]
        found, ids = await self.ordered(*objects)
        order = [ids[1], ids[2], ids[0]]
        self.assertEqual(
            found,
            {
                "Type": "Volume",
                "Dicom": [f"/instances/{public_id}/file" for public_id in order],
                "Slices": [f"/instances/{public_id}/frames/0" for public_id in order],
                "SlicesShort": [[public_id, 0, 1] for public_id in order],
            },
        )

    async def test_sequence(self) -> None:
        """Without places their numbers give the order; frames follow each other."""
        image = pixels(2, 2)
        image["PixelData"] *= 3
        first = dicom_object(sop="1.2.1.1.7", NumberOfFrames="3", **image)
        found, ids = await self.ordered(first, dicom_object(sop="1.2.1.1.2", **pixels(2, 2)))
        self.assertEqual(found["Type"], "Sequence")
        self.assertEqual(found["SlicesShort"], [[ids[1], 0, 1], [ids[0], 0, 3]])
        self.assertEqual(found["Slices"][1:], [f"/instances/{ids[0]}/frames/{frame}" for frame in range(3)])

    async def test_hostile_number(self) -> None:
        """Nobody's NumberOfFrames makes an answer as long as it likes."""
        found, ids = await self.ordered(dicom_object(NumberOfFrames="2000000000", **pixels(2, 2)))
        self.assertEqual(found["SlicesShort"], [[ids[0], 0, 4096]])
        self.assertEqual(len(await self.client.json(f"/instances/{ids[0]}/frames")), 4096)

    async def test_unknown(self) -> None:
        """An unknown series."""
        self.assertError(await self.client.get(f"/series/{NOBODY}/ordered-slices"), 404, 17)


class WholeObjectTests(ViewCase):
    """``/file`` as DICOM JSON and XML."""

    async def file(self, data: bytes, form: str) -> bytes:
        (ids,) = await self.store(data)
        accept = f"application/dicom+{form}"
        answer = await self.client.ask("GET", f"/instances/{ids['ID']}/file", headers={"Accept": accept})
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, accept), answer.body[:200])
        self.assertNotIn("content-disposition", answer.headers)
        return answer.body

    async def test_json(self) -> None:
        """What pydicom reads from the JSON is what was stored."""
        body = json.loads(await self.file(_sample(), "json"))
        self.assertEqual(body["00100010"], {"vr": "PN", "Value": [
            {"Alphabetic": "MÜLLER^ANNA", "Ideographic": "漢^字"}]})
        self.assertEqual(body["00101000"], {"vr": "LO", "Value": ["a", None, "b"]})
        self.assertEqual(body["00204000"]["Value"], ["one\\two\r\nthree"])
        self.assertEqual(body["00101030"], {"vr": "DS", "Value": [70.5]})
        self.assertEqual(body["00280009"], {"vr": "AT", "Value": ["00181063"]})
        self.assertEqual(body["00081032"]["Value"][1], {})
        self.assertEqual(base64.b64decode(body["7FE00010"]["InlineBinary"]), b"\x07" * 6)
        self.assertNotIn("00020010", body)
        self.assertEqual(str(Dataset.from_json(body).PatientName), "MÜLLER^ANNA=漢^字")

    async def test_xml(self) -> None:
        """The Native DICOM Model (PS3.19 annex A.1)."""
        root = ElementTree.fromstring(await self.file(_sample(), "xml"))
        self.assertEqual(root.tag, f"{NATIVE}NativeDicomModel")
        by_tag = {child.attrib["tag"]: child for child in root}
        self.assertEqual(by_tag["00100010"].attrib, {"tag": "00100010", "vr": "PN", "keyword": "PatientName"})
        name = by_tag["00100010"].find(f"{NATIVE}PersonName/{NATIVE}Alphabetic/{NATIVE}GivenName")
        self.assertEqual(name is not None and name.text, "ANNA")
        ids = [(value.get("number"), value.text) for value in by_tag["00101000"]]
        self.assertEqual(ids, [("1", "a"), ("3", "b")])
        self.assertEqual([value.text for value in by_tag["00204000"]], ["one\\two\r\nthree"])
        items = by_tag["00081032"].findall(f"{NATIVE}Item")
        self.assertEqual([(one.get("number"), len(one)) for one in items], [("1", 2), ("2", 0)])
        self.assertEqual([value.text for value in items[0].iter(f"{NATIVE}Value")], ["C1", '<"&">'])
        binary = by_tag["7FE00010"].findtext(f"{NATIVE}InlineBinary")
        self.assertEqual(base64.b64decode(binary or ""), b"\x07" * 6)

    async def test_large(self) -> None:
        """Large pixels are streamed; nothing is lost between the pieces."""
        image = pixels(1000, 1001)
        image["PixelData"] = bytes(range(250)) * 4004
        body = json.loads(await self.file(dicom_object(**image), "json"))
        self.assertEqual(base64.b64decode(body["7FE00010"]["InlineBinary"]), image["PixelData"])

    async def test_compressed(self) -> None:
        """Compressed pixels are left out."""
        data = _plain("1.2.9", encapsulated([b"\xff\xd8\xff\xd9"]), JPEG_BASELINE)
        body = json.loads(await self.file(data, "json"))
        self.assertEqual(body["00080018"]["Value"], ["1.2.9"])
        self.assertNotIn("7FE00010", body)

    async def test_others(self) -> None:
        """Other types give the file; an unknown instance is an error."""
        (ids,) = await self.store(dicom_object())
        for accept in (XML, "application/json", "application/dicom+json;q=0.5", "*/*"):
            answer = await self.client.ask("GET", f"/instances/{ids['ID']}/file", headers={"Accept": accept})
            self.assertEqual(answer.headers["content-type"], "application/dicom")
        answer = await self.client.ask("GET", f"/instances/{NOBODY}/file", headers={"Accept": "application/dicom+json"})
        self.assertError(answer, 404, 17)


class XmlTests(ViewCase):
    """JSON becomes XML for those who accept nothing else."""

    async def test_layout(self) -> None:
        """Members of objects are elements by their names, those of arrays are items."""
        await self.fill()
        answer = await self.client.ask("GET", "/statistics", headers={"Accept": XML})
        self.assertTrue(answer.body.startswith(b'<?xml version="1.0" encoding="utf-8"?>\n<root>\n  <CountInstances>4<'))
        root = await self.as_xml("/patients?expand")
        self.assertEqual({child.tag for child in root}, {"item"})
        self.assertEqual({child.findtext("MainDicomTags/PatientName") for child in root}, {"DOE^JOHN", "MÜLLER^ANNA"})
        self.assertEqual({child.findtext("IsStable") for child in root}, {"false"})
        self.assertEqual(len(await self.as_xml("/jobs")), 0)

    async def test_others(self) -> None:
        """Lists and preferences, texts and failures stay as they are."""
        for accept in (f"{XML}, application/json", f"{XML};q=0.5", "text/xml"):
            answer = await self.client.ask("GET", "/statistics", headers={"Accept": accept})
            self.assertEqual(answer.headers["content-type"], "application/json; charset=utf-8")
        answer = await self.client.ask("GET", "/tools/now", headers={"Accept": XML})
        self.assertEqual(answer.headers["content-type"], "text/plain")
        answer = await self.client.ask("GET", f"/instances/{NOBODY}/tags", headers={"Accept": XML})
        self.assertError(answer, 404, 17)

    async def test_hostile_text(self) -> None:
        """Markup and characters that XML has no way to write stay text."""
        (ids,) = await self.store(dicom_object(ImageComments="</root><a b='1'>&amp;\r\n\x01\x1f"))
        root = await self.as_xml(f"/instances/{ids['ID']}/simplified-tags")
        text = root.findtext("ImageComments") or ""
        self.assertTrue(text.startswith("</root><a b='1'>&amp;\r\n"), text)

    async def test_post(self) -> None:
        """Searches, too."""
        await self.fill()
        body = json.dumps({"Level": "Study", "Query": {"PatientID": "P1"}})
        answer = await self.client.post("/tools/find", body, Accept=XML)
        self.assertEqual(len(ElementTree.fromstring(answer.body)), 1)
