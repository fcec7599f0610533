"""The HTTP client with servers that do as they should, and with others."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred, gatherResults, succeed
from twisted.internet.protocol import Factory

from orthanctw.errors import InexistentFile
from orthanctw.httpclient import HttpFailure, Proxy
from orthanctw.httpclient import client as client_module
from test.http_client_case import Body, ClientCase
from test.http_servers import Deaf, Say, listen, talkers
from test.servers import free_port

#: What a server that refuses early has said before the request was complete.
_EARLY = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno"


class ExchangeTests(ClientCase):
    """Requests that are answered."""

    def setUp(self) -> None:
        super().setUp()
        self.url = f"http://127.0.0.1:{listen(self, self.server.factory())}/"

    async def test_fields(self) -> None:
        """Method, path, headers, credentials and body arrive; status, headers and body come back."""
        self.server.answer = lambda asked: Say(418, b"tea", {"X-Pot": "full"})
        answer = await self.ask(
            f"{self.url}a?b=c%20d#e", "PUT", headers={"X-A": "b"}, body=b"\x00\xff", username="ü", password="p:w"
        )
        (asked,) = self.server.asked
        self.assertEqual((asked.method, asked.path, asked.body), ("PUT", "/a?b=c%20d", b"\x00\xff"))
        self.assertEqual((asked.headers["x-a"], asked.headers["authorization"]), ("b", "Basic w7w6cDp3"))
        self.assertNotIn("accept-encoding", asked.headers)
        self.assertEqual((answer.status, answer.body, answer.headers["x-pot"]), (418, b"tea", "full"))
        self.assertFalse(answer.is_success)

    async def test_credentials_of_the_url(self) -> None:
        """A URL may name user and password; a header that says otherwise wins."""
        url = self.url.replace("//", "//a:b%40@")
        await self.ask(url)
        await self.ask(url, headers={"authorization": "Bearer x"})
        sent = [asked.headers["authorization"] for asked in self.server.asked]
        self.assertEqual(sent, ["Basic YTpiQA==", "Bearer x"])
        self.assertNotIn("@", self.server.asked[0].headers["host"])

    async def test_streaming(self) -> None:
        """A body is read piece by piece, whatever the reader gives at a time, and closed."""
        content = bytes(range(256)) * 8192
        for piece in (1 << 20, 10_007):
            body = Body(content, piece)
            await self.ask(self.url, "POST", body=lambda body=body: succeed(body))
            self.assertTrue(body.is_closed)
            self.assertEqual(self.server.asked[-1].body, content)
            self.assertEqual(self.server.asked[-1].headers["content-length"], str(len(content)))

    async def test_kept_connections(self) -> None:
        """Requests one after the other share a connection; those at once have their own, which are kept, too."""
        for _ in range(3):
            await self.ask(self.url)
        self.assertEqual(self.server.connections, 1)
        for _ in range(3):
            await gatherResults([self.ask(self.url) for _ in range(4)])
        self.assertEqual(self.server.connections, 4)

    async def test_redirections(self) -> None:
        """A redirection is an answer; nothing is asked elsewhere. No cookie is kept."""
        self.server.answer = lambda asked: Say(307, b"", {"Location": f"{self.url}x", "Set-Cookie": "a=b"})
        for _ in range(2):
            self.assertEqual((await self.ask(self.url, "POST", body=b"x")).status, 307)
        self.assertEqual([asked.path for asked in self.server.asked], ["/", "/"])
        self.assertNotIn("cookie", self.server.asked[1].headers)

    async def test_long_answers(self) -> None:
        """An answer of more bytes than are wanted is refused, and its connection ends."""
        self.server.answer = lambda asked: Say(200, b"x" * 5000)
        self.assertEqual(len((await self.ask(self.url, maximum=5000)).body), 5000)
        self.assertIn("4999", (await self.fails(self.url, maximum=4999)).details)

    async def test_no_json(self) -> None:
        """What is no JSON says so with its type."""
        self.server.answer = lambda asked: Say(200, b"<html>", {"Content-Type": "text/html; charset=x"})
        answer = await self.ask(self.url)
        self.assertIn("text/html", self.assertRaises(HttpFailure, answer.json).details)

    async def test_body_that_fails(self) -> None:
        """When a body cannot be read on, the caller gets that error, and the server no complete request."""
        body = Body(b"x" * 1000, 100, fails_after=500)
        await self.assertFailure(self.ask(self.url, "POST", body=lambda: succeed(body)), InexistentFile)
        self.assertTrue(body.is_closed)
        self.assertEqual(self.server.asked, [])

    async def test_cancelling(self) -> None:
        """Giving up ends the connection, also that of a request that waits for its answer."""
        self.server.answer = lambda asked: None
        asked = self.ask(self.url)
        await self.server.until(1)
        closed = self.server.waiting[0][1].notifyFinish()
        asked.cancel()
        await self.assertFailure(asked, CancelledError)
        await self.assertFailure(closed, Exception)

    async def test_closing(self) -> None:
        """Closing the client ends what is under way."""
        self.server.answer = lambda asked: None
        asked = self.ask(self.url)
        await self.server.until(1)
        await self.client.close()
        await self.assertFailure(asked, CancelledError)

    async def test_verbose(self) -> None:
        """``HttpVerbose`` logs requests, without what is secret."""
        lines: list[str] = []
        self.patch(
            client_module.log,
            "warn",
            lambda text, **values: lines.append(text.format(**values)),
        )
        url = self.url.replace("//", "//us:secret@") + "path?token=secret"
        await self.ask(url, client=self.make(is_verbose=True), headers={"X": "secret"})
        self.assertEqual(len(lines), 1)
        self.assertIn("GET /path of 127.0.0.1: 200", lines[0])
        self.assertNotIn("secret", lines[0])


class StrangeServerTests(ClientCase):
    """Servers that break off, keep silent, or say what is none."""

    async def test_nobody(self) -> None:
        """Nobody listens: it may be better later."""
        failure = await self.fails(f"http://127.0.0.1:{free_port()}/")
        self.assertIn("refused", failure.details)
        self.assertTrue(failure.is_transient)

    async def test_bad_urls(self) -> None:
        """What is no URL is told so."""
        for url in ("ftp://h/", "http://", "http://h:x/", "http://h:99999/", "http://[::1/", "http://a b/"):
            await self.fails(url)

    async def test_breaking_off(self) -> None:
        """A connection that ends before the answer is complete, wherever."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"
        for words in (b"", b"HTTP/1.1 20", head[:-2], head, head + b"12345", chunked):
            port, _ = talkers(self, words, None)
            failure = await self.fails(f"http://127.0.0.1:{port}/", "POST", body=b"x")
            self.assertIn("closed before", failure.details)
            self.assertTrue(failure.is_transient)

    async def test_no_length(self) -> None:
        """Without a length, the end of the connection is that of the answer."""
        port, _ = talkers(self, b"HTTP/1.0 200 OK\r\n\r\nall of it", None)
        self.assertEqual((await self.ask(f"http://127.0.0.1:{port}/")).body, b"all of it")

    async def test_no_http(self) -> None:
        """Who speaks something else is told apart from who breaks off."""
        for words in (b"SSH-2.0-OpenSSH_9\r\n", b"\x15\x03\x01\x00\x02\x02\x46\r\n", b"HTTP/1.1 abc OK\r\n\r\n"):
            port, _ = talkers(self, words)
            self.assertIn("does not speak HTTP", (await self.fails(f"http://127.0.0.1:{port}/")).details)

    async def test_long_heads(self) -> None:
        """Headers without end are not taken, however many; many are."""
        port, _ = talkers(self, b"HTTP/1.1 200 OK\r\n", *[b"A: %s\r\n" % (b"x" * 1000)] * 200, b"\r\n", None)
        self.assertEqual((await self.ask(f"http://127.0.0.1:{port}/")).status, 200)
        port, _ = talkers(self, b"HTTP/1.1 200 OK\r\n", *[b"A: %s\r\n" % (b"x" * 1000)] * 300)
        self.assertIn("head", (await self.fails(f"http://127.0.0.1:{port}/")).details)

    async def test_silence(self) -> None:
        """Nothing moves: before the answer, within its head or its body."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
        for words in ((), (head[:20],), (head,), (head + b"123",)):
            port, _ = talkers(self, *words)
            for client in (self.client, self.make(timeout=0.1)):
                timeout = 0.1 if client is self.client else None
                failure = await self.fails(f"http://127.0.0.1:{port}/", client=client, timeout=timeout)
                self.assertIn("No answer within 0.1 s", failure.details)
                self.assertTrue(failure.is_transient)

    async def test_server_that_does_not_read(self) -> None:
        """A body that nobody takes ends with the time limit, and is closed."""
        port = listen(self, Factory.forProtocol(Deaf))
        body = Body(b"x" * (64 << 20))
        failure = await self.fails(f"http://127.0.0.1:{port}/", "POST", body=lambda: succeed(body), timeout=0.3)
        self.assertIn("No answer", failure.details)
        self.assertTrue(body.is_closed)

    async def test_early_answers(self) -> None:
        """A server that answers before it has the whole body is heard, and nothing more is sent."""
        port, _ = talkers(self, _EARLY)
        body = Body(b"x" * (32 << 20))
        answer = await self.ask(f"http://127.0.0.1:{port}/", "POST", body=lambda: succeed(body))
        self.assertEqual((answer.status, answer.body), (413, b"no"))
        self.assertTrue(body.is_closed)
        self.assertGreater(body.remaining, 0)

    async def test_stale_connections(self) -> None:
        """A kept connection that the server closes instead of an answer: the request is sent once more, if it may."""
        ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        for is_repeatable in (True, False):
            port, made = talkers(self, ok)
            url = f"http://127.0.0.1:{port}/"
            bodies: list[Body] = []

            def body(bodies: list[Body] = bodies) -> Deferred[Body]:
                bodies.append(Body(b"hello"))
                return succeed(bodies[-1])

            await self.ask(url, "POST", body=body)
            # It says goodbye as soon as it hears of another one.
            made[0].then(None)
            if is_repeatable:
                self.assertEqual((await self.ask(url, "POST", body=body)).status, 200)
                self.assertEqual((len(made), len(bodies)), (2, 3))
                self.assertTrue(made[1].received.endswith(b"hello"))
            else:
                await self.fails(url, "POST", body=body, is_repeatable=False)
                self.assertEqual(len(made), 1)
            self.assertTrue(all(item.is_closed for item in bodies))


class ProxyTests(ClientCase):
    """Requests through a proxy; those over HTTPS are with the certificates."""

    async def test_plain(self) -> None:
        """HTTP goes to the proxy with the whole URL, and with its credentials; its connections are kept."""
        port = listen(self, self.server.factory())
        client = self.make(proxy=Proxy.parse(f"us%65r:pass@127.0.0.1:{port}"))
        for host in ("one.example", "two.example:81"):
            answer = await self.ask(f"http://{host}/path", client=client, username="a", password="b")
            self.assertEqual(answer.status, 200)
        first, second = self.server.asked
        self.assertEqual((first.path, second.path), ("http://one.example/path", "http://two.example:81/path"))
        self.assertEqual(first.headers["proxy-authorization"], "Basic dXNlcjpwYXNz")
        self.assertEqual(first.headers["authorization"], "Basic YTpi")
        self.assertEqual(self.server.connections, 1)

    async def test_refusing(self) -> None:
        """A proxy that refuses, closes, keeps silent, or is none."""
        for words, details in (
            ((b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",), "status 407"),
            ((b"SSH-2.0\r\n\r\n",), "does not speak HTTP"),
            ((None,), "proxy has closed"),
            ((b"x" * 20_000,), "no answer to CONNECT"),
            ((), "No answer within"),
        ):
            port, made = talkers(self, *words)
            client = self.make(proxy=Proxy.parse(f"http://127.0.0.1:{port}"), timeout=0.3, verifies=False)
            failure = await self.fails("https://one.example/", client=client)
            self.assertIn(details, failure.details)
            self.assertTrue(made[0].received.startswith(b"CONNECT one.example:443 HTTP/1.1\r\n"), made[0].received)
