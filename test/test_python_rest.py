"""Scripts in Python answer requests to the REST API, and make them."""

from __future__ import annotations

import base64

from twisted.internet.defer import Deferred, gatherResults

from test.log_lines import log_lines
from test.python_case import PythonCase, example
from test.rest_samples import NOBODY, Answer, LargeObject, dicom_object


class RestScriptCase(PythonCase):
    """Several clients."""

    async def at_once(self, paths: list[str]) -> list[Answer]:
        """Answers to requests that are made at the same time."""
        return await gatherResults([Deferred.fromCoroutine(self.client.get(path)) for path in paths])


class CallbackTests(RestScriptCase):
    """What callbacks are called with, and when."""

    async def test_example(self) -> None:
        """That of the documentation: a route of its own, one in place of another, a stream."""
        await self.start_scripts(example("REST callbacks"))
        self.assertEqual((await self.client.post("/instances", b"abc")).status, 400)
        stored = await self.client.store(dicom_object("P1", PatientName="B"))
        await self.client.store(dicom_object("P2", "1.3", "1.3.1", "1.3.1.1", PatientName="A"))
        self.assertEqual(len(await self.client.json("/instances")), 2)
        self.assertEqual((await self.client.json(f"/instances/{stored['ID']}"))["ID"], stored["ID"])
        self.assertEqual(await self.client.json("/patients-of/P"), ["A", "B"])
        self.assertEqual(await self.client.json("/patients-of/P", since=1), ["B"])
        refused = await self.client.post("/patients-of/P")
        self.assertEqual((refused.status, refused.headers["allow"]), (405, "GET"))
        numbers = await self.client.get("/numbers/3")
        self.assertEqual((numbers.text, numbers.headers["content-type"]), ("0\n1\n2\n", "text/plain"))
        self.assertEqual((await self.client.get("/numbers/x")).status, 404)

    async def test_arguments(self) -> None:
        """Keywords by method; the path as routes see it, the query apart, the first of equal headers."""
        await self.start_scripts(
            """
            def callback(output, uri, **request):
                shown = {name: value for name, value in request['headers'].items() if name.startswith('x-')}
                body = request['body'].decode() if 'body' in request else None
                assert type(request['groups']) is tuple and not set(request) - {
                    'method', 'groups', 'headers', 'get', 'body'}
                output.AnswerBuffer(json.dumps([
                    uri, request['method'], request['groups'], request.get('get'), shown, body]), '')

            orthanc.RegisterRestCallback('/(a)/([0-9]+)(x)?', callback)
            orthanc.RegisterRestCallback('/a/.*', None or (lambda output, uri, **_: output.AnswerBuffer('"2nd"', '')))
            """
        )
        path = "/a/5"
        for method, body in (("GET", None), ("DELETE", None), ("POST", "content"), ("PUT", "content")):
            answer = (await self.client.ask(method, "//a/./5/?k=1&k=2&l", body or b"")).json()
            arguments = {"k": "2", "l": ""} if method == "GET" else None
            self.assertEqual(answer, [path, method, ["a", "5", ""], arguments, {}, body])
        answer = (await self.client.ask("GET", path, headers={"X-Http-Method-Override": "DELETE"})).json()
        self.assertEqual(answer[1], "DELETE")
        twice = await self.exchange(
            "GET /a/5x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Two: 1\r\nX-Two: 2\r\n\r\n"
        )
        self.assertIn(b'["/a/5x", "GET", ["a", "5", "x"], {}, {"x-two": "1"}, null]', twice)
        self.assertEqual(await self.client.json("/a/b/c"), "2nd")
        options = await self.client.ask("OPTIONS", path)
        self.assertEqual((options.status, options.headers["allow"]), (204, "GET,POST,PUT,DELETE,HEAD,OPTIONS"))
        head = await self.client.ask("HEAD", path)
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertEqual((await self.client.ask("PATCH", path)).status, 400)

    async def test_large_body(self) -> None:
        """A body that was put on disk; the route in whose place it is gets it."""
        await self.start_scripts(
            """
            def callback(output, uri, **request):
                output.AnswerBuffer(orthanc.RestApiPost('/instances', request['body']), '')

            orthanc.RegisterRestCallback('/instances', callback)
            """
        )
        large = LargeObject(3)
        stored = await self.client.store(b"".join(large.chunks()))
        self.assertEqual(await self.client.json(f"/instances/{stored['ID']}/attachments/dicom/size"), large.size)

    async def test_find(self) -> None:
        """``/tools/find`` that also looks at metadata: what scripts call of it is that of the server."""
        await self.start_scripts(
            """
            def find(output, uri, **request):
                query = json.loads(request['body'])
                wanted = query.pop('Metadata', {})
                answer = []
                for one in json.loads(orthanc.RestApiPost('/tools/find', json.dumps(query))):
                    known = json.loads(orthanc.RestApiGet('/studies/%s/metadata?expand' % one))
                    if all(known.get(name) == value for name, value in wanted.items()):
                        answer.append(one)
                output.AnswerBuffer(json.dumps(answer), 'application/json')

            orthanc.RegisterRestCallback('/tools/find', find)
            """,
            UserMetadata={"State": 1024},
        )
        stored = await self.fill()
        study = stored[0]["ParentStudy"]
        await self.client.ask("PUT", f"/studies/{study}/metadata/State", "read")
        self.assertEqual(len(await self.client.find("Study", {})), 2)
        self.assertEqual(await self.client.find("Study", {}, Metadata={"State": "read"}), [study])

    async def test_at_once(self) -> None:
        """The client has its answer while the callback goes on; many clients wait for few threads."""
        await self.start_scripts(
            """
            import threading
            go = threading.Event()
            def first(output, uri, **request):
                output.AnswerBuffer('first', '')
                go.wait(60)
                note('ended')

            def second(output, uri, **request):
                go.set()
                output.AnswerBuffer(request['groups'][0], '')

            orthanc.RegisterRestCallback('/first', first)
            orthanc.RegisterRestCallback('/second(.)', second)
            """,
            Orthanctw={"PythonThreads": 2},
        )
        self.assertEqual((await self.client.get("/first")).text, "first")
        self.assertEqual(self.noted(), [])
        answers = await self.at_once([f"/second{number}" for number in range(5)])
        self.assertEqual([answer.text for answer in answers], ["0", "1", "2", "3", "4"])
        await self.until(self.noted)

    async def test_nested(self) -> None:
        """All threads are taken by callbacks that call others, which are called nevertheless."""
        await self.start_scripts(
            """
            import threading
            both = threading.Barrier(2)
            def outer(output, uri, **request):
                both.wait(60)
                output.AnswerBuffer(orthanc.RestApiGetAfterPlugins('/inner?a=b'), 'text/plain')

            def inner(output, uri, **request):
                output.AnswerBuffer(json.dumps([request['get'], request['headers']]), '')
                note('inner')

            orthanc.RegisterRestCallback('/outer', outer)
            orthanc.RegisterRestCallback('/inner', inner)
            """,
            Orthanctw={"PythonThreads": 2},
        )
        for answer in await self.at_once(["/outer"] * 2):
            self.assertEqual(answer.json(), [{"a": "b"}, {}])
        self.assertEqual(self.noted(), [["inner"]] * 2)

    async def test_authentication(self) -> None:
        """Who may not call the server does not call scripts."""
        await self.start_scripts(
            "orthanc.RegisterRestCallback('/a', lambda output, uri, **_: (note(uri), output.AnswerBuffer('x', '')))",
            AuthenticationEnabled=True,
            RegisteredUsers={"a": "b"},
        )
        self.assertEqual((await self.client.get("/a")).status, 401)
        self.assertEqual(self.noted(), [])
        headers = {"Authorization": "Basic " + base64.b64encode(b"a:b").decode()}
        self.assertEqual((await self.client.ask("GET", "/a", headers=headers)).text, "x")

    async def test_lua(self) -> None:
        """Lua asks scripts in Python, unless it says that it wants what is built in."""
        await self.start_scripts(
            """
            def callback(output, uri, **request):
                output.AnswerBuffer('"%s"' % request['method'], '')

            orthanc.RegisterRestCallback('/system|/own', callback)
            """,
            ExecuteLuaEnabled=True,
        )
        source = """
            print(RestApiGet('/system') .. RestApiGet('/system', false) .. RestApiPost('/own', ''))
            print(RestApiDelete('/own'))
            print(ParseJson(RestApiGet('/system', true))['DatabaseVersion'])
            print(RestApiGet('/own', true))
        """
        answer = await self.client.post("/tools/execute-script", source)
        *lines, last = answer.text.splitlines()
        self.assertEqual(lines, ['"GET""GET""POST"', "true", "6"])
        self.assertNotIn("GET", last)


