-- ZIP files as io objects, to read (PKWARE's APPNOTE 4.3): what ba.mkio(io, "x.zip") gives. Names, sizes and times are read once, contents
-- when a file in it is opened and read. Without: ZIP64, several disks, encryption, methods other than "stored" and "deflated", and the
-- check of the CRC. A ZIP file that is replaced or changed is to be opened anew: what is opened until then is "ioerror".
local path = require "cosock.http.path"

local zip = {}

local END, END_MOST = 22, 22 + 65535  -- bytes of the record at the end: fixed, and with its comment
local DIRECTORY_MOST = 8 << 20        -- bytes of the list of files, and of the names of all folders
local LIST_PIECE = 32768              -- bytes of it that are read at a time
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

-- Whether it is the path of a file below the folder.
local function is_clean(name)
  if name == "" or name:find "^/" or name:find "/$" or name:find "[%z\\]" then return false end
  if not name:find("/", 1, true) then return name ~= "." and name ~= ".." end
  return not name:find("//", 1, true) and not ("/" .. name .. "/"):find "/%.%.?/"
end

-- Notes the folders that a file is in, whose names may have `left` bytes. How many are left: less than 0 when they have more.
local function add_folders(folders, name, left)
  local folder = name:match "^(.*)/"
  while folder and not folders[folder] and left >= 0 do
    folders[folder], left = true, left - #folder
    folder = folder:match "^(.*)/"
  end
  return left
end

-- {name = {size, time, date, packed, method, at, closed}, ...}, the names in their order, and the set of folders; nil when it is none.
-- Entries of folders, and names that lead out of the folder, are left out. next_piece(): what comes next of the list, nil at its end;
-- to read is to wait, so that a long list takes no long turn.
local function parse(next_piece, count)
  local files, names, folders, left, text, at = {}, {}, {[""] = true}, DIRECTORY_MOST, "", 1

  local function have(n) -- so many bytes from `at`
    while #text - at + 1 < n do
      local data = next_piece()
      if not data then return false end
      text, at = text:sub(at) .. data, 1
    end
    return true
  end

  for _ = 1, count do
    if not have(46) or text:sub(at, at + 3) ~= "PK\1\2" then return nil end
    local flags, method, time, date, _, packed, size, n, extra, comment = ("<I2I2I2I2I4I4I4I2I2I2"):unpack(text, at + 8)
    local offset = ("<I4"):unpack(text, at + 42)
    if not have(46 + n + extra + comment) then return nil end
    local name = text:sub(at + 46, at + 45 + n)
    if is_clean(name) and not files[name] then
      files[name] = {size = size, time = time, date = date, packed = packed, method = method, at = offset, closed = flags & 1 ~= 0}
      names[#names + 1] = name
      left = add_folders(folders, name, left)
      if left < 0 then return nil end
    end
    at = at + 46 + n + extra + comment
  end
  return files, names, folders
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
  local files, names, folders = parse(function()
    local data = length > 0 and file:read(math.min(length, LIST_PIECE))
    length = length - #(data or "")
    return data or nil
  end, count)
  if not files then return nil, "invalidparam", "a damaged ZIP file" end
  return files, names, folders
end

-- ---- a file that is read ----

local File = {__name = "zip file"}
File.__index = File

-- Goes to its first byte. true; nil and an error, also when another file is there: the ZIP file has been replaced.
local function rewind(self)
  local entry = self.entry
  self.file:seek(entry.at)
  local head, err = self.file:read(30)
  if not head or #head < 30 or head:sub(1, 4) ~= "PK\3\4" then return nil, err or "ioerror" end
  local n, extra = ("<I2I2"):unpack(head, 27)
  if self.file:read(#self.name) ~= self.name or n ~= #self.name then return nil, "ioerror" end
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

-- Exactly n bytes, fewer at the end; nil there; nil and an error, from then on always.
local function take(self, n)
  if self.failed then return nil, self.failed end
  local size = #self.rest - self.from + 1
  if size < n then
    local parts = {self.rest:sub(self.from)}
    while size < n do
      local data, err = piece(self)
      if err then
        self.failed = err
        return nil, err
      end
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
  if to < self.at and not self.failed then
    local ok, err = rewind(self)
    if not ok then self.failed = err end
  end
  if self.failed then return nil, self.failed end
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

-- A file to read. Errors: noaccess (another mode, or encrypted), noimplementation (its method).
function Zip:open(text, mode)
  if mode and mode:find "[^rb]" then return nil, "noaccess" end
  local name = full(self, text)
  local entry = name and self.entries[name]
  if not entry then return nil, name and self.folders[name] and "noaccess" or "notfound" end
  if entry.closed then return nil, "noaccess" end
  if entry.method ~= 0 and entry.method ~= 8 then return nil, "noimplementation" end
  local file, err = self.io:open(self.path)
  if not file then return nil, err end
  local stat = self.io:stat(self.path)
  if not stat or stat.mtime ~= self.mtime or stat.size ~= self.size then -- it is no longer what the list is of
    file:close()
    return nil, "ioerror"
  end
  local handle = setmetatable({file = file, name = name, entry = entry}, File)
  local ok
  ok, err = rewind(handle)
  if not ok then
    file:close()
    return nil, err
  end
  return handle
end

-- As of other io objects; sequential: what is in the middle of it costs what is before.
function Zip:stat(text)
  local name = full(self, text)
  local entry = name and self.entries[name]
  local last = name and name:match "[^/]*$"
  if entry then return {name = last, mtime = time_of(entry.time, entry.date), size = entry.size, isdir = false, type = "regular", sequential = entry.method ~= 0} end
  if not name or not self.folders[name] then return nil, "notfound" end
  return {name = last, mtime = self.mtime, size = 0, isdir = true, type = "directory"}
end

-- Iterates over the names in a folder; details: also whether it is a folder, its time and its size.
function Zip:files(text, details)
  local name = full(self, text)
  if not name or not self.folders[name] then return nil, "notfound" end
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
    return child, entry == nil, entry and time_of(entry.time, entry.date) or self.mtime, entry and entry.size or 0
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
  local entries, names, more = read_list(file, stat.size)
  file:close()
  if not entries then return nil, names, more end
  return setmetatable({io = io, path = text, entries = entries, names = names, folders = more, folder = "", mtime = stat.mtime, size = stat.size},
                      Zip)
end

-- A folder inside one.
function zip.folder(self, text)
  if getmetatable(self) ~= Zip then error("bad argument #1 to 'mkio' (io expected, got table)", 2) end
  local name = full(self, text)
  if not name or not self.folders[name] then return nil, "notfound" end
  local copy = setmetatable({}, Zip)
  for key, value in pairs(self) do copy[key] = value end
  copy.folder = name
  return copy
end

return zip
