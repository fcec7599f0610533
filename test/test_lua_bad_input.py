"""Scripts that are wrong or hostile, in a server: they fail with script and line, and everybody else is served."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Final

from lupa import lua53
from twisted.internet.defer import Deferred, gatherResults
from twisted.logger import capturedLogs

from orthanctw.errors import ConfigurationError
from test.http_servers import Asked, HttpServer, Say, listen
from test.lua_servers import SCRIPTS, LuaServerCase
from test.rest_samples import Answer, dicom_object

_API: Final = json.loads((Path(__file__).parent / "data" / "lua_api.json").read_text("utf-8"))
#: Scripts that never end, some of them whatever they catch.
_HOGS: Final = (
    "while true do pcall(error) end",
    "coroutine.wrap(function() while true do coroutine.wrap(function() end)() end end)()",
    "local t = {} for i = 1, 4e5 do t[i] = i % 7 end while true do table.sort(t) end",
    "('a'):rep(5000):find('.-.-.-.-b')",
)
#: Scripts that want more than there is.
_GREEDY: Final = (
    "local t = {} while true do t[#t + 1] = {} end",
    "kept = {} while true do kept[#kept + 1] = ('x'):rep(1e5) .. #kept end",
    "('x'):rep(4e9)",
    "local t = {} while true do t = {t} end",
    "io.open('/dev/zero'):read('a')",
    "local f = io.open('/dev/zero') while true do f:read(2^40) end",
    "local function f() return 1 + f() end f()",
    "local function f() return coroutine.wrap(f)() end f()",
    "ParseJson('[' .. ('[],'):rep(5e6) .. '1]')",
)
#: Scripts that would wait for others; `PATH` is a FIFO.
_WAITING: Final = (
    ("print(io.open('PATH'))", "nil, PATH: not a regular file, 22"),
    ("print(io.open('PATH', 'w'))", "nil, PATH: not a regular file, 22"),
    ("print(io.open('PATH\\0'))", "nil, PATH\0: not a regular file, 22"),
    ("print(loadfile('PATH'))", "nil, cannot open PATH: not a regular file"),
    ("print(package.searchpath('x', 'PATH'))", "nil, \n\tno file 'PATH'"),
    ("print(pcall(dofile, 'PATH'))", 'false, [string "line"]:1: cannot open PATH: not a regular file'),
    ("print(pcall(io.lines, 'PATH'))", 'false, [string "line"]:1: PATH: not a regular file'),
    ("print(pcall(io.input, 'PATH'))", 'false, [string "line"]:1: PATH: not a regular file'),
    ("print(pcall(io.output, 'PATH'))", 'false, [string "line"]:1: PATH: not a regular file'),
    ("package.path = 'PATH' print((pcall(require, 'x')))", "false"),
    ("print(io.open('/dev/tty'))", "nil, /dev/tty: not a regular file, 22"),
    ("print(io.read(), io.stdin:read('a'))", "nil, "),
    ("print(#io.open('/dev/null'):read('a'), #io.open('/dev/urandom'):read(9))", "0, 9"),
)
#: Any value that may come in place of another.
_VALUES: Final = (
    "nil", "true", "{}", "{{}}", "print", "coroutine.create(print)", "0/0", "2^63", "-1", "''", "'x'", "'/x'",
    "'\\xff\\0'", "('x'):rep(1e5)", "setmetatable({}, {__index = error, __tostring = error, __len = error})",
)
_TOO_LATE: Final = r'^\[string "line"\]:1: the time limit is exceeded$'


class HostileCase(LuaServerCase):
    """A server with a filter that lets all in, and short limits."""

    OWN: ClassVar = {"LuaTimeout": 1, "LuaMemoryMB": 64, "LuaRestScriptsTrusted": True}
    SCRIPT = (
        "function ReceivedInstanceFilter(tags) return tags.PatientID ~= 'NOBODY' end "
        "function IncomingHttpRequestFilter(method, uri) return uri ~= '/tools/now' end"
    )

    async def setUp(self) -> None:
        await super().setUp()
        await self.scripted(self.SCRIPT, Orthanctw=self.OWN)
        self.number = 0

    async def serves(self) -> None:
        """Clients of all kinds are served, and filters are asked about them."""
        self.number += 1
        data = dicom_object(sop=f"1.2.1.1.{self.number}.1")
        answers = await gatherResults(
            [
                Deferred.fromCoroutine(coroutine)
                for coroutine in (
                    self.upload(data),
                    self.upload(dicom_object("NOBODY", sop=f"1.2.1.1.{self.number}.2")),
                    self.storescu(self.file(dicom_object(sop=f"1.2.1.1.{self.number}.3"))),
                    self.client.get("/system"),
                    self.client.get("/tools/now"),
                )
            ]
        )
        self.assertEqual([answer.json()["Status"] for answer in answers[:2]], ["Success", "FilteredOut"])
        self.assertEqual([answer.status for answer in answers[3:]], [200, 403])
        self.assertEqual(len(await self.instances()), 2 * self.number)

    async def fails(self, source: str) -> str:
        """Details of the error of a script."""
        answer = await self.client.post(SCRIPTS, source)
        return str(self.assertError(answer, 500, 2031).get("Details", ""))


class LimitTests(HostileCase):
    """Scripts that take all that they can get."""

    async def test_endless(self) -> None:
        """They are ended, and while they run others are served."""
        for source in _HOGS:
            running = Deferred.fromCoroutine(self.client.post(SCRIPTS, source))
            await self.serves()
            error = self.assertError(await running, 500, 2031)
            self.assertRegex(error["Details"], _TOO_LATE, source)
        self.assertEqual(await self.run_script("print(1)"), "1\n")

    async def test_interrupted_by_a_filter(self) -> None:
        """A filter is answered within what never ends, and may end it."""
        await self.scripted("function ReceivedInstanceFilter() goes = false return true end")
        begin = "RestApiPut('/modalities/begun', '[\"A\", \"127.0.0.1\", 1]')"
        source = f"goes = true {begin} while goes do end print('end')"
        running = Deferred.fromCoroutine(self.client.post(SCRIPTS, source))
        begun: list[str] = []
        while not begun:
            begun = await self.client.json("/modalities")
        await self.upload(dicom_object())
        self.assertEqual((await running).text, "end\n")

    async def test_greedy(self) -> None:
        """They fail, and what they have kept harms nobody."""
        for source in _GREEDY:
            self.assertRegex(await self.fails(source), "memory|overflow|too large|time limit|too deeply", source)
            self.assertEqual(await self.run_script("print(#('x'):rep(1e6))"), "1000000\n", source)
        await self.serves()
        self.flushLoggedErrors()

    async def test_each_other(self) -> None:
        """Scripts that run each other for ever fail; those that began it go on."""
        source = f"x = [[RestApiPost('{SCRIPTS}', x)]] print(RestApiPost('{SCRIPTS}', x))"
        self.assertEqual(await self.run_script(source), "\n")
        await self.serves()

    async def test_callbacks(self) -> None:
        """Callbacks that never end are ended, each for itself, with script and line in the log; the next is called."""
        for source in ("while true do end", "coroutine.wrap(function() while true do end end)()", "x.y = 1"):
            await self.scripted(
                f"function OnStoredInstance(id, t)\nif t.StudyID == '9' then\n{source} end note(t.StudyID) end",
                Orthanctw=self.OWN,
            )
            for item in await self.instances():
                await self.client.ask("DELETE", f"/instances/{item}")
            with capturedLogs() as logs:
                for study in ("9", "8"):
                    await self.upload(dicom_object(sop=f"1.2.{study}", StudyID=study))
                self.assertEqual(await self.told(), [["8"]])
            reasons = [str(event["reason"]) for event in logs if event.get("name") == "OnStoredInstance"]
            self.assertEqual(len(reasons), 1)
            self.assertRegex(reasons[0], r"script\.lua:6: (the time limit|attempt to index a nil value)")


class OutsideTests(HostileCase):
    """What scripts must not reach or wait for."""

    async def test_files(self) -> None:
        """What is no regular file is not opened; nobody has to end that."""
        path = self.work / "fifo"
        os.mkfifo(path)
        for source, wanted in _WAITING:
            printed = await self.run_script(source.replace("PATH", str(path)))
            self.assertEqual(printed, wanted.replace("PATH", str(path)) + "\n")
        with self.assertRaisesRegex(ConfigurationError, "is no regular file"):
            await self.restart(LuaScripts=[str(path)])
        self.running = False

    async def test_bytecode(self) -> None:
        """Code that is no text is refused, from clients and at the start."""
        self.assertIn("attempt to load a binary chunk", await self.fails("\x1bLua"))
        path = self.work / "binary.lua"
        path.write_bytes(b"\x1bLuaS\0\x19\x93\r\n\x1a\n")
        with self.assertRaisesRegex(ConfigurationError, "attempt to load a binary chunk"):
            await self.restart(LuaScripts=[str(path)])
        self.running = False

    async def test_hidden(self) -> None:
        """There is no way into the server, even for scripts that are trusted."""
        for source in (
            "os.exit()", "os.exit(1, true)", "RestApiGet.__globals__.x()", "package.loaded.python.eval('1')",
            "python.eval('1')", "debug.sethook()", "package.loadlib('/lib/libc.so.6', 'abort')", "('').dump(print)",
            "getmetatable(io.stdout).__gc(io.stdout)", "require('debug').sethook()",
        ):
            self.assertRegex(await self.fails(source), r'^\[string "line"\]:1: ', source)
        await self.serves()


class ArgumentTests(HostileCase):
    """Functions that are given what they do not take."""

    OWN: ClassVar = {"LuaTimeout": 20, "HttpTimeout": 1}

    async def test_missing(self) -> None:
        """Without arguments, functions answer nil, nothing, or fail with the line."""
        for name, wanted in _API["functions"].items():
            answer = await self.client.post(SCRIPTS, f"\nprint({name} and {name}())")
            if name in ("print", "GetOrthancConfiguration", "SetHttpCredentials", "SetHttpTimeout", "CallSystem"):
                self.assertEqual(answer.status, 200, name)
            elif name == "PrintRecursive":
                self.assertEqual(answer.text, "nil, nil\n99\n")
            elif answer.status == 500:
                self.assertRegex(answer.json()["Details"], r'^\[string "line"\]:2: \w+\(\): there is no resource$')
            else:
                self.assertEqual((answer.status, answer.text), (200, "nil\n"), (name, wanted))

    async def test_any(self) -> None:
        """Whatever they are given, nothing else happens than that a script fails."""
        listed = ", ".join(f"[{number}] = {value}" for number, value in enumerate(_VALUES, 1))
        values = f"local values = {{n = {len(_VALUES)}, {listed}}} "
        with capturedLogs() as logs:
            for name, arguments in _API["functions"].items():
                if name.startswith("Http") or name == "CallSystem":
                    # The former go out, the latter is only for scripts that are trusted.
                    continue
                answer = await self.client.post(SCRIPTS, values + _CALLS % {"name": name, "count": len(arguments)})
                self.assertEqual((answer.status, answer.body[-5:]), (200, b"done\n"), name)
        self.assertEqual([event for event in logs if event.get("log_failure")], [])
        await self.serves()

    async def test_nothing_is_kept(self) -> None:
        """No table outlives the call that it was given to: it would be freed when its coroutine is gone."""
        table = type(lua53.LuaRuntime().table())
        gc.collect()
        gc.disable()
        try:
            counts = []
            for _ in range(2):
                for call in ("RestApiGet('/nope', false, {})", "DumpJson({{}}, {})", "HttpGet({})", "ParseJson({}, 1)"):
                    await self.run_script(f"for i = 1, 20 do {call} end")
                counts.append(sum(isinstance(item, table) for item in gc.get_objects()))
        finally:
            gc.enable()
        self.assertEqual(counts[0], counts[1])

    async def test_http(self) -> None:
        """URLs, bodies and headers that are none are refused before anything is sent."""
        service = HttpServer()
        url = f"'http://127.0.0.1:{listen(self, service.factory())}/'"
        for call in (
            "HttpGet({})", "HttpGet(true)", "HttpGet('http://')", "HttpGet('http://[::')", "HttpGet('file:///etc/passwd')",
            "HttpGet('http://127.0.0.1:99999/')", "HttpGet('http://a b/')", "HttpGet('\\xff\\0')", f"HttpGet({url}, 5)",
            f"HttpGet({url}, {{['a b'] = 'c'}})", f"HttpGet({url}, {{a = {{}}}})",
            f"HttpPost({url}, {{}})", f"HttpPut({url}, true)", f"HttpDelete({url}, 'x')",
        ):
            self.assertEqual(await self.run_script(f"print({call})"), "nil\n", call)
        self.assertEqual(service.asked, [])
        # Nothing of it begins a line of its own.
        await self.run_script(f"HttpGet({url} .. '\\r\\nX: y', {{a = 'b\\r\\nc: d'}})")
        (asked,) = service.asked
        self.assertEqual((asked.headers["a"], asked.headers.keys() & {"c", "x"}), ("b c: d", set()))
        self.flushLoggedErrors()


_CALLS: Final = """
local function try(...) pcall(%(name)s, ...) end
for a = 1, values.n do
  try(values[a])
  if %(count)d > 1 then
    for b = 1, values.n do
      try(values[a], values[b])
      try('/x', values[a], values[b])
      try('/x', 'x', values[a], values[b])
    end
  end
