"""Outgoing operations over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from orthanctw.dicom.uids import STUDY_ROOT_FIND
from orthanctw.errors import OrthancError
from orthanctw.settings import Settings
from orthanctw.tls import Tls, TlsRules
from test.certificates import Identity, certificates
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, VERIFICATION
from test.scu_case import SHORT, Connection, Script, ScuCase, pynetdicom_server
from test.servers import ORTHANC, ServerProcess, ct_image, free_port
from test.test_scu_get import QUERY as GET_QUERY
from test.test_scu_get import GetCase

QUERY = [(0x00080052, "CS", "STUDY")]


def client_tls(identity: Identity | None = None, **options: object) -> Tls:
    """What secures associations of a client; without an identity it is anonymous."""
    own = certificates().dicom_tls(identity) if identity else {"DicomTlsTrustedCertificates": certificates().trusted}
    return Tls(TlsRules.of_dicom(Settings.parse({**own, **options}, "").security), is_client=True)


@contextmanager
def pynetdicom_tls_server(*handlers: Any, identity: Identity | None = None, **options: Any) -> Iterator[int]:
    """A peer that talks TLS only, its port; `options` are attributes of its ``SSLContext``."""
    own = identity or certificates().server
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.private_key)
    context.load_verify_locations(certificates().trusted)
    for name, value in options.items():
        setattr(context, name, value)
    entity = AE(ae_title="PEER")
    for abstract_syntax, syntax in ((VERIFICATION, IMPLICIT), (CT, EXPLICIT), (STUDY_ROOT_FIND, EXPLICIT)):
        entity.add_supported_context(abstract_syntax, syntax, scu_role=True, scp_role=True)
    server = entity.start_server(("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=list(handlers))
    try:
        yield server.socket.getsockname()[1]
    finally:
        server.shutdown()


class TlsTests(ScuCase):
    async def test_operations(self) -> None:
        """C-ECHO, C-STORE of an object of many PDUs, and C-FIND of many answers."""

        def find(event: evt.Event) -> Any:
            for number in range(200):
                answer = Dataset()
                answer.PatientID = str(number)
                yield 0xFF00, answer

        received: list[int] = []

        def store(event: evt.Event) -> int:
            received.append(len(event.request.DataSet.getvalue()))
            return 0

        with pynetdicom_tls_server((evt.EVT_C_FIND, find), (evt.EVT_C_STORE, store)) as port:
            scu = self.scu(tls=client_tls())
            remote = self.remote(port, use_dicom_tls=True)
            await scu.echo(remote)
            await scu.store(remote, self.outgoing(side=512), [])
            self.assertEqual(len(await scu.find(remote, STUDY_ROOT_FIND, QUERY)), 200)
            await scu.close()
        self.assertGreater(received[0], 512 * 512 * 2)

    async def test_certificates_of_both(self) -> None:
        """A peer that wants to know who we are learns it; without a certificate of ours the error tells why."""
        with pynetdicom_tls_server(verify_mode=ssl.CERT_REQUIRED) as port:
            scu = self.scu(tls=client_tls(certificates().client))
            await scu.echo(self.remote(port, use_dicom_tls=True))
            await scu.close()
            self.assertIn("requires a certificate", await self.failure(port, tls=client_tls()))
            details = await self.failure(port, tls=client_tls(certificates().foreign))
            self.assertIn("does not trust our certificate", details)
            details = await self.failure(port, tls=client_tls(certificates().expired))
            self.assertIn("our certificate has expired", details)

    async def test_whom_we_do_not_trust(self) -> None:
        """Peers with certificates that are no good, and those without TLS, are errors that tell what is wrong."""
        for identity, reason in (
            (certificates().foreign, "the certificate of the peer is of an unknown authority"),
            (certificates().expired, "the certificate of the peer has expired"),
        ):
            with pynetdicom_tls_server(identity=identity) as port:
                self.assertIn(reason, await self.failure(port, tls=client_tls()))
                self.assertIn("DicomTlsTrustedCertificates is not set", await self.failure(port))
        with pynetdicom_server([(VERIFICATION, [IMPLICIT])]) as (plain, _):
            self.assertIn("TLS: ", await self.failure(plain, tls=client_tls()))

    async def test_versions(self) -> None:
        """No version in common is told."""
        with pynetdicom_tls_server(maximum_version=ssl.TLSVersion.TLSv1_2) as port:
            newest = client_tls(DicomTlsMinimumProtocolVersion=5, DicomTlsCiphersAccepted=["ECDHE+AESGCM"])
            self.assertIn("no version of TLS in common", await self.failure(port, tls=newest))

    async def test_nothing_said(self) -> None:
        """A peer that never answers the handshake ends with the time limit of the modality."""

        def silent(connection: Connection) -> None:
            connection.until_end()

        async with Script(silent) as peer:
            self.assertIn("no answer within the time limit", await self.failure(peer.port, tls=client_tls()))

    async def failure(self, port: int, **options: Any) -> str:
        scu = self.scu(**options)
        error = await self.assertFailure(scu.echo(self.remote(port, use_dicom_tls=True, timeout=SHORT)), OrthancError)
        await scu.close()
        return str(error.details)


class GetTests(GetCase):
    """C-GET, which runs on the reactor."""

    async def test_objects_of_orthanc(self) -> None:
        """Objects come from the real Orthanc, which wants to know who we are; many PDUs of them."""
        port = free_port()
        options = {"DicomServerEnabled": True, "DicomPort": port, "DicomTlsEnabled": True, "DicomAlwaysAllowGet": True}
        orthanc = ServerProcess(self.folder / "orthanc", ORTHANC, {**options, **certificates().dicom_tls()})
        orthanc.start()
        try:
            for number in (1, 2):
                orthanc.upload(ct_image(number, side=300))
            remote = self.remote(port, use_dicom_tls=True, aet="ORTHANC")
            scu = self.getter(tls=client_tls(certificates().client))
            _, stored = await scu.get(remote, GET_QUERY, [CT], self.told.append)
            self.assertEqual(len(stored), 2)
            await scu.close()
            for identity, reason in ((None, "certificate"), (certificates().expired, "our certificate has expired")):
                self.assertIn(reason, await self.failure(remote.port, identity))
        finally:
            orthanc.stop()

    async def test_whom_we_do_not_trust(self) -> None:
        """What is wrong with the peer's certificate is told, and that nobody is to be trusted."""
        with pynetdicom_tls_server(identity=certificates().foreign) as port:
            self.assertIn("TLS: the certificate of the peer is of an unknown authority", await self.failure(port))
            scu = self.getter()
            asked = scu.get(self.remote(port, use_dicom_tls=True), GET_QUERY, [CT], self.told.append)
            error = await self.assertFailure(asked, OrthancError)
            self.assertIn("DicomTlsTrustedCertificates is not set", error.details)

    async def test_nothing_said(self) -> None:
        """A peer that never answers the handshake ends with the time limit of the modality."""

        def silent(connection: Connection) -> None:
            connection.until_end()

        async with Script(silent) as peer:
            self.assertIn("no answer within the time limit", await self.failure(peer.port))

    async def failure(self, port: int, identity: Identity | None = None) -> str:
        scu = self.getter(tls=client_tls(identity))
        remote = self.remote(port, use_dicom_tls=True, timeout=SHORT)
        error = await self.assertFailure(scu.get(remote, GET_QUERY, [CT], self.told.append), OrthancError)
        await scu.close()
        return str(error.details)
