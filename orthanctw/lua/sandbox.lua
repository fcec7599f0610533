-- What scripts see instead of Lua's own globals, and how they are run.
--
-- Arguments: functions of the host. None of them raises: an exception would show the host to the scripts. Memory is
-- limited only while a script itself runs, since an allocation that fails in the host would end the process.
--
-- Errors raised here begin with the name of this chunk, and are told with the line of the script instead: see `located`.

local tick, is_killed, limit_on, limit_off, call_host, find_plain, pattern_source = ...

-- The hook is called after so many instructions.
local COUNT = 1000
-- Seconds of processor time between two looks of the host at what else there is to do.
local PERIOD = 0.0005
local KILLED = "the time limit is exceeded"
-- Tables that are longer are sorted by a function, which the hook can interrupt.
local LONG = 1000
-- Calls among which the script is looked for that has caused an error.
local DEEP = 200
local G = _G
local clock = os.clock
local error, type, select, tostring, rawget, rawlen = error, type, select, tostring, rawget, rawlen
local pairs, next, pcall, xpcall, load = pairs, next, pcall, xpcall, load
local getmetatable, setmetatable, rawset = debug.getmetatable, setmetatable, rawset
local shown_metatable = G.getmetatable
local sethook, getinfo = debug.sethook, debug.getinfo
local create, resume, status, running = coroutine.create, coroutine.resume, coroutine.status, coroutine.running
local format, rep = string.format, string.rep
local string_find, string_sub, string_gsub, string_gmatch = string.find, string.sub, string.gsub, string.gmatch
local table_pack, table_unpack, table_concat = table.pack, table.unpack, table.concat

-- Where errors are

local OWN = "orthanctw"

-- Where a script is that has called something here, or nil; and what it has called, with which kind of call.
local function place(co, level)
  local callee
  for here = level, level + DEEP do
    local info = getinfo(co, here, "Sln")
    if not info then return nil end
    if info.currentline > 0 and info.short_src ~= OWN then
      local name, kind = callee and callee.name or "?", callee and callee.namewhat
      return format("%s:%d: ", info.short_src, info.currentline), name, kind
    end
    callee = info
  end
end

-- An error as if the library's own function had raised it. It was raised in `co`, which still has its stack.
local function located(message, co, level)
  if type(message) ~= "string" then return message end
  local _, last = string_find(message, "^" .. OWN .. ":%d+: ")
  if not last and message ~= KILLED then return message end
  local where, name, kind = place(co, level)
  message = last and string_sub(message, last + 1) or message
  message = string_gsub(message, "^bad argument #(%d+) to '[^']*'", function(number)
    number = number + 0 - (kind == "method" and 1 or 0)
    return number > 0 and format("bad argument #%d to '%s'", number, name) or nil
  end)
  return (where or "") .. message
end

local function handle(message) return located(message, running(), 2) end

-- Running

-- The host looks up often enough, and no more: each time it competes with its other threads.
local next_tick = 0

local function hook()
  local now = clock()
  if now < next_tick and now > next_tick - PERIOD then return end
  next_tick = now + PERIOD
  if tick() then error(KILLED, 0) end
end

-- A coroutine has a hook of its own, and none when nobody sets it.
local function hooked(f)
  local co = create(f)
  sethook(co, hook, "", COUNT)
  return co
end

local function finish(co, ok, ...)
  limit_off()
  if not ok then return false, located((...), co, 0) end
  if status(co) == "suspended" then return false, "attempt to yield from outside a coroutine" end
  return true, ...
end

local function run(f, ...)
  local co = hooked(f)
  limit_on()
  return finish(co, resume(co, ...))
end

-- What was killed stays so, whatever a script catches.
local function checked(ok, ...)
  if not ok and is_killed() then error(KILLED, 0) end
  return ok, ...
end

function G.pcall(f, ...) return checked(xpcall(f, handle, ...)) end

function G.xpcall(f, handler, ...)
  return checked(xpcall(f, function(message)
    if is_killed() then return message end
    -- An error within the hook leaves no hook: the handler has its own.
    local _, result = resume(hooked(handler), handle(message))
    return result
  end, ...))
end

function G.coroutine.create(f)
  if type(f) ~= "function" then return create(f) end
  return hooked(f)
end

local function resumed(co, ok, ...)
  if ok then return true, ... end
  return checked(false, located((...), co, 0))
end

function G.coroutine.resume(co, ...) return resumed(co, resume(co, ...)) end

local function passed(ok, ...)
  if ok then return ... end
  local message = ...
  error(message)
end

function G.coroutine.wrap(f)
  local co = G.coroutine.create(f)
  return function(...) return passed(resumed(co, resume(co, ...))) end
end

-- Functions of the host

local function back(ok, ...)
  limit_on()
  if ok then return ... end
  if is_killed() then error(KILLED, 0) end
  error((...))
end

-- The function of the host that has this name.
local function host(name)
  return function(...)
    limit_off()
    return back(call_host(name, ...))
  end
