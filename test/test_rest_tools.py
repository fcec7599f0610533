"""Tools that tell of the server, or change it while it runs: encodings, conformance, plugins."""

from __future__ import annotations

import re
from functools import partial

from pydicom.uid import UID_dictionary

from orthanctw.dicom import dimse
from orthanctw.dicom.uids import TRANSFER_SYNTAXES
from orthanctw.dicom.upper.pdus import ProposedContext
from test.dicom_case import DicomCase
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, RawPeer, data_set, in_thread, run, sop_instance
from test.rest_samples import dicom_object

_LATIN1, _CYRILLIC = "Ì", "Ь"


def unnamed(number: int) -> bytes:
    """A file without SpecificCharacterSet, with a byte that is no ASCII in the name."""
    data = dicom_object(sop=f"1.2.1.1.{number}", SpecificCharacterSet=None, PatientName="ab")
    return data.replace(b"PN\x02\x00ab", b"PN\x02\x00\xcc ")


class EncodingTests(DicomCase):
    """``/tools/default-encoding``."""

    async def encoding(self, name: str) -> None:
        answer = await self.client.ask("PUT", "/tools/default-encoding", name)
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/plain"))

    async def name_of(self, instance: str) -> str:
        return str((await self.client.json(f"/instances/{instance}/simplified-tags"))["PatientName"])

    async def test_names(self) -> None:
        """It is read, and written in any case; another name is refused and changes nothing."""
        self.assertEqual((await self.client.get("/tools/default-encoding")).text, "Latin1")
        answer = await self.client.ask("PUT", "/tools/default-encoding", "jAPANESEKANJI")
        self.assertEqual((answer.status, answer.text), (200, "JapaneseKanji"))
        for bad in ("", "foo", "Latin 1", b"\xff"):
            self.assertError(await self.client.ask("PUT", "/tools/default-encoding", bad), 400, 3)
        self.assertEqual((await self.client.get("/tools/default-encoding")).text, "JapaneseKanji")
        await self.restart()
        self.assertEqual((await self.client.get("/tools/default-encoding")).text, "Latin1")

    async def test_uploads(self) -> None:
        """Objects that name no encoding are read in the one of now; reconstructing reads them anew."""
        before = (await self.client.store(unnamed(1)))["ID"]
        await self.encoding("Cyrillic")
        after = (await self.client.store(unnamed(2)))["ID"]
        self.assertEqual([await self.name_of(one) for one in (before, after)], [_LATIN1, _CYRILLIC])
        self.assertEqual((await self.client.post(f"/instances/{before}/reconstruct")).status, 200)
        self.assertEqual(await self.name_of(before), _CYRILLIC)

    async def test_received_and_found(self) -> None:
        """It holds for what is received and for queries over DICOM, at once."""
        await self.restart(DicomAlwaysAllowFind=True)
        await self.encoding("Cyrillic")
        data = data_set(1, name="ä").replace("ä".encode(), b"\xcc ")

        def peer() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                return raw.store(data, sop_instance(1)).number(dimse.STATUS)

        self.assertEqual(await in_thread(peer), 0)
        (instance,) = await self.instances()
        self.assertEqual(await self.name_of(instance), _CYRILLIC)
        command = ("findscu", "-v", "-S", "-aec", "ORTHANC", "-k", "QueryRetrieveLevel=STUDY", "-k", "PatientName=")
        ran = await run(*command, "127.0.0.1", str(self.dicom_port))
        self.assertIn("ISO_IR 144", ran.output)
        await self.encoding("Greek")
        ran = await run(*command, "127.0.0.1", str(self.dicom_port))
        self.assertIn("ISO_IR 192", ran.output)

    async def test_made_objects(self) -> None:
        """Objects that are made are encoded in it."""
        for name, term in (("Latin2", "ISO_IR 101"), ("Utf8", "ISO_IR 192")):
            await self.encoding(name)
            made = await self.client.post("/tools/create-dicom", {"Tags": {"PatientName": "Dvořák"}})
            tags = await self.client.json(f"/instances/{made.json()['ID']}/simplified-tags")
            self.assertEqual((tags["SpecificCharacterSet"], tags["PatientName"]), (term, "Dvořák"))


