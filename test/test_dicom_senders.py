"""Senders and transfer syntaxes: DCMTK with each of its proposals, pynetdicom, Orthanc."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import Final
from unittest import SkipTest

import pydicom
from pydicom.data import get_testdata_file
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import LogEvent, globalLogPublisher

from orthanctw.dicom.uids import TRANSFER_SYNTAXES
from test.dicom_case import DicomCase
from test.dicom_peers import (
    CT,
    RawPeer,
    data_set,
    in_thread,
    pynetdicom_peer,
    sop_instance,
    without_meta,
)
from test.servers import ORTHANC, ServerProcess, ct_image, free_port

EXPLICIT_BIG: Final = "1.2.840.10008.1.2.2"
#: Proposal of ``storescu``, a file of pydicom's that fits, and the transfer syntax in which it arrives.
PROPOSALS: Final = (
    ("-x=", "CT_small.dcm", "1.2.840.10008.1.2.1"),
    ("-xe", "MR_small.dcm", "1.2.840.10008.1.2.1"),
    ("-xe", "rtdose.dcm", "1.2.840.10008.1.2"),
    ("-xb", "MR_small_bigendian.dcm", EXPLICIT_BIG),
    ("-xi", "MR_small_implicit.dcm", "1.2.840.10008.1.2"),
    ("-xi", "CT_small.dcm", "1.2.840.10008.1.2"),
    ("-xs", "SC_rgb_jpeg_gdcm.dcm", "1.2.840.10008.1.2.4.70"),
    ("-xy", "SC_rgb_dcmtk_+eb+cr.dcm", "1.2.840.10008.1.2.4.50"),
    ("-xx", "JPGExtended.dcm", "1.2.840.10008.1.2.4.51"),
    ("-xv", "MR_small_jp2klossless.dcm", "1.2.840.10008.1.2.4.90"),
    ("-xw", "JPEG2000.dcm", "1.2.840.10008.1.2.4.91"),
    ("-xt", "MR_small_jpeg_ls_lossless.dcm", "1.2.840.10008.1.2.4.80"),
    ("-xu", "SC_rgb_jls_lossy_line.dcm", "1.2.840.10008.1.2.4.81"),
    ("-xr", "MR_small_RLE.dcm", "1.2.840.10008.1.2.5"),
    ("-xd", "image_dfl.dcm", "1.2.840.10008.1.2.1.99"),
)


def read(data: bytes) -> pydicom.Dataset:
    """A file as pydicom understands it, without what DCMTK leaves out: group lengths and trailing padding."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pydicom.dcmread(io.BytesIO(data))
        for tag in [tag for tag in found.keys() if tag.element == 0 or tag == 0xFFFCFFFC]:  # noqa: SIM118
            del found[tag]
    return found


def differences(one: pydicom.Dataset, other: pydicom.Dataset) -> list[str]:
    """Tags that only one has, or of which the values differ; VRs may differ between transfer syntaxes."""
    with warnings.catch_warnings():
        # pydicom reads values, also those in sequences, when they are compared.
        warnings.simplefilter("ignore")
        tags = sorted({*one.keys(), *other.keys()})
        return [str(tag) for tag in tags if tag not in one or tag not in other or one[tag].value != other[tag].value]


def sample(name: str) -> str:
    """The path of one of pydicom's files."""
    path = get_testdata_file(name)
    if not isinstance(path, str):
        raise SkipTest(f"{name} is not installed")
    return path


