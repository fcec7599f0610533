"""DICOM files and objects in Python scripts: made, read, shown as JSON, transcoded, their frames."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from orthanctw.dicom.scanner import meta_end
from test.dicom_files import element
from test.pixel_samples import samples
from test.python_case import example
from test.rest_samples import NOBODY, dicom_object, item, pixels
from test.script_case import ScriptCase, opened, png
from test.servers import ct_image

BASELINE = "1.2.840.10008.1.2.4.50"
LOSSLESS = "1.2.840.10008.1.2.4.70"
DEFLATED = "1.2.840.10008.1.2.1.99"


def dataset_of(content: bytes) -> Dataset:
    """A DICOM file, read by pydicom."""
    return pydicom.dcmread(io.BytesIO(content))


class CreateTests(ScriptCase):
    """``CreateDicom`` and ``CreateDicom2``."""

    async def test_example(self) -> None:
        """A PNG becomes a stored object, whose preview is that PNG again."""
        await self.start_scripts(example("DICOM objects"))
        source = np.arange(0, 256, dtype=np.uint8).reshape(16, 16)
        colours = np.stack([source, source.T, 255 - source], axis=-1)
        for array in (source, colours):
            answer = await self.client.post("/drawings", png(array))
            self.assertEqual(answer.status, 200)
            preview = await self.client.get(f"/instances/{answer.json()['ID']}/preview")
            self.assertEqual(opened(preview.body).tolist(), array.tolist())
            tags = await self.client.json(f"/instances/{answer.json()['ID']}/simplified-tags")
            self.assertEqual((tags["PatientName"], tags["Rows"]), ("Drawing", "16"))

    async def test_pictures(self) -> None:
        """Each pixel format that an object can have, and what the header then says."""
        await self.run_script(
            """
    for format, pitch in ((1, 2), (2, 4), (3, 4), (4, 6), (5, 8)):
        image = orthanc.CreateImageFromBuffer(format, 2, 2, pitch, bytes(range(2 * pitch)))
        write('made%d' % format, orthanc.CreateDicom('{}', image, 0))
    for format in (7, 8, 9, 10, 11):
        attempt(orthanc.CreateDicom, '{}', orthanc.CreateImage(format, 2, 2), 0)
    attempt(orthanc.CreateDicom, '{}', orthanc.CreateImage(1, 0, 0), 0)
    attempt(orthanc.CreateDicom, '{}', 5, 0)
"""
        )
        self.assertEqual([result for (result,) in self.noted()], [2, 2, 2, 2, 2, 24, "TypeError"])
        for format, bits, signed, samples_per_pixel in ((1, 8, 0, 1), (2, 16, 0, 1), (3, 16, 1, 1), (4, 8, 0, 3)):
            made = dataset_of(self.written(f"made{format}"))
            self.assertEqual(
                (made.BitsStored, made.PixelRepresentation, made.SamplesPerPixel), (bits, signed, samples_per_pixel)
            )
            self.assertEqual(made.PixelData, bytes(range(2 * 2 * samples_per_pixel * bits // 8)))
        transparent = dataset_of(self.written("made5"))
        self.assertEqual(transparent.PixelData, bytes([0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]))

    async def test_tags(self) -> None:
        """Identifiers only if they are wanted; data URIs only if they are to be decoded; a creator."""
        await self.run_script(
            """
    none, decode, identify = 0, orthanc.CreateDicomFlags.DECODE_DATA_URI_SCHEME, 2
    text = {'PatientName': 'data:application/octet-stream;base64,QV5C', 'StudyInstanceUID': '1.2.3'}
    write('plain', orthanc.CreateDicom(json.dumps(text), None, none))
    write('decoded', orthanc.CreateDicom(json.dumps(text), None, decode | identify))
    private = {'0009,0010': 'GEMS_IDEN_01', '0009,1002': 'suite', 'ReferencedStudySequence': [{'PatientID': 'Ä'}]}
    write('private', orthanc.CreateDicom2(json.dumps(private), None, none, 'GEMS_IDEN_01'))
