"""Options that decide what is read of stored objects, what is made of them, and what of them is logged."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from pynetdicom import evt

from orthanctw.errors import ConfigurationError
from orthanctw.index.rows import decode_metadata, encode_metadata
from orthanctw.model import MetadataType
from test.dicom_case import DicomCase
from test.dicom_peers import CT, run
from test.log_lines import log_lines
from test.rest_samples import RestCase, dicom_object, item, pixels
from test.scu_case import pynetdicom_server
from test.servers import ct_image

_EXPLICIT, _IMPLICIT, _RLE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.5"


class AccessTests(DicomCase):
    """``StorageAccessOnFind``: PatientComments is no main tag, PatientName is one."""

    async def seen(self) -> dict[str, Any]:
        """What a search by a tag finds, and what is answered of it."""
        await self.client.store(dicom_object(PatientComments="abc", StudyComments="def"))
        find, tags = self.client.find, ["PatientComments", "PatientName"]
        (wanted,) = await find("Series", {"PatientID": "P1"}, Expand=True, RequestedTags=tags)
        (series,) = await self.client.json("/series")
        shown = (await self.client.json(f"/series/{series}", requestedTags="PatientComments"))["RequestedTags"]
        ran = await run(
            "findscu", "-v", "-S", "-k", "QueryRetrieveLevel=SERIES", "-k", "PatientComments", "-k", "PatientName",
            "127.0.0.1", str(self.dicom_port),
        )  # fmt: skip
        answered = re.findall(r"\[(.*?) *\].*(PatientComments|PatientName)", ran.output)
        return {
            "found": len(await find("Study", {"PatientComments": "a*"})),
            "by the index": len(await find("Study", {"PatientName": "DOE*"})),
            "universal": len(await find("Study", {"PatientComments": ""})),
            "answered": wanted["RequestedTags"],
            "shown": shown.get("PatientComments"),
            "C-FIND": {name: value for value, name in answered},
        }

    async def check(self, found: int, comments: dict[str, str]) -> None:
        name = {"PatientName": "DOE^JOHN"}
        expected = {
            "found": found,
            "by the index": 1,
            "universal": 1,
            "answered": {**name, **comments},
            "shown": comments.get("PatientComments"),
            "C-FIND": {**name, **comments},
        }
        self.assertEqual(await self.seen(), expected)

    async def test_always(self) -> None:
        """Headers are searched and answered."""
        await self.restart(DicomAlwaysAllowFind=True)
        await self.check(1, {"PatientComments": "abc"})

    async def test_answers(self) -> None:
        """No value matches that is not in the index, but is answered when something else has found the object."""
        await self.restart(DicomAlwaysAllowFind=True, StorageAccessOnFind="Answers")
        await self.check(0, {"PatientComments": "abc"})

    async def test_never(self) -> None:
        """What is not in the index is not known; tags of levels above are."""
        await self.restart(DicomAlwaysAllowFind=True, StorageAccessOnFind="Never")
        await self.check(0, {})

    async def test_sequences_and_order(self) -> None:
        """Sequences match and tags order only where headers may be searched."""
        code = item(CodeValue="X", CodingSchemeDesignator="99", CodeMeaning="x")
        for number, text in enumerate("ba", 1):
            uids = (f"1.2.{number}", f"1.2.{number}.1", f"1.2.{number}.1.1")
            await self.client.store(
                dicom_object(f"P{number}", *uids, PatientComments=text, ProcedureCodeSequence=[code])
            )
        order = [{"Type": "DicomTag", "Key": "PatientComments", "Direction": "ASC"}]
        nested = {"ProcedureCodeSequence": [{"CodeValue": "X"}]}
        seen = {}
        for access in ("Always", "Never"):
            await self.restart(StorageAccessOnFind=access)
            found = await self.client.find("Patient", {}, OrderBy=order, Expand=True)
            names = [patient["MainDicomTags"]["PatientID"] for patient in found]
            seen[access] = (names, len(await self.client.find("Study", nested)))
        self.assertEqual(seen, {"Always": (["P2", "P1"], 2), "Never": (["P1", "P2"], 0)})


class WarningTests(RestCase):
    """``Warnings``: each is logged, and is not when it is switched off."""

    async def warned(self, name: str, act: Callable[[], Awaitable[object]], **settings: object) -> None:
        """Whether something warns, by the switch of it."""
        for is_on in (True, False):
            await self.restart(**settings, Warnings={name: is_on})
            log = log_lines(self, self.levels)
            await act()
            self.assertEqual(f"{name[:4]}: " in log.getvalue(), is_on, log.getvalue())

    async def requested(self, *tags: str) -> None:
        (study,) = await self.client.json("/studies")
        await self.client.json(f"/studies/{study}", requestedTags=";".join(tags))

    async def test_tags_of_headers(self) -> None:
        """W001: for an answer, and for a search."""
        await self.client.store(dicom_object(PatientComments="secret"))
        await self.warned("W001_TagsBeingReadFromStorage", lambda: self.requested("PatientComments"))
        await self.warned(
            "W001_TagsBeingReadFromStorage", lambda: self.client.find("Study", {"PatientComments": "secret"})
        )
        log = log_lines(self, self.levels)
        await self.restart()
        await self.requested("PatientComments")
        self.assertIn("0010,4000", log.getvalue())
        self.assertNotIn("secret", log.getvalue())

    async def test_main_tags(self) -> None:
        """Tags that are in the index are no reason to warn, those of the patient neither."""
        await self.client.store(dicom_object())
        log = log_lines(self, self.levels)
        await self.requested("StudyDescription", "PatientName", "ModalitiesInStudy")
        await self.client.find("Instance", {"PatientName": "DOE*", "StudyDate": "20240101-"})
        self.assertEqual(log.getvalue(), "")

    async def test_other_main_tags(self) -> None:
        """W002: the configuration has changed since the object came."""
        await self.client.store(dicom_object())
        extra = {"Study": ["StudyComments"]}
        await self.warned(
            "W002_InconsistentDicomTagsInDb", lambda: self.requested("StudyComments"), ExtraMainDicomTags=extra
        )

    async def test_decoder_failure(self) -> None:
        """W003: the picture of a damaged frame."""
        image = pixels(8, 8)
        image["PixelData"] = image["PixelData"][:10]
        instance = (await self.client.store(dicom_object(**image)))["ID"]

        async def preview() -> None:
            self.assertEqual((await self.client.get(f"/instances/{instance}/preview")).status, 415)

        await self.warned("W003_DecoderFailure", preview)

    async def test_no_signature(self) -> None:
        """W004: the index has lost what it was told."""
        await self.client.store(dicom_object())
        await self.stop()
        with contextlib.closing(sqlite3.connect(self.folder / "orthanctw.db")) as database, database:
            for row, column in database.execute("SELECT id, metadata FROM details").fetchall():
                metadata = decode_metadata(column)
                del metadata[MetadataType.MAIN_DICOM_TAGS_SIGNATURE]
                database.execute("UPDATE details SET metadata = ? WHERE id = ?", (encode_metadata(metadata), row))
        await self._start({})
        await self.warned("W004_NoMainDicomTagsSignature", lambda: self.requested("StudyComments"))

    async def test_lower_levels(self) -> None:
        """W005: a study has no modality."""
        await self.client.store(dicom_object())
        await self.warned("W005_RequestingTagFromLowerResourceLevel", lambda: self.requested("Modality"))

    async def test_meta_header(self) -> None:
        """W006: the file meta information is no part of the object."""
        await self.client.store(dicom_object())
        await self.warned("W006_RequestingTagFromMetaHeader", lambda: self.requested("TransferSyntaxUID"))

    async def test_left_out(self) -> None:
        """W007: what must not be read is missing."""
        await self.client.store(dicom_object(PatientComments="x"))
        await self.warned(
            "W007_MissingRequestedTagsNotReadFromDisk",
            lambda: self.requested("PatientComments"),
            StorageAccessOnFind="Never",
        )


class DecoderTests(DicomCase):
    """``BuiltinDecoderTranscoderOrder``."""

    async def test_disabled(self) -> None:
        """No picture is made and nothing is transcoded; numbers and frames as they are stored remain."""
        await self.restart(BuiltinDecoderTranscoderOrder="Disabled")
        data = dicom_object(**pixels(8, 8))
        base = f"/instances/{(await self.client.store(data))['ID']}"
        for name in ("preview", "rendered", "image-uint8", "image-uint16", "image-int16", "matlab"):
            self.assertEqual((await self.client.get(f"{base}/{name}")).status, 415, name)
        for name in ("numpy", "frames/0/raw"):
            self.assertEqual((await self.client.get(f"{base}/{name}")).status, 200, name)
        self.assertGreaterEqual((await self.client.get(f"{base}/file", transcode=_RLE)).status, 400)
        self.assertEqual((await self.client.get(f"{base}/file")).body, data)

    async def test_disabled_for_peers(self) -> None:
        """Received objects stay as they are, and those that a peer does not take as they are do not go to it."""
        disabled = {"BuiltinDecoderTranscoderOrder": "Disabled"}
        await self.restart(**disabled, IngestTranscoding=_RLE)
        instance = (await self.client.store(ct_image(1)))["ID"]
        metadata = await self.client.get(f"/instances/{instance}/metadata/TransferSyntax")
        self.assertEqual(metadata.text, _EXPLICIT)
        self.assertEqual(await self.sent(instance, **disabled), (500, []))

    async def test_transcoding_for_peers(self) -> None:
        """``TranscodeDicomProtocol`` false: neither do they go without it; with it they do."""
        instance = (await self.client.store(ct_image(1)))["ID"]
        self.assertEqual(await self.sent(instance, TranscodeDicomProtocol=False), (500, []))
        self.assertEqual(await self.sent(instance), (200, [_IMPLICIT]))

    async def sent(self, instance: str, **settings: object) -> tuple[int, list[str]]:
        """Status of sending an object to who takes RLE and implicit VR only, and in what it arrives."""
        arrived: list[str] = []

        def handle(event: evt.Event) -> int:
            arrived.append(str(event.context.transfer_syntax))
            return 0

        with pynetdicom_server([(CT, [_RLE, _IMPLICIT])], [(evt.EVT_C_STORE, handle)]) as (port, _):
            await self.restart(**settings, DicomModalities={"peer": ["PEER", "127.0.0.1", port]})
            answer = await self.client.post("/modalities/peer/store", instance)
            await self.restart()
        return answer.status, arrived

    async def test_others(self) -> None:
        """The other places are as the default one."""
        for order in ("Before", "After"):
            await self.restart(BuiltinDecoderTranscoderOrder=order, OverwriteInstances=True)
            base = f"/instances/{(await self.client.store(dicom_object(**pixels(8, 8))))['ID']}"
            self.assertEqual((await self.client.get(f"{base}/preview")).status, 200)
            self.assertEqual((await self.client.get(f"{base}/file", transcode=_RLE)).status, 200)


class TemporaryTests(RestCase):
    """``TemporaryDirectory``."""

    async def other(self) -> Path:
        """A server with a folder of its own for temporary files."""
        place = Path(self.mktemp()).absolute()
        place.mkdir()
        await self.restart(TemporaryDirectory=str(place))
        return place

    async def archive(self) -> str:
        """The path of an archive that a job has made."""
        instance = (await self.client.store(dicom_object()))["ID"]
        answer = await self.client.post("/tools/create-archive", {"Resources": [instance], "Synchronous": False})
        job = answer.json()["ID"]
        while (state := (await self.client.json(f"/jobs/{job}"))["State"]) in ("Pending", "Running"):
            pass
        self.assertEqual(state, "Success")
        return f"/jobs/{job}/archive"

    async def test_archives(self) -> None:
        """Archives of jobs lie there, and go with the server; what is received never does."""
        place = await self.other()
        path = await self.archive()
        (folder,) = place.iterdir()
        (file,) = folder.iterdir()
        self.assertEqual((await self.client.get(path)).body, file.read_bytes())
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        self.assertEqual(len(self.files()), 1)

    async def test_default(self) -> None:
        """Without the option they lie in the storage directory."""
        await self.archive()
        self.assertEqual(len(self.files()), 2)

    async def test_leftovers(self) -> None:
        """The next start removes what a killed server has left, and nothing of anybody else."""
        place = await self.other()
        await self.archive()
        (folder,) = place.iterdir()
        (place / "theirs").mkdir()
        (place / "theirs" / "file").touch()
        await self.stop()
        (folder / "left").touch()
        await self._start({"TemporaryDirectory": str(place)})
        self.assertEqual(list(folder.iterdir()), [])
        self.assertTrue((place / "theirs" / "file").exists())

    async def test_folder_of_others(self) -> None:
        """A link in place of our folder, and a folder that is not there, keep the server from starting."""
        place = await self.other()
        (folder,) = place.iterdir()
        await self.stop()
        folder.rmdir()
        victim = place / "victim"
        victim.mkdir()
        (victim / "file").touch()
        folder.symlink_to(victim)
        with self.assertRaises(ConfigurationError):
            await self._start({"TemporaryDirectory": str(place)})
        self.assertTrue((victim / "file").exists())
        with self.assertRaises(ConfigurationError):
            await self._start({"TemporaryDirectory": str(place / "nowhere")})
        self.running = False


class LogTests(DicomCase):
    """``DeidentifyLogs`` and ``DeidentifyLogsDicomVersion``."""

    async def logged(self, *, level: str = "verbose", **settings: object) -> str:
        """What is logged of a C-FIND, a C-GET and an outgoing C-FIND."""
        peer = {"me": {"AET": "ORTHANC", "Host": "127.0.0.1", "Port": self.dicom_port}}
        await self.restart(
            DicomAlwaysAllowFind=True,
            DicomAlwaysAllowGet=True,
            DicomPort=self.dicom_port,
            DicomModalities=peer,
            **settings,
        )
        self.levels.set_all(level)
        log = log_lines(self, self.levels)
        keys = [
            "QueryRetrieveLevel=STUDY", "PatientName=SECRET*", "StudyDate=20240102", "ModalitiesInStudy=CT",
            "StudyDescription=SECRET",
        ]  # fmt: skip
        arguments = [part for key in keys for part in ("-k", key)]
        await run("findscu", "-S", *arguments, "127.0.0.1", str(self.dicom_port))
        await run(
            "getscu", "-S", "-od", str(self.work), "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID=1.2.33",
            "127.0.0.1", str(self.dicom_port),
        )  # fmt: skip
        query = {"Level": "Study", "Query": {"PatientName": "SECRET*", "StudyDescription": "SECRET"}}
        self.assertEqual((await self.client.post("/modalities/me/query", query)).status, 200)
        self.levels.set_all("default")
        return log.getvalue()

    async def test_hidden(self) -> None:
        """Queries are logged as details, without what tells of patients."""
        log = await self.logged()
        for begin in ("C-FIND of FINDSCU at 127.0.0.1:", "C-GET of GETSCU at 127.0.0.1:", "C-FIND sent to ORTHANC:"):
            self.assertIn(begin, log)
        self.assertNotIn("SECRET", log)
        self.assertNotIn("20240102", log)
        self.assertNotIn("1.2.33", log)
        self.assertIn("(0008,0061) ModalitiesInStudy = CT", log)
        self.assertIn("(0010,0010) PatientName = (hidden by DeidentifyLogs)", log)

    async def test_shown(self) -> None:
        """``DeidentifyLogs`` false shows all values."""
        log = await self.logged(DeidentifyLogs=False)
        self.assertEqual(log.count("PatientName = SECRET*"), 3)
        self.assertIn("StudyInstanceUID = 1.2.33", log)

    async def test_edition(self) -> None:
        """``DeidentifyLogsDicomVersion`` 2008 hides names, but no dates."""
        log = await self.logged(DeidentifyLogsDicomVersion="2008")
        self.assertNotIn("SECRET", log)
        self.assertIn("StudyDate = 20240102", log)

    async def test_default_level(self) -> None:
        """At the default level queries are not logged at all."""
        log = await self.logged(level="default", DeidentifyLogs=False)
        self.assertNotIn("SECRET", log)
