"""JSON to Lua and back, and what scripts print."""

from __future__ import annotations

import json

from test.lua_case import LuaCase

#: Expressions, and the JSON that they are without and with `keepStrings`.
TO_JSON = (
    ("nil", "null", "null"),
    ("true", "true", "true"),
    ("{1,2}", "[1,2]", '["1","2"]'),
    ("{}", "[]", "[]"),
    ('{a="1",b=true}', '{"a":1,"b":true}', '{"a":"1","b":true}'),
    ("{[1]=1,[3]=3}", '{"1":1,"3":3}', '{"1":"1","3":"3"}'),
    ("{[0]=1}", '{"0":1}', '{"0":"1"}'),
    ('ParseJson("[1,null,2]")', '{"1":1,"3":2}', '{"1":"1","3":"2"}'),
    ('"1"', "1", '"1"'),
    ('"007"', "7", '"007"'),
    ('"1e3"', "1000", '"1e3"'),
    ('"0x10"', "16", '"0x10"'),
    ('" 5 "', "5", '" 5 "'),
    ("1", "1", '"1"'),
    ("1.0", "1", '"1.0"'),
    ("1.5", "1.5", '"1.5"'),
    ('"1.5"', "1.5", '"1.5"'),
    ('"1.2.3"', '"1.2.3"', '"1.2.3"'),
    ('"nan"', '"nan"', '"nan"'),
    ('""', '""', '""'),
    ("2^40", "1099511627776.0", '"1099511627776.0"'),
    ("{print}", "[null]", "[null]"),
    ('"m\\u{fc}"', '"mü"', '"mü"'),
)
#: JSON, and Lua that is true of the value `v`.
TO_LUA = (
    ('"a"', "v == 'a'"),
    ("5", "math.type(v) == 'integer'"),
    ("4294967295", "math.type(v) == 'integer'"),
    ("-2147483648", "math.type(v) == 'integer'"),
    ("4294967296", "math.type(v) == 'float'"),
    ("-2147483649", "math.type(v) == 'float'"),
    ("5.0", "math.type(v) == 'integer'"),
    ("5.5", "v == 5.5"),
    ("true", "v == true"),
    ("null", "v == nil"),
    ("[1,null,[2]]", "v[1] == 1 and v[2] == nil and v[3][1] == 2"),
    ('{"a":null,"b":{"c":1}}', "v.a == nil and v.b.c == 1"),
    ("{", "v == nil"),
)


class ConversionTests(LuaCase):
    async def test_to_json(self) -> None:
        """Values become JSON; strings that are numbers become numbers, or the other way round."""
        for expression, converted, kept in TO_JSON:
            printed = await self.run_script(f"print(DumpJson({expression})) print(DumpJson({expression}, true))")
            first, second = printed.split("\n")
            self.assertEqual((json.loads(first), json.loads(second)), (json.loads(converted), json.loads(kept)))
            self.assertNotIn(" ", first.replace('" 5 "', ""))

    async def test_to_lua(self) -> None:
        """JSON becomes values, null nothing."""
        for text, condition in TO_LUA:
            self.assertEqual(await self.run_script(f"v = ParseJson('{text}') print({condition})"), "true", text)
        self.flushLoggedErrors()

    async def test_print(self) -> None:
        """Arguments are joined; an empty first one adds nothing."""
        printed = await self.run_script("print('a', 1, nil, true, 1.0) print('', 2) print()")
        self.assertEqual(printed, "a, 1, nil, true, 1.0\n2\n")

    async def test_print_recursive(self) -> None:
        """Tables are shown entry by entry, up to a limit."""
        printed = await self.run_script('PrintRecursive({a=1}) PrintRecursive({b={"x"}}) print(PrintRecursive(5, 7))')
        self.assertEqual(printed, "table\n\t[a], number, 1\ntable\n\t[b], table\n\t[b]\t[1], string, x\nnumber, 5\n6")
        self.assertEqual((await self.run_script("PrintRecursive({1,2,3,4}, 2)")).count("number"), 2)

    async def test_configuration(self) -> None:
        """The configuration is a table."""
        printed = await self.run_script("local c = GetOrthancConfiguration() print(c.Name, c.HttpPort)")
        self.assertEqual(printed, "T, 8042")
