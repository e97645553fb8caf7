-- Files of a folder: types, ranges and conditional requests (RFC 9110). Small ones are kept in memory and looked at again
-- after a second; big ones are read piece by piece while they are sent.
local static = {}

local SMALL = 65536        -- bytes of a file that is kept
local KEPT = 8 << 20       -- bytes of all that are kept
local NAMES = 2000         -- names of which something is known
local LOOK = 1000          -- ms until a file is looked at again
local PIECE = 65536        -- bytes read at a time
local RANGES = 16          -- of one request
local RANGE_TEXT = 1024    -- bytes of the field that asks for them

local Folder = {}
Folder.__index = Folder

-- io: an io object.
function static.folder(io)
  return setmetatable({io = io, known = {}, names = 0, kept = 0}, Folder)
end

local function describe(path, stat)
  if stat.isdir then return {isdir = true} end
  local type = ba.mime(path:match "%.([^./]+)$" or "") or "application/octet-stream"
  if type:find "^text/" and not type:find "charset" then type = type .. "; charset=utf-8" end
  return {size = stat.size, mtime = stat.mtime, type = type, etag = ('"%x-%x"'):format(stat.mtime, stat.size),
          modified = ba.encdate(stat.mtime), ranges = not stat.sequential}
end

local function whole(io, path, size)
  local file = io:open(path)
  if not file then return nil end
  local data = file:read(size + 1) or ""
  file:close()
  return #data == size and data or nil
end

-- What is there under a clean path, or nil: {isdir = true} or {size, mtime, type, etag, modified, ranges [, body]}. Others may keep
-- what they make of the file in it; it lasts until the file changes.
function Folder:look(path)
  local entry, now = self.known[path], ba.clock()
  if entry and now - entry.looked < LOOK then return entry end
  local stat = self.io:stat(path)
  if not stat or not (stat.isdir or stat.type == "regular") then
    self.known[path] = nil
    return nil
  end
  if entry and entry.mtime == stat.mtime and entry.size == stat.size and not stat.isdir == not entry.isdir then
    entry.looked = now
    return entry
  end
  if self.names >= NAMES or self.kept > KEPT then self.known, self.names, self.kept = {}, 0, 0 end
  entry = describe(path, stat)
  entry.looked = now
  self.known[path], self.names = entry, self.names + 1
  return entry
end

-- The content of a small file, kept.
local function body_of(self, path, entry)
  if not entry.body and entry.size <= SMALL then
    entry.body = whole(self.io, path, entry.size)
    self.kept = self.kept + entry.size
  end
  return entry.body
end

-- ---- conditions (RFC 9110 13) ----

local function listed(list, etag)
  if list:find "^%s*%*%s*$" then return true end
  for weak, tag in list:gmatch '(W?/?)("[^"]*")' do
    if tag == etag then return true, weak ~= "" end
  end
  return false
end

local function before(entry, text)
  local time = ba.parsedate(text)
  return time and entry.mtime <= time
end

-- 200, 304 or 412.
local function condition(header, entry)
  local match, none = header["if-match"], header["if-none-match"]
  if match then
    local found, weak = listed(match, entry.etag)
    if not found or weak then return 412 end
  elseif header["if-unmodified-since"] and before(entry, header["if-unmodified-since"]) == false then
    return 412
  end
  if none then
    if listed(none, entry.etag) then return 304 end
  elseif header["if-modified-since"] and before(entry, header["if-modified-since"]) then
    return 304
  end
  return 200
end

-- First and last byte of one range's text; false: there is no such range; nil: not understood.
local function one_range(text, size)
  local from, to = text:match "^(%d*)%-(%d*)$"
  if not from or (from == "" and to == "") then return nil end
  local last = size - 1
  if from == "" then -- the last so many; a number too large for Lua is more than there are
    to = math.tointeger(to) or size
    if to == 0 or size == 0 then return false end
    return math.max(size - to, 0), last
  end
  from = math.tointeger(from)
  if not from or from > last then return false end
  to = math.min(math.tointeger(to) or last, last)
  if to < from then return nil end
  return from, to
end