end

-- Metatables: finalizers run without a hook, and those of files and the host are not for scripts.

function G.setmetatable(value, metatable)
  if type(metatable) == "table" and rawget(metatable, "__gc") ~= nil then
    error("finalizers (__gc) are not available")
  end
  return setmetatable(value, metatable)
end

for _, value in pairs({io.stdout, tick}) do getmetatable(value).__metatable = false end

-- Functions that would go on for as long as an argument says, without the hook

local function plain(name, list)
  local metatable = type(list) == "table" and getmetatable(list)
  if metatable and rawget(metatable, "__len") ~= nil then
    error(format("bad argument #1 to '%s' (table without __len expected)", name))
  end
end

for _, name in pairs({"insert", "remove", "sort", "concat", "unpack"}) do
  local original = G.table[name]
  G.table[name] = function(list, ...)
    plain(name, list)
    return original(list, ...)
  end
end

local function is_less(a, b) return a < b end
local sort = G.table.sort
function G.table.sort(list, compare)
  if compare == nil and type(list) == "table" and rawlen(list) > LONG then compare = is_less end
  return sort(list, compare)
end

function G.table.move(from, first, last, target, to)
  to = to or from
  if target > last or target <= first or to ~= from then
    for index = 0, last - first do to[target + index] = from[first + index] end
  else
    for index = last - first, 0, -1 do to[target + index] = from[first + index] end
  end
  return to
end

function G.string.rep(text, count, separator)
  if text == "" and (separator == nil or separator == "") then return "" end
  return rep(text, count, separator)
end

local original_string = {}
for name, value in pairs(G.string) do original_string[name] = value end
local function find_in_host(subject, pattern, init)
  limit_off()
  return back(find_plain(subject, pattern, init))
end
local make_patterns = load(pattern_source, "=" .. OWN, "t")
G.string.find, G.string.match, G.string.gmatch, G.string.gsub = make_patterns(original_string, find_in_host)
G.string.dump = nil

local collect = collectgarbage
local COLLECTIONS = {collect = true, count = true, step = true}
function G.collectgarbage(what, ...)
  if what ~= nil and not COLLECTIONS[what] then error("bad argument #1 to 'collectgarbage' (not available)") end
  return collect(what, ...)
end

-- Files: what is opened must not keep all of Lua waiting, as a FIFO does

local is_file = host("is_file")
local library_io = {open = io.open, lines = io.lines, input = io.input, output = io.output}

local function refusal(path)
  if is_file(tostring(path)) then return nil end
  return tostring(path) .. ": not a regular file"
end

local function open(path, ...)
  local problem = refusal(path)
  if problem then return nil, problem, 22 end
  return library_io.open(path, ...)
end
G.io.open = open

for _, name in pairs({"lines", "input", "output"}) do
  local original = library_io[name]
  G.io[name] = function(path, ...)
    local problem = (type(path) == "string" or type(path) == "number") and refusal(path)
    if problem then error(problem) end
    return original(path, ...)
  end
end
G.io.stdin = library_io.open("/dev/null")
library_io.input(G.io.stdin)

-- Code: text only, and for scripts of the REST API nothing from files

local function loader(environment)
  return function(chunk, name, mode, ...)
    local own = environment
    if select("#", ...) > 0 then own = (...) end
    if name == nil and type(chunk) == "string" then name = chunk end
    return load(chunk, name, "t", own)
  end
end

G.load = loader(G)

function G.loadfile(path, mode, ...)
  local file, problem = open(path, "rb")
  if not file then return nil, "cannot open " .. problem end
  local text = file:read("a")
  file:close()
  if not text then return nil, "cannot read " .. path end
  return G.load(text, "@" .. path, "t", ...)
end
local loadfile = G.loadfile

function G.dofile(path)
  local chunk, problem = loadfile(path)
  if not chunk then error(problem) end
  return chunk()
end

