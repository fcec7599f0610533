-- The functions of `string` that take patterns, so that every call of them ends.
--
-- Patterns that surely end soon go to the library's own functions. For all others there is a matcher in Lua, which the
-- hook can interrupt. Arguments: the original library, and a search for plain text that is linear.

local library, find_plain = ...
local byte, sub, char, rep, format = library.byte, library.sub, library.char, library.rep, library.format
local c_find, c_match, c_gmatch, c_gsub = library.find, library.match, library.gmatch, library.gsub
local type, tostring, error, select, concat = type, tostring, error, select, table.concat
local unpack, setmetatable = table.unpack, setmetatable

-- Steps of the library's matcher that are taken without a look at the time.
local BUDGET = 1e8
local UNCLOSED, POSITION = -1, -2
local MAXIMUM_CAPTURES = 32
local KEPT = 500

-- Steps that a pattern may need for a subject of a length.

local shapes, shapes_kept = {}, 0

local function shape_of(pattern)
  local shape = shapes[pattern]
  if shape then return shape end
  local repeated, optional = 0, 0
  local plain = c_gsub(pattern, "%%(.)", function(escaped)
    if c_find(escaped, "[b1-9]") then repeated = repeated + 1 end
    return "x"
  end)
  repeated = repeated + select(2, c_gsub(plain, "[*+-]", "x"))
  optional = select(2, c_gsub(plain, "%?", "x"))
  if byte(pattern, 1) ~= 94 then repeated = repeated + 1 end
  shape = {repeated = repeated, factor = 2.0 ^ optional * (#pattern / 4 + 1)}
  if shapes_kept >= KEPT then shapes, shapes_kept = {}, 0 end
  shapes[pattern], shapes_kept = shape, shapes_kept + 1
  return shape
end

local function ends_soon(subject, pattern)
  local size = #subject
  if size <= 8 and #pattern <= 8 then return true end
  local shape = shape_of(pattern)
  return (size + 1.0) ^ shape.repeated * shape.factor <= BUDGET
end

-- From the text of a pattern to its parts.

local sets, sets_kept = {}, 0

local function set_of(class)
  local set = sets[class]
  if set then return set end
  set = {}
  for code = 0, 255 do
    if c_find(char(code), class) then set[code] = true end
  end
  if sets_kept >= KEPT then sets, sets_kept = {}, 0 end
  sets[class], sets_kept = set, sets_kept + 1
  return set
end

local function end_of_class(pattern, at)
  local code = byte(pattern, at)
  if code == 37 then -- %
    if at == #pattern then error("malformed pattern (ends with '%')") end
    return at + 2
  end
  if code ~= 91 then return at + 1 end
  at = at + 1
  if byte(pattern, at) == 94 then at = at + 1 end
  repeat
    if at > #pattern then error("malformed pattern (missing ']')") end
    local inner = byte(pattern, at)
    at = at + 1
    if inner == 37 then at = at + 1 end
  until byte(pattern, at) == 93
  return at + 1
end

local function class_text(pattern, first, last)
  local text = sub(pattern, first, last)
  -- These are special at other places than they stand here.
  if #text == 1 and c_find(text, "[%^%$%*%+%?%-%(%)%]]") then return "%" .. text end
  return text
end

local REPETITIONS = {[42] = "*", [43] = "+", [45] = "-", [63] = "?"}

local function single(pattern, at)
  local after = end_of_class(pattern, at)
  local repetition = REPETITIONS[byte(pattern, after)]
  local part = {kind = "single", set = set_of(class_text(pattern, at, after - 1)), repetition = repetition}
  return part, repetition and after + 1 or after
end

local function escaped(pattern, at)
  local code = byte(pattern, at + 1)
  if code == 98 then -- %bxy
    if at + 3 > #pattern then error("malformed pattern (missing arguments to '%b')") end
    return {kind = "balance", first = byte(pattern, at + 2), last = byte(pattern, at + 3)}, at + 4
  elseif code == 102 then -- %f[set]
    if byte(pattern, at + 2) ~= 91 then error("missing '[' after '%f' in pattern") end
    local after = end_of_class(pattern, at + 2)
    return {kind = "frontier", set = set_of(sub(pattern, at + 2, after - 1))}, after
  elseif code and code >= 48 and code <= 57 then
    return {kind = "back", number = code - 48}, at + 2
  end
  return single(pattern, at)
end

local compiled, compiled_kept = {}, 0

local function compile(pattern)
  local parts = compiled[pattern]
  if parts then return parts end
  parts = {}
  local at = 1
  while at <= #pattern do
    local code, part = byte(pattern, at), nil
    if code == 40 then
      local is_position = byte(pattern, at + 1) == 41
      part, at = {kind = "open", size = is_position and POSITION or UNCLOSED}, at + (is_position and 2 or 1)
    elseif code == 41 then
      part, at = {kind = "close"}, at + 1
    elseif code == 36 and at == #pattern then
      part, at = {kind = "end"}, at + 1
    elseif code == 37 then
      part, at = escaped(pattern, at)
    else
      part, at = single(pattern, at)
    end
    parts[#parts + 1] = part
  end
  if compiled_kept >= KEPT then compiled, compiled_kept = {}, 0 end
  compiled[pattern], compiled_kept = parts, compiled_kept + 1
  return parts
end

-- Matching: `state` has the subject and the captures; answers where the match ends, exclusively.

local match_from
local steps = {}

function steps.single(state, part, at, index)
  local subject, size, set = state.subject, state.size, part.set
  local repetition = part.repetition
  if repetition == "?" then
    if at <= size and set[byte(subject, at)] then
      local found = match_from(state, at + 1, index + 1)
      if found then return found end
    end
    return match_from(state, at, index + 1)
  elseif repetition == "-" then
    while true do
      local found = match_from(state, at, index + 1)
      if found then return found end
      if at > size or not set[byte(subject, at)] then return nil end
      at = at + 1
    end
  end
  local last = at
  while last <= size and set[byte(subject, last)] do last = last + 1 end
  for here = last, repetition == "+" and at + 1 or at, -1 do
    local found = match_from(state, here, index + 1)
    if found then return found end
  end
  return nil
end

steps["open"] = function(state, part, at, index)
  local level = state.level + 1
  if level > MAXIMUM_CAPTURES then error("too many captures") end
  state.starts[level], state.sizes[level], state.level = at, part.size, level
  local found = match_from(state, at, index + 1)
  if not found then state.level = level - 1 end
  return found
end

steps["close"] = function(state, part, at, index)
  for level = state.level, 1, -1 do
    if state.sizes[level] == UNCLOSED then
      state.sizes[level] = at - state.starts[level]
      local found = match_from(state, at, index + 1)
      if not found then state.sizes[level] = UNCLOSED end
      return found
    end
  end
  error("invalid pattern capture")
end

steps["end"] = function(state, part, at, index)
  return at == state.size + 1 and match_from(state, at, index + 1) or nil
end

function steps.balance(state, part, at, index)
  local subject, size, depth = state.subject, state.size, 1
  if byte(subject, at) ~= part.first then return nil end
  for here = at + 1, size do
    local code = byte(subject, here)
    if code == part.last then
      depth = depth - 1
      if depth == 0 then return match_from(state, here + 1, index + 1) end
    elseif code == part.first then
      depth = depth + 1
    end
  end
  return nil
end

function steps.frontier(state, part, at, index)
  local before = at == 1 and 0 or byte(state.subject, at - 1)
  local here = at > state.size and 0 or byte(state.subject, at)
  if not part.set[before] and part.set[here] then return match_from(state, at, index + 1) end
  return nil
end

function steps.back(state, part, at, index)
  local level = part.number
  if level < 1 or level > state.level or state.sizes[level] == UNCLOSED then
    error(format("invalid capture index %%%d", level))
  end
  local start, size = state.starts[level], state.sizes[level]
  if size >= 0 and sub(state.subject, start, start + size - 1) == sub(state.subject, at, at + size - 1)
     and at + size - 1 <= state.size then
    return match_from(state, at + size, index + 1)
  end
  return nil
end

function match_from(state, at, index)
  local parts, subject, size = state.parts, state.subject, state.size
  while true do
    local part = parts[index]
    if not part then return at end
    if part.kind ~= "single" or part.repetition then return steps[part.kind](state, part, at, index) end
    if at > size or not part.set[byte(subject, at)] then return nil end
    at, index = at + 1, index + 1
  end
end

local function new_state(subject, pattern)
  return {subject = subject, size = #subject, parts = compile(pattern), starts = {}, sizes = {}, level = 0}
end

local function capture(state, level, first, after)
  if level > state.level then
    if level ~= 1 then error(format("invalid capture index %%%d", level)) end
    return sub(state.subject, first, after - 1)
  end
  local size = state.sizes[level]
  if size == POSITION then return state.starts[level] end
  if size == UNCLOSED then error("unfinished capture") end
  return sub(state.subject, state.starts[level], state.starts[level] + size - 1)
end

local function captures(state, first, after, has_whole)
  local list = {}
  local count = (state.level == 0 and has_whole) and 1 or state.level
  for level = 1, count do list[level] = capture(state, level, first, after) end
  return unpack(list, 1, count)
end

local function search(subject, pattern, init, is_find)
  local anchored = byte(pattern, 1) == 94
  local state = new_state(subject, anchored and sub(pattern, 2) or pattern)
  local first = init
  repeat
    state.level = 0
    local after = match_from(state, first, 1)
    if after then
      if is_find then return first, after - 1, captures(state, first, after, false) end
      return captures(state, first, after, true)
    end
    first = first + 1
  until first > state.size + 1 or anchored
  return nil
end

local function start_at(init, size)
  if init > 0 then return init end
  if init == 0 or -init > size then return 1 end
  return size + init + 1
end

local function is_text(value)
  local kind = type(value)
  return kind == "string" or kind == "number"
end

local function is_number(value) return value == nil or math.type(value) == "integer" end

local function find(subject, pattern, init, plain, ...)
  if not (is_text(subject) and is_text(pattern) and is_number(init)) then
    -- What the library says of wrong arguments; numbers in other forms are rare.
    if not (is_text(subject) and is_text(pattern)) or math.tointeger(init) == nil then
      return c_find(subject, pattern, init, plain, ...)
    end
  end
  subject, pattern, init = tostring(subject), tostring(pattern), start_at(math.tointeger(init or 1), #tostring(subject))
  if init > #subject + 1 then return nil end
  if plain or not c_find(pattern, "[%^%$%*%+%?%.%(%[%%%-]") then
    if (#subject + 1.0) * #pattern <= BUDGET then return c_find(subject, pattern, init, true) end
    return find_plain(subject, pattern, init)
  end
  if ends_soon(subject, pattern) then return c_find(subject, pattern, init) end
  return search(subject, pattern, init, true)
end

local function match(subject, pattern, init, ...)
  if not (is_text(subject) and is_text(pattern)) or (init ~= nil and math.tointeger(init) == nil) then
    return c_match(subject, pattern, init, ...)
  end
  subject, pattern = tostring(subject), tostring(pattern)
  if ends_soon(subject, pattern) then return c_match(subject, pattern, init) end
  init = start_at(math.tointeger(init or 1), #subject)
  if init > #subject + 1 then return nil end
  return search(subject, pattern, init, false)
end

local function gmatch(subject, pattern, ...)
  if not (is_text(subject) and is_text(pattern)) then return c_gmatch(subject, pattern, ...) end
  subject, pattern = tostring(subject), tostring(pattern)
  if ends_soon(subject, pattern) then return c_gmatch(subject, pattern) end
  local state, at, last = new_state(subject, pattern), 1, nil
  return function()
    while at <= state.size + 1 do
      state.level = 0
      local first = at
      local after = match_from(state, first, 1)
      if after and after ~= last then
        at, last = after, after
        return captures(state, first, after, true)
      end
      at = at + 1
    end
    return nil
  end
end

local function expand(state, replacement, first, after)
  local result = c_gsub(replacement, "%%(.?)", function(what)
    if what == "%" then return "%" end
    if what == "0" then return sub(state.subject, first, after - 1) end
    if not c_find(what, "^%d$") then error("invalid use of '%' in replacement string") end
    return tostring(capture(state, what + 0, first, after))
  end)
  return result
end

local function replaced(state, replacement, kind, first, after)
  local whole = sub(state.subject, first, after - 1)
  local value
  if kind == "function" then
    value = replacement(captures(state, first, after, true))
  elseif kind == "table" then
    value = replacement[capture(state, 1, first, after)]
  else
    return expand(state, replacement, first, after)
  end
  if not value then return whole end
  if not is_text(value) then error(format("invalid replacement value (a %s)", type(value))) end
  return tostring(value)
end

local function gsub(subject, pattern, replacement, limit, ...)
  local kind = type(replacement)
  if not (is_text(subject) and is_text(pattern) and (is_text(replacement) or kind == "function" or kind == "table"))
     or (limit ~= nil and math.tointeger(limit) == nil) then
    return c_gsub(subject, pattern, replacement, limit, ...)
  end
  subject, pattern = tostring(subject), tostring(pattern)
  if kind == "number" then replacement, kind = tostring(replacement), "string" end
  if ends_soon(subject, pattern) then return c_gsub(subject, pattern, replacement, limit) end
  local anchored = byte(pattern, 1) == 94
  local state = new_state(subject, anchored and sub(pattern, 2) or pattern)
  local pieces, at, last, count = {}, 1, nil, 0
  limit = math.tointeger(limit or state.size + 1)
  while count < limit do
    state.level = 0
    local after = match_from(state, at, 1)
    if after and after ~= last then
      count = count + 1
      pieces[#pieces + 1] = replaced(state, replacement, kind, at, after)
      at, last = after, after
    elseif at <= state.size then
      pieces[#pieces + 1] = sub(subject, at, at)
      at = at + 1
    else
      break
    end
    if anchored then break end
  end
  pieces[#pieces + 1] = sub(subject, at)
  return concat(pieces), count
end

return find, match, gmatch, gsub
