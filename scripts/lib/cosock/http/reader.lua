-- Resource readers (ba-api C.7): directories that answer with the files of a folder, and run its pages (*.lsp).
local dir = require "cosock.http.dir"
local lsp = require "cosock.http.lsp"
local static = require "cosock.http.static"

local reader = {}

local INDEX = {"index.lsp", "index.html", "index.htm"}
local NESTED = 20 -- includes and forwards of one request

-- ---- pages ----

local function is_page(path) return path:find "%.lsp$" ~= nil end

-- The compiled page of a file, kept until the file changes.
local function page_of(self, path, entry)
  if not entry.run and not entry.wrong then
    local file, err = self.folder.io:open(path)
    if not file then return nil, err end
    local text
    text, err = file:read "a"
    file:close()
    if err then return nil, err end
    entry.run, entry.wrong = lsp.compile(text or "", path:sub(2))
  end
  return entry.run, entry.wrong
end

local NAMES = {"page", "pathname", "app", "io", "dir"}

-- What the page around the one that runs had: it has it again however that one ends.
local Around = {__close = function(self)
  self.x.reader = self.reader
  for i, name in ipairs(NAMES) do self.env[name] = self[i] end
end}

local function run_page(self, x, path, entry)
  local env = x:env()
  local run, err = page_of(self, path, entry)
  if not run then error(err, 0) end
  local page = self.pages[path]
  if not page then
    page = {}
    self.pages[path] = page
  end
  local around <close> = setmetatable({x = x, env = env, reader = x.reader}, Around)
  for i, name in ipairs(NAMES) do around[i] = rawget(env, name) end
  env.page, env.pathname, env.app, env.io, env.dir = page, path, self.app_table, self.folder.io, self
  x.reader = self
  run(env, path, env.io, page, env.app)
end

-- ---- files ----

local function send_file(self, x, path, entry)
  if is_page(path) then
    if not self.app_table then return false end
    run_page(self, x, path, entry)
    return true
  end
  if self.max_age then x:setmaxage(self.max_age) end
  self.folder:send(x, path, entry)
  return true
end

-- Whether there was something to answer with.
local function serve(self, x, path, hidden)
  path = "/" .. path
  if not hidden and path:find("/.", 1, true) then return false end
  local entry = self.folder:look(path)
  if not entry then return false end
  local slash = path:sub(-1) == "/"
  if not entry.isdir then return not slash and send_file(self, x, path, entry) end
  local asked = slash and (path ~= "/" or x.path .. "/" ~= self:baseuri()) -- with a slash by the client too
  for _, name in ipairs(INDEX) do
    local inside = self.folder:look(path .. (slash and "" or "/") .. name)
    if inside and not inside.isdir then
      if asked then return send_file(self, x, path .. name, inside) end
      x:setheader("Location", x:url() .. "/" .. (x.query and "?" .. x.query or ""))
      return x:answer(301, "text/plain", "")
    end
  end
  return false
end

local Reader = {}

function Reader:io() return self.folder.io end
function Reader:getapp() return self.app_table end

-- Pages are run from now on, with that table as `app`.
function Reader:lspfilter(app) self.app_table = app or {} end

-- Files of an io object as a directory. name, priority: as of ba.create.dir.
function reader.new(name, priority, io)
  local self = dir.new(name, priority, serve)
  self.folder, self.pages = static.folder(io), {}
  for method, f in pairs(Reader) do self[method] = f end
  return self
end

-- ba.create.resrdr([name] [, priority], io)
function reader.resrdr(...)
  local args = table.pack(...)
  local io = args[args.n]
  local name, priority = args[1], args[2]
  if type(name) ~= "string" then name, priority = nil, args.n > 1 and args[args.n - 1] or nil end
  if type(priority) ~= "number" then priority = nil end
  local ok, files = pcall(function() return io.files end)
  if not ok or type(files) ~= "function" then
    error("resrdr: an io object expected as the last argument, got " .. type(io), 2)
  end
  return reader.new(name, priority, io)
end

-- ---- what an exchange can do with them ----

-- Another page's output, or a file, here; relative to the page that runs. true; nil, err.
local function include(x, path)
  local self = x.reader or x.app.dir
  if path:sub(1, 1) ~= "/" then path = (x:env().pathname or "/"):gsub("[^/]*$", "") .. path end
  local entry = self.folder:look(path)
  if not entry or entry.isdir or path:find "%.%." then return nil, "pagenotfound" end
  x.nested = x.nested + 1
  if x.nested > NESTED then return nil, "toomanyincludes" end
  if is_page(path) and self.app_table then
    run_page(self, x, path, entry)
  else
    local file <close> = assert(self.folder.io:open(path))
    for data in function() return file:read(16384) end do x:write(data) end
  end
  return true
end

local Exchange = {nested = 0, forwards = 0}

local Including = {__close = function(self) self.x.including = self.x.including - 1 end}

function Exchange:include(path)
  self.including = (self.including or 0) + 1
  local _ <close> = setmetatable({x = self}, Including)
  local ok, err = include(self, path)
  return ok, err
end

-- Another page answers instead of this one, which ends unless `stay` is true. Raises when there is none, or the head has gone.
function Exchange:forward(path, stay)
  local ok, err = self:reset "buffer"
  self.forwards = self.forwards + 1
  if ok then ok, err = include(self, path) end
  if not ok then error(("forward %s: %s"):format(path, err == "toomanyincludes" and "toomanyforwards" or err), 2) end
  if stay then return true end
  self:abort()
end

Exchange.redirect = Exchange.forward

-- Whether this page was forwarded to, or included; and how often that has happened.
function Exchange:isforward() return self.forwards > 0, self.forwards end
function Exchange:isinclude() return (self.including or 0) > 0, self.including or 0 end

reader.Exchange = Exchange

return reader
