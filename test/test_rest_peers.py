"""`/peers`: configuration, and objects that go to other servers, which may do as they should or not."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from orthanctw.log import LogLevels
from orthanctw.server import Server
from orthanctw.settings import Settings
from test.certificates import certificates
from test.http_servers import HttpServer, Say, TlsContext, listen, proxy, talkers
from test.rest_samples import NOBODY, Client, RestCase, dicom_object, pixels
from test.servers import free_port

_JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
_MPEG2 = "1.2.840.10008.1.2.4.100"
_SHOWN = {"HttpHeaders": [], "Pkcs11": False, "Timeout": 0, "Url": "http://h:1/"}


class ConfigurationTests(RestCase):
    """Peers that come and go."""

    async def put(self, name: str, value: object) -> Any:
        return await self.client.ask("PUT", f"/peers/{name}", value)

    async def test_life(self) -> None:
        """A peer is put, shown without its secrets, replaced and deleted."""
        self.assertEqual(await self.client.json("/peers"), [])
        self.assertEmpty(await self.put("b", ["http://h:1"]), 200)
        secret = {"Username": "u", "Password": "SECRET", "HttpHeaders": {"X-Key": "SECRET", "A": "SECRET"}}
        files = {"CertificateFile": "/SECRET", "CertificateKeyFile": "/SECRET", "CertificateKeyPassword": "SECRET"}
        value = {"URL": "https://h", **secret, **files, "Timeout": 7, "Own": True, "Other": 5}
        self.assertEmpty(await self.put("a", value), 200)
        self.assertEqual(await self.client.json("/peers"), ["a", "b"])
        shown = {"Username": "u", "Password": None, "HttpHeaders": ["A", "X-Key"], "Timeout": 7}
        shown |= {"Pkcs11": False, "Url": "https://h/", "Own": "true", "Other": "5"}
        expanded = await self.client.json("/peers", expand="")
        self.assertEqual(expanded, {"a": shown, "b": _SHOWN})
        self.assertEqual(await self.client.json("/peers/a/configuration"), shown)
        self.assertEqual(await self.client.json("/peers/a"), ["configuration", "store", "store-straight", "system"])
        self.assertEmpty(await self.put("b", ["http://i/", "u", "p"]), 200)
        self.assertEqual((await self.client.json("/peers/b/configuration"))["Username"], "u")
        self.assertEmpty(await self.client.ask("DELETE", "/peers/b"), 200)
        self.assertError(await self.client.ask("DELETE", "/peers/b"), 404, 7)
        self.assertEqual(await self.client.json("/peers"), ["a"])

    async def test_bad_values(self) -> None:
        """What is no peer is refused with the statuses of Orthanc, and changes nothing."""
        self.assertEmpty(await self.put("x", "{"), 404)
        for name, value in (
            *(("x", value) for value in ([], ["http://h", "u"], [5], 5, {}, {"Url": ""}, ["h"], ["ftp://h"])),
            *(("x", {"Url": "http://h", **more}) for more in ({"Timeout": -1}, {"Timeout": "5"}, {"Pkcs11": True})),
            *(("x", {"Url": "http://h", "HttpHeaders": headers}) for headers in ({"a": 5}, {"a b": ""}, {"a": "\r\n"})),
            ("x", {"Url": "http://h", "Own": [1]}),
            ("a.b", ["http://h"]),
        ):
            self.assertError(await self.put(name, value), 400, 15)
        self.assertEqual(await self.client.json("/peers"), [])

    async def test_unknown(self) -> None:
        """An unknown peer is 404 everywhere."""
        self.assertEmpty(await self.client.get("/peers/x"), 404)
        for route in ("configuration", "system"):
            self.assertError(await self.client.get(f"/peers/x/{route}"), 404, 17)
        for route in ("store", "store-straight"):
            self.assertError(await self.client.post(f"/peers/x/{route}", []), 404, 17)

    async def test_restart(self) -> None:
        """What is put is forgotten by a restart, unless ``OrthancPeersInDatabase``: then the configuration is."""
        configured = {"c": ["http://c/"]}
        await self.restart(OrthancPeers=configured)
        await self.put("x", ["http://x/"])
        await self.restart(OrthancPeers=configured)
        self.assertEqual(await self.client.json("/peers"), ["c"])
        options = {"OrthancPeers": configured, "OrthancPeersInDatabase": True}
        await self.restart(**options)
        self.assertEqual(await self.client.json("/peers"), [])
        secret = {"Url": "http://h:1", "Username": "u", "Password": "p", "HttpHeaders": {"A": "b"}, "Own": "x"}
        await gatherResults([Deferred.fromCoroutine(self.put(f"p{number}", secret)) for number in range(20)])
        await self.client.ask("DELETE", "/peers/p7")
        await self.restart(**options)
        self.assertEqual(len(await self.client.json("/peers")), 19)
        kept = self.server.peers.get("p8")
        self.assertEqual((kept.password, kept.http_headers, kept.properties), ("p", {"A": "b"}, {"Own": "x"}))


class PeerCase(RestCase):
    """A server, and another that notes what it is asked."""

    async def setUp(self) -> None:
        await super().setUp()
        self.peer = HttpServer()
        self.peer_port = listen(self, self.peer.factory())
        await self.know("peer", self.peer_port)

    async def know(self, name: str, port: int, **fields: object) -> None:
        value = {"Url": f"http://127.0.0.1:{port}", **fields}
        self.assertEmpty(await self.client.ask("PUT", f"/peers/{name}", value), 200)

    async def begin(self, **body: object) -> str:
        """A job that sends to the peer; its identifier."""
        answer = await self.client.post("/peers/peer/store", {"Asynchronous": True, **body})
        self.assertEqual(answer.status, 200, answer.text)
        return str(answer.json()["ID"])

    async def finished(self, job: str) -> dict[str, Any]:
        record = self.server.jobs.job(job)
        assert record is not None
        await self.server.jobs.wait(record)
        found: dict[str, Any] = await self.client.json(f"/jobs/{job}")
        return found

    async def many(self, count: int) -> list[str]:
        return [(await self.client.store(dicom_object(sop=f"1.2.1.1.{n}")))["ID"] for n in range(1, count + 1)]

    async def other(self, **settings: object) -> tuple[Server, Client]:
        """Another server of ours, in the same process."""
        folder = Path(self.mktemp()).absolute()
        document = {"StorageDirectory": str(folder), "HttpPort": 0, "DicomServerEnabled": False, **settings}
        server = Server(reactor, Settings.parse(document, str(folder)), LogLevels(), lambda: None, lambda: None)
        await server.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(server.stop()))
        return server, Client(server.http_port)


class StoreTests(PeerCase):
    """Objects that are sent."""

    async def test_forms(self) -> None:
        """All three forms of the body send; the answer is the content of the job."""
        uploaded = await self.fill()
        study = uploaded[0]["ParentStudy"]
        files = [(await self.client.get(f"/instances/{item['ID']}/file")).body for item in uploaded[:3]]
        for body in (study, json.dumps(study), [study], {"Resources": [study]}):
            self.peer.asked.clear()
            answer = await self.client.post("/peers/peer/store", body)
            self.assertEqual(answer.status, 200, answer.text)
            self.assertEqual(
                answer.json(),
                {
                    "Compress": False,
                    "Description": "REST API",
                    "FailedInstancesCount": 0,
                    "InstancesCount": 3,
                    "ParentResources": [study],
                    "Peer": [f"http://127.0.0.1:{self.peer_port}/"],
                    "Resources": [{"ID": study, "Type": "Study"}],
                    "Size": str(sum(map(len, files))),
                    "SizeMB": 0,
                },
            )
            self.assertEqual(sorted(asked.body for asked in self.peer.asked), sorted(files))
            self.assertEqual({(asked.method, asked.path) for asked in self.peer.asked}, {("POST", "/instances")})
        nothing = (await self.client.post("/peers/peer/store", [])).json()
        self.assertEqual((nothing["InstancesCount"], nothing["Size"]), (0, "0"))
        self.assertNotIn("ParentResources", nothing)

    async def test_bad_requests(self) -> None:
        """Statuses of bad requests are Orthanc's; nothing is sent."""
        (instance,) = await self.many(1)
        for body, status, code in (
            ({}, 400, 15),
            ("nonsense", 400, 15),
            (["x"], 400, 15),
            ([5], 400, 15),
            ([NOBODY], 404, 17),
            ({"Resources": [instance], "Transcode": "x"}, 400, 15),
            ({"Resources": [instance], "Compress": 1}, 400, 15),
            ({"Resources": [instance], "Permissive": 1}, 400, 15),
        ):
            self.assertError(await self.client.post("/peers/peer/store", body), status, code)
        self.assertEqual(self.peer.asked, [])

    async def test_between_ours(self) -> None:
        """Another server of ours has the same bytes afterwards; also compressed, and again."""
        uploaded = await self.fill()
        server, client = await self.other(
            StorageCompression=True, AuthenticationEnabled=True, RegisteredUsers={"u": "pä"}
        )
        await self.know("ours", server.http_port, Username="u", Password="pä")
        ids = [item["ID"] for item in uploaded]
        for compress in (True, False):
            answer = await self.client.post("/peers/ours/store", {"Resources": ids, "Compress": compress})
            self.assertEqual((answer.status, answer.json()["FailedInstancesCount"]), (200, 0), answer.text)
        login = {"Authorization": "Basic dTpww6Q="}
        for public_id in ids:
            mine = await self.client.get(f"/instances/{public_id}/file")
            theirs = await client.ask("GET", f"/instances/{public_id}/file", headers=login)
            self.assertEqual((theirs.status, theirs.body), (200, mine.body))
        await self.know("ours", server.http_port)
        self.assertIn("401", self.assertError(await self.client.post("/peers/ours/store", ids), 500, 9)["Details"])

    async def test_system(self) -> None:
        """``system`` is what the peer answers."""
        server, _ = await self.other(Name="Somebody")
        await self.know("ours", server.http_port)
        answer = await self.client.get("/peers/ours/system")
        self.assertEqual((answer.headers["content-type"], answer.json()["Name"]), ("application/json", "Somebody"))

    async def test_compression(self) -> None:
        """``Compress`` sends gzip, which Size counts; large objects go through a file that does not stay."""
        noise = os.urandom(1 << 20)
        large = dicom_object(NumberOfFrames="20", **{**pixels(1024, 1024), "PixelData": noise + bytes(19 << 20)})
        for data in (dicom_object(sop="1.2.3"), large):
            instance = (await self.client.store(data))["ID"]
            answer = await self.client.post("/peers/peer/store", {"Resources": [instance], "Compress": True})
            asked = self.peer.asked[-1]
            self.assertEqual((answer.json()["Size"], answer.json()["Compress"]), (str(len(asked.body)), True))
            self.assertEqual(asked.headers["content-encoding"], "gzip")
            self.assertEqual(gzip.decompress(asked.body), data)
        blank = dicom_object(sop="1.2.4", **{**pixels(1024, 1024), "PixelData": bytes(1 << 20)})
        instance = (await self.client.store(blank))["ID"]
        await self.client.post("/peers/peer/store", {"Resources": [instance], "Compress": True})
        # Compressed, it would look like a bomb.
        self.assertNotIn("content-encoding", self.peer.asked[-1].headers)
        self.assertEqual(self.peer.asked[-1].body, blank)
        await self.stop()
        self.assertEqual([name for name in self.files() if "spool/" in name], [])

    async def test_transcoding(self) -> None:
        """``Transcode`` sends another transfer syntax where that is possible, else the object as it is."""
        data = dicom_object(**pixels(16, 16))
        instance = (await self.client.store(data))["ID"]
        for syntax, is_changed in ((_JPEG_LOSSLESS, True), (_MPEG2, False), ("1.2.840.10008.1.2.1", False)):
            body = {"Resources": [instance], "Transcode": syntax}
            answer = await self.client.post("/peers/peer/store", body)
            sent = self.peer.asked[-1].body
            self.assertEqual((answer.json()["Transcode"], answer.json()["Size"]), (syntax, str(len(sent))))
            self.assertEqual(syntax.encode() in sent[:400], is_changed or syntax.endswith(".1.2.1"))
            self.assertEqual(sent != data, is_changed)

    async def test_fields(self) -> None:
        """Headers, credentials and the form of Peer in jobs, which shows no secrets."""
        (instance,) = await self.many(1)
        address = f"http://127.0.0.1:{self.peer_port}/"
        await self.know("peer", self.peer_port, Username="u", Password="SECRET")
        content = (await self.client.post("/peers/peer/store", [instance])).json()
        self.assertEqual(content["Peer"], [address, "u", ""])
        self.assertEqual(self.peer.asked[-1].headers["authorization"], "Basic dTpTRUNSRVQ=")
        await self.know("peer", self.peer_port, HttpHeaders={"X-Key": "SECRET"}, Own="o", Timeout=9)
        job = await self.finished(await self.begin(Resources=[instance], Priority=5, UserData={"a": [1]}))
        shown = {"HttpHeaders": {"X-Key": ""}, "Own": "o", "Pkcs11": False, "Timeout": 9, "Url": address}
        self.assertEqual(job["Content"]["Peer"], shown)
        self.assertEqual((job["Type"], job["State"], job["Priority"]), ("OrthancPeerStore", "Success", 5))
        self.assertEqual(job["UserData"], {"a": [1]})
        self.assertEqual(self.peer.asked[-1].headers["x-key"], "SECRET")

    async def test_store_straight(self) -> None:
        """The body goes to the peer as it is, large ones too; nothing is stored here. The answer is the peer's."""
        server, client = await self.other(SpoolThresholdKB=1)
        await self.know("ours", server.http_port)
        for data in (dicom_object(), dicom_object(sop="1.2.9", **pixels(2048, 2048))):
            answer = await self.client.post("/peers/ours/store-straight", data)
            self.assertEqual((answer.status, answer.json()["Status"]), (200, "Success"), answer.text)
            stored = await client.get(f"/instances/{answer.json()['ID']}/file")
            self.assertEqual(stored.body, data)
        error = self.assertError(await self.client.post("/peers/ours/store-straight", b"no DICOM"), 500, 9)
        self.assertIn("The peer has answered 400 Bad Request", error["Details"])
        self.assertEqual(await self.client.json("/instances"), [])

    async def test_exports(self) -> None:
        """``LogExportedResources`` notes each resource of a request, failed ones too."""
        await self.restart(LogExportedResources=True)
        uploaded = await self.fill()
        study, instance = uploaded[0]["ParentStudy"], uploaded[3]["ID"]
        await self.know("down", free_port())
        await self.client.post("/peers/down/store", [study, instance])
        exports = (await self.client.json("/exports"))["Exports"]
        self.assertEqual(
            [(item["ID"], item["RemoteModality"], item["ResourceType"]) for item in exports],
            [(study, "down", "Study"), (instance, "down", "Instance")],
        )

    async def test_proxy(self) -> None:
        """``HttpProxy`` counts, and a client certificate with ``HttpsCACertificates``."""
        port, seen = proxy(self)
        known = certificates()
        tls_port = listen(self, self.peer.factory(), TlsContext(known.server, known.trusted))
        await self.restart(HttpProxy=f"127.0.0.1:{port}", HttpsCACertificates=known.trusted)
        files = {"CertificateFile": known.client.certificate, "CertificateKeyFile": known.client.private_key}
        (instance,) = await self.many(1)
        for fields, status in (({}, 500), (files, 200)):
            value = {"Url": f"https://localhost:{tls_port}", **fields}
            await self.client.ask("PUT", "/peers/secure", value)
            self.assertEqual((await self.client.post("/peers/secure/store", [instance])).status, status)
        self.assertEqual(len(self.peer.asked), 1)
        self.assertTrue(all(head.startswith(f"CONNECT localhost:{tls_port}") for head in seen), seen)


