"""The matcher in Lua answers what the library's own does."""

from __future__ import annotations

import random
from importlib.resources import files
from typing import Any, Final

from lupa import lua53
from twisted.trial.unittest import SynchronousTestCase

_ATOMS: Final = (
    "a", "b", ".", "%a", "%d", "[ab]", "[^a]", "%s", "(", ")", "()", "%b()", "%f[%w]", "%1", "$", "^", "%.", "x", "-",
    "[]a]", "[^]]", "[a-c]", " ",
)
#: Calls a function, and writes all that it answers into one text; what an error says is not compared.
_SHOW: Final = b"""
return function(f, is_iterator)
  return function(...)
    local r, lines = table.pack(pcall(f, ...)), {}
    if not r[1] then return "error" end
    if is_iterator then
      local ok = pcall(function() for a, b in r[2] do lines[#lines + 1] = tostring(a) .. "," .. tostring(b) end end)
      return ok and table.concat(lines, ";") or "error"
    end
    for i = 1, r.n do lines[i] = tostring(r[i]) end
    return table.concat(lines, "|")
  end
end
"""


class MatcherTests(SynchronousTestCase):
    def test_equal(self) -> None:
        """Ten thousand patterns on short texts."""
        lua: Any = lua53.LuaRuntime(encoding=None, unpack_returned_tuples=True)
        source = files("orthanctw.lua").joinpath("patterns.lua").read_bytes()
        source = source.replace(b"local BUDGET = 1e8", b"local BUDGET = 0").replace(b"size <= 8", b"size < 0")
        library = lua.globals()[b"string"]
        ours = lua.execute(source, library, lambda subject, text, init: subject.find(text, init - 1) + 1 or None)
        show = lua.execute(_SHOW)
        functions = {}
        for name, own in zip((b"find", b"match", b"gmatch", b"gsub"), ours, strict=True):
            functions[name] = [show(f, name == b"gmatch") for f in (library[name], own)]
        chance = random.Random(7)
        for _ in range(10_000):
            pattern = "".join(
                chance.choice(_ATOMS) + chance.choice(("", "", "", "*", "+", "-", "?"))
                for _ in range(chance.randint(1, 5))
            ).encode()
            subject = "".join(chance.choice("aabb1. (x)_-c") for _ in range(chance.randint(0, 10))).encode()
            for name, (theirs, own) in functions.items():
                further = (b"<%0>",) if name == b"gsub" else ()
                # A search for plain text is the host's.
                if name == b"find" and not any(c in b"^$*+?.([%-" for c in pattern):
                    continue
                arguments = (subject, pattern, *further)
                self.assertEqual(own(*arguments), theirs(*arguments), arguments)