class ConformanceTests(DicomCase):
    """``/tools/dicom-conformance``."""

    async def sections(self) -> dict[str, str]:
        """The text below each title."""
        answer = await self.client.get("/tools/dicom-conformance")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/plain"))
        parts = re.split(r"^[-=]+\n(.+)\n[-=]+\n", answer.text, flags=re.MULTILINE)
        return dict(zip(parts[1::2], parts[2::2], strict=True))

    async def provided(self) -> dict[str, frozenset[str]]:
        """Transfer syntaxes by SOP class, as stated."""
        found: dict[str, frozenset[str]] = {}
        for title, text in (await self.sections()).items():
            if title.endswith(" SCP"):
                uids = re.findall(r" \| (\S+)$", text, re.MULTILINE)
                syntaxes = [uid for uid in uids if uid in TRANSFER_SYNTAXES]
                found |= dict.fromkeys(set(uids) - set(syntaxes), frozenset(syntaxes))
        return found

    def accepted(self, sop_classes: list[str], syntax: str) -> set[str]:
        """Those of the SOP classes that are accepted in a transfer syntax."""
        taken: set[str] = set()
        for start in range(0, len(sop_classes), 100):
            part = sop_classes[start : start + 100]
            with RawPeer(self.dicom_port) as raw:
                asked = [ProposedContext(2 * i + 1, uid, (syntax,)) for i, uid in enumerate(part)]
                answers = raw.associate(contexts=asked)
                taken |= {uid for uid, (_, result, _) in zip(part, answers, strict=True) if result == 0}
        return taken

    async def test_it_is_what_is_accepted(self) -> None:
        """Of every SOP class that there is, the stated ones are accepted, in the stated transfer syntaxes."""
        await self.restart(RejectedSopClasses=["1.2.840.10008.5.1.4.1.1.4"], RleTransferSyntaxAccepted=False)
        stated = await self.provided()
        classes = sorted({uid for uid, entry in UID_dictionary.items() if "SOP Class" in entry[1]} | set(stated))
        self.assertIn(CT, stated)
        for syntax in (EXPLICIT, IMPLICIT, "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"):
            expected = {uid for uid, syntaxes in stated.items() if syntax in syntaxes}
            self.assertEqual(await in_thread(partial(self.accepted, classes, syntax)), expected, syntax)

    async def test_it_is_of_now(self) -> None:
        """What is changed while the server runs shows."""
        await self.client.ask("PUT", "/tools/accepted-transfer-syntaxes", [EXPLICIT])
        await self.client.ask("PUT", "/tools/unknown-sop-class-accepted", "1")
        self.assertEqual((await self.provided())[CT], {EXPLICIT})
        self.assertIn("not listed", (await self.sections())["Store SCP"])

    async def test_sections(self) -> None:
        """It names the server, and each service both ways."""
        sections = await self.sections()
        services = ("Echo", "Find", "Move", "Get", "Store", "Storage Commitment")
        self.assertEqual(
            set(sections),
            {"DICOM conformance statement of orthanctw", "Identification"}
            | {f"{service} {role}" for service in services for role in ("SCP", "SCU")},
        )
        self.assertRegex(sections["Identification"], r"\| ORTHANC\n")
        self.assertRegex(sections["Store SCP"], r"  CTImageStorage +\| 1\.2\.840\.10008\.5\.1\.4\.1\.1\.2\n")
        await self.restart(DicomServerEnabled=False, TranscodeDicomProtocol=False)
        sections = await self.sections()
        self.assertNotIn("Store SCP", sections)
        self.assertNotIn("transcoded", sections["Store SCU"])


class PluginTests(DicomCase):
    """``/plugins``."""

    async def test_none(self) -> None:
        """The list has the script of the page alone, and nothing else is there."""
        self.assertEqual(await self.client.json("/plugins"), ["explorer.js"])
        answer = await self.client.get("/plugins/explorer.js")
        self.assertEqual((answer.status, answer.headers["content-type"]), (200, "application/javascript"))
        for name in ("dicom-web", "explorer", "x%2Fexplorer.js"):
            self.assertEqual((await self.client.get(f"/plugins/{name}")).status, 404)
        self.assertEmpty(await self.client.get("/plugins/dicom-web"), 404)