-- The ranges asked for that there are, {{from, to}, ...}; an empty list: none of them; nil: the whole is to be sent, which is allowed
-- also for ranges that are many, overlap or come in no order (RFC 9110 14.2): such cost the server and serve nobody.
local function ranges(header, entry)
  local text, since = header.range, header["if-range"]
  if not text or (since and since ~= entry.etag and since ~= entry.modified) then return nil end
  local set = text:match "^[bB][yY][tT][eE][sS]=(.+)$"
  if not set or #set > RANGE_TEXT then return nil end
  local list, behind, count = {}, -1, 0
  for part in (set:gsub(", ", ",") .. ","):gmatch "([^,]*)," do
    local from, to = one_range(part, entry.size)
    count = count + 1
    if from == nil or count > RANGES then return nil end
    if from then
      if from <= behind then return nil end
      list[#list + 1], behind = {from, to}, to
    end
  end
  return list
end

-- ---- answers ----

-- Sends bytes of an open file: true, or nil when it has ended or the client has.
local function copy(x, file, from, length)
  file:seek(from)
  while length > 0 do
    local data = file:read(math.min(length, PIECE))
    if not data or not x:write(data) or not x:flush() then return nil end
    length = length - #data
  end
  return true
end

-- What stands in front of each of several ranges, and behind the last (RFC 9110 14.6).
local function part_heads(entry, list, boundary)
  local heads, length = {}, 0
  for i, r in ipairs(list) do
    heads[i] = ("\r\n--%s\r\nContent-Type: %s\r\nContent-Range: bytes %d-%d/%d\r\n\r\n"):format(boundary, entry.type, r[1], r[2], entry.size)
    length = length + #heads[i] + r[2] - r[1] + 1
  end
  heads[#list + 1] = ("\r\n--%s--\r\n"):format(boundary)
  return heads, length + #heads[#list + 1]
end

-- A file that does not fit into memory, or parts of it: each range with its head in front.
local function stream(self, x, path, list, heads, length)
  local file = self.io:open(path)
  if not file then return x:senderror(404) end
  local guard <close> = file
  if x.filter then x.filter:abort() end -- what it collects is kept in memory
  x:setcontentlength(length)
  x:flush()
  if x:method() == "HEAD" then return end
  for i, r in ipairs(list) do
    if heads then x:write(heads[i]) end
    if not copy(x, file, r[1], r[2] - r[1] + 1) then return end
  end
  if heads then x:write(heads[#list + 1]) end
end

-- The same of a file in memory.
local function join(body, list, heads)
  local parts = {}
  for i, r in ipairs(list) do parts[#parts + 1] = (heads and heads[i] or "") .. body:sub(r[1] + 1, r[2] + 1) end
  return table.concat(parts) .. (heads and heads[#list + 1] or "")
end

-- Answers GET and HEAD for what `look` gave (a file).
function Folder:send(x, path, entry)
  local method = x:method()
  if method ~= "GET" and method ~= "HEAD" then
    x:setheader("Allow", "GET, HEAD")
    return x:senderror(405)
  end
  local header, fields = x:header(), x.fields_out
  local status = condition(header, entry)
  fields.ETag, fields["Last-Modified"] = entry.etag, entry.modified
  if status ~= 200 then return x:answer(status, nil, "") end
  local list
  if entry.ranges then
    fields["Accept-Ranges"] = "bytes"
    list = ranges(header, entry)
  end
  if list and #list == 0 then
    fields["Content-Range"] = ("bytes */%d"):format(entry.size)
    return x:senderror(416)
  end
  local type, length, heads = entry.type, entry.size, nil
  if list and #list == 1 then
    length = list[1][2] - list[1][1] + 1
    fields["Content-Range"] = ("bytes %d-%d/%d"):format(list[1][1], list[1][2], entry.size)
  elseif list then
    local boundary = ba.b64urlencode(ba.rndbs(18))
    type = "multipart/byteranges; boundary=" .. boundary
    heads, length = part_heads(entry, list, boundary)
  end
  status = list and 206 or 200
  local body = body_of(self, path, entry)
  if body then return x:answer(status, type, list and join(body, list, heads) or body) end
  x:setstatus(status)
  fields["Content-Type"] = type
  return stream(self, x, path, list or {{0, entry.size - 1}}, heads, length)
end

return static
