"""Lua scripting: one worker thread that runs every Lua callback."""
