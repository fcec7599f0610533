"""Scripts stay within their limits, and get at nothing but what is given to them."""

from __future__ import annotations

from test.lua_case import LuaCase

KILLED = "the time limit is exceeded"

#: Scripts that never end by themselves.
ENDLESS = {
    "loop": "while true do end",
    "coroutine": "coroutine.wrap(function() while true do end end)()",
    "resumed": "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    "pcall": "while true do pcall(function() while true do end end) end",
    "handler": "xpcall(function() while true do end end, function() while true do end end)",
    "handler of an error": "xpcall(error, function() while true do end end)",
    "deep handler": "local function f() ('x'):gsub('x', f) end "
    "while true do xpcall(f, function() while true do end end) end",
    "find": "('a'):rep(5000):find('.-.-.-.-b')",
    "match": "('a'):rep(30):match(('a?'):rep(60) .. 'b')",
    "gmatch": "for _ in ('a'):rep(5000):gmatch('a*a*a*a*b') do end",
    "gsub": "('a'):rep(5000):gsub('a-a-a-a-b', '')",
    "back reference": "('a'):rep(5000):find('(a*)(a*)%1%2b')",
    "rep": "while true do (''):rep(1e15) end",
    "move": "table.move({}, 1, 1e15, 2)",
    "__index": "local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
    "__tostring": "print(setmetatable({}, {__tostring = function() while true do end end}))",
    "sort": "local t = {} for i = 1, 1e5 do t[i] = i end "
    "while true do table.sort(t, function(a, b) return a > b end) end",
    "load": "load(function() return ' ' end)",
    "rest": "while true do RestApiGet('/nothing') end",
    "conversion": "local t = {} for i = 1, 40 do t = {t, t} end while true do DumpJson(t) end",
}
#: Scripts that want ever more memory.
GROWING = {
    "table": "local t = {} while true do t[#t + 1] = {} end",
    "global": "T = {} while true do T[#T + 1] = 'x' .. #T end",
    "text": "local s = 'x' while true do s = s .. s end",
    "rep": "('x'):rep(1e10)",
    "print": "local s = ('x'):rep(1e6) while true do print(s) end",
    "json": "ParseJson('[' .. ('[],'):rep(5e6) .. '1]')",
    "expansion": "local t = ('x'):rep(1e6) for i = 1, 40 do t = {t, t} end DumpJson(t)",
}
#: Expressions that are nil for every script, configured ones included.
NOTHING = (
    "debug", "python", "package.loaded.debug", "package.loaded.python", "package.loadlib", "string.dump", "os.exit",
    "os.setlocale",
)
#: Those that are nil for scripts of the REST API.
NOT_BY_REST = (
    "os", "io", "require", "package", "dofile", "loadfile", "CallSystem", "_G.os", "_ENV.io", "load('return os')()",
    "load('return io', 'x', 't')()", "getmetatable(_G)", "rawget(_G, 'os')", "(load('return _G')()).require",
)
#: What fails, with what is said of it.
REFUSED = {
    "local x = RestApiGet.__globals__": "attempt to index a function value",
    "load('\\27Lua')()": "attempt to call a nil value",
    "setmetatable({}, {__gc = function() end})": "finalizers",
    "table.insert(setmetatable({}, {__len = function() return 2^50 end}), 1, 1)": "table without __len",
    "collectgarbage('stop')": "not available",
    "coroutine.yield()": "outside a coroutine",
    "local t = {} t.t = t DumpJson(t)": "too deeply",
    "SendToPeer('x', 'y')": "only possible in",
    "setmetatable(_G, {})": "protected metatable",
}


class SandboxTests(LuaCase):
    """Each script is followed by another one: the engine has survived."""

    async def survives(self) -> None:
        self.assertEqual(await self.run_script("print(1 + 1)"), "2")

    async def test_endless(self) -> None:
        """What never ends is killed, whatever it catches."""
        for what, source in ENDLESS.items():
            with self.subTest(what):
                self.assertRegex(await self.fails(source), f"{KILLED}$|too many values for JSON")
                await self.survives()
        self.flushLoggedErrors()

    async def test_growing(self) -> None:
        """What wants too much memory fails; what it has left behind harms nobody."""
        for what, source in GROWING.items():
            with self.subTest(what):
                self.assertRegex(await self.fails(source), "memory|too much output|resulting string too large|limit")
                await self.survives()
        self.flushLoggedErrors()

    async def test_nothing(self) -> None:
        """Dangerous functions are nowhere."""
        await self.restart(*(f"assert({expression} == nil, '{expression}')" for expression in NOTHING))
        for expression in NOT_BY_REST:
            self.assertIn(await self.run_script(f"print({expression})"), ("nil", "false"), expression)

    async def test_refused(self) -> None:
        """What would lead outside fails."""
        for source, reason in REFUSED.items():
            self.assertIn(reason, await self.fails(source), source)
        await self.survives()

    async def test_exceptions_of_the_host(self) -> None:
        """What a script catches is text."""
        self.assertEqual(
            await self.run_script("print(pcall(DumpJson, setmetatable({}, {__index = print}))) "
                                  "print(type(select(2, pcall(SendToPeer, 1, 2))))"),
            "true, []\nstring",
        )

    async def test_builtin_functions_stay(self) -> None:
        """Scripts of the REST API define globals for all, and take the place of nothing."""
        await self.restart("function F() return os ~= nil, string.format('%d', 1), f() end")
        await self.run_script("os = 1 print = nil string.format = nil function f() return 'mine' end")
        self.assertEqual(await self.run_script("print(F())"), "true, 1, mine")

    async def test_trusted(self) -> None:
        """With the option, scripts of the REST API have all."""
        await self.restart(trusts_rest=True)
        self.assertEqual(await self.run_script("print(type(os.execute), type(require))"), "function, function")
