"""Dictionary, character sets, JSON forms and main tags."""

from __future__ import annotations

import json
import pathlib
import struct

from twisted.trial.unittest import SynchronousTestCase

from orthanctw.dicom import maintags
from orthanctw.dicom.charset import ENCODINGS, canonical_encoding, decoder
from orthanctw.dicom.dictionary import STANDARD, Dictionary, DictionaryEntry, format_tag
from orthanctw.dicom.header import Header, decode, encode
from orthanctw.dicom.jsonforms import FormOptions, TagFormat, meta_tags, some_tags, tags
from orthanctw.dicom.maintags import MainTags, expected_number_of_instances, index_in_series, search_tags
from orthanctw.dicom.scanner import scan
from orthanctw.errors import ConfigurationError, ParameterOutOfRange, UnknownDicomTag
from orthanctw.model import ResourceLevel
from test.dicom_files import IMPLICIT, dicom_file, element, head, meta, sequence, uids

DATA = pathlib.Path(__file__).parent / "data"


def _header(*parts: bytes, transfer_syntax: str | None = None, charset: str | None = None) -> Header:
    kinds = {} if transfer_syntax is None else {"transfer_syntax": transfer_syntax}
    return decode(encode(scan(dicom_file(*parts, charset=charset, **kinds))))


class Names(SynchronousTestCase):
    """The dictionary speaks as Orthanc does."""

    def test_names(self) -> None:
        """Public, repeating, retired and group length elements have the names that Orthanc prints."""
        expected = {
            0x00100010: "PatientName",
            0x00101000: "OtherPatientIDs",
            0x00324000: "RETIRED_StudyComments",
            0x00281101: "RedPaletteColorLookupTableDescriptor",
            0x50003000: "RETIRED_CurveData",
            0x60020010: "OverlayRows",
            0x00280000: "GenericGroupLength",
            0x00290000: "PrivateGroupLength",
            0x00290010: "PrivateCreator",
            0x00050010: "IllegalPrivateCreator",
            0x00289998: "Unknown Tag & Data",
            0x7FE00010: "PixelData",
        }
        self.assertEqual({tag: STANDARD.name(tag, None) for tag in expected}, expected)

    def test_private(self) -> None:
        """Private tags are known by their creator, unless the private dictionary is switched off."""
        self.assertEqual(STANDARD.name(0x00291108, "SIEMENS CSA HEADER"), "CSAImageHeaderType")
        self.assertEqual(STANDARD.vr(0x00291108, "SIEMENS CSA HEADER"), "CS")
        self.assertEqual(STANDARD.name(0x00291108, None), "Unknown Tag & Data")
        self.assertEqual(STANDARD.vr(0x00291108, "ANOTHER"), "UN")
        self.assertEqual(Dictionary(private=False).vr(0x00291108, "SIEMENS CSA HEADER"), "UN")

    def test_added(self) -> None:
        """Tags of the option Dictionary are known, private ones in any block."""
        mine = Dictionary(
            [
                DictionaryEntry(tag=0x00140102, vr="DA", name="Mine"),
                DictionaryEntry(tag=0x70531003, vr="ST", name="OriginalName", private_creator="Philips PET"),
            ]
        )
        self.assertEqual((mine.name(0x00140102, None), mine.vr(0x00140102)), ("Mine", "DA"))
        self.assertEqual(mine.parse("Mine"), 0x00140102)
        self.assertEqual(mine.name(0x70531203, "Philips PET"), "OriginalName")
        self.assertEqual(STANDARD.name(0x70531203, "Philips PET"), "Unknown Tag & Data")

    def test_parse(self) -> None:
        """Tags are read in four spellings; retired ones with and without prefix; the rest raises UnknownDicomTag."""
        for text in ("0010,0010", "0010-0010", "00100010", "PatientName"):
            self.assertEqual(STANDARD.parse(text), 0x00100010)
        self.assertEqual(STANDARD.parse("7FE0,0010"), 0x7FE00010)
        self.assertEqual(STANDARD.parse("StudyComments"), STANDARD.parse("RETIRED_StudyComments"))
        for text in ("", "nope", "0010,001", "0010,00100", "patientname", "0010 0010", "٠٠١٠,0010"):
            self.assertRaises(UnknownDicomTag, STANDARD.parse, text)
        self.assertEqual(format_tag(0x7FE00010), "7fe0,0010")


