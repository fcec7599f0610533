"""What Python scripts answer requests with: ``RestOutput``, its streams, and clients that are slow or leave."""

from __future__ import annotations

import socket
import threading
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from orthanctw.errors import OrthancError
from orthanctw.scripting.exchange import Stream
from test.dicom_peers import in_thread
from test.python_case import PythonCase
from test.rest_samples import wire

_OUTPUTS = """
    P = orthanc.PixelFormat.GRAYSCALE8
    OUTPUTS = {
        'buffer': lambda o: o.AnswerBuffer(b'ab', 'text/plain'),
        'text': lambda o: o.AnswerBuffer('é', 'text/plain'),
        'none': lambda o: o.AnswerBuffer(None, ''),
        'png': lambda o: o.CompressAndAnswerPngImage(P, 2, 2, 2, b'abcd'),
        'jpeg': lambda o: o.CompressAndAnswerJpegImage(P, 2, 2, 2, b'abcd', 90),
        'short': lambda o: o.CompressAndAnswerPngImage(P, 200, 200, 200, b'abcd'),
        'redirect': lambda o: (o.SetCookie('a', 'b'), o.Redirect('/system')),
        'status': lambda o: o.SendHttpStatus(404, 'gone'),
        'code': lambda o: o.SendHttpStatusCode(403),
        'empty': lambda o: o.SendHttpStatus(204, 'nothing'),
        'unknown': lambda o: o.SendHttpStatusCode(999),
        'methods': lambda o: o.SendMethodNotAllowed('GET,PUT'),
        'realm': lambda o: o.SendUnauthorized('my "realm"'),
        'headers': lambda o: (
            o.SetHttpHeader('X-A', 'é'), o.SetHttpHeader('Content-Length', '77'),
            o.SetHttpHeader('Content-Type', 'a/b'), o.SetCookie('c', 'd'), o.AnswerBuffer('x', 'text/html')),
        'injected': lambda o: (o.SetHttpHeader('X-A', '1\\r\\nX-B: 2'), o.AnswerBuffer('x', 'text/html')),
        'named': lambda o: o.SetHttpHeader('X-A: 1\\r\\nX-B', '2'),
        'cookie': lambda o: o.SetCookie('a', 'b\\nX-B: 2'),
        'typed': lambda o: o.AnswerBuffer('x', 'text/plain\\r\\nX-B: 2'),
        'located': lambda o: o.Redirect('/\\nX-B: 2'),
        'details': lambda o: (o.SetHttpErrorDetails('because', 1), o.SetHttpHeader('X-A', '1'), 1 / 0),
        'multipart': lambda o: (
            o.StartMultipartAnswer('related', 'a/b'), o.SendMultipartItem(b'one'), o.SendMultipartItem('two')),
        'stream': lambda o: (o.StartStreamAnswer('a/b'), o.SendStreamChunk(b'one'), o.SendStreamChunk('two')),
        'twice': lambda o: (o.AnswerBuffer('first', ''), o.AnswerBuffer('second', ''), note('went on')),
        'after': lambda o: (o.AnswerBuffer('first', ''), 1 / 0),
        'late': lambda o: (o.AnswerBuffer('first', ''), o.StartStreamAnswer('')),
        'item': lambda o: o.SendMultipartItem(b'one'),
        'chunk': lambda o: o.SendStreamChunk(b'one'),
        'type': lambda o: o.AnswerBuffer(5, ''),
        'nothing': lambda o: None,
        'middle': lambda o: (o.StartStreamAnswer('a/b'), o.SendStreamChunk(b'one'), 1 / 0),
    }
    def callback(output, uri, **request):
        try:
            OUTPUTS[request['groups'][0]](output)
        except Exception as e:
            note(type(e).__name__, *map(str, e.args))
            raise

    orthanc.RegisterRestCallback('/output/(.*)', callback)
"""


