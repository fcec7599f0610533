"""The DICOM server over TLS, with DCMTK, with the real Orthanc, and with strangers."""

from __future__ import annotations

import ssl

from pydicom.dataset import Dataset
from pynetdicom import AE, build_role, evt

from orthanctw.dicom.uids import STUDY_ROOT_GET
from orthanctw.log import LogLevels
from orthanctw.settings import Settings
from test.certificates import Identity, certificates, s_client
from test.dicom_case import DicomCase
from test.dicom_peers import CT, EXPLICIT, Ran, in_thread, request_pdu, run
from test.log_lines import log_lines
from test.rest_samples import exchange, wire
from test.servers import ORTHANC, ServerProcess, ct_image, free_port

#: Objects of a study that is sent and fetched, and their rows and columns.
_OBJECTS = 12
_SIDE = 200
_STUDY = "1.2.826.0.1.3680043.9.7433.1"


class TlsCase(DicomCase):
    """A server that wants to know its peers."""

    async def setUp(self) -> None:
        self.SETTINGS = {  # type: ignore[misc]
            "DicomTlsEnabled": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowGet": True,
            **certificates().dicom_tls(),
        }
        self.log = log_lines(self, LogLevels())
        await super().setUp()

    async def dcmtk(self, program: str, *arguments: str, identity: Identity | None = None) -> Ran:
        """One of DCMTK's clients; without an identity it is anonymous."""
        own = ("+tls", identity.private_key, identity.certificate) if identity else ("+tla",)
        usual = ("-v", *own, "+cf", certificates().trusted, "-aec", "ORTHANC", "127.0.0.1", str(self.dicom_port))
        return await run(program, *usual, *arguments)

    def reload(self, **settings: object) -> list[str]:
        """What SIGHUP does."""
        document = {"StorageDirectory": str(self.folder), "HttpPort": 0, "DicomPort": 0, **self.SETTINGS, **settings}
        return self.server.reload(Settings.parse(document, ""))

    async def echo(self, identity: Identity | None = None) -> bool:
        """Whether an echo succeeds."""
        return (await self.dcmtk("echoscu", identity=identity)).status == 0


class ServiceTests(TlsCase):
    """What works without TLS works with it."""

    async def test_services(self) -> None:
        """A study is sent by ``storescu``, found by ``findscu``, and fetched by C-GET."""
        folder = self.work / "study"
        folder.mkdir()
        for number in range(_OBJECTS):
            (folder / f"{number}.dcm").write_bytes(ct_image(number + 1, side=_SIDE))
        sent = await self.dcmtk("storescu", "+sd", str(folder), identity=certificates().client)
        self.assertEqual(sent.status, 0, sent.output)
        self.assertEqual(len(await self.instances()), _OBJECTS)
        keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={_STUDY}")
        found = await self.dcmtk("findscu", *keys, "-k", "PatientName", identity=certificates().client)
        self.assertIn("[A^B", found.output)
        sizes = await in_thread(self.get)
        self.assertEqual(len(sizes), _OBJECTS)
        self.assertGreater(min(sizes), _SIDE * _SIDE * 2)

    def get(self) -> list[int]:
        """Sizes of the data sets of a C-GET by pynetdicom, as DCMTK's client has no TLS (blocking)."""
        sizes: list[int] = []

        def store(event: evt.Event) -> int:
            sizes.append(len(event.request.DataSet.getvalue()))
            return 0

        context = ssl.create_default_context(cafile=certificates().trusted)
        context.load_cert_chain(certificates().client.certificate, certificates().client.private_key)
        entity = AE(ae_title="GETTER")
        entity.add_requested_context(STUDY_ROOT_GET)
        entity.add_requested_context(CT, EXPLICIT)
        association = entity.associate(
            "127.0.0.1",
            self.dicom_port,
            ae_title="ORTHANC",
            tls_args=(context, "localhost"),
            ext_neg=[build_role(CT, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, store)],
        )
        query = Dataset()
        query.QueryRetrieveLevel, query.StudyInstanceUID = "STUDY", _STUDY
        statuses = [status.Status for status, _ in association.send_c_get(query, STUDY_ROOT_GET)]
        association.release()
        self.assertEqual(statuses[-1], 0)
        return sizes

    async def test_orthanc_sends(self) -> None:
        """The real Orthanc sends by TLS, and fails where we are not trusted."""
        for identity, trusted, status in (
            (certificates().client, certificates().trusted, 200),
            (certificates().foreign, certificates().other_authority.certificate, 500),
        ):
            options = {
                **certificates().dicom_tls(identity),
                "DicomTlsTrustedCertificates": trusted,
                "DicomModalities": {
                    "us": {"AET": "ORTHANC", "Host": "127.0.0.1", "Port": self.dicom_port, "UseDicomTls": True}
                },
            }
            orthanc = ServerProcess(self.work / f"orthanc-{status}", ORTHANC, options)
            await in_thread(orthanc.start)
            try:
                instance = await in_thread(orthanc.upload, ct_image(1))
                answer = await in_thread(orthanc.request, "POST", "/modalities/us/store", instance)
                self.assertEqual(answer.status, status, answer.body)
            finally:
                await in_thread(orthanc.stop)
        self.assertEqual(len(await self.instances()), 1)

    async def test_to_orthanc(self) -> None:
        """We send to the real Orthanc by TLS; once it is not trusted any more, the error tells so."""
        port = free_port()
        options = {"DicomServerEnabled": True, "DicomPort": port, "DicomTlsEnabled": True, "DicomAet": "REAL"}
        orthanc = ServerProcess(self.work / "orthanc", ORTHANC, {**options, **certificates().dicom_tls()})
        await in_thread(orthanc.start)
        try:
            modality = {"AET": "REAL", "Host": "127.0.0.1", "Port": port, "UseDicomTls": True}
            options = {"DicomModalities": {"real": modality}, "DicomAssociationCloseDelay": 0}
            await self.restart(**options)
            instance = (await self.client.store(ct_image(1, side=_SIDE)))["ID"]
            self.assertEqual((await self.client.post("/modalities/real/store", instance)).status, 200)
            self.assertEqual(await in_thread(orthanc.get, "/instances"), [instance])
            options["DicomTlsTrustedCertificates"] = certificates().other_authority.certificate
            self.assertEqual(self.reload(**options), [])
            answer = await self.client.post("/modalities/real/echo", "{}")
            self.assertEqual(answer.status, 500)
            reason = "TLS: the certificate of the peer is of an unknown authority"
            self.assertIn(reason, answer.json()["Details"])
        finally:
            await in_thread(orthanc.stop)