class Text(SynchronousTestCase):
    """Character sets (PS3.5 annexes H to K give the samples)."""

    def _decode(self, raw: bytes, charset: str | None, vr: str = "PN", default: str = "Latin1") -> str:
        return decoder(charset, default)[0](raw, vr)

    def test_table(self) -> None:
        """The encodings have Orthanc's names and terms."""
        facts = json.loads((DATA / "dicom_encodings.json").read_text(encoding="utf-8"))
        self.assertEqual(
            {name: term for name, (_codec, term) in ENCODINGS.items()},
            {fact["name"]: fact["written_SpecificCharacterSet"] for fact in facts},
        )
        for fact in facts:
            self.assertEqual(canonical_encoding(fact["name"].upper()), fact["name"])
            for term in fact["accepted_SpecificCharacterSet"]:
                self.assertEqual(self._decode(b"abc", term), "abc")
        self.assertRaises(ParameterOutOfRange, canonical_encoding, "nope")

    def test_single(self) -> None:
        """One term names one encoding; without a term the default holds."""
        for charset, codec, text in (
            ("ISO_IR 192", "utf-8", "é王"),
            ("ISO_IR 100", "latin-1", "é"),
            ("ISO_IR 144", "iso8859-5", "Люк"),
            ("ISO_IR 126", "iso8859-7", "Διον"),
            ("ISO_IR 13", "shift_jis", "ﾔﾏﾀﾞ"),
            ("GB18030", "gb18030", "王^小东"),
            ("ISO_IR 203", "iso8859-15", "€"),
        ):
            self.assertEqual(self._decode(text.encode(codec), charset), text)
        self.assertEqual(self._decode(b"\xe9", None), "é")
        self.assertEqual(self._decode(b"\xe9", ""), "é")
        self.assertEqual(self._decode("é".encode(), None, default="Utf8"), "é")

    def test_code_extensions(self) -> None:
        """Escape sequences switch sets; delimiters switch back."""
        for charset, raw, text in (
            ("\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=x", "Yamada^Tarou=山田^太郎=x"),
            (
                "ISO 2022 IR 13\\ISO 2022 IR 87",
                b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
                "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
            ),
            (
                "\\ISO 2022 IR 149",
                b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
                "Hong^Gildong=洪^吉洞=홍^길동",
            ),
            (
                "\\ISO 2022 IR 58",
                b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
                "Zhang^XiaoDong=张^小东=",
            ),
            ("ISO 2022 IR 100\\ISO 2022 IR 126", b"\xe9\x1b-F\xc4^\xe9", "éΔ^é"),
        ):
            self.assertEqual(self._decode(raw, charset), text)
        self.assertEqual(self._decode(b"\x1b-F\xc4^\xc4", "ISO 2022 IR 100\\ISO 2022 IR 126", "LO"), "Δ^Δ")

    def test_broken(self) -> None:
        """What cannot be decoded, and text of an unknown set, loses all but ASCII."""
        self.assertEqual(self._decode(b"caf\xe9 ok", "ISO_IR 192"), "caf ok")
        self.assertEqual(self._decode(b"caf\xe9 ok", "ISO_IR 999"), "caf ok")
        self.assertEqual(self._decode(b"caf\xe9 ok", "ISO_IR 6"), "caf ok")
        self.assertEqual(self._decode(b"a\x1b$B\xff\x1b(Bb", "\\ISO 2022 IR 87"), "ab")
        self.assertEqual(self._decode(b"a\x1b", "\\ISO 2022 IR 87"), "a\x1b")