class OutputTests(PythonCase):
    """``RestOutput``."""

    async def setUp(self) -> None:
        await super().setUp()
        await self.start_scripts(_OUTPUTS)

    async def answer(self, name: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an output."""
        answer = await self.client.get(f"/output/{name}")
        self.assertNotIn("x-b", answer.headers)
        return answer.status, dict(answer.headers), answer.body

    async def test_whole(self) -> None:
        """Answers that are there at once."""
        for name, status, body, header in (
            ("buffer", 200, b"ab", ("content-type", "text/plain")),
            ("text", 200, "é".encode(), ("content-length", "2")),
            ("none", 200, b"", ("content-length", "0")),
            ("redirect", 301, b"", ("location", "/system")),
            ("redirect", 301, b"", ("set-cookie", "a=b")),
            ("status", 404, b"gone", ("content-length", "4")),
            ("code", 403, b"", ("content-length", "0")),
            ("methods", 405, b"", ("allow", "GET,PUT")),
            ("realm", 401, b"", ("www-authenticate", 'Basic realm="my \\"realm\\""')),
            ("headers", 200, b"x", ("content-type", "text/html")),
            ("headers", 200, b"x", ("x-a", "é".encode().decode("latin-1"))),
            ("headers", 200, b"x", ("content-length", "1")),
        ):
            answered, headers, content = await self.answer(name)
            self.assertEqual((answered, content, headers[header[0]]), (status, body, header[1]), name)
        status, _, body = await self.answer("empty")
        self.assertEqual((status, body), (204, b""))

    async def test_images(self) -> None:
        """PNG and JPEG."""
        _, headers, body = await self.answer("png")
        self.assertEqual((headers["content-type"], body[:4]), ("image/png", b"\x89PNG"))
        _, headers, body = await self.answer("jpeg")
        self.assertEqual((headers["content-type"], body[:3]), ("image/jpeg", b"\xff\xd8\xff"))

    async def test_parts(self) -> None:
        """Multipart answers and streams."""
        _, headers, body = await self.answer("multipart")
        kind, boundary = headers["content-type"].split("; boundary=")
        self.assertEqual(kind, 'multipart/related; type="a/b"')
        item = f"--{boundary}\r\nContent-Type: a/b\r\nContent-Length: 3\r\nMIME-Version: 1.0\r\n\r\n"
        self.assertEqual(body.decode(), f"{item}one\r\n{item}two\r\n--{boundary}--\r\n")
        _, headers, body = await self.answer("stream")
        self.assertEqual((headers["content-type"], body), ("a/b", b"onetwo"))

    async def test_failures(self) -> None:
        """Error 1 to the client, the exception in the log, and nothing set by line breaks."""
        raised = {}
        names = ["injected", "named", "cookie", "typed", "located", "unknown", "short", "item", "chunk", "type"]
        for name in [*names, "details"]:
            answer = await self.client.get(f"/output/{name}")
            self.assertNotIn("x-b", answer.headers)
            body = self.assertError(answer, 500, 1)
            raised[name] = self.noted()[-1][:2]
        self.assertEqual((body["Details"], answer.headers["x-a"]), ("because", "1"))
        self.assertEqual(raised["item"], ["OrthancException", "6"])
        self.assertEqual(raised["chunk"], ["OrthancException", "6"])
        self.assertEqual(raised["type"][0], "TypeError")
        self.assertEqual(raised["details"][0], "ZeroDivisionError")
        self.assertEqual({raised[name][1] for name in ("injected", "named", "cookie", "typed", "unknown")}, {"3"})
        self.assertEqual(len(self.flushLoggedErrors()), len(raised))

    async def test_sequence(self) -> None:
        """The first answer counts, whatever comes after it; none is an empty 404 or 400."""
        for name in ("twice", "after", "late"):
            self.assertEqual((await self.answer(name))[2], b"first")
        await self.until(lambda: len(self.noted()) == 3)
        self.assertEqual([values[0] for values in self.noted()], ["went on", "ZeroDivisionError", "OrthancException"])
        self.assertEmpty(await self.client.get("/output/nothing"), 404)
        self.assertEmpty(await self.client.post("/output/nothing"), 400)
        self.flushLoggedErrors()

    async def test_cut(self) -> None:
        """A stream whose callback raises has no end."""
        answer = await self.exchange("GET /output/middle HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        self.assertIn(b"3\r\none\r\n", answer)
        self.assertNotIn(b"\r\n0\r\n", answer)
        self.assertTrue(self.flushLoggedErrors(ZeroDivisionError))

    async def test_head(self) -> None:
        """HEAD of a stream: the callback sends to nobody, and ends well."""
        head = await self.client.ask("HEAD", "/output/stream")
        self.assertEqual((head.status, head.body, head.headers["content-type"]), (200, b"", "a/b"))
        await self.until(lambda: self.server.python.host.threads.running == 0)
        self.assertEqual(self.noted(), [])

    async def test_without_a_socket(self) -> None:
        """All answers that a script can read of another."""
        await self.start_scripts(
            _OUTPUTS,
            """
            for name in ('buffer', 'multipart', 'stream', 'code', 'status', 'redirect', 'details', 'middle', 'nothing'):
                try:
                    note(name, len(orthanc.RestApiGetAfterPlugins('/output/' + name)))
                except orthanc.OrthancException as e:
                    note(name, e.args[0])
            """,
        )
        noted = {str(name): value for name, value, *_ in self.noted() if not str(name).endswith("Error")}
        self.assertGreater(noted.pop("multipart"), 200)
        self.assertEqual(
            noted,
            {
                "buffer": 2,
                "stream": 6,
                "code": 29,
                "status": 17,
                "redirect": 8,
                "details": 1,
                "middle": 1,
                "nothing": 17,
            },
        )
        self.flushLoggedErrors()

    async def test_too_late(self) -> None:
        """An output is of no use after its callback."""
        await self.start_scripts(
            """
            kept = []
            def callback(output, uri, **request):
                for former in kept:
                    try:
                        former.AnswerBuffer('x', '')
                    except orthanc.OrthancException as e:
                        note(e.args[0] == orthanc.ErrorCode.NULL_POINTER)
                kept.append(output)
                output.AnswerBuffer('now', '')

            orthanc.RegisterRestCallback('/keep', callback)
            """
        )
        for _ in range(2):
            self.assertEqual((await self.client.get("/keep")).text, "now")
        await self.until(self.noted)
        self.assertEqual(self.noted(), [[True]])


class StreamTests(PythonCase):
    """Back pressure."""

    SCRIPT = """
        def callback(output, uri, **request):
            output.StartStreamAnswer('a/b')
            for number in range(100):
                try:
                    output.SendStreamChunk(bytes([number]) * (1 << 20))
                except orthanc.OrthancException as e:
                    note('gone', number, e.args[0])
                    raise
                open(folder + '/sent', 'a').write('.')
            note('sent')

        orthanc.RegisterRestCallback('/large', callback)
    """

    def sent(self) -> int:
        """Chunks that were taken from the script."""
        path = self.scripts / "sent"
        return len(path.read_text()) if path.exists() else 0

    async def test_slow(self) -> None:
        """A client that does not read holds up the script; when it reads, all comes in order."""
        await self.start_scripts(self.SCRIPT)
        go = threading.Event()
        taken = in_thread(self._read, go)
        await self.until(lambda: self.sent() > 0)
        # Others are served meanwhile.
        for _ in range(20):
            await self.client.json("/system")
        self.assertLess(self.sent(), 50)
        go.set()
        self.assertEqual(await taken, [(number, 1 << 20) for number in range(100)])
        await self.until(self.noted)
        self.assertEqual(self.noted(), [["sent"]])

    def _read(self, go: threading.Event) -> list[tuple[int, int]]:
        with socket.create_connection(("127.0.0.1", self.port)) as connection:
            connection.sendall(b"GET /large HTTP/1.0\r\n\r\n")
            go.wait(60)
            content = b"".join(iter(lambda: connection.recv(1 << 20), b"")).partition(b"\r\n\r\n")[2]
        return [(number, content.count(bytes([number]))) for number in range(100)]

    async def test_gone(self) -> None:
        """A client that leaves: the script gets an exception, and the log no traceback."""
        await self.start_scripts(self.SCRIPT)
        connection = await wire(self.port)
        connection.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        await connection.until(b"\x00" * 10)
        connection.abort()
        await self.until(self.noted)
        ((word, number, code),) = self.noted()
        self.assertEqual((word, code), ("gone", 9))
        self.assertLess(number, 99)

    async def test_gone_before(self) -> None:
        """The callback of a GET is not called for a client that has left while all threads were taken."""
        await self.start_scripts(
            """
            import threading
            go = threading.Event()
            def wait(output, uri, **request):
                note('waits')
                go.wait(60)
                output.AnswerBuffer('done', '')

            orthanc.RegisterRestCallback('/wait', wait)
            orthanc.RegisterRestCallback('/other', lambda output, uri, **request: note('other', request['method']))
            orthanc.RegisterRestCallback('/go', lambda output, uri, **_: go.set() or output.AnswerBuffer('', ''))
            """,
            Orthanctw={"PythonThreads": 1},
        )
        waiting = in_thread(lambda: socket.create_connection(("127.0.0.1", self.port)))
        holder: Any = await waiting
        holder.sendall(b"GET /wait HTTP/1.0\r\n\r\n")
        await self.until(self.noted)
        threads = self.server.python.host.threads
        for count, method in ((1, b"GET"), (2, b"POST")):
            connection = await wire(self.port)
            connection.write(method + b" /other HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            await self.until(lambda count=count: threads.waiting == count)
            connection.abort()
        await self.until(lambda: len(self.server.site.connections) == 1)
        await self.server.python.host.call("test", self._release, urgent=True)
        await self.until(lambda: len(self.noted()) == 2)
        self.assertEqual(self.noted(), [["waits"], ["other", "POST"]])
        holder.close()

    def _release(self) -> None:
        import script0  # type: ignore[import-not-found]

        script0.go.set()


class StreamUnitTests(SynchronousTestCase):
    """The buffer between a script and its reader."""

    def test_patience(self) -> None:
        """Who takes nothing for a minute gets no more, and learns that something is missing; slow ones get all."""
        clock = Clock()
        stream = Stream(clock)
        sending = stream.send(b"x" * (2 << 20))
        for _ in range(4):
            clock.advance(50)
            self.assertEqual(len(self.successResultOf(stream.read(1 << 20))), 1 << 18)
        self.assertNoResult(sending)
        clock.advance(61)
        self.failureResultOf(sending, OrthancError)
        self.failureResultOf(stream.send(b"y"), OrthancError)
        for _ in range(4):
            self.assertEqual(len(self.successResultOf(stream.read(1 << 20))), 1 << 18)
        self.failureResultOf(stream.read(1), OrthancError)
        stream.close()
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_pieces(self) -> None:
        """Pieces of any size come as they are asked for; there is room again as soon as they are taken."""
        clock = Clock()
        stream = Stream(clock)
        self.successResultOf(stream.send(b"ab"))
        sending = stream.send(b"c" * (1 << 20))
        self.assertEqual(self.successResultOf(stream.read(3)), b"abc")
        self.successResultOf(sending)
        reading = stream.read(5)
        self.assertEqual(self.successResultOf(reading), b"c" * 5)
        stream.end()
        size = 0
        while stream.remaining:
            size += len(self.successResultOf(stream.read(1 << 20)))
        self.assertEqual(size, (1 << 20) - 6)
        self.assertEqual(self.successResultOf(stream.read(1)), b"")
        self.assertEqual(clock.getDelayedCalls(), [])

    def test_waiting_reader(self) -> None:
        """A reader that waits gets what is sent, the end, and the failure of the script."""
        for failure in (None, ValueError("no")):
            stream = Stream(Clock())
            reading = stream.read(5)
            self.successResultOf(stream.send(b"ab"))
            self.assertEqual(self.successResultOf(reading), b"ab")
            reading = stream.read(5)
            stream.end(failure)
            if failure is None:
                self.assertEqual((self.successResultOf(reading), stream.remaining), (b"", 0))
            else:
                self.failureResultOf(reading, ValueError)
                self.assertEqual(stream.remaining, -1)