end
print('done')
"""


class BytesTests(HostileCase):
    """Bytes of all kinds."""

    async def test_bodies(self) -> None:
        """All bytes go out and come back as they are, over HTTP and the REST API."""
        service = HttpServer(lambda asked: Say(body=asked.body[::-1]))
        url = f"http://127.0.0.1:{listen(self, service.factory())}/"
        every = "local s = '' for i = 0, 255 do s = s .. string.char(i) end s = s:rep(1000) "
        printed = await self.run_script(
            f"{every} print(HttpPost('{url}', s) == s:reverse(), HttpPut('{url}', s) == s:reverse())"
            "StoreKeyValue('a', 'b', s) print(GetKeyValue('a', 'b') == s)"
        )
        self.assertEqual(printed, "true, true\ntrue\n")
        self.assertEqual([asked.body for asked in service.asked], [bytes(range(256)) * 1000] * 2)
        instance = (await self.upload(dicom_object())).json()["ID"]
        path = f"/instances/{instance}/attachments/1024"
        self.assertEqual(await self.run_script(f"{every} print(RestApiPut('{path}', s) ~= nil)"), "true\n")
        self.assertEqual((await self.client.get(path + "/data")).body, bytes(range(256)) * 1000)

    async def test_answers_of_services(self) -> None:
        """Answers that are too large, or no answers, are nil."""
        service = HttpServer(self.answer)
        url = f"http://127.0.0.1:{listen(self, service.factory())}"
        await self.run_script("SetHttpTimeout(1)")
        for path, wanted in (("large", "nil"), ("never", "nil"), ("404", "nil"), ("empty", "0")):
            self.assertEqual(await self.run_script(f"local a = HttpGet('{url}/{path}') print(a and #a)"), wanted + "\n")
        self.flushLoggedErrors()

    def answer(self, asked: Asked) -> Say | None:
        answers: dict[str, Say] = {
            "/large": Say(body=bytes(70 << 20)), "/404": Say(404), "/empty": Say(body=b""),
        }
        return answers.get(asked.path)

    async def test_wrong_text(self) -> None:
        """What is not encoded as it says is told with replacements, and converted to JSON all the same."""
        await self.scripted("function OnStoredInstance(id, tags) note(tags.PatientName, DumpJson(tags) ~= nil) end")
        for character_set in ("ISO_IR 192", "ISO_IR 100", None):
            data = dicom_object(PatientName="AAAA^BB", SpecificCharacterSet=character_set, sop="1.2.1.1.1")
            instance = (await self.upload(data.replace(b"AAAA^BB", b"\xff\xfe\xc3^BBB"))).json()["ID"]
            await self.run_script("")
            await self.client.ask("DELETE", f"/instances/{instance}")
        told = await self.told()
        self.assertEqual([line[1] for line in told], [True, True, True])
        self.assertEqual(told[1][0], "ÿþÃ^BBB")


class ErrorTests(HostileCase):
    """What errors tell."""

    async def test_places(self) -> None:
        """Script and line, also of what the server's own code has noticed."""
        cases: Sequence[tuple[str, str]] = (
            ("x = (", r":\d+: unexpected symbol"),
            ("SendToModality('x', 'y')", ":2: this is only possible in"),
            ("Delete()", r":2: Delete\(\): there is no resource"),
            ("local t = {} t.t = t DumpJson(t)", ":2: the table is nested too deeply"),
            ("table.unpack({}, 1, 1e8)", ":2: too many results to unpack"),
            ("('x'):rep(-1, {})", ":2: bad argument #2 to 'rep'"),
            ("('('):find('(')", ":2: unfinished capture"),
            ("collectgarbage('stop')", ":2: bad argument #1 to 'collectgarbage'"),
            ("setmetatable({}, {__gc = print})", ":2: finalizers"),
            ("error()", "^$"),
            ("error({})", "^$"),
            ("error('\\xff')", ":2: \ufffd"),
            ("coroutine.yield()", "outside a coroutine"),
        )
        for source, wanted in cases:
            self.assertRegex(await self.fails("\n" + source), wanted, source)

    async def test_sizes(self) -> None:
        """Sources of all sizes are answered."""
        wanted: Sequence[tuple[bytes, int]] = (
            (b"", 200),
            (b"\0", 500),
            (b"\xff\xfe", 500),
            (b"--" + bytes(5 << 20), 200),
            (b"(" * 1_000_000, 500),
            (b"x = {" + b"{" * 1000, 500),
            (b"x = '" + b"a" * (5 << 20) + b"'", 200),
            (b"return " + b"1+" * 100_000 + b"1", 200),
        )
        for source, status in wanted:
            answer: Answer = await self.client.post(SCRIPTS, source)
            self.assertEqual(answer.status, status, source[:20])
        await self.serves()
