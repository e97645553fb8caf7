-- An application (ba-api C.7): a folder with files, pages (*.lsp), `.preload` and `.lua/`, and what its pages share.
local exchange = require "cosock.http.exchange"
local lsp = require "cosock.http.lsp"
local session = require "cosock.http.session"
local static = require "cosock.http.static"

local app = {}

local INDEX = {"index.lsp", "index.html", "index.htm"}
local NESTED = 20 -- includes and forwards of one request

local App = {}
App.__index = App

-- ---- what .preload sees ----

local Dir = {}
Dir.__index = Dir
Dir.__name = "dir"

-- f(_ENV, path) is asked before the files; it returns false when they are to answer.
function Dir:setfunc(f)
  self.f = f
  return true
end

-- Nobody sees anything whom the authenticator does not know. nil: everybody again.
function Dir:setauth(authenticator)
  self.authenticator = authenticator
  return true
end

-- require then finds the modules of the io object's folder .lua.
local function createloader(io)
  table.insert(package.searchers, 3, function(name)
    local file = name:gsub("%.", "/")
    local tried = {}
    for _, path in ipairs {".lua/" .. file .. ".lua", ".lua/" .. file .. "/init.lua"} do
      local chunk, err = io:loadfile(path)
      if chunk then return chunk, path end
      if err ~= "notfound" then error(("error loading module '%s': %s"):format(name, err), 0) end
      tried[#tried + 1] = ("\n\tno file '%s' in the application"):format(path)
    end
    return table.concat(tried)
  end)
  return true
end

-- ---- the application ----

function App:unload()
  local f = rawget(self.env, "onunload")
  if f then f() end
end

local page_meta = {__index = _G}

-- _ENV of what runs for a request.
local function env_of(self, x)
  local env = x.env
  if not env then
    env = setmetatable({
      request = x, response = x, app = self.env, io = self.io, dir = self.dir,
      print = function(...) return x:print(...) end,
    }, page_meta)
    x.env = env
  end
  return env
end

-- ---- pages ----

-- The compiled page of a file, kept until the file changes.
local function page_of(self, path, entry)
  if not entry.run and not entry.wrong then
    local file, err = self.io:open(path)
    local text = file and (file:read "a" or "")
    if not file then return nil, err end
    file:close()
    entry.run, entry.wrong = lsp.compile(text, path:sub(2))
  end
  return entry.run, entry.wrong
end

local function run_page(self, x, path, entry)
  local env = env_of(self, x)
  local run, err = page_of(self, path, entry)
  if not run then error(err, 0) end
  local page = self.pages[path]
  if not page then
    page = {}
    self.pages[path] = page
  end
  local before, before_name = env.page, env.pathname
  env.page, env.pathname = page, path
  run(env, x)
  env.page, env.pathname = before, before_name
end

-- ---- requests ----

local function is_page(path) return path:find "%.lsp$" ~= nil end

local function serve_file(self, x, path)
  local entry = self.files:look(path)
  if not entry then return x:senderror(404) end
  if entry.isdir then
    if path:sub(-1) ~= "/" then return x:sendredirect(x:url() .. "/" .. (x.query and "?" .. x.query or ""), 301) end
    for _, name in ipairs(INDEX) do
      local inside = self.files:look(path .. name)
      if inside and not inside.isdir then return serve_file(self, x, path .. name) end
    end
    return x:senderror(404)
  end
  if path:sub(-1) == "/" then return x:senderror(404) end
  if is_page(path) then return run_page(self, x, path, entry) end
  return self.files:send(x, path, entry)
end

-- Another page's output here: response:include(path), relative to the page that runs. true; nil, err.
local function include(x, path)
  local self, env = x.app, env_of(x.app, x)
  if path:sub(1, 1) ~= "/" then path = (env.pathname or "/"):gsub("[^/]*$", "") .. path end
  local entry = self.files:look(path)
  if not entry or entry.isdir or path:find "%.%." then return nil, "pagenotfound" end
  x.nested = (x.nested or 0) + 1
  if x.nested > NESTED then return nil, "toomanyincludes" end
  if is_page(path) then
    run_page(self, x, path, entry)
  else
    local file <close> = assert(self.io:open(path))
    for data in function() return file:read(16384) end do x:write(data) end
  end
  return true
end

local Exchange = {include = include}

-- Another page answers instead of this one, which ends.
function Exchange:forward(path)
  local ok, err = self:reset "buffer"
  if not ok then return nil, err end
  ok, err = include(self, path)
  if not ok then return nil, err == "toomanyincludes" and "toomanyforwards" or err end
  self:abort()
end

-- Answers a request.
local function serve(x)
  local self = x.app
  local method, path = x:method(), x.path
  if x.head.target == "*" then
    x:setheader("Allow", "GET, HEAD, POST, OPTIONS")
    return x:answer(204, nil, "")
  end
  local dir = self.dir
  if dir.authenticator then
    x.username = dir.authenticator:authenticate(x, env_of(self, x))
    if not x.username then return end
  end
  if dir.f and dir.f(env_of(self, x), path:sub(2)) ~= false then return end
  if path:find("/.", 1, true) then return x:senderror(404) end
  if method == "TRACE" then return x:senderror(405) end
  return serve_file(self, x, path)
end

-- Answers a request of a connection, as server.new wants it.
function App:handle(conn, head)
  return exchange.run(conn, head, self.kind, serve)
end

-- The folder's path; options: show_errors.
function app.load(folder, options)
  local io = ba.mkio(folder)
  local self = setmetatable({io = io, files = static.folder(io), dir = setmetatable({}, Dir), pages = {}}, App)
  self.kind = exchange.kind(session.Exchange, Exchange, {app = self, store = session.store(), show_errors = options.show_errors})
  local env = setmetatable({io = io, dir = self.dir, mako = {createloader = createloader}}, {__index = _G})
  env.app = env
  self.env = env
  if io:stat ".preload" then
    local chunk, err = io:loadfile(".preload", env)
    if not chunk then error(err, 0) end
    chunk()
  end
  return self
end

return app
