-- The sandbox, made once a runtime. What a script sees is a fresh table of plain functions; nothing in it reads a file, a clock
-- or chance, and everything that may take long is counted or refused beforehand. Returns run(chunk, name, kube, ...).
--
-- A hook counts instructions and ends the script. It cannot interrupt C, so C functions whose work is not about the size of
-- their arguments are bounded by a guess at their work before they begin (patterns, plain searches, repetition), or are written
-- in Lua (sort). What the hook raises passes through every pcall of the script.
local STEPS_MAX, SECONDS_MAX, TEXT_MAX, WORK_MAX = ...
local EVERY = 20
local sethook, clock = debug.sethook, os.clock
local error, pcall, type, select, unpack = error, pcall, type, select, unpack
local getmetatable, setmetatable, setfenv, loadstring = getmetatable, setmetatable, setfenv, loadstring
local floor, pairs = math.floor, pairs
local spent, deadline, over

local function stop(why)
  over = why
  error(why, 0)
end

local function watch()
  if over then error(over, 0) end
  spent = spent + EVERY
  if spent > STEPS_MAX then stop("it takes more than " .. STEPS_MAX .. " steps") end
  if spent % 1000 == 0 and clock() > deadline then
    stop("it takes more than " .. SECONDS_MAX .. " s of CPU time")
  end
end

local function passed_on(ok, ...)
  if over then error(over, 0) end
  return ok, ...
end

-- A handler of xpcall itself would run inside the hook that raised, where no hook counts.
local function handled(handler, ok, ...)
  if over then error(over, 0) end
  if ok then return true, ... end
  return false, handler(...)
end

-- ------------------------------------------------------------------------------------------------------------- text
local find, match, gmatch, gsub, rep = string.find, string.match, string.gmatch, string.gsub, string.rep

local function bounded(text, pattern)
  if type(text) ~= "string" and type(text) ~= "number" then return end
  if type(pattern) ~= "string" then return end
  local size, work = #(text .. "") + 1, 1
  local _, repeats = gsub(pattern, "[%*%+%-]", "")
  if find(pattern, "^", 1, true) ~= 1 then repeats = repeats + 1 end
  for _ = 1, repeats do work = work * size end
  if work > WORK_MAX then error("the pattern may take too long on a text of " .. size .. " bytes", 3) end
end

local function bounded_find(text, pattern, init, plain)
  if plain and type(text) == "string" and type(pattern) == "string" then
    if #text * #pattern > WORK_MAX then error("the text is too long to be searched", 2) end
  else
    bounded(text, pattern)
  end
  return find(text, pattern, init, plain)
end

local function bounded_rep(text, count)
  if #(text .. "") * count > TEXT_MAX then error("the text would be longer than " .. TEXT_MAX .. " bytes", 2) end
  return rep(text, count)
end

local safe_string = {
  byte = string.byte, char = string.char, format = string.format, len = string.len, lower = string.lower,
  reverse = string.reverse, sub = string.sub, upper = string.upper, find = bounded_find, rep = bounded_rep,
  match = function(text, pattern, init) bounded(text, pattern); return match(text, pattern, init) end,
  gmatch = function(text, pattern) bounded(text, pattern); return gmatch(text, pattern) end,
  gsub = function(text, pattern, with, count)
    bounded(text, pattern)
    if count == nil then return gsub(text, pattern, with) end
    return gsub(text, pattern, with, count)
  end,
}
local strings = {}
for name, value in pairs(safe_string) do strings[name] = value end
local of_text = getmetatable("")
of_text.__index, of_text.__metatable = strings, false

-- ------------------------------------------------------------------------------------------------------------- tables
local function less(a, b) return a < b end

local function merged(list, from, to, before, spare)
  if from >= to then return end
  local middle = floor((from + to) / 2)
  merged(list, from, middle, before, spare)
  merged(list, middle + 1, to, before, spare)
  local left, right = from, middle + 1
  for at = from, to do
    if right > to or (left <= middle and not before(list[right], list[left])) then
      spare[at], left = list[left], left + 1
    else
      spare[at], right = list[right], right + 1
    end
  end
  for at = from, to do list[at] = spare[at] end
end

local safe_table = {
  concat = table.concat, insert = table.insert, maxn = table.maxn, remove = table.remove,
  sort = function(list, before) merged(list, 1, #list, before or less, {}) end,
}

-- ------------------------------------------------------------------------------------------------------------- the world
local function copy(original)
  local found = {}
  for name, value in pairs(original) do found[name] = value end
  return found
end

local safe_math = copy(math)
safe_math.random, safe_math.randomseed = nil, nil

local plain = {
  assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, rawequal = rawequal, rawget = rawget,
  rawset = rawset, select = select, setmetatable = setmetatable, tonumber = tonumber, tostring = tostring, type = type,
  unpack = unpack, _VERSION = _VERSION,
  getmetatable = function(value) return type(value) == "table" and getmetatable(value) or nil end,
  pcall = function(...) return passed_on(pcall(...)) end,
  xpcall = function(f, handler) return handled(handler, pcall(f)) end,
  print = function() end,
}

local function world(kube)
  local found, modules = copy(plain), {}
  found._G = found
  found.string, found.table, found.math = copy(safe_string), copy(safe_table), copy(safe_math)
  for name, offered in pairs(kube) do
    modules[name] = function(...)
      local ok, value = offered(...)
      if not ok then error(value, 0) end
      return value
    end
  end
  setmetatable(modules, { __index = function(_, name) error("kube." .. tostring(name) .. " is not offered here", 2) end })
  found.require = function(name)
    if name == "kube" then return modules end
    error("module " .. tostring(name) .. " is not offered; only kube is", 2)
  end
  return found
end

local function called(chunk, name, kube, ...)
  local own = world(kube)
  setfenv(chunk, own)
  chunk()
  local wanted = own[name]
  if type(wanted) ~= "function" then error("it has no function " .. name, 0) end
  return wanted(...)
end

local function ended(ok, ...)
  sethook()
  return ok, ...
end

local function run(chunk, name, kube, ...)
  spent, deadline, over = 0, clock() + SECONDS_MAX, nil
  sethook(watch, "", EVERY)
  return ended(pcall(called, chunk, name, kube, ...))
end

return run, function(text, name)
  local chunk, why = loadstring(text, name)
  return chunk, why
end
