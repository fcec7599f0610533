"""Scripts that do what no script should: the server goes on, and ends when it is asked to."""

from __future__ import annotations

from orthanctw.python_hooks.answers import described
from test.python_case import PythonCase
from test.rest_samples import dicom_object
from test.servers import ORTHANCTW, TWISTD, wait_until
from test.test_python_lifecycle import ProcessCase

_ENDINGS = "SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException('x')"


class ExceptionTests(PythonCase):
    """What is no `Exception`, as ``sys.exit`` raises."""

    async def test_rest(self) -> None:
        """A REST callback is answered with error 1, and its thread goes on."""
        await self.start_scripts(
            f"""
            def answer(output, uri, **request):
                raise ({_ENDINGS})[int(request['groups'][0])]
            orthanc.RegisterRestCallback('/end/(.)', answer)
            """,
            Orthanctw={"PythonThreads": 1},
        )
        for number in range(4):
            answer = await self.client.ask("GET", f"/end/{number}")
            self.assertEqual((answer.status, answer.json()["OrthancStatus"]), (500, 1))
        self.flushLoggedErrors()

    async def test_told(self) -> None:
        """Changes and stored instances are told of to the end, and filters answer at once."""
        await self.start_scripts(
            """
            import sys
            def changed(change, level, resource):
                note('changed', change)
                sys.exit(1)
            def stored(instance, instance_id):
                note('stored')
                sys.exit(1)
            def received(dicom, origin):
                note('received')
                sys.exit(1)
            def allowed(uri, **request):
                return True if uri != '/system' else sys.exit(1)
            orthanc.RegisterOnChangeCallback(changed)
            orthanc.RegisterOnStoredInstanceCallback(stored)
            orthanc.RegisterReceivedInstanceCallback(received)
            orthanc.RegisterIncomingHttpRequestFilter(allowed)
            """
        )
        for number in (1, 2):
            await self.client.store(dicom_object(sop=f"1.2.1.1.{number}"))
        self.assertEqual((await self.client.ask("GET", "/system")).status, 500)
        await self.stop()
        self.flushLoggedErrors()
        noted = [entry[0] for entry in self.noted()]
        self.assertEqual([noted.count(what) for what in ("received", "stored")], [2, 2])
        self.assertEqual(self.noted()[-1], ["changed", 11])


class AnswerTests(PythonCase):
    """Answers that are none."""

    async def test_unknown_action(self) -> None:
        """A number that is no action is an error of the script, whatever comes with it."""
        await self.start_scripts(
            """
            orthanc.RegisterReceivedInstanceCallback(lambda dicom, origin: (99, dicom))
            """
        )
        self.assertEqual((await self.client.post("/instances", dicom_object())).status, 500)

    def test_described(self) -> None:
        """The text of a foreign answer is not asked for: that may take any time, on the reactor."""

        class Slow:
            def __repr__(self) -> str:
                raise AssertionError("Nobody may ask for it")

        self.assertEqual([described(answer) for answer in (Slow(), -1, 2**70, None)], ["Slow", "-1", "int", "NoneType"])


class PatternTests(PythonCase):
    """Patterns that take ages."""

    async def test_exponential(self) -> None:
        """A path that cannot be compared with a pattern in time is refused, others are answered."""
        await self.start_scripts(
            r"""
            def answer(output, uri, **request):
                output.AnswerBuffer(json.dumps(request['groups']), 'application/json')
            orthanc.RegisterRestCallback('/(a|a)+(.*)=(.*)=(.*)=b', answer)
            orthanc.RegisterRestCallback('/number/([[:digit:]]+)(x)?', answer)
            def other(output, uri, **request):
                output.AnswerBuffer(orthanc.RestApiGetAfterPlugins('/' + 'a=' * 3000), 'text/plain')
            orthanc.RegisterRestCallback('/other', other)
            """
        )
        slow = "/" + "a=" * 3000
        answer = await self.client.get(slow)
        self.assertEqual((answer.status, answer.json()["OrthancStatus"]), (400, 8))
        self.assertEqual((await self.client.ask("OPTIONS", slow)).status, 400)
        self.assertEqual((await self.client.get("/other")).status, 500)
        self.flushLoggedErrors()
        self.assertEqual(await self.client.json("/aa==c=b"), ["a", "", "", "c"])
        self.assertEqual(await self.client.json("/number/12"), ["12", ""])
        self.assertEqual((await self.client.get("/number/x")).status, 404)


class LoadingTests(ProcessCase):
    """Starts that do not come to an end."""

    def test_endless(self) -> None:
        """A server whose script is never loaded ends when it is told to."""
        for command in (TWISTD, ORTHANCTW):
            server = self.server("import time\nopen('loading', 'w').close()\ntime.sleep(600)\n", command)
            server.launch()
            wait_until((server.folder / "loading").exists, server.printed)
            server.stop()
            self.assertIn("stopped while scripts were loaded", server.printed())

    def test_end(self) -> None:
        """A script that is interrupted is one that cannot be loaded."""
        server = self.server("import orthanc\nraise KeyboardInterrupt\n")
        server.launch()
        self.assertEqual(server.wait(), 1)
        self.assertIn("script.py:2: KeyboardInterrupt", server.printed())
