"""Lua's filters of what comes in."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

from pydicom import dcmread
from twisted.internet.defer import Deferred

from orthanctw.dicom import dimse
from orthanctw.errors import DIMSE_OUT_OF_RESOURCES, OrthancError
from orthanctw.ingest import Ingested
from orthanctw.model import StoreStatus
from test.dicom_peers import in_thread, run
from test.lua_servers import FROM_DICOM, LuaServerCase
from test.rest_samples import dicom_object, item, pixels

#: Tells what it is asked, and keeps one modality out.
_FILTER = (
    "function ReceivedInstanceFilter(tags, origin, info)"
    "  note(tags, origin, info) return tags.Modality ~= 'MR' end "
)
_EXPLICIT = "1.2.840.10008.1.2.1"


class InstanceFilterTests(LuaServerCase):
    """``ReceivedInstanceFilter``."""

    async def test_tags(self) -> None:
        """Objects are kept out by what is in them; nothing is left of them."""
        await self.scripted(_FILTER)
        answer = await self.upload(dicom_object(Modality="MR", ImageComments="x" * 300, **pixels(2, 2)))
        self.assertEqual((answer.status, answer.json()["Status"]), (200, "FilteredOut"))
        await self.assertNothingStored()
        sequence = [item(ReferencedSOPInstanceUID="1.2.3")]
        stored = await self.client.store(dicom_object(ReferencedImageSequence=sequence, ImageType=["A", "B"]))
        self.assertEqual(stored["Status"], "Success")
        (out, _, info), (tags, origin, other) = await self.told()
        shown = await self.client.json(f"/instances/{stored['ID']}/simplified-tags")
        self.assertEqual(tags, shown)
        self.assertEqual((tags["ImageType"], tags["SeriesNumber"]), ("A\\B", "1"))
        self.assertNotIn("ImageComments", out)
        self.assertEqual(info, {"HasPixelData": True, "TransferSyntaxUID": _EXPLICIT})
        self.assertEqual(other, {"HasPixelData": False, "TransferSyntaxUID": _EXPLICIT})
        self.assertEqual(origin, {"RequestOrigin": "RestApi", "RemoteIp": "127.0.0.1", "Username": ""})

    async def test_origins(self) -> None:
        """Objects are kept out by the way that they came; to peers that is success."""
        await self.scripted(
            "function ReceivedInstanceFilter(tags, origin) note(origin) return origin.RequestOrigin == allowed end "
            f"function OnJobSubmitted(id) end file = io.open('{self.file(dicom_object())}', 'rb'):read('a')"
        )
        for allowed in ("", "RestApi", "DicomProtocol", "Lua", "WebDav"):
            await self.run_script(f"allowed, told = '{allowed}', {{}}")
            results = await self.come_in()
            expected = [origin == allowed for origin in ("RestApi", "DicomProtocol", "Lua", "WebDav")]
            self.assertEqual(results, expected, allowed)
            rest, dicom, lua, dav = (origin for (origin,) in await self.told())
            self.assertEqual(rest, {"RequestOrigin": "RestApi", "RemoteIp": "127.0.0.1", "Username": ""})
            ways = {"RemoteIp": "127.0.0.1", "RemoteAet": "STORESCU", "CalledAet": "ORTHANC"}
            self.assertEqual(dicom, {"RequestOrigin": "DicomProtocol", **ways})
            self.assertEqual((lua, dav), ({"RequestOrigin": "Lua"}, {"RequestOrigin": "WebDav"}))

    async def come_in(self) -> list[bool]:
        """Bring an object in by each way, and take it out again; whether it was stored."""
        results = []

        async def look() -> None:
            found = await self.instances()
            results.append(bool(found))
            for instance in found:
                await self.client.ask("DELETE", f"/instances/{instance}")

        self.assertEqual((await self.upload(dicom_object())).status, 200)
        await look()
        self.assertIn("Success", await self.storescu("-d", str(self.work / "a.dcm")))
        await look()
        await self.run_script("assert(RestApiPost('/instances', file))")
        await look()
        self.assertEqual((await self.client.ask("PUT", "/webdav/uploads/a.dcm", dicom_object())).status, 201)
        await look()
        return results

    async def test_failures(self) -> None:
        """A script that fails, or answers what it must not, is told as an error, and nothing is stored."""
        await self.scripted("\nfunction ReceivedInstanceFilter(tags) return answer(tags) end")
        cases = (
            ("return tags.PatientID.x.y", 2031, r"^line.*:1: attempt to index"),
            ("return 5", 2034, "ReceivedInstanceFilter"),
            ("return nil", 2034, "ReceivedInstanceFilter"),
            ("", 2033, "ReceivedInstanceFilter"),
            ("return true, true", 2033, "ReceivedInstanceFilter"),
        )
        for body, code, details in cases:
            await self.run_script(f"function answer(tags) {body} end")
            error = self.assertError(await self.upload(dicom_object()), 500, code)
            self.assertRegex(error["Details"].replace('[string "', "").replace('"]', ""), details)
            sent = await run("storescu", "-d", "127.0.0.1", str(self.dicom_port), self.file(dicom_object()))
            self.assertRegex(sent.output, "DIMSE Status +: 0xa700")
        await self.assertNothingStored()
        await self.scripted("function ReceivedInstanceFilter(tags)\n  return tags .. 1\nend")
        error = self.assertError(await self.upload(dicom_object()), 500, 2031)
        self.assertEqual(error["Details"], "script.lua:5: attempt to concatenate a table value (local 'tags')")
        self.flushLoggedErrors()

    async def test_no_answer(self) -> None:
        """A filter that is too slow has given no answer: 503, and 0xA700 with a reason. It is asked again later."""
        await self.scripted(
            "function ReceivedInstanceFilter(tags) while tags.Modality == 'MR' do end return true end",
            LuaFilterTimeout=1,
        )
        answer = self.assertError(await self.upload(dicom_object(Modality="MR")), 503, 36)
        reason = "The script gave no answer in time"
        self.assertEqual(answer["Details"], reason)
        await self.run_script("ReceivedInstanceFilter = function() while true do end end")
        self.assertEqual(await in_thread(self.store_one), (DIMSE_OUT_OF_RESOURCES, reason))
        await self.assertNothingStored()
        await self.run_script("ReceivedInstanceFilter = function() return true end")
        await self.client.store(dicom_object())
        self.flushLoggedErrors()

    async def test_within_a_callback(self) -> None:
        """A callback that stores an object has it filtered at once: it would wait for itself otherwise."""
        other = self.file(dicom_object(sop="1.2.1.1.2"))
        await self.scripted(
            "function ReceivedInstanceFilter(tags, origin) note(origin.RequestOrigin) return true end "
            "function OnStoredInstance(id, tags, metadata, origin) "
            "  if origin.RequestOrigin == 'Lua' then note('told') return end "
            f"  local answer = RestApiPost('/instances', io.open('{other}', 'rb'):read('a')) "
            "  note(ParseJson(answer).Status) end"
        )
        await self.client.store(dicom_object())
        await self.run_script("")
        self.assertEqual(await self.told(), [["RestApi"], ["Lua"], ["Success"], ["told"]])
        self.assertEqual(len(await self.instances()), 2)

    async def test_defined_by_a_client(self) -> None:
        """A filter that a script of the REST API defines is asked from then on; without Lua there is nobody to ask."""
        await self.client.store(dicom_object())
        await self.run_script("n = 0 function ReceivedInstanceFilter() n = n + 1 return false end")
        self.assertEqual((await self.upload(dicom_object(sop="1.2.1.1.2"))).json()["Status"], "FilteredOut")
        await self.run_script("ReceivedInstanceFilter = nil")
        await self.client.store(dicom_object(sop="1.2.1.1.3"))
        self.assertEqual(await self.run_script("print(n)"), "1\n")
        await self.restart(ExecuteLuaEnabled=False)
        self.assertEqual(self.server.ingest._filters, [])

    async def test_stored_already(self) -> None:
        """What is stored and stays is not asked about; what would be overwritten is."""
        await self.scripted(_FILTER)
        await self.client.store(dicom_object())
        self.assertEqual((await self.upload(dicom_object(Modality="MR"))).json()["Status"], "AlreadyStored")
        self.assertEqual(len(await self.told()), 1)
        await self.scripted(_FILTER, OverwriteInstances=True)
        self.assertEqual((await self.upload(dicom_object(Modality="MR"))).json()["Status"], "FilteredOut")
        self.assertEqual(len(await self.instances()), 1)

    async def test_strange_tags(self) -> None:
        """Text that is none, and very many elements, come to the filter as they are shown."""
        await self.scripted(
            "function ReceivedInstanceFilter(tags) local n = 0 for _ in pairs(tags) do n = n + 1 end "
            "note(n, tags.PatientComments, tags.PatientName) return true end"
        )
        dataset = dcmread(io.BytesIO(dicom_object(PatientComments="abcdef", PatientName="MÜLLER")))
        block = dataset.private_block(0x0011, "ACME", create=True)
        for number in range(200):
            block.add_new(number, "LO", str(number))
        for group in range(0x1001, 0x1101, 2):
            for number in range(100):
                dataset.add_new((group, 0x0001 + number), "LO", "x")
        buffer = io.BytesIO()
        dataset.save_as(buffer)
        data = buffer.getvalue().replace(b"abcdef", b"\xff\xfeab\xc3\x28")
        stored = await self.client.store(data)
        shown = await self.client.json(f"/instances/{stored['ID']}/simplified-tags")
        ((count, comments, name),) = await self.told()
        self.assertEqual((count, comments, name), (str(len(shown)), shown["PatientComments"], "MÜLLER"))


class StoreFilterTests(LuaServerCase):
    """``ReceivedCStoreInstanceFilter``."""

    async def store(self, data: bytes) -> Ingested:
        """What the ingest makes of an object of a C-STORE."""
        return await self.server.ingest.store(data, FROM_DICOM)

    async def test_statuses(self) -> None:
        """The status refuses the object, and is what the peer is told; nobody else is asked about."""
        await self.scripted(
            "function ReceivedInstanceFilter(tags) return tags.StudyID ~= 'out' end "
            "function ReceivedCStoreInstanceFilter(tags, origin, info) note(tags.StudyID, origin, info) "
            "return ParseJson(tags.StudyID) end"
        )
        for status, expected in (("42752", "0xa700"), ("272", "0x0110"), ("0", "0x0000: Success"), ("out", "0x0000")):
            path = self.file(dicom_object(sop=f"1.2.{len(status)}", StudyID=status))
            sent = await run("storescu", "-d", "127.0.0.1", str(self.dicom_port), path)
            self.assertRegex(sent.output, f"DIMSE Status +: {re.escape(expected)}", status)
        self.assertEqual(len(await self.instances()), 1)
        await self.client.store(dicom_object(StudyID="42752"))
        told = await self.told()
        self.assertEqual([study for study, _, _ in told], ["42752", "272", "0"])
        self.assertEqual((told[0][1]["RequestOrigin"], told[0][2]["TransferSyntaxUID"]), ("DicomProtocol", _EXPLICIT))

    async def test_wrong_answers(self) -> None:
        """What is no status is an error, and nothing is stored."""
        await self.scripted("function ReceivedCStoreInstanceFilter() return answer() end")
        cases: Mapping[str, int] = {
            "return 65536": 3, "return -1": 3, "return 'x'": 2033, "return true": 2033, "return 1.5": 2033,
            "return {}": 2033, "return nil": 2033, "": 2033, "return 0, 0": 2033, "error('no')": 2031,
        }
        for body, code in cases.items():
            await self.run_script(f"function answer() {body} end")
            with self.assertRaises(OrthancError) as caught:
                await self.store(dicom_object())
            self.assertEqual((caught.exception.code, caught.exception.dimse_status), (code, 0xA700), body)
        await self.assertNothingStored()
        await self.run_script("function answer() return 0.0 end")
        self.assertEqual((await self.store(dicom_object())).status, StoreStatus.SUCCESS)

    async def test_while_the_server_stops(self) -> None:
        """What an association still stores is asked about, and told of before `Finalize`."""
        gate = self.gate()
        notes = self.work / "notes"
        await self.scripted(
            f"local function write(text) local f = io.open('{notes}', 'a') f:write(text, '\\n') f:close() end "
            f"function ReceivedCStoreInstanceFilter(tags) {gate.code} write('asked') return 0 end "
            "function OnStoredInstance(id, tags) write('stored ' .. #RestApiGet('/instances/' .. id .. '/file')) end "
            "function Finalize() write('end') end",
            ShutdownTimeout=60,
        )
        storing = in_thread(self.store_one)
        await self.until(gate.is_reached)
        stopping = Deferred.fromCoroutine(self.stop())
        await self.until(lambda: self.server.api.stopping)
        gate.open()
        self.assertEqual(await storing, (dimse.SUCCESS, ""))
        await stopping
        lines = notes.read_text().splitlines()
        self.assertEqual([line.split()[0] for line in lines], ["asked", "stored", "end"])
