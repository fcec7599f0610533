"""The engine: filters within other work, order, deadlines, operations for later, programs."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs

from orthanctw.error_codes import ErrorCode
from orthanctw.errors import ConfigurationError, OrthancError, ServiceUnavailable
from orthanctw.lua import LuaError
from test.lua_case import LuaCase

#: A filter, and what an event can be told to do.
_SCRIPT = """
function IncomingHttpRequestFilter(method) return method == 'GET' end
function OnStoredInstance(id) order = (order or '') .. id RestApiGet('/wait') order = order .. id:upper() end
function OnJobSubmitted(id) order = (order or '') .. id end
function OnStableStudy(id) order = 'computing' RestApiGet('/begun') while order == 'computing' do end end
function ReceivedInstanceFilter() order = 'stopped' return true end
"""
FILTER = "IncomingHttpRequestFilter"


class EngineTests(LuaCase):
    def waiting(self) -> Deferred[bytes]:
        """What `GET /wait` waits for."""
        answer: Deferred[bytes] = Deferred()
        self.services.answers["GET /wait"] = answer
        return answer

    async def until_asked(self) -> None:
        while not self.services.requests:
            await deferLater(reactor, 0.001)

    async def test_filter(self) -> None:
        """A filter answers; without one there is no answer."""
        self.assertFalse(self.engine.has(FILTER))
        self.assertIsNone(await self.engine.call_filter(FILTER, "GET"))
        await self.restart(_SCRIPT)
        self.assertTrue(self.engine.has(FILTER))
        self.assertEqual([await self.engine.call_filter(FILTER, m) for m in ("GET", "PUT")], [True, False])

    async def test_filter_while_another_waits(self) -> None:
        """Filters answer while a callback waits for the REST API; events come after it, in their order."""
        await self.restart(_SCRIPT, answer=60, compute=60)
        answer = self.waiting()
        self.engine.notify("OnStoredInstance", "a")
        self.engine.notify("OnJobSubmitted", "b")
        self.engine.notify("OnJobSubmitted", "c")
        await self.until_asked()
        self.assertTrue(await self.engine.call_filter(FILTER, "GET"))
        answer.callback(b"")
        self.assertEqual(await self.run_script("print(order)"), "aAbc")

    async def test_filter_while_another_computes(self) -> None:
        """Filters answer while a callback computes."""
        await self.restart(_SCRIPT, compute=60)
        self.engine.notify("OnStableStudy", "a")
        await self.until_asked()
        self.assertTrue(await self.engine.call_filter("ReceivedInstanceFilter"))
        self.assertEqual(await self.run_script("print(order)"), "stopped")

    async def test_filter_without_an_answer(self) -> None:
        """A filter that is too slow has given no answer, whether it computes or waits; others are served after it."""
        await self.restart(_SCRIPT + "function IncomingFindRequestFilter() while true do end end "
                           "function OutgoingFindRequestFilter() return RestApiGet('/wait') end")
        for name in ("IncomingFindRequestFilter", "OutgoingFindRequestFilter"):
            self.waiting()
            with self.assertRaises(ServiceUnavailable) as caught:
                await self.engine.call_filter(name, {}, deadline=0.05)
            self.assertEqual(caught.exception.http_status, 503)
        self.assertTrue(await self.engine.call_filter(FILTER, "GET"))
        self.assertEqual(self.metrics.snapshot()["orthanctw_lua_late_answers_total"][0], 2)
        self.flushLoggedErrors()

    async def test_wrong_answers(self) -> None:
        """What a filter must not answer has an error of its own."""
        cases = (
            ("return 1", ErrorCode.NOT_LUA_PREDICATE),
            ("return nil", ErrorCode.NOT_LUA_PREDICATE),
            ("return true, true", ErrorCode.LUA_BAD_OUTPUT),
            ("", ErrorCode.LUA_BAD_OUTPUT),
            ("error('x')", ErrorCode.CANNOT_EXECUTE_LUA),
        )
        for body, code in cases:
            await self.run_script(f"function {FILTER}() {body} end")
            with self.assertRaises(OrthancError) as caught:
                await self.engine.call_filter(FILTER, "GET")
            self.assertEqual((caught.exception.code, caught.exception.http_status), (code, 500), body)

    async def test_tables_of_filters(self) -> None:
        """Tables go in and come out; numbers in them are text."""
        await self.run_script(
            "function IncomingFindRequestFilter(q, o) q['0010,0010'] = o.RemoteAet q.n = 5 return q end"
        )
        answer = await self.engine.call_filter("IncomingFindRequestFilter", {"0008,0018": "007"}, {"RemoteAet": "A"})
        self.assertEqual(answer, {"0008,0018": "007", "0010,0010": "A", "n": "5"})
        await self.run_script("function ReceivedCStoreInstanceFilter() return 0xA700 end")
        self.assertEqual(await self.engine.call_filter("ReceivedCStoreInstanceFilter"), 0xA700)

    async def test_values_made_later(self) -> None:
        """Values of an event may be made when its turn comes; None drops it."""
        await self.run_script("function OnJobSubmitted(id, x) seen = (seen or '') .. id .. tostring(x) end")

        async def make(value: str) -> list[object] | None:
            return [lambda: value + "7"] if value == "a" else None

        self.engine.notify("OnJobSubmitted", "a", make=make)
        self.engine.notify("OnJobSubmitted", "b", make=make)
        self.engine.notify("OnJobSubmitted", "c")
        self.assertEqual(await self.run_script("print(seen)"), "aa7cnil")

    async def test_beat(self) -> None:
        """What is told at intervals comes before all that waits, and tells when it has been told."""
        await self.restart(_SCRIPT + "function OnHeartBeat() order = order .. '!' end", answer=60, compute=60)
        answer = self.waiting()
        self.engine.notify("OnStoredInstance", "a")
        await self.until_asked()
        self.engine.notify("OnJobSubmitted", "b")
        told = self.engine.beat("OnHeartBeat")
        self.assertNoResult(told)
        answer.callback(b"")
        await told
        self.assertEqual(await self.run_script("print(order)"), "aA!b")
        self.assertIsNone(await self.engine.beat("OnUpdatedStudy"))

    async def test_many_events(self) -> None:
        """However many events wait, all of them are told; the log warns when there are many."""
        await self.restart(_SCRIPT + "n = 0 function OnJobSuccess() n = n + 1 end", compute=60)
        answer = self.waiting()
        self.engine.notify("OnStoredInstance", "a")
        await self.until_asked()
        with capturedLogs() as logs:
            for number in range(11_000):
                self.engine.notify("OnJobSuccess", str(number))
        self.assertEqual([event["count"] for event in logs], [5000, 10_000])
        self.assertEqual(self.metrics.snapshot()["orthanctw_lua_waiting"][0], 11_000)
        answer.callback(b"")
        self.assertEqual(await self.run_script("print(n)"), "11000")

    async def test_operations(self) -> None:
        """Queued functions make one list of operations, after the callback."""
        await self.restart(
            "function OnStoredInstance(id, tags)"
            "  Delete(SendToModality(ModifyInstance(id, {PatientID = tags.PatientID}, {'PatientName'}, true), 'm'))"
            "  assert(#RestApiGet('/x') == 1) SendToPeer(id, 'p') CallSystem(id, 'ls', {'-l'})"
            " end"
        )
        self.services.answers["GET /x"] = b"1"
        self.engine.notify("OnStoredInstance", "a", {"PatientID": "007"})
        await self.run_script("")
        self.assertEqual(
            self.services.submitted,
            [
                [
                    {
                        "Operation": "modify", "Resource": "a", "Replace": {"PatientID": 7}, "Remove": ["PatientName"],
                        "RemovePrivateTags": True,
                    },
                    {"Operation": "store-scu", "Resource": "", "Modality": "m"},
                    {"Operation": "delete", "Resource": ""},
                    {"Operation": "store-peer", "Resource": "a", "Peer": "p"},
                    {"Operation": "call-system", "Resource": "a", "Command": "ls", "Arguments": ["-l"]},
                ]
            ],
        )

    async def test_requests(self) -> None:
        """Requests carry what scripts give; failures are nil."""
        self.services.answers |= {"GET /a?b": b"\0\xff", "DELETE /a": b"{}", "DELETE http://h": b"x", "POST /a": b"p"}
        printed = await self.run_script(
            "SetHttpCredentials('u', 'p') SetHttpTimeout(3)"
            "print(#RestApiGet('/a?b', true), RestApiDelete('/a'), HttpDelete('http://h'), RestApiGet('/none'))"
            "print(RestApiPost('/a', 'body', false, {X = '1'}), RestApiPost('/a'), RestApiGet(), RestApiGet({}))"
        )
        self.assertEqual(printed, "2, true, SUCCESS, nil\np, nil, nil, nil")
        asked = self.services.requests
        self.assertTrue(asked[0].is_builtin)
        self.assertEqual((asked[2].username, asked[2].password, asked[2].timeout), ("u", "p", 3))
        self.assertEqual((asked[4].body, asked[4].headers), (b"body", {"X": "1"}))
        self.assertEqual(len(asked), 5)
        self.flushLoggedErrors()

    async def test_key_values(self) -> None:
        """Values are kept by store and key; writing answers the last argument."""
        printed = await self.run_script(
            "print(StoreKeyValue('s', 'k', 'v'), GetKeyValue('s', 'k'), GetKeyValue('s', 'x'),"
            " DeleteKeyValue('s', 'k'), GetKeyValue('s', 'k'), SetStableStatus('i', true), SetStableStatus('i', false))"
        )
        self.assertEqual(printed, "v, v, nil, k, nil, true, false")

    async def test_configured_scripts(self) -> None:
        """They are run in order, with modules and files; one that fails stops the start, with its name and line."""
        await self.restart("x = 1", "x = x + 1 io.tmpfile():close()")
        self.assertEqual(await self.run_script("print(x)"), "2")
        module = Path(self.mktemp())
        module.write_text("return {answer = 42}")
        await self.restart(f"package.path = '{module.absolute()}' m = require 'm' assert(m == require 'm')")
        self.assertEqual(await self.run_script("print(m.answer)"), "42")
        for text, reason in (("x = 1\ny = nil + 1", r"script0\.lua:2: attempt"), ("x =", r"script0\.lua:1: unexp")):
            with self.assertRaisesRegex(ConfigurationError, reason):
                await self.restart(text)

    async def test_programs(self) -> None:
        """Programs run, give their status and output, read input, and are ended when nobody waits any more."""
        await self.restart(trusts_rest=True, wait=0.2)
        path = Path(self.mktemp()).absolute()
        printed = await self.run_script(
            "print(os.execute('exit 3')) print(os.execute()) local p = io.popen('printf \"a\\\\n12 b\\\\nc\"')"
            "print(p:read('l', 'n', 'L', 'a')) print(p:close())"
            f"local w = io.popen('cat > {path}', 'w') w:write('x', 1):write('y') w:close()"
            "print(os.execute('sleep 1000'))"
        )
        self.assertEqual(
            printed, "nil, exit, 3\ntrue\na, 12,  b\n, c\ntrue, exit, 0\nnil, signal, 9"
        )
        self.assertEqual(path.read_text(), "x1y")

    async def test_stop(self) -> None:
        """What waits is done, then `Finalize`; what goes on is killed."""
        path = Path(self.mktemp()).absolute()
        await self.restart(
            f"function Finalize() local f = io.open('{path}', 'w') f:write(n) f:close() end n = 0 "
            "function OnHeartBeat() n = n + 1 end"
        )
        for _ in range(3):
            self.engine.notify("OnHeartBeat")
        await self.engine.stop(reactor.seconds() + 30)
        self.assertEqual(path.read_text(), "3")
        with self.assertRaises(ServiceUnavailable):
            await self.engine.execute(b"")
        await self.restart(compute=1000)
        endless = self.engine.execute(b"RestApiGet('/begun') while true do end")
        await self.until_asked()
        await self.engine.stop(0)
        with self.assertRaises(LuaError):
            await endless
        self.flushLoggedErrors()