class Forms(SynchronousTestCase):
    """The three formats; the expected values are those of Orthanc."""

    def test_formats(self) -> None:
        """Leaves, sequences, empty sequences and empty items in the three formats."""
        header = _header(
            sequence(0x00400275, [element(0x00400007, "LO", "a"), b""]), element(0x00400555, "SQ", b"")
        )
        full = tags(header, TagFormat.FULL)
        self.assertEqual(full["0010,0020"], {"Name": "PatientID", "Type": "String", "Value": "ID"})
        leaf = {"Name": "ScheduledProcedureStepDescription", "Type": "String", "Value": "a"}
        self.assertEqual(
            full["0040,0275"],
            {"Name": "RequestAttributesSequence", "Type": "Sequence", "Value": [{"0040,0007": leaf}, {}]},
        )
        self.assertEqual(full["0040,0555"]["Value"], [])
        self.assertEqual(tags(header, TagFormat.SHORT)["0040,0275"], [{"0040,0007": "a"}, {}])
        simple = tags(header, TagFormat.SIMPLIFY)
        self.assertEqual(simple["RequestAttributesSequence"], [{"ScheduledProcedureStepDescription": "a"}, {}])
        self.assertEqual(TagFormat.parse("Simplify"), TagFormat.SIMPLIFY)
        self.assertRaises(ParameterOutOfRange, TagFormat.parse, "nope")

    def test_private(self) -> None:
        """Private elements show their creator, sequences do not; of equal names the last wins in simplify."""
        header = _header(
            element(0x00290010, "LO", "SIEMENS CSA HEADER")
            + element(0x00290011, "LO", "XX")
            + element(0x00291008, "CS", "IMAGE")
            + element(0x00291101, "LO", "text")
            + element(0x00291102, "OB", b"bin")
            + sequence(0x00291103, [element(0x00400007, "LO", "a")])
            + element(0x00311234, "LO", "alone")
        )
        full = tags(header, TagFormat.FULL)
        unknown = "Unknown Tag & Data"
        self.assertEqual(full["0029,1008"]["Name"], "CSAImageHeaderType")
        self.assertEqual(full["0029,1008"]["PrivateCreator"], "SIEMENS CSA HEADER")
        self.assertEqual(
            full["0029,1101"], {"Name": unknown, "PrivateCreator": "XX", "Type": "String", "Value": "text"}
        )
        self.assertEqual(full["0029,1102"], {"Name": unknown, "PrivateCreator": "XX", "Type": "Null", "Value": None})
        self.assertNotIn("PrivateCreator", full["0029,1103"])
        self.assertEqual(full["0031,1234"], {"Name": unknown, "Type": "String", "Value": "alone"})
        simple = tags(header, TagFormat.SIMPLIFY)
        self.assertEqual(simple["PrivateCreator"], "XX")
        self.assertEqual(simple[unknown], "alone")

    def test_too_long(self) -> None:
        """Text over 256 bytes of UTF-8 is TooLong, unless its tag or the limit allows it."""
        parts = (
            element(0x00204000, "LT", "x" * 256),
            element(0x00324000, "LT", "y" * 257),
            element(0x00400280, "ST", "é" * 129),
            element(0x00402400, "LT", "é" * 128 + " " * 20),
            element(0x00720078, "UL", b"\1\0\0\0" * 129),
            element(0x0072007A, "US", b"\1\0" * 5000),
        )
        header = _header(*parts, charset="ISO_IR 192")
        full = tags(header, TagFormat.FULL)
        kinds = {tag: full[tag]["Type"] for tag in full if tag >= "0020,4000"}
        self.assertEqual(
            kinds,
            {
                "0020,4000": "String",
                "0032,4000": "TooLong",
                "0040,0280": "TooLong",
                "0040,2400": "String",
                "0072,0078": "TooLong",
                "0072,007a": "TooLong",
            },
        )
        data = dicom_file(*parts, charset="ISO_IR 192")
        reader = FormOptions(maximum_length=0, read=lambda offset, length: data[offset : offset + length])
        free = tags(header, TagFormat.SHORT, reader)
        self.assertEqual(free["0032,4000"], "y" * 257)
        self.assertEqual(free["0072,007a"], "\\".join(["1"] * 5000))
        some = tags(header, TagFormat.SIMPLIFY, FormOptions(ignore_length={0x00324000}))
        self.assertEqual(some["RETIRED_StudyComments"], "y" * 257)
        self.assertIsNone(some["CommentsOnThePerformedProcedureStep"])

    def test_long_text_from_the_file(self) -> None:
        """Text that stayed in the file is read and decoded when it is asked for."""
        data = dicom_file(element(0x0040A160, "UT", "é" * 40_000), charset="ISO_IR 192")
        options = FormOptions(
            ignore_length={0x0040A160}, read=lambda offset, length: data[offset : offset + length]
        )
        self.assertEqual(tags(scan(data), TagFormat.SHORT, options)["0040,a160"], "é" * 40_000)
        self.assertEqual(tags(scan(data), TagFormat.FULL)["0040,a160"]["Type"], "TooLong")

    def test_null(self) -> None:
        """Binary values and numbers without a value are Null."""
        header = _header(
            element(0x00281201, "OW", b"ab"),
            element(0x00289099, "US", b""),
            element(0x00400555, "UN", b"ab"),
            element(0x00420011, "OB", b"%PDF"),
            element(0x7FE00010, "OW", b"\0" * 16),
            element(0x7FE10010, "LO", "after"),
        )
        full = tags(header, TagFormat.FULL)
        for tag in ("0028,1201", "0028,9099", "0040,0555", "0042,0011", "7fe0,0010"):
            self.assertEqual((full[tag]["Type"], full[tag]["Value"]), ("Null", None))
        self.assertNotIn("7fe1,0010", full)
        self.assertIn("7fe1,0010", tags(header, TagFormat.FULL, whole=True))

    def test_subsets(self) -> None:
        """The meta header without its binary version, and chosen tags."""
        header = _header()
        shown = meta_tags(header, TagFormat.SHORT)
        self.assertEqual(sorted(shown), ["0002,0000", "0002,0002", "0002,0003", "0002,0010", "0002,0012"])
        self.assertEqual(meta_tags(header, TagFormat.SIMPLIFY)["TransferSyntaxUID"], header.transfer_syntax)
        self.assertEqual(some_tags(header, {0x00100020, 0x00100040}, TagFormat.SIMPLIFY), {"PatientID": "ID"})

    def test_implicit_private(self) -> None:
        """Without VRs an unknown private element is Null, a known one is shown."""
        parts = [
            element(0x00290010, "LO", "SIEMENS CSA HEADER", False),
            element(0x00290011, "LO", "XX", False),
            element(0x00291008, "CS", "IMAGE", False),
            element(0x00291101, "LO", "text", False),
        ]
        full = tags(_header(*parts, transfer_syntax=IMPLICIT), TagFormat.FULL)
        self.assertEqual(full["0029,1008"]["Value"], "IMAGE")
        self.assertEqual(full["0029,1101"]["Type"], "Null")

    def test_blank_vr(self) -> None:
        """A VR of two spaces has a short head and counts as unknown."""
        broken = head(0x00289998, "DS", 2).replace(b"DS", b"  ") + b"12"
        full = tags(_header(broken, element(0x00400555, "LO", "after")), TagFormat.FULL)
        self.assertEqual(full["0028,9998"]["Type"], "Null")
        self.assertEqual(full["0040,0555"]["Value"], "after")