class PeerTests(TlsCase):
    """Who is let in."""

    async def test_certificates(self) -> None:
        """A good certificate is needed; the log tells what is wrong with others."""
        self.assertTrue(await self.echo(certificates().client))
        for identity, reason in (
            (None, "the peer has sent no certificate"),
            (certificates().foreign, "the certificate of the peer is of an unknown authority"),
            (certificates().expired, "the certificate of the peer has expired"),
        ):
            self.assertFalse(await self.echo(identity))
            self.assertIn(f"TLS with 127.0.0.1 failed: {reason}", self.log.getvalue())

    async def test_anonymous(self) -> None:
        """Without required certificates anybody is let in but those whose certificate is no good, as by Orthanc."""
        await self.restart(DicomTlsRemoteCertificateRequired=False)
        self.assertTrue(await self.echo())
        self.assertTrue(await self.echo(certificates().client))
        self.assertFalse(await self.echo(certificates().foreign))
        await self.restart(DicomTlsRemoteCertificateRequired=False, DicomTlsTrustedCertificates="")
        self.assertTrue(await self.echo(certificates().foreign))

    async def test_our_certificate(self) -> None:
        """A peer that does not trust us breaks off, which the log tells."""
        await self.restart(**certificates().dicom_tls(certificates().foreign))
        self.assertFalse(await self.echo(certificates().client))
        self.assertIn("the peer does not trust our certificate: unknown authority", self.log.getvalue())

    async def test_versions_and_ciphers(self) -> None:
        """TLS 1.2 at least, with the suites of BCP 195, or what the options say."""

        async def chosen(*arguments: str) -> str:
            own = ("-cert", certificates().client.certificate, "-key", certificates().client.private_key)
            return await in_thread(s_client, self.dicom_port, "-brief", *own, *arguments)

        self.assertIn("TLSv1.3", await chosen())
        self.assertIn("ECDHE-ECDSA-AES256-GCM-SHA384", await chosen("-tls1_2"))
        self.assertNotIn("Ciphersuite", await chosen("-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA"))
        self.assertNotIn("Ciphersuite", await chosen("-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"))
        await self.restart(DicomTlsMinimumProtocolVersion=4, DicomTlsCiphersAccepted=["ECDHE-ECDSA-AES256-SHA"])
        self.assertIn("ECDHE-ECDSA-AES256-SHA", await chosen("-tls1_2"))
        await self.restart(DicomTlsMinimumProtocolVersion=5, DicomTlsCiphersAccepted=["TLS_AES_128_GCM_SHA256"])
        self.assertIn("TLS_AES_128_GCM_SHA256", await chosen())
        self.assertNotIn("Ciphersuite", await chosen("-tls1_2"))

    async def test_exchanged_certificates(self) -> None:
        """New certificates are for the next associations."""
        self.assertTrue(await self.echo(certificates().client))
        other = certificates().other_authority.certificate
        self.assertEqual(self.reload(DicomTlsTrustedCertificates=other), [])
        self.assertFalse(await self.echo(certificates().client))
        self.assertTrue(await self.echo(certificates().foreign))


class StrangerTests(TlsCase):
    """Those who do not speak TLS as they should."""

    async def test_something_else(self) -> None:
        """A request for an association without TLS, HTTP and noise are cut at once."""
        for data in (request_pdu(), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00" + bytes(512), b"\xff" * 64):
            answer = await exchange(self.dicom_port, data)
            # An alert of TLS, or nothing.
            self.assertIn(answer[:1], (b"", b"\x15"))
        self.assertTrue(await self.echo(certificates().client))

    async def test_unfinished_handshakes(self) -> None:
        """Who begins a handshake and never ends it keeps nobody waiting, and is cut after the time limit."""
        await self.restart(DicomScpTimeout=2)
        silent, half = await wire(self.dicom_port), await wire(self.dicom_port)
        half.write(b"\x16\x03\x01\x02\x00\x01\x00")
        await self.until(lambda: len(self.server.dicom._connections) == 2)
        self.assertTrue(await self.echo(certificates().client))
        self.assertEqual((await silent.lost, await half.lost), (b"", b""))

    async def test_many_that_ask_for_nothing(self) -> None:
        """Connections within their handshake make room when there are too many."""
        await self.restart(Orthanctw={"MaximumAssociations": 1})
        waiting = [await wire(self.dicom_port) for _ in range(102)]
        await waiting[0].lost
        self.assertTrue(await self.echo(certificates().client))
        for connection in waiting:
            connection.abort()
        await self.until(lambda: not self.server.dicom._connections)