"""
        )
        plain, decoded, private = (dataset_of(self.written(name)) for name in ("plain", "decoded", "private"))
        self.assertEqual(set(plain.dir()), {"SpecificCharacterSet", "PatientName", "StudyInstanceUID"})
        self.assertTrue(str(plain.PatientName).startswith("data:"))
        self.assertEqual((str(decoded.PatientName), decoded.StudyInstanceUID), ("A^B", "1.2.3"))
        self.assertTrue(decoded.SOPInstanceUID and decoded.SeriesInstanceUID and decoded.PatientID)
        self.assertEqual((private[0x00091002].VR, private[0x00091002].value), ("SH", "suite"))
        self.assertEqual(private.ReferencedStudySequence[0].PatientID, "Ä")

    async def test_errors(self) -> None:
        """What is no JSON, no object, no tag, no value."""
        noted = await self.run_script(
            """
    for tags in ('', '{', '[]', '5', '{"Nope": "x"}', '{"PatientName": 5}', '{"PatientName": {}}', '{"Rows": "x"}',
                 '{"PixelData": "x"}', '{"SpecificCharacterSet": "nope"}', '[' * 100000):
        attempt(orthanc.CreateDicom, tags, None, 0)
    attempt(orthanc.CreateDicom, '{"PatientName": "data:application/octet-stream;base64,!"}', None, 1)
    attempt(orthanc.CreateDicom2, '{}', None, 0, None)
"""
        )
        codes = [28, 28, 5, 5, 27, 5, 5, 15, 2021, 3, 28, 15, "TypeError"]
        self.assertEqual([code for (code,) in noted], codes)


class InstanceTests(ScriptCase):
    """The class ``DicomInstance``."""

    async def test_methods(self) -> None:
        """All that an object tells about itself."""
        content = dicom_object(NumberOfFrames="2", **pixels(4, 6) | {"PixelData": bytes(range(48))})
        noted = await self.run_script(
            """
    instance = orthanc.CreateDicomInstance(read('object'))
    note(type(instance).__name__, instance.GetInstanceSize(), instance.GetInstanceOrigin())
    note(instance.GetInstanceRemoteAet(), instance.GetInstanceRemoteIp(), instance.GetInstanceCalledAet())
    note(instance.HasInstanceMetadata('RemoteAET'), instance.GetInstanceMetadata('RemoteAET'))
    note(instance.GetInstanceTransferSyntaxUid(), instance.HasInstancePixelData(), instance.GetInstanceFramesCount())
    note(instance.GetInstanceData() == instance.SerializeDicomInstance() == read('object'))
    note(list(instance.GetInstanceRawFrame(1)))
    frame = instance.GetInstanceDecodedFrame(1)
    note(frame.GetImagePixelFormat(), frame.GetImageWidth(), list(frame.GetImageBuffer()))
    note(json.loads(instance.GetInstanceJson()), json.loads(instance.GetInstanceSimplifiedJson()))
    note(json.loads(instance.GetInstanceAdvancedJson(orthanc.DicomToJsonFormat.SHORT, 0, 5)))
    attempt(instance.GetInstanceRawFrame, 2)
    attempt(instance.GetInstanceRawFrame, -1)
    attempt(instance.GetInstanceDecodedFrame, 2)
    attempt(instance.GetInstanceAdvancedJson, 4, 0, 0)
    attempt(instance.GetInstanceAdvancedJson, 1, 0, -1)
    attempt(instance.GetInstanceMetadata, 5)
    attempt(orthanc.CreateDicomInstance(dataless := read('nothing')).GetInstanceRawFrame, 0)
    note(orthanc.CreateDicomInstance(dataless).HasInstancePixelData())
""",
            object=content,
            nothing=dicom_object(),
        )
        self.assertEqual(noted[0], ["DicomInstance", len(content), 4])
        self.assertEqual(noted[1:3], [["", "", ""], [0, None]])
        self.assertEqual(noted[3:5], [["1.2.840.10008.1.2.1", 1, 2], [True]])
        self.assertEqual(noted[5:7], [[list(range(24, 48))], [1, 6, list(range(24, 48))]])
        stored = await self.client.store(content)
        full, simplified = noted[7]
        self.assertEqual(full, await self.client.json(f"/instances/{stored['ID']}/tags?whole"))
        self.assertEqual(simplified, await self.client.json(f"/instances/{stored['ID']}/simplified-tags?whole"))
        (short,) = noted[8]
        self.assertEqual((short["0010,0020"], short["0010,0010"], short["0028,0010"]), ("P1", None, "4"))
        self.assertEqual([code for (code,) in noted[9:]], [3, 3, -1, -1, -1, "TypeError", 2, 0])

    async def test_damaged(self) -> None:
        """Bytes that are no DICOM, or lie, are exceptions; the server goes on."""
        lying = dicom_object(NumberOfFrames="2000000000", **pixels(4, 4) | {"Rows": 65535, "Columns": 65535})
        noted = await self.run_script(
            """
    for content in (b'', b'abc', None, read('lying')[:-30], bytes(132) + b'DICM' * 100, b'\\xff' * 1000):
        instance = orthanc.CreateDicomInstance(content)
        for name, arguments in (
            ('GetInstanceTransferSyntaxUid', ()), ('GetInstanceJson', ()), ('GetInstanceSimplifiedJson', ()),
            ('GetInstanceAdvancedJson', (1, 255, 0)), ('GetInstanceDecodedFrame', (0,)),
        ):
            attempt(getattr(instance, name), *arguments)
        attempt(instance.GetInstanceRawFrame, 0)
        note(instance.HasInstancePixelData())
        note(instance.GetInstanceFramesCount())
        note(instance.SerializeDicomInstance() == (content or b''))
        attempt(orthanc.DicomBufferToJson, content, 1, 255, 0)
        attempt(orthanc.TranscodeDicomInstance, content, '1.2.840.10008.1.2')
    lying = orthanc.CreateDicomInstance(read('lying'))
    attempt(lying.GetInstanceDecodedFrame, 0)
    attempt(lying.GetInstanceRawFrame, 1999999999)
    note(json.loads(orthanc.RestApiGet('/system'))['ApiVersion'] > 0)
