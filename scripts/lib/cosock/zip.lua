-- ZIP files as io objects, to read (PKWARE's APPNOTE 4.3): what ba.mkio(io, "x.zip") gives. Names, sizes and times are read once, contents
-- when a file in it is opened and read. Without: ZIP64, several disks, encryption, and methods other than "stored" and "deflated".
local path = require "cosock.http.path"

local zip = {}

local END, END_MOST = 22, 22 + 65535  -- bytes of the record at the end: fixed, and with its comment
local DIRECTORY_MOST = 8 << 20        -- bytes of the list of files
local PIECE = 4096                    -- compressed bytes that are read at a time: they become 4 MiB at most

-- ---- the list of files ----

-- Where the record at the end begins in the text: it ends with its comment, and that with the file.
local function find_end(tail)
  for at = #tail - END + 1, 1, -1 do
    if tail:sub(at, at + 3) == "PK\5\6" and at + END - 1 + ("<I2"):unpack(tail, at + 20) == #tail then return at end
  end
  return nil
end

local function time_of(time, date)
  return os.time {year = 1980 + (date >> 9), month = date >> 5 & 15, day = date & 31, hour = time >> 11, min = time >> 5 & 63,
                  sec = (time & 31) * 2}
end

-- {name = {size, mtime, packed, method, at, closed}, ...} and the names in their order; nil when it is none. Entries of folders, and names
-- that lead out of the folder, are left out.
local function parse(text, count)
  local files, names, at = {}, {}, 1
  for _ = 1, count do
    if at + 45 > #text or text:sub(at, at + 3) ~= "PK\1\2" then return nil end
    local flags, method, time, date, _, packed, size, n, extra, comment = ("<I2I2I2I2I4I4I4I2I2I2"):unpack(text, at + 8)
    local offset = ("<I4"):unpack(text, at + 42)
    local name = text:sub(at + 46, at + 45 + n)
    if #name < n then return nil end
    local clean, beyond = path.without_dots(name)
    if not beyond and clean == name and not name:find "^/" and not name:find "/$" and not name:find "[%z\\]" and not files[name] then
      files[name] = {size = size, mtime = time_of(time, date), packed = packed, method = method, at = offset, closed = flags & 1 ~= 0}
      names[#names + 1] = name
    end
    at = at + 46 + n + extra + comment
  end
  return files, names
end

-- The same of an open file; nil and an error.
local function read_list(file, size)
  local from = math.max(size - END_MOST, 0)
  file:seek(from)
  local tail, err = file:read(END_MOST)
  if err then return nil, err end
  local at = find_end(tail or "")
  if not at then return nil, "invalidparam", "no ZIP file" end
  local disk, first, here, count, length, offset = ("<I2I2I2I2I4I4"):unpack(tail, at + 4)
  if disk ~= 0 or first ~= 0 or here ~= count or count == 0xffff or offset == 0xffffffff or length > DIRECTORY_MOST then
    return nil, "noimplementation", "a ZIP file of several disks, or too large a one"
  end
  file:seek(offset)
  local list = count > 0 and file:read(length) or ""
  local files, names = parse(list or "", count)
  if not files then return nil, "invalidparam", "a damaged ZIP file" end
  return files, names
end

-- ---- a file that is read ----

local File = {__name = "zip file"}
File.__index = File

-- Goes to its first byte. true; nil and an error.
local function rewind(self)
  local entry = self.entry
  self.file:seek(entry.at)
  local head, err = self.file:read(30)
  if not head or #head < 30 or head:sub(1, 4) ~= "PK\3\4" then return nil, err or "ioerror" end
  local n, extra = ("<I2I2"):unpack(head, 27)
  self.file:seek(entry.at + 30 + n + extra)
  self.left, self.got = entry.packed, 0 -- bytes to come, and bytes that they have become
  self.rest, self.from, self.at = "", 1, 0 -- what is unread of those begins at `from`; where the reader is
  self.inflate = entry.method == 8 and ba.inflate() or nil
  return true
end

-- What comes next, which may be ""; nil at the end; nil, "ioerror" when it is not what the list says.
local function piece(self)
  if self.got == self.entry.size then return nil end
  local data, err = self.file:read(math.min(PIECE, self.left))
  if not data or self.left == 0 then return nil, err or "ioerror" end
  self.left = self.left - #data
  if self.inflate then data = self.inflate(data) end
  self.got = self.got + #(data or "")
  if not data or self.got > self.entry.size then return nil, "ioerror" end
  return data
end

-- Exactly n bytes, fewer at the end; nil there; nil and an error.
local function take(self, n)
  local size = #self.rest - self.from + 1
  if size < n then
    local parts = {self.rest:sub(self.from)}
    while size < n do
      local data, err = piece(self)
      if err then return nil, err end
      if not data then break end
      parts[#parts + 1], size = data, size + #data
    end
    self.rest, self.from = table.concat(parts), 1
  end
  local text = self.rest:sub(self.from, self.from + n - 1)
  self.from, self.at = self.from + #text, self.at + #text
  return (text ~= "" or n == 0) and text or nil
end

local function read_one(self, what)
  if self.at == self.entry.size then return nil end
  if what == "a" or what == "*a" then return take(self, self.entry.size - self.at) end
  what = math.tointeger(what)
  if not what or what < 0 then error('bad argument to \'read\' (a count or "a" expected)', 3) end
  return take(self, what)
end

-- As the files of other io objects: n, "a", or nothing for what comes next.
function File:read(...)
  local n = select("#", ...)
  if n == 0 then return read_one(self, 8192) end
  local values = {}
  for i = 1, n do
    local data, err = read_one(self, (select(i, ...)))
    if err then return nil, err end
    values[i] = data
    if not data then break end
  end
  return table.unpack(values, 1, n)
end

-- To that byte; forwards it is read, backwards it is begun again.
function File:seek(to)
  to = math.tointeger(to) or error("bad argument #1 to 'seek' (a number of bytes expected)", 2)
  if to < self.at then
    local ok, err = rewind(self)
    if not ok then return nil, err end
  end
  while self.at < to do
    local data, err = take(self, math.min(to - self.at, 65536))
    if not data then return nil, err or "invalidparam" end
  end
  return self.at
end

function File:close() return self.file:close() end
function File:write() return nil, "noaccess" end
File.flush, File.__close = File.write, File.close

-- ---- the io object ----

local Zip = {__name = "zip"}
Zip.__index = Zip

-- The full name of a path; nil when it leads out.
local function full(self, text)
  local clean, beyond = path.without_dots(text or "")
  if beyond then return nil end
  clean = clean:match "^/?(.-)/?$"
  return self.folder == "" and clean or clean == "" and self.folder or self.folder .. "/" .. clean
end

-- Whether something in the file is below it.
local function is_folder(self, name)
  if name == "" then return true end
  for _, other in ipairs(self.names) do
    if other:sub(1, #name + 1) == name .. "/" then return true end
  end
  return false
end

-- A file to read. Errors: noaccess (another mode, or encrypted), noimplementation (its method).
function Zip:open(text, mode)
  if mode and mode:find "[^rb]" then return nil, "noaccess" end
  local name = full(self, text)
  local entry = name and self.entries[name]
  if not entry then return nil, name and is_folder(self, name) and "noaccess" or "notfound" end
  if entry.closed then return nil, "noaccess" end
  if entry.method ~= 0 and entry.method ~= 8 then return nil, "noimplementation" end
  local file, err = self.io:open(self.path)
  if not file then return nil, err end
  local handle = setmetatable({file = file, entry = entry}, File)
  local ok
  ok, err = rewind(handle)
  if not ok then
    file:close()
    return nil, err
  end
  return handle
end

function Zip:stat(text)
  local name = full(self, text)
  local entry = name and self.entries[name]
  local last = name and name:match "[^/]*$"
  if entry then return {name = last, mtime = entry.mtime, size = entry.size, isdir = false, type = "regular"} end
  if not name or not is_folder(self, name) then return nil, "notfound" end
  return {name = last, mtime = self.mtime, size = 0, isdir = true, type = "directory"}
end

-- Iterates over the names in a folder; details: also whether it is a folder, its time and its size.
function Zip:files(text, details)
  local name = full(self, text)
  if not name or not is_folder(self, name) then return nil, "notfound" end
  local prefix, seen, list = name == "" and "" or name .. "/", {}, {}
  for _, other in ipairs(self.names) do
    local child = other:sub(1, #prefix) == prefix and other:match("^[^/]+", #prefix + 1)
    if child and not seen[child] then
      seen[child] = true
      list[#list + 1] = child
    end
  end
  local i = 0
  return function()
    i = i + 1
    local child = list[i]
    local entry = child and self.entries[prefix .. child]
    if not child or not details then return child end
    return child, entry == nil, entry and entry.mtime or self.mtime, entry and entry.size or 0
  end
end

-- As of other io objects.
function Zip:loadfile(text, env)
  local file, err = self:open(text)
  if not file then return nil, err end
  local code
  code, err = file:read "a"
  file:close()
  if err then return nil, err end
  if env ~= nil then return load(code or "", "@" .. text, "t", env) end
  return load(code or "", "@" .. text, "t")
end

function Zip:dofile(text, env)
  local chunk, err = self:loadfile(text, env)
  if not chunk then error(err, 2) end
  return chunk()
end

function Zip:type() return "zip", "zip" end
Zip.resourcetype = Zip.type
function Zip:realpath() return nil, "noimplementation" end

local function no_access() return nil, "noaccess" end
for _, name in ipairs {"mkdir", "rmdir", "remove", "rename"} do Zip[name] = no_access end

-- The ZIP file of an io object; nil and an error.
function zip.open(io, text)
  local stat, err = io:stat(text)
  if not stat then return nil, err end
  if stat.type ~= "regular" then return nil, "noaccess" end
  local file
  file, err = io:open(text)
  if not file then return nil, err end
  local entries, names, why = read_list(file, stat.size)
  file:close()
  if not entries then return nil, names, why end
  return setmetatable({io = io, path = text, entries = entries, names = names, folder = "", mtime = stat.mtime}, Zip)
end

-- A folder inside one.
function zip.folder(self, text)
  if getmetatable(self) ~= Zip then error("bad argument #1 to 'mkio' (io expected, got table)", 2) end
  local name = full(self, text)
  if not name or not is_folder(self, name) then return nil, "notfound" end
  local copy = setmetatable({}, Zip)
  for key, value in pairs(self) do copy[key] = value end
  copy.folder = name
  return copy
end

return zip
