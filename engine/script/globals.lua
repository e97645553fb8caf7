-- cosockd -t: the globals that a script reads and nobody defines, found in what Lua's own compiler makes of it.
--
-- Returns note(f, env, file), for each chunk after it was compiled, and report(), which says after all have run what is
-- unknown. A name is known when the environment has it, when the chunk or a module assigns it anywhere, or when
-- some place asks whether it is there (`if x`, `x or y`, `x == nil`, `type(x)`). Modules note themselves.

local unpack, byte, sub = string.unpack, string.byte, string.sub
local dump, sort, insert = string.dump, table.sort, table.insert
local ipairs, pcall, setmetatable, type = ipairs, pcall, setmetatable, type

-- ---- reading a binary chunk (lundump.c of Lua 5.4 describes the format by example) ----

local Reader = {}
Reader.__index = Reader

function Reader:byte()
  self.at = self.at + 1
  return byte(self.bytes, self.at - 1)
end

-- Seven bits each, the highest first; the last byte has its eighth bit set.
function Reader:number()
  local n = 0
  repeat
    local b = self:byte()
    n = n << 7 | b & 0x7f
  until b & 0x80 ~= 0
  return n
end

function Reader:string()
  local size = self:number()
  if size == 0 then return nil end
  self.at = self.at + size - 1
  return sub(self.bytes, self.at - size + 1, self.at - 1)
end

function Reader:list(read)
  local list = {}
  for i = 1, self:number() do list[i] = read(self) end
  return list
end

function Reader:instruction()
  self.at = self.at + 4
  return (unpack("=I4", self.bytes, self.at - 4))
end

function Reader:constant()
  local kind = self:byte()
  if kind == 0x04 or kind == 0x14 then return self:string() end
  if kind == 0x03 or kind == 0x13 then self.at = self.at + 8 end
  return false
end

function Reader:upvalue()
  local up = {in_stack = self:byte() ~= 0, index = self:byte()}
  self:byte()
  return up
end

function Reader:absolute_line() return {pc = self:number(), line = self:number()} end

function Reader:local_variable()
  self:string() self:number() self:number()
  return true
end

function Reader:proto()
  local p = {}
  self:string() -- the source
  p.line = self:number()
  self:number()
  self.at = self.at + 3
  p.code = self:list(Reader.instruction)
  p.constants = self:list(Reader.constant)
  p.upvalues = self:list(Reader.upvalue)
  p.protos = self:list(Reader.proto)
  p.deltas = self:list(Reader.byte)
  p.absolute = self:list(Reader.absolute_line)
  self:list(Reader.local_variable)
  self:list(Reader.string)
  return p
end

local HEADER = 4 + 1 + 1 + 6 + 3 + 8 + 8 -- signature, version, format, data, sizes, an integer, a number

local function decode(f)
  local bytes = dump(f)
  if sub(bytes, 1, 6) ~= "\27Lua\x54\0" then return nil end
  return setmetatable({bytes = bytes, at = HEADER + 2}, Reader):proto()
end

-- ---- instructions (lopcodes.h) ----

local GETUPVAL, GETTABUP, GETTABLE, SETTABUP, SETTABLE, SETFIELD = 9, 11, 12, 15, 16, 18
local LOADK, LOADKX, NOT, EQK, TEST, TESTSET, CALL = 3, 4, 51, 60, 66, 67, 68

local function op(i) return i & 0x7f end
local function A(i) return i >> 7 & 0xff end
local function B(i) return i >> 16 & 0xff end
local function C(i) return i >> 24 & 0xff end
local function Bx(i) return i >> 15 end

-- The line of each instruction.
local function lines_of(p)
  local absolute, lines, line = {}, {}, p.line
  for _, a in ipairs(p.absolute) do absolute[a.pc + 1] = a.line end
  for pc, delta in ipairs(p.deltas) do
    line = absolute[pc] or line + (delta < 0x80 and delta or delta - 0x100)
    lines[pc] = line
  end
  return lines
end