""",
            lying=lying,
        )
        results = [result for (result,) in noted]
        self.assertEqual(results[: 6 * 11], ([-1] * 5 + [15, -1, 0, True] + [-1] * 2) * 6)
        self.assertEqual(results[6 * 11 :], [-1, 3, True])

    async def test_borrowed(self) -> None:
        """An object that a callback had for itself can be used no more; nothing but exceptions come of it."""
        await self.start_scripts(
            """
            kept = []
            def stored(instance, public_id):
                note(len(json.loads(instance.GetInstanceSimplifiedJson())) > 5)
                kept.append(instance)
            def use(output, uri, **request):
                for name, arguments in (
                    ('GetInstanceData', ()), ('GetInstanceSize', ()), ('GetInstanceOrigin', ()),
                    ('GetInstanceRemoteAet', ()), ('GetInstanceMetadata', ('x',)), ('GetInstanceDecodedFrame', (0,)),
                    ('GetInstanceAdvancedJson', (1, 0, 0)),
                ):
                    try:
                        note(getattr(kept[0], name)(*arguments))
                    except orthanc.OrthancException as e:
                        note(e.args[0])
            orthanc.RegisterOnStoredInstanceCallback(stored)
            orthanc.RegisterRestCallback('/use', use)
            """
        )
        await self.client.store(dicom_object())
        await self.until(self.noted)
        self.assertEqual(self.noted(), [[True]])
        await self.client.get("/use")
        self.assertEqual(self.noted()[1:], [[35]] * 7)


class StoredTests(ScriptCase):
    """Objects of the server, and transcoding."""

    async def test_load(self) -> None:
        """Whole, until the pixels, with empty pixels: native, encapsulated and deflated; errors."""
        by_name = {name: content for name, content, _ in samples() if name in _LOADED}
        noted = await self.run_script(
            """
    for name in NAMES:
        instance = json.loads(orthanc.RestApiPost('/instances', read(name)))['ID']
        for mode in (1, 2, 3):
            loaded = orthanc.LoadDicomInstance(instance, mode)
            write('%s-%d' % (name, mode), loaded.GetInstanceData())
            note(loaded.HasInstancePixelData(), len(json.loads(loaded.GetInstanceSimplifiedJson())))
        note(orthanc.GetDicomForInstance(instance) == read(name))
        for mode in (0, 4):
            attempt(orthanc.LoadDicomInstance, instance, mode)
        orthanc.RestApiDelete('/instances/' + instance)
    for unknown in ('NOBODY', 'x', ''):
        attempt(orthanc.LoadDicomInstance, unknown, 1)
        attempt(orthanc.GetDicomForInstance, unknown)
        attempt(orthanc.DicomInstanceToJson, unknown, 1, 0, 0)
