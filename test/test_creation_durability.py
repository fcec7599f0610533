"""What is made survives the death of the server once it is acknowledged; clients that leave change nothing."""

from __future__ import annotations

import http.client
import json
import threading
from pathlib import Path

import numpy as np
from twisted.trial.unittest import SynchronousTestCase

from test.rest_samples import wire
from test.servers import ServerProcess, wait_until
from test.storage_checks import check_agreement
from test.test_rest_creation import CREATE, CreationCase, image_uri

_PICTURE = image_uri(np.arange(128 * 128, dtype=np.uint16).reshape(128, 128))


class KillTests(SynchronousTestCase):
    """A server that is killed."""

    def test_series(self) -> None:
        """A series that was acknowledged is whole after the death; one that was under way agrees with its files."""
        server = ServerProcess(Path(self.mktemp()))
        self.addCleanup(server.kill)
        server.start()
        whole = json.dumps({"Tags": {"PatientID": "WHOLE"}, "Content": [_PICTURE] * 5})
        answer = server.request("POST", CREATE, whole)
        self.assertEqual(answer.status, 200, answer.body)
        dying = json.dumps({"Tags": {"PatientID": "DYING"}, "Content": [_PICTURE] * 400})

        def create() -> None:
            try:
                server.request("POST", CREATE, dying)
            except (OSError, http.client.HTTPException):
                # The death that is wanted.
                return

        client = threading.Thread(target=create)
        client.start()
        wait_until(lambda: server.get("/statistics")["CountInstances"] > 5, server.printed)
        server.kill()
        client.join()
        server.start()
        check_agreement(self, server)
        self.assertEqual(len(server.get(answer.json()["Path"])["Instances"]), 5)


class LeavingTests(CreationCase):
    """A client that leaves in the middle."""

    async def test_series(self) -> None:
        """What it has asked for is made all the same, and nothing is left over."""
        contents = [_PICTURE] * 30
        body = json.dumps({"Tags": {}, "Content": contents}).encode()
        connection = await wire(self.port)
        head = f"POST {CREATE} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.write(head.encode("ascii") + body)
        while not await self.count():
            pass
        connection.abort()
        while await self.count() < len(contents):
            pass
        await self.stop()
        self.assertEqual(len(self.files()), len(contents))