-- Whether the value that the instruction at pc loads is only asked for.
local function asked_for(p, pc)
  local i, after = p.code[pc], p.code[pc + 1]
  local r = A(i)
  if not after then return false end
  if op(after) == TEST or op(after) == EQK then return A(after) == r end
  if op(after) == TESTSET or op(after) == NOT then return B(after) == r end
  local before = p.code[pc - 1]
  return op(after) == CALL and A(after) == r - 1 and B(after) == 2 and before ~= nil and op(before) == GETTABUP and
         A(before) == r - 1 and p.constants[C(before) + 1] == "type"
end

-- Calls access(name, line, write, asked) for each global that the function and those in it use. env: the number
-- of the upvalue that is the chunk's _ENV, or nil.
local function walk(p, env, access)
  local lines, env_in, name_in = lines_of(p), {}, {} -- what the registers hold
  for pc, i in ipairs(p.code) do
    local o = op(i)
    if o == GETTABUP and B(i) == env then
      access(p.constants[C(i) + 1], lines[pc], false, asked_for(p, pc))
    elseif o == SETTABUP and A(i) == env then
      access(p.constants[B(i) + 1], lines[pc], true)
    elseif o == GETTABLE and env_in[B(i)] and name_in[C(i)] then -- more than 255 constants
      access(name_in[C(i)], lines[pc], false, asked_for(p, pc))
    elseif o == SETTABLE and env_in[A(i)] and name_in[B(i)] then
      access(name_in[B(i)], lines[pc], true)
    elseif o == SETFIELD and env_in[A(i)] then -- _G.x = ...
      access(p.constants[B(i) + 1], lines[pc], true)
    end
    env_in[A(i)] = o == GETUPVAL and B(i) == env or o == GETTABUP and B(i) == env and p.constants[C(i) + 1] == "_G" or
                   o == SETFIELD and env_in[A(i)]
    name_in[A(i)] = o == LOADK and p.constants[Bx(i) + 1] or o == LOADKX and p.constants[(p.code[pc + 1] >> 7) + 1]
  end
  for _, inner in ipairs(p.protos) do
    local index
    for n, up in ipairs(inner.upvalues) do
      if not up.in_stack and up.index == env then index = n - 1 end
    end
    walk(inner, index, access)
  end
end

-- ---- chunks ----

local chunks = {}

local built_in = {} -- a script may take one away
for name in pairs(_G) do built_in[name] = true end

-- A chunk that has been loaded, and where its globals are.
local function note(f, env, file)
  local p = decode(f)
  if not p then return end
  local chunk = {file = file, env = env, reads = {}, known = {}}
  walk(p, 0, function(global, line, write, asked)
    if not global then return end
    if write or asked then
      chunk.known[global] = true
    else
      insert(chunk.reads, {name = global, line = line})
    end
  end)
  insert(chunks, chunk)
end

-- Whether some chunk of the same environment, or of the common one, knows the name.
local function known(chunk, global)
  if built_in[global] then return true end
  local ok, value = pcall(function() return chunk.env[global] end) -- a metatable may raise
  if not ok or value ~= nil then return true end
  for _, other in ipairs(chunks) do
    if (other.env == chunk.env or other.env == _G) and other.known[global] then return true end
  end
  return false
end

-- "FILE:LINE: undefined global 'x'", each name once a chunk.
local function report()
  local out, lines = {}, {}
  for _, chunk in ipairs(chunks) do
    local said = {}
    sort(chunk.reads, function(a, b) return a.line < b.line end)
    for _, read in ipairs(chunk.reads) do
      if not said[read.name] and not known(chunk, read.name) then
        said[read.name] = true
        local line = ("%s:%d: undefined global '%s'"):format(chunk.file, read.line, read.name)
        if not lines[line] then insert(out, line) end -- two services may have the same script
        lines[line] = true
      end
    end
  end
  return out
end

local search = package.searchers[2]
package.searchers[2] = function(name)
  local f, file = search(name)
  if type(f) == "function" then note(f, _G, file) end
  return f, file
end

return note, report