class DcmtkTest(DicomCase):
    """DCMTK's ``storescu``."""

    def complete(self, path: str) -> str:
        """The file, or one beside it with the identifiers that it lacks."""
        found = read(Path(path).read_bytes())
        if "StudyInstanceUID" in found:
            return path
        found.StudyInstanceUID, found.SeriesInstanceUID = "1.2.3.1", "1.2.3.2"
        target = str(self.work / Path(path).name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.save_as(target)
        return target

    async def test_proposals(self) -> None:
        """Whatever it proposes, the objects arrive in that transfer syntax and equal what was sent."""
        # Its list of all SOP classes has more than an association can: only what is needed is proposed.
        for option, name, syntax in PROPOSALS:
            with self.subTest(option=option, name=name):
                path = self.complete(sample(name))
                await self.storescu("-R", option, path)
                file = await self.stored()
                received, sent = read(file), read(Path(path).read_bytes())
                self.assertEqual(received.file_meta.TransferSyntaxUID, syntax, (option, name))
                self.assertEqual(differences(received, sent), [], (option, name))
                (instance,) = await self.instances()
                answer = await self.client.get(f"/instances/{instance}/metadata/TransferSyntax")
                self.assertEqual(answer.text, syntax)
                self.assertEqual((await self.client.ask("DELETE", f"/instances/{instance}")).status, 200)

    async def test_combined_proposals(self) -> None:
        """With all transfer syntaxes in one context, and with all SOP classes it knows, objects arrive, too."""
        for number, options in enumerate((("+C",), ("+C", "-xs"), ("-xv",), ("-R", "+C", "-xr")), 1):
            await self.storescu(*options, self.file(ct_image(number)))
            self.assertEqual(len(await self.instances()), number)

    async def test_many_at_once(self) -> None:
        """Several senders at once, each with several objects, all end with success."""
        folders = []
        for sender in range(50):
            folder = self.work / str(sender)
            folder.mkdir()
            for number in range(20):
                (folder / f"{number}.dcm").write_bytes(ct_image(number + 1, series=sender + 1))
            folders.append(str(folder))
        outputs = await gatherResults([Deferred.fromCoroutine(self.storescu("+sd", folder)) for folder in folders])
        self.assertEqual(sum(output.count("Received Store Response (Success)") for output in outputs), 1000)
        self.assertEqual((await self.client.json("/statistics"))["CountInstances"], 1000)
        self.assertEqual(len(self.files()), 1000)


class PynetdicomTest(DicomCase):
    """pynetdicom's AE."""

    async def test_every_transfer_syntax(self) -> None:
        """A context for each transfer syntax that the server knows is accepted in that syntax."""

        def peer() -> list[str]:
            association = pynetdicom_peer(self.dicom_port, [(CT, [uid]) for uid in TRANSFER_SYNTAXES])
            accepted = [str(context.transfer_syntax[0]) for context in association.accepted_contexts]
            association.release()
            return accepted

        self.assertEqual(sorted(await in_thread(peer)), sorted(TRANSFER_SYNTAXES))

    async def test_warnings_about_wire_data(self) -> None:
        """Objects that break the standard's rules for values are stored, and nothing about them is logged or warned."""
        events: list[LogEvent] = []

        def observe(event: LogEvent) -> None:
            if event["log_level"].name in ("warn", "error", "critical"):
                events.append(event)

        bad = data_set(1).replace(b"20240131", b"2024013x").replace(b"CT", b"c~")

        def peer() -> int:
            with RawPeer(self.dicom_port) as raw:
                raw.associate()
                return raw.store(bad, sop_instance(1)).number(0x0900)

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.assertEqual(await in_thread(peer), 0)
            await self.storescu("-R", "-xb", sample("MR_small_bigendian.dcm"), sample("badVR.dcm"))
        self.assertEqual([str(w.message) for w in caught if "pydicom" in w.filename], [])
        self.assertEqual(events, [])
        self.assertEqual(len(await self.instances()), 3)


class OrthancTest(DicomCase):
    """A real Orthanc as the sender."""

    async def test_store(self) -> None:
        """``/modalities/x/store`` of a study sends all of it, and ``/echo`` succeeds."""
        if not os.path.exists(ORTHANC[0]):
            raise SkipTest("Orthanc is not installed")
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        sender = ServerProcess(
            Path(folder.name),
            ORTHANC,
            {"DicomPort": free_port(), "DicomModalities": {"us": ["ORTHANC", "127.0.0.1", self.dicom_port]}},
        )
        await in_thread(sender.start)
        try:
            for number in range(1, 6):
                await in_thread(sender.upload, ct_image(number))
            compressed = Path(sample("MR_small_RLE.dcm")).read_bytes()
            await in_thread(sender.upload, compressed)
            studies = await in_thread(sender.get, "/studies")
            echo = await in_thread(sender.request, "POST", "/modalities/us/echo", "{}")
            self.assertEqual(echo.status, 200)
            for study in studies:
                answer = await in_thread(sender.request, "POST", "/modalities/us/store", study)
                self.assertEqual((answer.status, answer.json()["FailedInstancesCount"]), (200, 0))
            self.assertEqual(sorted(await self.instances()), sorted(await in_thread(sender.get, "/instances")))
            (image,) = (await self.client.find("Instance", {"SOPInstanceUID": sop_instance(1)}))
            self.assertEqual(without_meta((await self.client.get(f"/instances/{image}/file")).body), data_set(1))
        finally:
            await in_thread(sender.stop)