class Main(SynchronousTestCase):
    """Main tags, search tags and what is derived from them."""

    def test_tables(self) -> None:
        """Main, identifier and computed tags and the signatures are Orthanc's."""
        facts = json.loads((DATA / "dicom_main_tags.json").read_text(encoding="utf-8"))
        main = MainTags()
        for level in ResourceLevel:
            for key, ours in (
                ("main_dicom_tags", main.tags(level)),
                ("identifier_tags", maintags.IDENTIFIER_TAGS[level]),
                ("computed_tags", maintags.COMPUTED_TAGS[level]),
            ):
                theirs = [(STANDARD.parse(fact["tag"]), fact["name"], fact["vr"]) for fact in facts[key][level.title]]
                self.assertEqual([(tag, STANDARD.name(tag, None), STANDARD.vr(tag)) for tag in ours], theirs)
            self.assertEqual(main.signature(level), facts["main_dicom_tags_signature"]["default_value"][level.title])

    def _object(self) -> Header:
        return scan(
            meta()
            + element(0x00080018, "UI", "1.2.3.4")
            + element(0x00080060, "CS", " CT ")
            + element(0x00080070, "LO", b"  Man u\0 ")
            + element(0x00081030, "LO", "x" * 257)
            + element(0x0008103E, "LO", "")
            + element(0x00100010, "PN", "  A_b^é ")
            + element(0x00100020, "LO", "  ID  ")
            + uids()
            + element(0x00200013, "IS", " 5 ")
            + sequence(0x00400275, [element(0x00400007, "LO", "a")])
            + element(0x00540081, "US", b"\5\0")
            + element(0x00541330, "US", b"")
        )

    def test_values(self) -> None:
        """Values are stripped; absent, binary and long ones are left out; a study has those of its patient."""
        scanned, main = self._object(), MainTags()
        patient = {0x00100010: "A_b^Ã©", 0x00100020: "ID"}
        self.assertEqual(main.values(scanned, ResourceLevel.PATIENT), patient)
        self.assertEqual(main.values(scanned, ResourceLevel.STUDY), {0x0020000D: "1.2.3.1", **patient})
        self.assertEqual(
            main.values(scanned, ResourceLevel.SERIES),
            {0x00080060: "CT", 0x00080070: "Man u", 0x0008103E: "", 0x0020000E: "1.2.3.2", 0x00540081: "5"},
        )
        self.assertEqual(main.values(scanned, ResourceLevel.INSTANCE), {0x00080018: "1.2.3.4", 0x00200013: "5"})
        self.assertEqual(search_tags(scanned, ResourceLevel.PATIENT), {0x00100010: "A B^", 0x00100020: "ID"})

    def test_sequences(self) -> None:
        """Main tags that are sequences become metadata in the full format."""
        text = MainTags().sequences(self._object(), ResourceLevel.SERIES)
        assert text is not None
        content = json.loads(text)
        self.assertEqual(content["Version"], 1)
        self.assertEqual(content["Sequences"]["0040,0275"]["Value"][0]["0040,0007"]["Value"], "a")
        self.assertIsNone(MainTags().sequences(self._object(), ResourceLevel.STUDY))

    def test_extra(self) -> None:
        """Extra main tags are stored and change the signature; repeating a tag is a configuration error."""
        main = MainTags({ResourceLevel.STUDY: [0x00080060], ResourceLevel.PATIENT: [0x00400275]})
        self.assertEqual(main.values(self._object(), ResourceLevel.STUDY)[0x00080060], "CT")
        self.assertIn("0008,0060", main.signature(ResourceLevel.STUDY))
        self.assertIn("0040,0275", main.sequences(self._object(), ResourceLevel.PATIENT) or "")
        for level, tag in ((ResourceLevel.STUDY, 0x00100010), (ResourceLevel.SERIES, 0x00080060)):
            self.assertRaises(ConfigurationError, MainTags, {level: [tag]})
        self.assertRaises(ConfigurationError, MainTags, {ResourceLevel.SERIES: [0x00200015, 0x00200015]})

    def test_expected_number(self) -> None:
        """The first rule whose tags are present tells how many instances a series should have."""

        def expected(**values: str) -> int | None:
            known = {"acquisition": 0x00201002, "positions": 0x00200105, "cardiac": 0x00181090}
            found = sorted((known[name], value) for name, value in values.items())
            return expected_number_of_instances(
                scan(meta() + b"".join(element(tag, "IS", value) for tag, value in found))
            )

        self.assertEqual(expected(acquisition="6", positions="2", cardiac="9"), 12)
        self.assertEqual(expected(acquisition="6", cardiac=" 9 "), 9)
        self.assertIsNone(expected(acquisition="6"))
        self.assertIsNone(expected(acquisition="x", positions="2", cardiac="9"))
        self.assertIsNone(expected(cardiac="0"))
        self.assertIsNone(expected(cardiac="-3"))
        self.assertIsNone(expected(cardiac="9" * 400))
        slices = element(0x00540081, "US", struct.pack("<H", 3)) + element(0x00540101, "US", struct.pack("<H", 4))
        self.assertEqual(expected_number_of_instances(scan(meta() + slices)), 12)

    def test_index_in_series(self) -> None:
        """InstanceNumber, else ImageIndex, else nothing."""
        number, image = element(0x00200013, "IS", " 5 "), element(0x00541330, "US", b"\7\0")
        self.assertEqual(index_in_series(scan(meta() + number + image)), "5")
        self.assertEqual(index_in_series(scan(meta() + image)), "7")
        self.assertIsNone(index_in_series(scan(meta())))
