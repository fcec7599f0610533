-- The functions of scripts. Arguments: makes a function of the host by its name; the globals.

local host, G = ...
local tostring, type, pairs, select, error = tostring, type, pairs, select, error

local write_line = host("print")

local function print(...)
  local text = ""
  for index = 1, select("#", ...) do
    if text ~= "" then text = text .. ", " end
    text = text .. tostring((select(index, ...)))
  end
  write_line(text)
end
G.print = print

function G.PrintRecursive(value, limit, indent)
  limit, indent = limit or 100, indent or ""
  if limit < 1 then
    print("The limit of items is reached")
    return limit - 1
  end
  if type(value) ~= "table" then
    print(indent, type(value), value)
    return limit - 1
  end
  print(indent, "table")
  for key, member in pairs(value) do
    limit = G.PrintRecursive(member, limit, indent .. "\t[" .. tostring(key) .. "]")
    if limit < 0 then break end
  end
  return limit
end

for _, name in pairs({
  "ParseJson", "DumpJson", "HttpGet", "HttpPost", "HttpPut", "HttpDelete", "RestApiGet", "RestApiPost", "RestApiPut", "RestApiDelete", "GetOrthancConfiguration", "SetStableStatus",
  "StoreKeyValue", "GetKeyValue", "DeleteKeyValue",
}) do
  G[name] = host(name)
end

for _, name in pairs({"SetHttpCredentials", "SetHttpTimeout"}) do
  local set = host(name)
  G[name] = function(...) set(...) end
end

-- What is done after the callback, as one job

local append = host("append_operation")

local function operation(name, id, fields)
  if id == nil then error(name .. "(): there is no resource") end
  fields.Resource = id
  append(fields)
end

function G.SendToModality(id, modality, local_aet)
  operation("SendToModality", id, {Operation = "store-scu", Modality = modality, LocalAet = local_aet})
  return id
end

function G.SendToPeer(id, peer)
  operation("SendToPeer", id, {Operation = "store-peer", Peer = peer})
  return id
end

function G.Delete(id)
  operation("Delete", id, {Operation = "delete"})
  return nil
end

function G.ModifyResource(id, replacements, removals, remove_private_tags)
  operation("ModifyResource", id, {
    Operation = "modify", Replace = replacements, Remove = removals, RemovePrivateTags = remove_private_tags,
  })
  return ""
end
G.ModifyInstance = G.ModifyResource

function G.CallSystem(id, command, arguments)
  operation("CallSystem", id, {Operation = "call-system", Command = command, Arguments = arguments})
  return id
end