class ServerTests(RestScriptCase):
    """The REST API from scripts."""

    async def test_example(self) -> None:
        """That of the documentation: a dump by pydicom."""
        await self.start_scripts(example("The REST API from scripts"))
        stored = await self.client.store(dicom_object())
        self.assertIn("DOE^JOHN", (await self.client.get(f"/dump/{stored['ID']}")).text)
        self.assertEqual((await self.client.get(f"/dump/{NOBODY}")).status, 404)

    async def test_token(self) -> None:
        """A child process is let in by a token, and nobody by another one or before; it dies with the server."""
        settings = {"AuthenticationEnabled": True, "RegisteredUsers": {"a": "b"}}
        await self.start_scripts(example("The REST API from scripts", 1), **settings)
        for token in ("", "Bearer ", "Bearer x"):
            self.assertEqual((await self.client.ask("GET", "/system", headers={"Authorization": token})).status, 401)
        headers = {"Authorization": "Basic " + base64.b64encode(b"a:b").decode()}
        answer = await self.client.ask("GET", "/child", headers=headers)
        self.assertEqual(answer.json()["CountStudies"], 0)
        await self.start_scripts("note(orthanc.GenerateRestApiAuthorizationToken())", **settings)
        ((token,),) = self.noted()
        self.assertEqual((await self.client.ask("GET", "/system", headers={"Authorization": token})).status, 200)
        wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
        self.assertEqual((await self.client.ask("GET", "/system", headers={"Authorization": wrong})).status, 401)
        await self.start_scripts("", **settings)
        self.assertEqual((await self.client.ask("GET", "/system", headers={"Authorization": token})).status, 401)

    async def test_codes(self) -> None:
        """Exceptions by code, and what succeeds without content."""
        await self.start_scripts(
            """
            for function, *arguments in (
                (orthanc.RestApiGet, '/nowhere'), (orthanc.RestApiGet, '/tools/find'),
                (orthanc.RestApiPost, '/tools/find', '{'), (orthanc.RestApiPost, '/instances', b'no'),
                (orthanc.RestApiPut, '/modalities/a', '["A", "h", 104]'), (orthanc.RestApiDelete, '/modalities/a'),
                (orthanc.RestApiDelete, '/modalities/a'), (orthanc.RestApiGet, 'system'), (orthanc.RestApiGet, ''),
                (orthanc.RestApiGetAfterPlugins, '/nowhere'), (orthanc.RestApiPostAfterPlugins, '/tools/lookup', 'x'),
                (orthanc.RestApiPutAfterPlugins, '/modalities/b', memoryview(b'["A", "h", 104]')),
                (orthanc.RestApiDeleteAfterPlugins, '/modalities/b'), (orthanc.RestApiGet, '/own'),
                (orthanc.RestApiGetAfterPlugins, '/own'), (orthanc.RestApiGet, '/own'),
                (orthanc.RestApiGet, '//system'), (orthanc.RestApiGetAfterPlugins, '/instances//x'),
                (orthanc.RestApiGet, '/instances/?a=//'),
            ):
                try:
                    answer = function(*arguments)
                    note(answer if answer is None else answer.decode())
                except orthanc.OrthancException as e:
                    note(e.args[0])
                orthanc.RegisterRestCallback('/own', lambda output, uri, **_: output.AnswerBuffer('own', ''))
            """
        )
        self.assertEqual(
            [value for (value,) in self.noted()],
            [17, 17, 8, 15, "", None, 7, 12, 12, 17, "[]", "", None, 17, "own", 17, 12, 12, "[]"],
        )

    async def test_processes(self) -> None:
        """Three calls are worked at in three processes at the same time."""
        await self.start_scripts(
            """
            import multiprocessing, os
            context = multiprocessing.get_context('fork')
            meeting = context.Barrier(3)
            def meet(number):
                meeting.wait(60)
                return os.getpid()

            pool = context.Pool(3)
            def callback(output, uri, **request):
                output.AnswerBuffer(str(pool.apply(meet, (1,))), '')

            def changed(change, level, resource):
                if change == orthanc.ChangeType.ORTHANC_STOPPED:
                    pool.terminate()

            orthanc.RegisterRestCallback('/meet', callback)
            orthanc.RegisterOnChangeCallback(changed)
            """
        )
        self.assertEqual(len({answer.text for answer in await self.at_once(["/meet"] * 3)}), 3)

    async def test_traceback(self) -> None:
        """An exception is in the log with script and line, and not in the answer."""
        log = log_lines(self, self.levels)
        await self.start_scripts("orthanc.RegisterRestCallback('/f', lambda output, uri, **_: {}['secret'])")
        answer = await self.client.get("/f")
        self.assertError(answer, 500, 1)
        self.assertNotIn("secret", answer.text)
        self.assertTrue(self.flushLoggedErrors(KeyError))
        self.assertIn("script0.py", log.getvalue())
