"""HTTP itself: who may call, methods, paths, connections, compression."""

from __future__ import annotations

import gzip
import zlib
from base64 import b64encode
from collections.abc import Mapping
from typing import ClassVar

from orthanctw.errors import EmptyAnswer
from orthanctw.rest.authentication import Authenticator
from test.rest_samples import NOBODY, Answer, RestCase, dicom_object, pixels, wire


def basic(text: str) -> dict[str, str]:
    """The header of HTTP Basic (RFC 7617)."""
    return {"Authorization": f"Basic {b64encode(text.encode()).decode()}"}


class AuthenticationTests(RestCase):
    """Registered users."""

    SETTINGS: ClassVar[Mapping[str, object]] = {
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"anna": "pässword:1", "bob": ""},
    }

    def assert_refused(self, answer: Answer) -> None:
        self.assertEmpty(answer, 401)
        self.assertEqual(answer.headers["www-authenticate"], 'Basic realm="Orthanc Secure Area"')

    async def test_users(self) -> None:
        """Each user enters by name and password."""
        for text in ("anna:pässword:1", "bob:"):
            self.assertEqual((await self.client.ask("GET", "/system", headers=basic(text))).status, 200)

    async def test_strangers(self) -> None:
        """Missing, wrong and malformed credentials are refused at every path, unknown ones included."""
        good = basic("anna:pässword:1")["Authorization"]
        wrong: list[dict[str, str]] = [
            {},
            basic("anna:password:1"),
            basic("anna:pässword:1 "),
            basic("anna:"),
            basic("anna"),
            basic("Anna:pässword:1"),
            basic("carol:pässword:1"),
            basic("anna:pässword"),
            basic("bob:x"),
            basic(":"),
            {"Authorization": good.replace("Basic", "Bearer")},
            {"Authorization": good.replace("Basic ", "Basic")},
            {"Authorization": "Basic"},
            {"Authorization": "Basic !!!!"},
            {"Authorization": "Basic " + "A" * 10000},
            {"X-Authorization": good},
        ]
        for headers in wrong:
            for path in ("/system", "/", "/app/explorer.html", "/nothing", f"/instances/{NOBODY}"):
                self.assert_refused(await self.client.ask("GET", path, headers=headers))
        for method in ("POST", "PUT", "DELETE", "HEAD", "PATCH"):
            self.assert_refused(await self.client.ask(method, "/instances"))

    async def test_spellings(self) -> None:
        """The scheme has no case."""
        good = basic("anna:pässword:1")["Authorization"]
        for text in (good.replace("Basic", "basic"), good.replace("Basic", "BASIC"), good.replace(" ", "  ")):
            answer = await self.client.ask("GET", "/system", headers={"Authorization": text})
            self.assertEqual(answer.status, 200)

    async def test_before_the_body(self) -> None:
        """A stranger is refused before the body is taken, and what is sent leaves no trace."""
        connection = await wire(self.port)
        head = b"POST /instances HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n"
        connection.write(head + b"Expect: 100-continue\r\n\r\n")
        answer = await connection.until(b"\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 401 "), answer)
        self.assertNotIn(b"100 Continue", answer)
        connection.abort()
        await connection.lost
        connection = await wire(self.port)
        connection.write(head + b"\r\n" + b"x" * 5_000_000)
        self.assertTrue((await connection.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 401 "))
        connection.abort()
        await connection.lost
        self.assertEqual(self.files(), [])

    async def test_small_body(self) -> None:
        """The refusal of a request with a small body leaves the connection usable."""
        data = dicom_object()
        request = b"POST /instances HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data)
        good = basic("anna:pässword:1")["Authorization"]
        answer = await self.exchange(
            request, data, f"GET /system HTTP/1.1\r\nHost: x\r\nAuthorization: {good}\r\nConnection: close\r\n\r\n"
        )
        self.assertEqual(answer.count(b"HTTP/1.1 "), 2)
        self.assertIn(b"HTTP/1.1 401", answer)
        self.assertIn(b"HTTP/1.1 200", answer)
        self.assertEqual(self.files(), [])

    async def test_name_in_metadata(self) -> None:
        """Who uploads is written down."""
        answer = await self.client.ask("POST", "/instances", dicom_object(), headers=basic("anna:pässword:1"))
        path = f"{answer.json()['Path']}/metadata/HttpUsername"
        self.assertEqual((await self.client.ask("GET", path, headers=basic("bob:"))).text, "anna")


class RemoteAccessTests(RestCase):
    """Addresses."""

    async def test_addresses(self) -> None:
        """Without remote access, only this machine may call, however its address is written."""
        guard = Authenticator(remote_access=False, enabled=False, users={})
        for address in ("127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"):
            self.assertEqual(guard.authenticate(address, None), "")
        for address in ("10.0.0.1", "::ffff:10.0.0.1", "fe80::1%eth0", "", "localhost", "127.0.0.1.evil"):
            self.assertRaises(EmptyAnswer, guard.authenticate, address, None)


class MethodTests(RestCase):
    """Methods, and others in their place."""

    async def test_not_allowed(self) -> None:
        """A known path with another method tells what it has, in a fixed order."""
        for method, path, allowed in (
            ("DELETE", "/system", "GET"),
            ("PUT", "/instances", "GET,POST"),
            ("POST", f"/patients/{NOBODY}", "GET,DELETE"),
            ("DELETE", f"/patients/{NOBODY}/protected", "GET,PUT"),
            ("GET", "/tools/find", "POST"),
            ("POST", "/changes", "GET,DELETE"),
        ):
            answer = await self.client.ask(method, path)
            self.assertEmpty(answer, 405)
            self.assertEqual(answer.headers["allow"], allowed)

    async def test_unknown_methods(self) -> None:
        """Other methods are a mistake wherever they are sent; some belong to other parts of a server."""
        for path in ("/system", "/nothing", "/instances"):
            for method, status in (("PATCH", 400), ("FOO", 400), ("get", 400), ("PROPFIND", 404)):
                answer = await self.exchange(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                self.assertTrue(answer.startswith(f"HTTP/1.1 {status} ".encode()), (method, answer[:30]))
                self.assertTrue(answer.endswith(b"Content-Length: 0\r\n\r\n"))

    async def test_override(self) -> None:
        """A header makes any method PUT or DELETE, an argument GET alone."""
        stored = await self.client.store(dicom_object())
        path = f"/patients/{stored['ParentPatient']}/protected"
        for name in ("PUT", "put", "Put"):
            answer = await self.client.ask("POST", path, "1", headers={"X-HTTP-Method-Override": name})
            self.assertEmpty(answer, 200)
        self.assertEqual((await self.client.get(path)).text, "1")
        self.assertEmpty(await self.client.ask("POST", f"{path}?_method=PUT", "0"), 405)
        for name in ("patch", "get", "", "%CE%A9", "%C3%BF", "%ff"):
            self.assertEmpty(await self.client.get(f"{path}?_method={name}"), 400)
        answer = await self.client.ask("GET", path, headers={"X-HTTP-Method-Override": "PATCH"})
        self.assertEmpty(answer, 400)
        answer = await self.client.ask("GET", stored["Path"], headers={"X-HTTP-Method-Override": "delete"})
        self.assertEqual(answer.json(), {"RemainingAncestor": None})
        stored = await self.client.store(dicom_object())
        self.assertEqual((await self.client.get(f"{stored['Path']}?_method=delete")).status, 200)
        self.assertEqual((await self.client.json("/statistics"))["CountInstances"], 0)


class PathTests(RestCase):
    """Ways to write a path."""

    async def test_spellings(self) -> None:
        """Slashes, dots and percent signs do not matter."""
        for path in (
            "//system",
            "/system/",
            "/./system",
            "/system/.",
            "/instances/../system",
            "/../../system",
            "/system%2f",
            "/%73ystem",
            "/%2e%2e/system",
            "/a/b/../..//system///",
        ):
            answer = await self.exchange(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), (path, answer[:30]))

    async def test_root(self) -> None:
        """What goes up to the root is the root."""
        for path in ("/", "//", "/instances/..", "/.", "/?x=y"):
            self.assertEqual((await self.client.get(path)).status, 307, path)

    async def test_not_found(self) -> None:
        """Unknown paths, and bytes that are no text."""
        for path in ("/nothing", "/systems", "/system/x", "/SYSTEM", "/%ff", "/%00", "/instances/a/b/c", "/a" * 5000):
            body = self.assertError(await self.client.get(path), 404, 17)
            self.assertEqual((body["Method"], body["HttpError"]), ("GET", "Not Found"))
        self.assertEqual((await self.client.get("/nothing?secret=1")).json()["Uri"], "/nothing")

    async def test_arguments(self) -> None:
        """Unknown arguments are ignored, those of other methods than GET too."""
        self.assertEqual((await self.client.get("/system?unknown&x=y&&&=&%ff=%ff")).status, 200)
        self.assertEqual((await self.client.ask("DELETE", "/changes?limit=x")).status, 200)


class ErrorTests(RestCase):
    """Bodies of errors."""

    async def test_body(self) -> None:
        """An error is JSON with fixed keys."""
        answer = await self.client.get(f"/studies/{NOBODY}/series")
        body = self.assertError(answer, 404, 17)
        self.assertEqual(
            body,
            {
                "HttpError": "Not Found",
                "HttpStatus": 404,
                "Message": body["OrthancError"],
                "Method": "GET",
                "OrthancError": body["OrthancError"],
                "OrthancStatus": 17,
                "Uri": f"/studies/{NOBODY}/series",
            },
        )

    async def test_not_described(self) -> None:
        """Without descriptions, the status alone."""
        await self.restart(HttpDescribeErrors=False)
        self.assertEmpty(await self.client.get(f"/studies/{NOBODY}/series"), 404)
        self.assertEmpty(await self.client.post("/instances", b"x"), 400)


class ConnectionTests(RestCase):
    """Connections and their headers."""

    async def test_headers(self) -> None:
        """An ordinary answer has few headers and no trace of the program."""
        head, _, _ = (await self.exchange("GET /system HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).partition(
            b"\r\n\r\n"
        )
        names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]]
        self.assertEqual(
            set(names), {b"Connection", b"Content-Type", b"X-Content-Type-Options", b"Content-Length"}
        )
        self.assertIn(b"Connection: close", head)
        self.assertIn(b"Content-Type: application/json; charset=utf-8", head)

    async def test_keep_alive(self) -> None:
        """A connection serves one request after the other until it has been idle."""
        connection = await wire(self.port)
        for number in range(1, 4):
            connection.write(b"GET /tools/now HTTP/1.1\r\nHost: x\r\n\r\n")
            received = await connection.until(b"HTTP/1.1 200 OK\r\nConnection: keep-alive", number)
            self.assertEqual(received.count(b"Keep-Alive: timeout=1\r\n"), number)
        await connection.lost

    async def test_no_keep_alive(self) -> None:
        """Without KeepAlive every answer ends its connection."""
        await self.restart(KeepAlive=False)
        answer = await self.exchange("GET /system HTTP/1.1\r\nHost: x\r\n\r\n")
        self.assertIn(b"Connection: close\r\n", answer)
        self.assertNotIn(b"Keep-Alive", answer)

    async def test_old_clients(self) -> None:
        """HTTP/1.0 is answered."""
        answer = await self.exchange("GET /system HTTP/1.0\r\n\r\n")
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 OK\r\n"))

    async def test_pipeline(self) -> None:
        """Requests that come at once are answered in their order."""
        data = dicom_object()
        upload = b"POST /instances HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data
        last = b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        simple = b"GET /instances HTTP/1.1\r\nHost: x\r\n\r\n"
        answer = await self.exchange(simple, upload, simple, upload, last)
        bodies = [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 ")[1:]]
        self.assertEqual(len(bodies), 5)
        self.assertEqual(bodies[0], b"[]")
        self.assertIn(b"Success", bodies[1])
        self.assertIn(b"-", bodies[2])
        self.assertIn(b"AlreadyStored", bodies[3])
        self.assertIn(b"/nothing", bodies[4])

    async def test_many_at_once(self) -> None:
        """Many connections are served side by side."""
        connections = [await wire(self.port) for _ in range(100)]
        for connection in connections:
            connection.write(b"GET /system HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for connection in connections:
            self.assertTrue((await connection.lost).startswith(b"HTTP/1.1 200 "))


class CompressionTests(RestCase):
    """``HttpCompressionEnabled``."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"HttpCompressionEnabled": True}

    async def test_large_json(self) -> None:
        """JSON from 2 KB on is compressed as the client accepts it, gzip first."""
        plain = await self.client.get("/system")
        await self.client.store(dicom_object(ImageComments="x" * 3000))
        (path,) = await self.client.json("/instances")
        for accepted, encoding in (
            ("gzip", "gzip"),
            ("deflate", "deflate"),
            ("deflate, gzip;q=0.5", "gzip"),
            ("br, GZIP", "gzip"),
            ("br", ""),
            ("identity", ""),
            ("", ""),
        ):
            answer = await self.client.ask(
                "GET", f"/instances/{path}/tags?ignore-length=ImageComments", headers={"Accept-Encoding": accepted}
            )
            self.assertEqual(answer.headers.get("content-encoding", ""), encoding, accepted)
            body = {"gzip": gzip.decompress, "deflate": zlib.decompress, "": bytes}[encoding](answer.body)
            self.assertIn(b"x" * 3000, body)
            self.assertEqual(answer.headers["content-length"], str(len(answer.body)))
        self.assertEqual(plain.status, 200)

    async def test_small_and_binary(self) -> None:
        """Short answers and files come as they are."""
        data = dicom_object(**pixels(100, 100))
        stored = await self.client.store(data)
        for path in ("/tools/now", "/statistics", f"{stored['Path']}/file", f"{stored['Path']}/content/PixelData/0"):
            answer = await self.client.ask("GET", path, headers={"Accept-Encoding": "gzip, deflate"})
            self.assertNotIn("content-encoding", answer.headers)
        self.assertEqual((await self.client.get(f"{stored['Path']}/file")).body, data)

    async def test_disabled(self) -> None:
        """By default nothing is compressed."""
        await self.restart(HttpCompressionEnabled=False)
        answer = await self.client.ask("GET", "/system", headers={"Accept-Encoding": "gzip"})
        self.assertNotIn("content-encoding", answer.headers)


class SlowReaderTests(RestCase):
    """A client that does not read."""

    SETTINGS: ClassVar[Mapping[str, object]] = {"Orthanctw": {"ShutdownTimeout": 1}}

    async def test_stop(self) -> None:
        """The server waits with reading the file, serves others, and ends the connection when it stops."""
        data = dicom_object(**pixels(8000, 8000))
        stored = await self.client.store(data)
        connection = await wire(self.port)
        connection.write(f"GET {stored['Path']}/file HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await connection.until(b"\r\n\r\n")
        assert connection.transport is not None
        connection.transport.pauseProducing()
        self.assertEqual((await self.client.get("/system")).status, 200)
        await self.stop()
        connection.transport.resumeProducing()
        received = await connection.lost
        self.assertLess(len(received), len(data))
