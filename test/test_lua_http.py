"""Lua decides about requests over HTTP."""

from __future__ import annotations

import base64
import hashlib
import select
import socket
import struct
from collections.abc import Mapping
from typing import Any, ClassVar, Final
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from test.dicom_peers import in_thread
from test.lua_servers import Gate, LuaServerCase
from test.rest_samples import Answer, Client, LargeObject, dicom_object
from test.servers import PATIENCE, free_port

_USERS: Final = {"admin": "a", "guest": "g"}
#: Only `admin` writes; what a path begins with is what else happens.
_FILTER: Final = """
function IncomingHttpRequestFilter(method, uri, ip, username, httpHeaders)
  if string.sub(uri, 1, 5) == '/note' then note(method, uri, ip, username, httpHeaders) end
  if uri == '/fail' then error('bang') end
  if uri == '/text' then return 'yes' end
  if uri == '/none' then return end
  if uri == '/ever' then while true do end end
  return method == 'GET' or username == 'admin' or uri == '/tools/execute-script'
end
"""


def credentials(name: str) -> dict[str, str]:
    """The header that somebody is known by."""
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{_USERS[name]}".encode()).decode()}


class HttpFilterCase(LuaServerCase):
    """A server with users and a filter."""

    SCRIPT = _FILTER
    USERS: ClassVar[Mapping[str, object]] = {
        "AuthenticationEnabled": True,
        "RegisteredUsers": _USERS,
        "WebDavEnabled": True,
        "WebDavDeleteAllowed": True,
    }

    async def setUp(self) -> None:
        await super().setUp()
        await self.scripted(self.SCRIPT, **self.USERS)

    async def scripted(self, source: str, **settings: object) -> None:
        await super().scripted(source, **{**self.USERS, **settings})
        self.client = _AdminClient(self.port)

    async def ask(self, method: str, path: str, body: bytes = b"", user: str = "guest", **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await Client(self.port).ask(method, path, body, headers={**credentials(user), **named})


class _AdminClient(Client):
    """Asks as `admin`."""

    async def ask(self, method: str, path: str, body: Any = b"", **options: Any) -> Answer:
        headers = {**credentials("admin"), **(options.pop("headers", None) or {})}
        return await super().ask(method, path, body, headers=headers, **options)


class FilterTests(HttpFilterCase):
    """Who gets in, and what is told of failures."""

    async def test_only_admin_writes(self) -> None:
        """Whoever the filter keeps out is answered 403, on every path; nothing of the request happens."""
        self.assertEqual((await self.client.post("/instances", dicom_object())).status, 200)
        (instance,) = await self.client.json("/instances")
        self.assertEqual((await self.ask("GET", "/system")).status, 200)
        for method, path in (
            ("POST", "/instances"),
            ("DELETE", f"/instances/{instance}"),
            ("PUT", f"/instances/{instance}/metadata/1024"),
            ("PUT", "/webdav/uploads/a"),
            ("DELETE", "/webdav/by-patients"),
            ("MKCOL", "/webdav/uploads/b"),
            ("LOCK", "/webdav/uploads"),
            ("PROPPATCH", "/webdav/uploads"),
            ("MOVE", "/webdav/uploads"),
            ("PUT", "/app/explorer.html"),
            ("POST", "/no/such/path"),
        ):
            self.assertEmpty(await self.ask(method, path, dicom_object(sop="1.2.3.4")), 403)
        self.assertEmpty(await self.ask("GET", f"/instances/{instance}?_method=DELETE"), 403)
        self.assertEmpty(await self.ask("POST", "/instances", X_HTTP_Method_Override="PUT"), 403)
        self.assertEqual((await self.ask("PROPFIND", "/webdav", Depth="0")).status, 207)
        self.assertEqual(await self.client.json("/instances"), [instance])
        self.assertEqual((await self.client.ask("DELETE", f"/instances/{instance}")).status, 200)

    async def test_strangers(self) -> None:
        """Nobody is asked about who is not known, nor about methods that nobody answers."""
        self.assertEmpty(await Client(self.port).get("/note"), 401)
        self.assertEmpty(await self.ask("PATCH", "/note"), 400)
        self.assertEmpty(await self.ask("POST", "/note", X_HTTP_Method_Override="FOO"), 400)
        self.assertEqual(await self.told(), [])

    async def test_arguments(self) -> None:
        """The filter is told what Orthanc tells it."""
        for method in ("GET", "HEAD", "OPTIONS", "PROPFIND", "MKCOL", "UNLOCK"):
            await self.ask(method, "/note")
        await self.ask("GET", "/x/../note/" + quote("é /b") + "//./c/?q=1", X_A="b", X_B="\xe9")
        authorization = credentials("guest")["Authorization"]
        await self.exchange(
            _head("GET /note", f"Authorization: {authorization}", "X-A: 1", "X-A: 2", "Connection: close")
        )
        told = await self.told()
        self.assertEqual(told.pop()[-1]["x-a"], "1")
        self.assertEqual([line[0] for line in told], ["GET", "GET", "GET", "GET", "PUT", "PUT", "GET"])
        headers = told[-1].pop()
        self.assertEqual(told[-1], ["GET", "/note/é /b/c", "127.0.0.1", "guest"])
        self.assertEqual(
            {name: headers[name] for name in ("authorization", "host", "x-a", "x-b")},
            {
                "authorization": authorization,
                "host": f"127.0.0.1:{self.port}",
                "x-a": "b",
                "x-b": "é",
            },
        )

    async def test_failures(self) -> None:
        """A script that fails, or answers no boolean, is an error of the server; nobody gets in."""
        error = self.assertError(await self.ask("GET", "/fail"), 500, 2031)
        self.assertIn("bang", error["Details"])
        self.assertEqual((error["Uri"], error["Method"]), ("/fail", "GET"))
        self.assertError(await self.ask("GET", "/text"), 500, 2034)
        self.assertError(await self.ask("POST", "/none", b"x"), 500, 2033)
        self.flushLoggedErrors()

    async def test_no_answer(self) -> None:
        """A filter that never ends refuses; those after it are asked as ever."""
        await self.scripted(self.SCRIPT, Orthanctw={"LuaFilterTimeout": 1})
        with capturedLogs() as logs:
            self.assertEmpty(await self.ask("POST", "/ever", b"x" * 200_000), 403)
        self.assertIn("/ever", [event.get("uri") for event in logs])
        self.assertEqual((await self.ask("GET", "/system")).status, 200)

    async def test_removed(self) -> None:
        """A filter is asked as long as there is one."""
        self.assertEqual((await self.ask("POST", "/tools/now")).status, 403)
        await self.scripted(self.SCRIPT + "IncomingHttpRequestFilter = nil")
        self.assertEqual((await self.ask("POST", "/tools/now")).status, 405)


    async def test_scripts_that_are_lost(self) -> None:
        """Nobody gets in where the scripts with the filter had to be run anew, and could not."""
        await self.scripted(self.SCRIPT, Orthanctw={"LuaMemoryMB": 16})
        (self.work / "script.lua").unlink()
        await self.run_script("kept = {} for i = 1, 230 do kept[i] = string.rep('x', 65536 + i) end")
        self.assertEmpty(await self.ask("POST", "/tools/now"), 403)
        self.assertEmpty(await self.ask("GET", "/system"), 403)


class BodyTests(LuaServerCase):
    """Requests that come and go while the filter is asked."""

    async def held(self) -> Gate:
        """Have a server whose filter waits at a gate, unless a script is run, or there is no gate any more."""
        gate = self.gate()
        await self.scripted(
            "function IncomingHttpRequestFilter(method, uri)"
            f" if uri == '/instances' and method == 'POST' then {gate.code} end"
            " return uri ~= '/tools/now' end"
        )
        return gate

    def connect(self, *parts: str | bytes) -> socket.socket:
        """A connection on which something was sent (blocking)."""
        connection = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
        connection.sendall(_bytes(*parts))
        return connection

    async def test_body_is_not_taken(self) -> None:
        """Nothing of a body is taken before the filter has answered; then, all of it."""
        gate = await self.held()
        large = LargeObject(16)
        sent = 0

        def send(connection: socket.socket, data: memoryview) -> int:
            """Send until the server has taken nothing for a while."""
            connection.setblocking(False)
            count = 0
            while count < len(data) and select.select((), (connection,), (), 0.5)[1]:
                count += connection.send(data[count : count + (1 << 20)])
            return count

        body = b"".join(large.chunks())
        connection = await in_thread(self.connect, _head("POST /instances", f"Content-Length: {large.size}"))
        try:
            await self.until(gate.is_reached)
            sent = await in_thread(send, connection, memoryview(body))
            self.assertLess(sent, large.size)
            (channel,) = self.server.site.connections
            self.assertLessEqual(len(channel._buffer), 512 * 1024)
            self.assertEqual((self.server.body_limits.budget.used, self.spooled()), (0, []))
            gate.open()
            connection.setblocking(True)
            await in_thread(connection.sendall, memoryview(body)[sent:])
            answer = await in_thread(_answers, connection)
        finally:
            connection.close()
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer)
        self.assertEqual(hashlib.md5(await self.stored(), usedforsecurity=False).hexdigest(), large.md5())

    async def test_requests_in_a_row(self) -> None:
        """Requests of one connection are asked about and answered in their order, whatever has come with them."""
        gate = await self.held()
        data = dicom_object()
        chunked = b"Transfer-Encoding: chunked\r\n\r\n" + b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
        connection = await in_thread(
            self.connect,
            "POST /instances HTTP/1.1\r\nHost: a\r\n",
            chunked,
            "POST /tools/now HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nxyz",
            "GET /tools/now HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /tools/lookup HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nP1",
            _head("GET /instances", "Connection: close"),
        )
        try:
            await self.until(gate.is_reached)
            gate.open()
            answer = await in_thread(_answers, connection)
        finally:
            connection.close()
        statuses = [piece[:3] for piece in answer.split(b"HTTP/1.1 ")[1:]]
        self.assertEqual(statuses, [b"200", b"403", b"403", b"200", b"200"])
        (instance,) = await self.instances()
        self.assertIn(instance.encode(), answer.rpartition(b"HTTP/1.1 ")[2])

    async def test_expectations(self) -> None:
        """A client that asks before it sends is told when the filter has answered."""
        await self.scripted("function IncomingHttpRequestFilter(method, uri) return uri ~= '/tools/now' end")
        for request, body, wanted in (
            ("POST /tools/lookup", b"P1", [b"100", b"200"]),
            ("POST /tools/now", b"P1", [b"403"]),
            ("GET /tools/now", b"", [b"403"]),
        ):
            length = f"Content-Length: {len(body)}" if body else ""
            head = _head(request, length, "Expect: 100-continue", "Connection: close")
            connection = await in_thread(self.connect, head)
            try:
                answer = await in_thread(connection.recv, 12)
                connection.sendall(body)
                answer += await in_thread(_answers, connection)
            finally:
                connection.close()
            self.assertEqual([piece[:3] for piece in answer.split(b"HTTP/1.1 ")[1:]], wanted)

    async def test_client_that_leaves(self) -> None:
        """Nothing is left of the request of a client that leaves while the filter is asked, and nothing is stored."""
        gate = await self.held()
        for length, is_noticed in ((0, True), (1 << 20, False)):
            connection = await in_thread(
                self.connect, _head("POST /instances", f"Content-Length: {length}"), bytes(length // 2)
            )
            await self.until(gate.is_reached)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
            if is_noticed:
                # Where a body is to come, nothing is read until the filter has answered.
                await self.until(lambda: not self.server.site.connections)
            gate.open()
            await self.until(lambda: not self.server.site.connections)
            self.assertEqual(await self.run_script("print(1)"), "1\n")
            await self.assertNothingStored()
            self.assertEqual(self.server.body_limits.budget.used, 0)

    async def test_others_meanwhile(self) -> None:
        """A filter that waits keeps nobody else waiting."""
        gate = await self.held()
        upload = Deferred.fromCoroutine(self.upload(dicom_object()))
        await self.until(gate.is_reached)
        self.assertEqual((await self.client.get("/system")).status, 200)
        self.assertEmpty(await self.client.get("/tools/now"), 403)
        gate.open()
        self.assertEqual((await upload).status, 200)

    async def test_filter_that_asks_the_server(self) -> None:
        """A filter may itself ask this server over HTTP; it is asked about that, too."""
        port = free_port()
        await self.scripted(
            "function IncomingHttpRequestFilter(method, uri, ip, username, headers)"
            " if headers['x-inner'] then return headers['x-inner'] == '1' end"
            f" local url = 'http://127.0.0.1:{port}/system'"
            " return HttpGet(url, {['X-Inner'] = '1'}) ~= nil and HttpGet(url, {['X-Inner'] = '2'}) == nil end",
            HttpPort=port,
        )
        self.assertEqual((await self.client.get("/changes")).status, 200)
        self.flushLoggedErrors()


def _bytes(*parts: str | bytes) -> bytes:
    return b"".join(part.encode() if isinstance(part, str) else part for part in parts)


def _head(request: str, *lines: str) -> str:
    return "\r\n".join([f"{request} HTTP/1.1", "Host: a", *filter(None, lines), "", ""])


def _answers(connection: socket.socket) -> bytes:
    """All that comes until the server ends the connection (blocking)."""
    received = b""
    while data := connection.recv(65536):
        received += data
    return received
