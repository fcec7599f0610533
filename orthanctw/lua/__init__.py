"""Lua scripting: one worker thread that runs all Lua, within limits (level 3)."""

from orthanctw.lua.engine import EVENTS, FILTERS, LuaEngine
from orthanctw.lua.values import LuaError, LuaOptions, LuaServices

__all__ = ["EVENTS", "FILTERS", "LuaEngine", "LuaError", "LuaOptions", "LuaServices"]