function G.package.searchpath(name, path, separator, replacement)
  local tried = {}
  name = string_gsub(name, "%" .. (separator or "."), {[separator or "."] = replacement or "/"})
  for template in string_gmatch(path, "[^;]+") do
    local file = string_gsub(template, "%?", {["?"] = name})
    local opened = open(file, "rb")
    if opened then
      opened:close()
      return file
    end
    tried[#tried + 1] = "\n\tno file '" .. file .. "'"
  end
  return nil, table_concat(tried)
end
local searchpath = G.package.searchpath

package.loadlib, package.cpath = nil, ""
package.searchers = {
  package.searchers[1],
  function(name)
    local path, problem = searchpath(name, package.path)
    if not path then return problem end
    local chunk, wrong = loadfile(path)
    if not chunk then error(format("error loading module '%s' from file '%s':\n\t%s", name, path, wrong)) end
    return chunk, path
  end,
}

-- `require` of the library keeps to the table of searchers that it was made with.
local loaded = package.loaded
function G.require(name)
  if loaded[name] ~= nil then return loaded[name] end
  local problems = {}
  for _, searcher in ipairs(package.searchers) do
    local chunk, extra = searcher(name)
    if type(chunk) == "function" then
      local value = chunk(name, extra)
      if value ~= nil then loaded[name] = value end
      if loaded[name] == nil then loaded[name] = true end
      return loaded[name]
    end
    if type(chunk) == "string" then problems[#problems + 1] = chunk end
  end
  error(format("module '%s' not found:%s", name, string_gsub(table.concat(problems), "\n\t+", "\n\t")))
end

for _, name in pairs({"debug", "python"}) do
  G[name], loaded[name] = nil, nil
end

-- The programs and files of the system: for configured scripts

G.os.exit, G.os.setlocale = nil, nil

local run_program = host("run_program")
function G.os.execute(command)
  if command == nil then return true end
  local _, ok, how, code = run_program(command, "", false)
  return ok, how, code
end

local Pipe = {}
Pipe.__index, Pipe.__name = Pipe, "FILE*"

local function number_at(pipe)
  local first, last = string_find(pipe.text, "^%s*[-+]?[%w.]+", pipe.at)
  if not first then return nil end
  pipe.at = last + 1
  return tonumber(string_sub(pipe.text, first, last))
end

local function read_one(pipe, what)
  what = type(what) == "string" and string_gsub(what, "^%*", "") or what
  local kind = type(what) == "string" and string_sub(what, 1, 1) or what
  local text, at = pipe.text, pipe.at
  if kind == "n" then return number_at(pipe) end
  if kind == "a" then
    pipe.at = #text + 1
    return string_sub(text, at)
  end
  if at > #text then return nil end
  if type(kind) == "number" then
    pipe.at = at + kind
    return string_sub(text, at, at + kind - 1)
  end
  local stop = string_find(text, "\n", at, true) or #text + 1
  pipe.at = stop + 1
  return string_sub(text, at, kind == "L" and stop or stop - 1)
end

function Pipe:read(...)
  local wanted, results = table_pack(...), {}
  if wanted.n == 0 then wanted = {"l", n = 1} end
  for index = 1, wanted.n do
    results[index] = read_one(self, wanted[index])
    if results[index] == nil then return table_unpack(results, 1, index) end
  end
  return table_unpack(results, 1, wanted.n)
end

function Pipe:lines(...)
  local wanted = table_pack(...)
  return function() return self:read(table_unpack(wanted, 1, wanted.n)) end
end

function Pipe:write(...)
  for _, text in ipairs({...}) do self.written[#self.written + 1] = tostring(text) end
  return self
end

function Pipe:close()
  if self.command then
    local _
    _, self.ok, self.how, self.code = run_program(self.command, table.concat(self.written), false)
    self.command = nil
  end
  return self.ok, self.how, self.code
end

function Pipe:flush() return self end
function Pipe:setvbuf() return true end

-- The program runs as a whole: when it is opened for reading, or when it is closed after writing.
function G.io.popen(command, mode)
  local pipe = setmetatable({at = 1, text = "", written = {}}, Pipe)
  if mode == "w" then
    pipe.command = command
  else
    pipe.text, pipe.ok, pipe.how, pipe.code = run_program(command, "", true)
  end
  return pipe
end

-- The globals of scripts that came by the REST API: those of all, without what reaches beyond the server. What they
-- define is defined for all, but not in place of what is there at the start.

local HIDDEN = {os = true, io = true, require = true, package = true, dofile = true, loadfile = true, CallSystem = true}

local function restrict()
  local restricted, kept = {}, {}
  for name, value in pairs(G) do
    kept[name] = true
    if type(value) == "table" and not HIDDEN[name] and name ~= "_G" then
      local copy = {}
      for key, member in pairs(value) do copy[key] = member end
      restricted[name] = copy
    end
  end
  restricted._G, restricted.load = restricted, loader(restricted)
  function restricted.getmetatable(value)
    if type(value) == "string" then return {__index = restricted.string} end
    return shown_metatable(value)
  end
  return setmetatable(restricted, {
    __metatable = false,
    __index = function(_, name)
      if not HIDDEN[name] then return G[name] end
      return nil
    end,
    __newindex = function(own, name, value)
      if HIDDEN[name] or kept[name] then rawset(own, name, value) else G[name] = value end
    end,
    __pairs = function(own)
      local all = {}
      for name, value in next, G do
        if not HIDDEN[name] then all[name] = value end
      end
      for name, value in next, own do all[name] = value end
      return next, all, nil
    end,
  })
end

return {
  run = run,
  host = host,
  globals = G,
  restrict = restrict,
  loader = load,
  defined = function(names)
    local found = {}
    for _, name in next, names do
      if type(rawget(G, name)) == "function" then found[#found + 1] = name end
    end
    return table_concat(found, " ")
  end,
  get = function(name)
    local value = rawget(G, name)
    return type(value) == "function" and value or nil
  end,
}