""".replace("NOBODY", NOBODY).replace("NAMES", str(list(by_name))),
            **by_name,
        )
        self.assertEqual(len(by_name), len(_LOADED))
        for number, (name, content) in enumerate(by_name.items()):
            whole, until, empty, same, *codes = noted[6 * number : 6 * number + 6]
            self.assertEqual((whole[0], until[0], empty[0], same[0], codes), (1, 0, 1, True, [[-1], [-1]]))
            self.assertEqual(empty[1], until[1] + 1)
            self.assertEqual(self.written(f"{name}-1"), content)
            expected = [each for each in dataset_of(content) if each.tag < 0x7FE00010]
            self.assertEqual(list(dataset_of(self.written(f"{name}-2"))), expected)
            without = dataset_of(self.written(f"{name}-3"))
            self.assertEqual(list(without)[:-1], expected)
            self.assertIn(without.PixelData, (None, b"\xfe\xff\x00\xe0\x00\x00\x00\x00"))
        self.assertEqual([code for (code,) in noted[6 * len(by_name) :]], [-1, 17, -1] * 3)

    async def test_dump(self) -> None:
        """The example with pydicom."""
        await self.start_scripts(example("DICOM objects", 1))
        stored = await self.client.store(ct_image(7))
        answer = await self.client.get(f"/dump/{stored['ID']}")
        self.assertIn("Patient's Name", answer.text)
        self.assertNotIn("Pixel Data", answer.text)

    async def test_transcode(self) -> None:
        """To lossless and lossy syntaxes; what cannot be is an exception."""
        noted = await self.run_script(
            """
    for syntax in ('1.2.840.10008.1.2.4.70', '1.2.840.10008.1.2.4.50', '1.2.840.10008.1.2.1.99', '1.2.840.10008.1.2.1'):
        made = orthanc.TranscodeDicomInstance(read('object'), syntax)
        write(syntax, made.SerializeDicomInstance())
        note(made.GetInstanceTransferSyntaxUid(), list(made.GetInstanceDecodedFrame(0).GetImageBuffer()))
    for syntax in ('1.2.3', '', '1.2.840.10008.1.2.4.100'):
        attempt(orthanc.TranscodeDicomInstance, read('object'), syntax)
""",
            object=dicom_object(**pixels(8, 8)),
        )
        pixel_values = [7] * 64
        self.assertEqual(
            noted[:4], [[syntax, pixel_values] for syntax in (LOSSLESS, BASELINE, DEFLATED, "1.2.840.10008.1.2.1")]
        )
        self.assertEqual(dataset_of(self.written(LOSSLESS)).SOPInstanceUID, "1.2.1.1.1")
        self.assertNotEqual(dataset_of(self.written(BASELINE)).SOPInstanceUID, "1.2.1.1.1")
        self.assertEqual([code for (code,) in noted[4:]], [-1, -1, -1])


#: Native, encapsulated, big endian, implicit, deflated.
_LOADED = {
    "CT_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm", "image_dfl.dcm",
}  # fmt: skip


class JsonTests(ScriptCase):
    """Flags and formats of ``DicomBufferToJson`` and the like."""

    def content(self) -> bytes:
        """An object with all kinds of tags."""
        dataset = dataset_of(dicom_object(**pixels(2, 2)))
        dataset.add_new(0x00090010, "LO", "GEMS_IDEN_01")
        dataset.add_new(0x00091002, "SH", "suite")
        dataset.add_new(0x000910FF, "LO", "unknown")
        dataset.add_new(0x43210010, "LO", "NOBODY")
        dataset.add_new(0x43211001, "OB", b"\x00a\nb\xff\x07")
        dataset.add_new(0x00420011, "OB", b"%PDF")
        dataset.add_new(0x00101010, "AS", "")
        dataset.ReferencedStudySequence = [item(PatientComments="long text", EncapsulatedDocument=b"ab")]
        dataset.DigitalSignaturesSequence = [item(MACIDNumber=5)]
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        written = buffer.getvalue()
        # pydicom writes no group lengths.
        start = meta_end(written)
        return written[:start] + element(0x00080000, "UL", bytes([244, 1, 0, 0])) + written[start:]

    async def forms(self, *combinations: tuple[int, int, int], content: bytes = b"") -> list[Any]:
        """The JSON of format, flags and limit, each."""
        await self.run_script(
            f"""
    for combination in {combinations}:
        note(json.loads(orthanc.DicomBufferToJson(read('object'), *combination)))
