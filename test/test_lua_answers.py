"""What small scripts print, and how they fail: as with Orthanc 1.10.1, to which all of them were given, too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Final

from test.lua_servers import SCRIPTS
from test.rest_samples import RestCase

_API: Final = json.loads((Path(__file__).parent / "data" / "lua_api.json").read_text("utf-8"))
#: Expressions, and how `print` shows them.
_PRINTED: Final = (
    ('DumpJson("1_000"), DumpJson("+5"), DumpJson(".5"), DumpJson("1e-3")', '"1_000", 5, 0.5, 0.001'),
    ('DumpJson("4294967295"), DumpJson("2147483648")', "4294967295.0, 2147483648.0"),
    ("DumpJson(2^31), DumpJson(2^53), DumpJson(2147483647)", "2147483648.0, 9007199254740992.0, 2147483647"),
    ('DumpJson("0x1p4"), DumpJson("0x.8"), DumpJson("\\t12\\n"), DumpJson("-0")', "16, 0.5, 12, 0"),
    ('DumpJson("0x"), DumpJson("1 2"), DumpJson("--1"), DumpJson("1e")', '"0x", "1 2", "--1", "1e"'),
    ('DumpJson("inf"), DumpJson("nan"), DumpJson(0/0)', '"inf", "nan", null'),
    ("DumpJson({a=1,b={c={}}})", '{"a":1,"b":{"c":[]}}'),
    ("DumpJson({[1]=1,[2]=2,a=3}), DumpJson({nil, 2})", '{"1":1,"2":2,"a":3}, {"2":2}'),
    ("DumpJson(print), DumpJson({print}), DumpJson(nil)", "null, [null], null"),
    ("DumpJson(), DumpJson(1,2,3), DumpJson('1', 1), DumpJson('1', nil)", "nil, nil, nil, nil"),
    ("DumpJson(1.0, true), DumpJson(1e15, true)", '"1.0", "1e+15"'),
    ('DumpJson({1, 1.5, true, "x", {1}}, true)', '["1","1.5",true,"x",["1"]]'),
    ('DumpJson("\\1\\31\\n\\"\\\\/", true)', '"\\u0001\\u001f\\n\\"\\\\/"'),
    ('ParseJson(\'"a"\'), ParseJson("true"), ParseJson("null"), ParseJson("5.5")', "a, true, nil, 5.5"),
    ('ParseJson(""), ParseJson("nope"), ParseJson("{"), ParseJson("[NaN]")', "nil, nil, nil, nil"),
    ("ParseJson(), ParseJson({}), ParseJson(nil), ParseJson(true), ParseJson('[1]', 2)", "nil, nil, nil, nil, nil"),
    ('ParseJson("123456789012"), ParseJson("18446744073709551616")', "123456789012.0, 1.844674407371e+19"),
    ('ParseJson(\'"\\\\ud800"\'), #ParseJson("[null,1]")', "nil, 0"),
    ("'', '', nil", "nil"),
    ("'', 1, '', 2", "1, , 2"),
    ("1e15, 1e16, 2^63, 0.1, 1/3, -0.0, 1/0", "1e+15, 1e+16, 9.2233720368548e+18, 0.1, 0.33333333333333, -0.0, inf"),
    ("10//3, 10/2, 3 | 4, '1' + 1, '1.0' + 1, 0xff", "3, 5.0, 7, 2.0, 2.0, 255"),
    ("math.maxinteger, math.mininteger", "9223372036854775807, -9223372036854775808"),
    ("_VERSION, unpack, loadstring, setfenv, table.getn", "Lua 5.3, nil, nil, nil, nil"),
    ("PrintRecursive(nil)", "nil, nil\n99"),
    ("PrintRecursive('a', 5, 'X')", "X, string, a\n4"),
    ("PrintRecursive({1,{2,{3}}})", "table\n\t[1], number, 1\n\t[2], table\n\t[2]\t[1], number, 2\n\t[2]\t[2], table\n"
                                    "\t[2]\t[2]\t[1], number, 3\n97"),
    ("RestApiGet('/nope'), RestApiGet('nope'), RestApiGet(''), RestApiGet('/instances/x')", "nil, nil, nil, nil"),
    ("RestApiGet(), RestApiGet({}), RestApiGet(5), HttpGet({})", "nil, nil, nil, nil"),
    ("ParseJson(RestApiGet('/patients', true))[1], RestApiGet('/patients', 1)", "nil, nil"),
    ("RestApiGet('/patients', nil), RestApiGet('/patients', false, {}, 1)", "nil, nil"),
    ("RestApiPost('/tools/lookup', 'x'), RestApiPost('/tools/lookup', 5)", "[], []"),
    ("RestApiPost('/tools/lookup'), RestApiPost('/tools/lookup', {}), RestApiPost('/nope', 'x')", "nil, nil, nil"),
    ("RestApiPost('/tools/find', 'x'), RestApiPost('/instances', 'x')", "nil, nil"),
    ("RestApiPut('/modalities/z', '[\"Z\",\"127.0.0.1\",104]'), RestApiPut('/modalities/z', 'x')", "nil"),
    ("RestApiDelete('/nope'), RestApiDelete(), RestApiDelete('/patients', 1)", "nil, nil, nil"),
    ("HttpGet('http://127.0.0.1:1/'), HttpGet('nonsense'), HttpGet(''), HttpGet()", "nil, nil, nil, nil"),
    ("HttpPost('http://127.0.0.1:1/', {}), HttpPost(), HttpPut('http://127.0.0.1:1/')", "nil, nil, nil"),
    ("select('#', SetHttpCredentials('a', 'b')), select('#', SetHttpCredentials())", "0, 0"),
    ("select('#', RestApiGet('/nope')), select('#', ParseJson('null'))", "1, 1"),
    ("GetOrthancConfiguration(1, 2).Name, GetOrthancConfiguration().StableAge", "T, nil"),
    ("pcall(error, 'x'), pcall(RestApiGet)", "false, true, nil"),
    ("string.format('%d %s %5.2f %q', 3, 'x', 1.5, 'a')", '3 x  1.50 "a"'),
)
#: Scripts, and the details of their errors.
_FAILING: Final = (
    ("x = = 1", '[string "line"]:1: unexpected symbol near \'=\''),
    ("goto nowhere", '[string "line"]:1: no visible label \'nowhere\' for <goto> at line 1'),
    ("\n\nerror('boom')", '[string "line"]:3: boom'),
    ("error('boom', 0)", "boom"),
    ("error(5)", "5"),
    ("nowhere()", '[string "line"]:1: attempt to call a nil value (global \'nowhere\')'),
    ("nowhere.x = 1", '[string "line"]:1: attempt to index a nil value (global \'nowhere\')'),
    ("('x'):bad()", '[string "line"]:1: attempt to call a nil value (method \'bad\')'),
    ("print({} < {})", '[string "line"]:1: attempt to compare two table values'),
    ("table.insert(nil, 1)", '[string "line"]:1: bad argument #1 to \'insert\' (table expected, got nil)'),
    ("table.concat({{}})", '[string "line"]:1: invalid value (table) at index 1 in table for \'concat\''),
    ("('x'):find(nil)", '[string "line"]:1: bad argument #1 to \'find\' (string expected, got nil)'),
    ("setmetatable(1, 2)", '[string "line"]:1: bad argument #1 to \'setmetatable\' (table expected, got number)'),
    ("table.sort({1, 'x'})", "attempt to compare string with number"),
    ("print(coroutine.wrap(function() error('x') end)())", '[string "line"]:1: [string "line"]:1: x'),
)


class AnswerTests(RestCase):
    SETTINGS: ClassVar = {"ExecuteLuaEnabled": True, "Name": "T", "HttpTimeout": 5}

    async def test_printed(self) -> None:
        """Values, failures that are nil, and wrong arguments."""
        for expression, wanted in _PRINTED:
            answer = await self.client.post(SCRIPTS, f"print({expression})")
            self.assertEqual((answer.status, answer.text), (200, wanted + "\n"), expression)

    async def test_failing(self) -> None:
        """Errors name the line."""
        for source, details in _FAILING:
            error = self.assertError(await self.client.post(SCRIPTS, source), 500, 2031)
            self.assertEqual(error["Details"], details)

    async def test_absent(self) -> None:
        """What Orthanc does not have either is nil."""
        for name in _API["absent"]:
            self.assertEqual((await self.client.post(SCRIPTS, f"print({name})")).text, "nil\n")