class FailureTests(PeerCase):
    """Peers that do not take what they are sent."""

    async def test_answers(self) -> None:
        """What is no acknowledgement is a failure that says why; `Permissive` counts it."""
        ids = await self.many(3)
        html = {"Content-Type": "text/html"}
        for say, details in (
            (Say(200, b"<html>", html), "text/html"),
            (Say(200, b'{"Status":"Failure"}'), "not stored"),
            (Say(200, b"[]"), "not stored"),
            (Say(500, b"{}"), "500 Internal Server Error"),
            (Say(507, b'{"Details":"full"}'), ": full"),
            (Say(401, b""), "401 Unauthorized"),
            (Say(307, b"", {"Location": f"http://127.0.0.1:{self.peer_port}/elsewhere"}), "elsewhere"),
        ):
            self.peer.answer = lambda asked, say=say: say
            error = self.assertError(await self.client.post("/peers/peer/store", ids), 500, 9)
            self.assertIn(details, error["Details"])
            answer = await self.client.post("/peers/peer/store", {"Resources": ids, "Permissive": True})
            self.assertEqual((answer.status, answer.json()["FailedInstancesCount"]), (200, 3))
        self.assertNotIn("/elsewhere", [asked.path for asked in self.peer.asked])
        for status in ("AlreadyStored", "FilteredOut", "Success"):
            self.peer.answer = lambda asked, status=status: Say(200, json.dumps({"Status": status}).encode())
            self.assertEqual((await self.client.post("/peers/peer/store", ids)).status, 200)

    async def test_some_fail(self) -> None:
        """With `Permissive` the others arrive, also when an instance is gone before its turn."""
        ids = await self.many(8)
        for number in (2, 5):
            path = self.server.storage.path(
                (await self.client.json(f"/instances/{ids[number]}/attachments/dicom/info"))["Uuid"]
            )
            Path(path).unlink()
        answer = await self.client.post("/peers/peer/store", {"Resources": ids, "Permissive": True})
        self.assertEqual(answer.json()["FailedInstancesCount"], 2)
        self.assertEqual(len(self.peer.asked), 6)

    async def test_hard_peers(self) -> None:
        """Peers that refuse, break off, say nothing, or speak something else."""
        (instance,) = await self.many(1)
        for words, details in (
            ((None,), "closed"),
            ((b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", None), "closed"),
            ((), "No answer within 1 s"),
            ((b"SSH-2.0-x\r\n",), "does not speak HTTP"),
        ):
            port, _ = talkers(self, *words)
            await self.know("hard", port, Timeout=1)
            error = self.assertError(await self.client.post("/peers/hard/store", [instance]), 500, 9)
            self.assertIn(details, error["Details"])
        await self.know("hard", free_port())
        error = self.assertError(await self.client.post("/peers/hard/store", [instance]), 500, 9)
        self.assertIn("refused", error["Details"])

    async def test_retries(self) -> None:
        """``PeerRetries``: what may be better later is sent again, so often; a refusal is not."""
        await self.restart(Orthanctw={"PeerRetries": [0, 0]})
        await self.know("peer", self.peer_port)
        ids = await self.many(2)
        answers = iter([Say(503), Say(503), Say(), Say(503), Say()])
        self.peer.answer = lambda asked: next(answers) if asked.body == first else Say()
        first = (await self.client.get(f"/instances/{ids[0]}/file")).body
        answer = await self.client.post("/peers/peer/store", ids)
        self.assertEqual((answer.status, answer.json()["FailedInstancesCount"]), (200, 0), answer.text)
        for status, times in ((503, 3), (401, 1)):
            self.peer.asked.clear()
            self.peer.answer = lambda asked, status=status: Say(status)
            self.assertError(await self.client.post("/peers/peer/store", ids[:1]), 500, 9)
            self.assertEqual(len(self.peer.asked), times)

    async def test_interrupting(self) -> None:
        """A job that waits for a peer is paused and cancelled at once; what was on its way is sent again."""
        ids = await self.many(6)
        self.peer.answer = lambda asked: None
        job = await self.begin(Resources=ids)
        await self.peer.until(4)
        await self.client.post(f"/jobs/{job}/pause")
        record = self.server.jobs.job(job)
        assert record is not None
        await self._until_state(job, "Paused")
        self.peer.answer = lambda asked: Say()
        self.peer.asked.clear()
        await self.client.post(f"/jobs/{job}/resume")
        self.assertEqual((await self.finished(job))["State"], "Success")
        self.assertEqual(len(self.peer.asked), 6)
        self.peer.answer = lambda asked: None
        job = await self.begin(Resources=ids)
        await self.peer.until(10)
        await self.client.post(f"/jobs/{job}/cancel")
        self.assertEqual((await self.finished(job))["ErrorCode"], 37)

    async def _until_state(self, job: str, state: str) -> None:
        while (await self.client.json(f"/jobs/{job}"))["State"] != state:
            pass

    async def test_in_flight(self) -> None:
        """``PeerTransfers`` objects are on their way at once, on connections that stay."""
        await self.restart(Orthanctw={"PeerTransfers": 3})
        await self.know("peer", self.peer_port)
        ids = await self.many(9)
        self.peer.answer = lambda asked: None
        job = await self.begin(Resources=ids)
        await self.peer.until(3)
        await self.client.json("/system")
        self.assertEqual(len(self.peer.asked), 3)
        self.peer.answer = lambda asked: Say()
        self.peer.release(Say())
        self.assertEqual((await self.finished(job))["State"], "Success")
        self.assertEqual((len(self.peer.asked), self.peer.connections), (9, 3))

    async def test_stop(self) -> None:
        """A server that stops does not wait for a silent peer, and goes on with the job after its start."""
        await self.restart(Orthanctw={"ShutdownTimeout": 0})
        await self.know("peer", self.peer_port)
        ids = await self.many(2)
        self.peer.answer = lambda asked: None
        job = await self.begin(Resources=ids)
        await self.peer.until(2)
        self.peer.asked.clear()
        self.peer.answer = lambda asked: Say()
        await self.restart()
        self.assertEqual((await self.finished(job))["State"], "Success")
        self.assertEqual(len(self.peer.asked), 2)