""",
            object=content or self.content(),
        )
        return [form for (form,) in self.noted()]

    async def test_flags(self) -> None:
        """Which tags each flag adds or takes away."""
        plain, *others = (set(form) for form in await self.forms(*((2, flags, 0) for flags in _CHANGED)))
        self.assertTrue({"0008,0000", "0010,1010", "0008,1110", "fffa,fffa"} <= plain)
        self.assertFalse({"0009,0010", "0042,0011", "7fe0,0010"} & plain)
        for (flags, changed), form in zip(list(_CHANGED.items())[1:], others, strict=True):
            self.assertEqual(form ^ plain, changed, flags)

    async def test_binary(self) -> None:
        """Binary values as data URIs, as what can be printed, as null; in sequences, too."""
        uri, text, null, both, none = await self.forms(*((1, 15 | flags, 0) for flags in (0, 16, 32, 48)), (1, 0, 0))
        data = "data:application/octet-stream;base64,"
        self.assertEqual(
            uri["4321,1001"],
            {
                "Name": "Unknown Tag & Data",
                "PrivateCreator": "NOBODY",
                "Type": "Binary",
                "Value": data + base64.b64encode(b"\x00a\nb\xff\x07").decode(),
            },
        )
        self.assertEqual((text["4321,1001"]["Type"], text["4321,1001"]["Value"]), ("Binary", "a\nb"))
        self.assertEqual((null["4321,1001"]["Type"], null["4321,1001"]["Value"]), ("Null", None))
        self.assertEqual(both, null)
        self.assertEqual(uri["7fe0,0010"]["Value"], data + "BwcHBw==")
        (nested,) = uri["0008,1110"]["Value"]
        self.assertEqual(nested["0042,0011"]["Value"], data + "YWI=")
        self.assertNotIn("0042,0011", none["0008,1110"]["Value"][0])

    async def test_limit(self) -> None:
        """Text over the limit is left out, of binary values nothing is."""
        full, short, human, unlimited = await self.forms((1, 15, 8), (2, 15, 8), (3, 15, 8), (1, 15, 0))
        self.assertEqual(full["0010,0010"], {"Name": "PatientName", "Type": "String", "Value": "DOE^JOHN"})
        self.assertEqual(full["0020,000d"]["Type"], "String")
        self.assertEqual(full["0008,0016"], {"Name": "SOPClassUID", "Type": "TooLong", "Value": None})
        self.assertEqual((short["0008,0016"], human["SOPClassUID"]), (None, None))
        self.assertEqual(human["ReferencedStudySequence"][0]["PatientComments"], None)
        self.assertEqual(full["7fe0,0010"], unlimited["7fe0,0010"])
        self.assertEqual(unlimited["0008,1110"]["Value"][0]["0010,4000"]["Value"], "long text")

    async def test_long(self) -> None:
        """Without a limit, long text is read from the file."""
        long = "x" * 70000
        (form,) = await self.forms((2, 0, 0), content=dicom_object(TextValue=long))
        self.assertEqual(form["0040,a160"], long)

    async def test_encodings(self) -> None:
        """Big endian values are shown in little endian; encapsulated pixels are null."""
        found = {name: content for name, content, _ in samples() if name in ("MR_small_bigendian.dcm", "JPEG2000.dcm")}
        for name, content in found.items():
            ((form,),) = [await self.forms((1, 8, 0), content=content)]
            self.set_aside()
            dataset = dataset_of(content)
            pixel_data = form["7fe0,0010"]
            if name == "JPEG2000.dcm":
                self.assertEqual((pixel_data["Type"], pixel_data["Value"]), ("Null", None))
            else:
                raw = base64.b64decode(pixel_data["Value"].split(",")[1])
                self.assertEqual(np.frombuffer(raw, "<i2").tolist(), dataset.pixel_array.reshape(-1).tolist())
        self.assertEqual(len(found), 2)

    async def test_stored(self) -> None:
        """``DicomInstanceToJson`` and ``GetInstanceAdvancedJson`` show the same."""
        await self.run_script(
            """
    instance = json.loads(orthanc.RestApiPost('/instances', read('object')))['ID']
    form = 3, 7, 0
    note(orthanc.DicomInstanceToJson(instance, *form) == orthanc.DicomBufferToJson(read('object'), *form)
         == orthanc.CreateDicomInstance(read('object')).GetInstanceAdvancedJson(*form))
""",
            object=self.content(),
        )
        self.assertEqual(self.noted(), [[True]])


_PRIVATE = {"0009,0010", "0009,1002", "4321,0010"}
#: By flags: the tags that they add, or the one that they take away.
_CHANGED: dict[int, set[str]] = {
    0: set(),
    1: {"0042,0011"},
    2: _PRIVATE,
    4: set(),
    6: {*_PRIVATE, "0009,10ff"},
    7: {*_PRIVATE, "0009,10ff", "4321,1001", "0042,0011"},
    8: {"7fe0,0010"},
    64: {"fffa,fffa"},
    128: {"0008,0000"},
}
