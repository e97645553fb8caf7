-- An application (ba-api C.7): a folder, or a ZIP file, with files, pages (*.lsp), `.preload` and `.lua/`, what its pages share, and the
-- directories that it has added.
local auth = require "cosock.http.auth"
local deferred = require "cosock.http.deferred"
local dir = require "cosock.http.dir"
local exchange = require "cosock.http.exchange"
local filter = require "cosock.http.filter"
local reader = require "cosock.http.reader"
local session = require "cosock.http.session"

local app = {}

local App = {}
App.__index = App

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

-- ---- requests ----

local page_meta = {__index = _G}

local Exchange = {}

-- _ENV of what runs for a request.
function Exchange:env()
  local env = self.page_env
  if not env then
    local application = self.app
    env = setmetatable({
      request = self, response = self, app = application.env, io = application.io, dir = application.dir,
      print = function(...) return self:print(...) end, _emit = function(...) return self:write(...) end,
    }, page_meta)
    self.page_env = env
  end
  return env
end

local function serve(x)
  if x.head.target == "*" or x:method() == "TRACE" then
    x:setheader("Allow", "GET, HEAD, POST, OPTIONS")
    if x:method() == "TRACE" then return x:senderror(405) end
    return x:answer(204, nil, "")
  end
  local hosts = x.app.hosts
  if hosts and not hosts[x:domain()] then return x:senderror(421) end
  x.inside = {}
  if not x.app.root:service(x, x.path:sub(2)) then return x:senderror(404) end
end

-- Answers a request of a connection, as server.new wants it.
function App:handle(conn, head)
  return exchange.run(conn, head, self.kind, serve)
end

-- ---- the application ----

function App:unload()
  local f = rawget(self.env, "onunload")
  if f then f() end
end

local function preload(self)
  if not self.io:stat ".preload" then return end
  local chunk, err = self.io:loadfile(".preload", self.env)
  if not chunk then error(err, 0) end
  chunk()
end

-- The io object of a folder or of a ZIP file.
local function open(path)
  local io = ba.mkio(path)
  if io:stat "" then return io end
  local folder, name = path:match "^(.-)/*([^/]+)$"
  local zip, err, why, reason = ba.mkio(ba.mkio(folder == "" and (path:find "^/" and "/" or ".") or folder), name)
  if not zip then error(("app %s: %s"):format(path, reason or why or err), 0) end
  return zip
end

-- The path of a folder or of a ZIP file; options: show_errors, origins (of websocket.origins), tls_port (where the application answers with TLS), hosts (the
-- names under which it does: a set, in lower case; nil: under every name).
function app.load(folder, options)
  local io = open(folder)
  local self = setmetatable({io = io, dir = reader.new(nil, 0, io), root = dir.new(), hosts = options.hosts}, App)
  self.root:insert(self.dir)
  self.kind = exchange.kind(session.Exchange, reader.Exchange, auth.Exchange, deferred.Exchange, filter.Exchange, Exchange,
                            {app = self, store = session.store(), show_errors = options.show_errors, origins = options.origins or {},
                             tls_port = options.tls_port})
  local env = setmetatable({io = io, dir = self.dir, mako = {createloader = createloader, argv = {}}}, {__index = _G})
  env.app = env
  self.env = env
  self.dir:lspfilter(env)
  dir.load(self.root, function() preload(self) end)
  return self
end

return app
