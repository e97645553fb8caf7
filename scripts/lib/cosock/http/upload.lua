-- ba.create.upload: files that clients send with PUT, or with a form by POST, written to an io object as they come:
--
--   local upload = ba.create.upload(ba.mkio(ba.openio "home", "files"), 20)
--   ... upload(request, path, startfunc, completefunc, errorfunc, env) -- in a page or a directory's function; does not return
--
-- A file has its name when it is whole. Until then it is a hidden one (".upload-..."), which is removed when the client stops.
local exchange = require "cosock.http.exchange"
local multipart = require "cosock.http.multipart"

local upload = {}

local PAUSE = 30000 -- ms for a piece; and from then on a client has to send a byte a ms

-- What the callbacks get.
local Upload = {}
Upload.__index = Upload

-- Where the file is, in the io object.
function Upload:name() return self.path end
function Upload:url() return self.x:url() end
-- Whether it came with a form.
function Upload:multipart() return self.by_form end
function Upload:session() return self.x:session() end

-- The answer, which is the caller's from now on (deferred.lua).
function Upload:response()
  if not self.answer then self.answer = assert(self.x:deferred()) end
  return self.answer
end

-- ---- one file ----

-- However it ends.
local File = {__close = function(self)
  pcall(self.file.close, self.file) -- it may raise where nothing can wait; the file goes all the same
  if not self.whole then self.io:remove(self.hidden) end
end}
File.__index = File

-- nil and an error.
local function begin(io, path)
  local hidden = (path:match "^.*/" or "") .. ".upload-" .. ba.b64urlencode(ba.rndbs(12))
  local file, err, _, why = io:open(hidden, "w")
  if not file then return nil, err, why end
  return setmetatable({io = io, path = path, hidden = hidden, file = file}, File)
end

-- Gives it its name. true; nil and an error.
function File:finish()
  local ok, err, _, why = self.file:close()
  if ok then ok, err, _, why = self.io:rename(self.hidden, self.path) end
  self.whole = ok
  return ok, err, why
end

-- ---- what comes ----

-- Pieces of the body: nil at its end; nil and an error, also when it comes too slowly.
local function pieces(x)
  local begun, size = ba.clock(), 0
  return function()
    local left = begun + PAUSE + size - ba.clock()
    if left <= 0 then return nil, "timeout" end
    local data, err = x:piece(nil, math.min(left, PAUSE))
    size = size + #(data or "")
    return data, err
  end
end

-- true; nil, an error, and more about it.
local function receive_body(self, up)
  local file <close>, err, why = begin(self.io, up.path)
  if not file then return nil, err, why end
  local next_piece = pieces(up.x)
  while true do
    local data, failed = next_piece()
    if failed then return nil, failed end
    if not data then return file:finish() end
    local ok, code, _, phrase = file.file:write(data)
    if not ok then return nil, code, phrase end
  end
end

-- What a browser says a file is called, without the folders of the client's; nil when it is no name for a file here.
local function base_name(text)
  local name = text:match "[^/\\]*$"
  return name ~= "" and not name:find "^%." and not name:find "%c" and name or nil
end

-- The file that is being written, closed with what surrounds it.
local Current = {__close = function(self)
  if self.file then getmetatable(self.file).__close(self.file) end
end}

-- true; nil, an error, and more about it; false: the start function has answered.
local function receive_form(self, up, start)
  local folder = up.path
  if folder ~= "" and folder:sub(-1) ~= "/" then folder = folder .. "/" end
  local current <close> = setmetatable({}, Current)
  local failure -- {error, more}

  local function stop(err, why)
    failure = failure or {err, why}
    return false
  end

  local function finish()
    if not current.file then return end
    local ok, err, why = current.file:finish()
    if not ok then return stop(err, why) end
    current.file = nil
  end

  local next_piece = pieces(up.x)
  local ok, text = multipart.read(function()
    local data, err = next_piece()
    if err then stop(err) end
    return data, err
  end, up.x:header "content-type", {
    beginfile = function(_, filename)
      if finish() == false then return false end
      local name = base_name(filename)
      if not name then return stop("invalidname", ("no name for a file: %q"):format(filename)) end
      up.path = folder .. name
      if start then start(up.env, up) end
      if up.answer then return stop(false) end
      local file, err, why = begin(self.io, up.path)
      if not file then return stop(err, why) end
      current.file, current.any = file, true
    end,
    filedata = function(data)
      local written, err, _, why = current.file.file:write(data)
      if not written then return stop(err, why) end
    end,
    endmp = finish,
  })
  if not ok then stop("badrequest", text) end
  if not failure and not current.any then stop("invalidname", "the form has no file") end
  if not failure then return true end
  if failure[1] == false then return false end
  return nil, failure[1], failure[2]
end

-- ---- uploads ----

local STATUS = {nospace = 507, timeout = 408, notfound = 404, noaccess = 403, ioerror = 500}

local Uploader = {__name = "upload"}

-- One less, however it ends.
local Under_way = {__close = function(self) self.of.count = self.of.count - 1 end}

local function check(x, path, start, complete, failed, env)
  if not exchange.is(x) then error("upload: request expected, got " .. type(x), 3) end
  if type(path) ~= "string" then error("upload: a path expected, got " .. type(path), 3) end
  for name, f in pairs {startfunc = start, completefunc = complete, errorfunc = failed} do
    if type(f) ~= "function" then error(("upload: %s: function expected, got %s"):format(name, type(f)), 3) end
  end
  if env ~= nil and type(env) ~= "table" then error("upload: environment: table expected, got " .. type(env), 3) end
end

local function receive(self, x, up, start, complete, failed)
  self.count = self.count + 1
  local _ <close> = setmetatable({of = self}, Under_way)
  local ok, err, why
  if x:uri():find("/.", 1, true) then -- what the client says is where it goes: not where scripts are
    ok, err, why = nil, "invalidname", "a hidden name"
  elseif up.by_form then
    ok, err, why = receive_form(self, up, start)
  else
    ok, err, why = receive_body(self, up)
  end
  if ok == false then return end
  if ok then
    if complete then complete(up.env, up) end
  elseif failed then
    failed(up.env, up, err, why or "")
  end
  if not up.answer and not x.over then
    if ok then
      x:answer(204, nil, "")
    else
      x:senderror(STATUS[err] or 400, why)
    end
  end
end

-- path: for PUT the file's, for a form that of its folder. The functions are called as f(env, upload), errorfunc with an error and more
-- about it behind that; each may be left out. start: for each file of a form, before it is written; one that takes the response ends
-- the upload. complete: behind the last file. Without an answer of theirs it is 204 or an error. Does not return.
function Uploader:__call(x, path, start, complete, failed, env)
  check(x, path, start, complete, failed, env)
  x:allow({"PUT", "POST"}, false)
  local by_form = x:method() == "POST"
  env = env or {}
  if not getmetatable(env) then setmetatable(env, {__index = _G}) end
  if self.count >= self.most then
    x:senderror(503, "There are too many uploads.")
  elseif by_form and not (x:header "content-type" or ""):lower():find "^multipart/form%-data" then
    x:senderror(415)
  else
    receive(self, x, setmetatable({x = x, path = path, by_form = by_form, env = env}, Upload), start, complete, failed)
  end
  x:abort()
end

-- io: where the files go. most: uploads at a time.
function upload.upload(io, most)
  if type(io) ~= "userdata" then error("upload: an io object expected, got " .. type(io), 2) end
  most = math.tointeger(most)
  if not most or most < 1 then error("upload: how many uploads at a time?", 2) end
  return setmetatable({io = io, most = most, count = 0}, Uploader)
end

return upload
