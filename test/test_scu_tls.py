"""Outgoing operations over TLS."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from orthanctw.dicom.uids import STUDY_ROOT_FIND
from orthanctw.errors import OrthancError
from test.dicom_peers import CT, EXPLICIT, IMPLICIT, VERIFICATION
from test.scu_case import SHORT, ScuCase, pynetdicom_server

QUERY = [(0x00080052, "CS", "STUDY")]


class TlsTests(ScuCase):
    def setUp(self) -> None:
        super().setUp()
        self.key, self.certificate = self.folder / "key.pem", self.folder / "certificate.pem"
        command = ["/usr/bin/openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        files = ["-keyout", str(self.key), "-out", str(self.certificate)]
        subprocess.run([*command, *names, *files], check=True, capture_output=True)

    @contextmanager
    def server(self, *handlers: Any) -> Iterator[int]:
        """A peer that talks TLS only."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        entity = AE(ae_title="PEER")
        for abstract_syntax, syntax in (
            (VERIFICATION, IMPLICIT),
            (CT, EXPLICIT),
            (STUDY_ROOT_FIND, EXPLICIT),
        ):
            entity.add_supported_context(abstract_syntax, syntax, scu_role=True, scp_role=True)
        server = entity.start_server(
            ("127.0.0.1", 0), block=False, ssl_context=context, evt_handlers=list(handlers)
        )
        try:
            yield server.socket.getsockname()[1]
        finally:
            server.shutdown()

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

        with self.server((evt.EVT_C_FIND, find), (evt.EVT_C_STORE, store)) as port:
            scu = self.scu(tls=ssl.create_default_context(cafile=str(self.certificate)))
            remote = self.remote(port, host="localhost", use_dicom_tls=True)
            await scu.echo(remote)
            await scu.store(remote, self.outgoing(side=512), [])
            self.assertEqual(len(await scu.find(remote, STUDY_ROOT_FIND, QUERY)), 200)
            await scu.close()
        self.assertGreater(received[0], 512 * 512 * 2)

    async def test_whom_we_do_not_trust(self) -> None:
        """Another certificate, a peer without TLS, and TLS without a configuration for it are errors."""
        with self.server() as port:
            await self.fails(port, tls=ssl.create_default_context())
            await self.fails(port)
        with pynetdicom_server([(VERIFICATION, [IMPLICIT])]) as (plain, _):
            await self.fails(plain, tls=ssl.create_default_context(cafile=str(self.certificate)))

    async def fails(self, port: int, **options: Any) -> None:
        scu = self.scu(**options)
        remote = self.remote(port, host="localhost", use_dicom_tls=True, timeout=SHORT)
        await self.assertFailure(scu.echo(remote), OrthancError)
        await scu.close()
