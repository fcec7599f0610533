"""Scripts in Python decide about requests over HTTP, and ask other servers."""

from __future__ import annotations

import base64
import json

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults

from test.http_servers import Asked, HttpServer, Say
from test.python_case import PythonCase, example


class ServiceCase(PythonCase):
    """A web service beside the server, at `url`; it answers as `answer` does."""

    async def setUp(self) -> None:
        await super().setUp()
        self.service = HttpServer(self.answer)
        port = reactor.listenTCP(0, self.service.factory(), interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(port.stopListening)
        self.url = f"http://127.0.0.1:{port.getHost().port}"

    def answer(self, asked: Asked) -> Say | None:
        raise NotImplementedError


class FilterTests(ServiceCase):
    """``RegisterIncomingHttpRequestFilter``."""

    def answer(self, asked: Asked) -> Say | None:
        return Say(body=json.dumps({"granted": json.loads(asked.body)["user"] == "friend"}).encode())

    async def test_example(self) -> None:
        """That of the documentation: a web service decides; clients wait for it at the same time."""
        await self.start_scripts(example("HTTP request filter").replace("http://127.0.0.1:8000", self.url))
        self.assertEqual((await self.client.get("/system")).status, 200)
        self.assertEmpty(await self.client.get("/patients"), 403)
        granted = {"X-User": "friend"}
        self.assertEqual((await self.client.ask("GET", "/patients", headers=granted)).json(), [])
        self.service.answer = lambda _: None
        waiting = [Deferred.fromCoroutine(self.client.get("/patients")) for _ in range(3)]
        await self.service.until(5)
        # Who asks for nothing that is decided about is served meanwhile.
        await self.client.json("/system")
        self.service.release(Say(body=b'{"granted": true}'))
        self.assertEqual([answer.status for answer in await gatherResults(waiting)], [200] * 3)
        self.service.answer = lambda _: Say(503)
        self.assertError(await self.client.get("/patients"), 500, 1)
        self.flushLoggedErrors()

    async def test_arguments(self) -> None:
        """The method as a number, the path, the address, headers, and arguments of a GET."""
        await self.start_scripts(
            """
            def allowed(uri, **request):
                headers = {name: value for name, value in request.pop('headers').items() if name.startswith('x-')}
                note(uri, headers, request)
                return True

            orthanc.RegisterIncomingHttpRequestFilter(allowed)
            """
        )
        for method in ("GET", "POST", "PUT", "DELETE"):
            await self.client.ask(method, "/a//b/?c=d", b"x", headers={"X-A": "1"})
        ip = "127.0.0.1"
        self.assertEqual(
            self.noted(),
            [
                ["/a/b", {"x-a": "1"}, {"method": 1, "ip": ip, "get": {"c": "d"}}],
                ["/a/b", {"x-a": "1"}, {"method": 2, "ip": ip}],
                ["/a/b", {"x-a": "1"}, {"method": 3, "ip": ip}],
                ["/a/b", {"x-a": "1"}, {"method": 4, "ip": ip}],
            ],
        )

    async def test_answers(self) -> None:
        """Only True and False are answers; exceptions let nobody in, and neither does silence."""
        await self.start_scripts(
            """
            import threading
            go = threading.Event()
            answers = {
                '/true': lambda: True, '/false': lambda: False, '/one': lambda: 1, '/none': lambda: None,
                '/text': lambda: 'yes', '/late': lambda: go.wait(60), '/go': lambda: go.set() or True}
            def allowed(uri, **request):
                return answers[uri]()

            orthanc.RegisterIncomingHttpRequestFilter(allowed)
            orthanc.RegisterRestCallback('/.*', lambda output, uri, **_: output.AnswerBuffer('in', ''))
            """,
            Orthanctw={"PythonFilterTimeout": 1},
        )
        self.assertEqual((await self.client.get("/true")).text, "in")
        self.assertEmpty(await self.client.get("/false"), 403)
        for path in ("/one", "/none", "/text", "/raises"):
            self.assertError(await self.client.get(path), 500, 1)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.assertEmpty(await self.client.get("/late"), 403)
        self.assertEqual((await self.client.get("/go")).text, "in")

    async def test_all(self) -> None:
        """All scripts must grant, in their order, and then Lua; they may call the server. Strangers come to none."""
        script = """
            def allowed(uri, method, ip, headers, get):
                patients = json.loads(orthanc.RestApiGet('/patients'))
                note(__name__, len(patients))
                return headers.get(__name__, '') != 'no'

            orthanc.RegisterIncomingHttpRequestFilter(allowed)
        """
        lua = self.scripts / "filter.lua"
        lua.write_text("function IncomingHttpRequestFilter(method, uri, ip, name, headers) return not headers.lua end")
        await self.start_scripts(
            script, script, LuaScripts=[str(lua)], AuthenticationEnabled=True, RegisteredUsers={"a": "b"}
        )
        self.assertEqual((await self.client.get("/system")).status, 401)
        self.assertEqual(self.noted(), [])
        for headers, status, asked in (
            ({}, 200, 2),
            ({"Lua": "no"}, 403, 2),
            ({"Script0": "no"}, 403, 1),
            ({"Script1": "no"}, 403, 2),
        ):
            self.set_aside()
            known = {"Authorization": "Basic " + base64.b64encode(b"a:b").decode(), **headers}
            answer = await self.client.ask("GET", "/system", headers=known)
            self.assertEqual(answer.status, status, headers)
            self.assertEqual(self.noted(), [["script0", 0], ["script1", 0]][:asked])


class ClientTests(ServiceCase):
    """``HttpGet`` and its like."""

    def answer(self, asked: Asked) -> Say | None:
        status = int(asked.path[1:])
        return Say(status, f"{asked.method} {asked.headers.get('authorization')} ".encode() + asked.body)

    async def noted_of(self, calls: str) -> list[object]:
        """What calls answer, or the codes of their exceptions."""
        await self.start_scripts(
            f"url = {self.url!r}\n"
            f"for function, *arguments in ({calls}):\n"
            "    try:\n"
            "        answer = function(*arguments)\n"
            "        note(answer if answer is None else answer.decode())\n"
            "    except orthanc.OrthancException as e:\n"
            "        note(e.args[0])\n"
        )
        return [value for (value,) in self.noted()]

    async def test_methods(self) -> None:
        """Bodies and credentials."""
        answers = await self.noted_of(
            "(orthanc.HttpGet, url + '/200', '', ''), (orthanc.HttpGet, url + '/200', 'u', 'p'),"
            "(orthanc.HttpPost, url + '/201', b'body', None, None), (orthanc.HttpPut, url + '/200', 'é', '', ''),"
            "(orthanc.HttpDelete, url + '/200', '', ''),"
        )
        self.assertEqual(
            answers, ["GET None ", "GET Basic dTpw ", "POST None body", "PUT None é", None]
        )
        self.assertEqual(self.service.asked[-1].method, "DELETE")

    async def test_failures(self) -> None:
        """Codes of exceptions."""
        statuses = {400: 8, 401: 29, 403: 29, 404: 17, 415: 9, 500: 9, 503: 9}
        calls = "".join(f"(orthanc.HttpGet, url + '/{status}', '', '')," for status in statuses)
        other = "(orthanc.HttpDelete, url + '/404', '', ''), (orthanc.HttpGet, 'http://127.0.0.1:1/', '', ''),"
        wrong = "(orthanc.HttpGet, 'nonsense', '', ''),"
        self.assertEqual(await self.noted_of(calls + other + wrong), [*statuses.values(), 17, 9, 9])

    async def test_arguments(self) -> None:
        """Wrong types are a TypeError, and no request is made."""
        await self.start_scripts(
            """
            for arguments in ((), ('http://127.0.0.1:1/',), (5, '', ''), ('http://127.0.0.1:1/', 5, '')):
                try:
                    orthanc.HttpGet(*arguments)
                except TypeError:
                    note('TypeError')
            """
        )
        self.assertEqual(self.noted(), [["TypeError"]] * 4)
