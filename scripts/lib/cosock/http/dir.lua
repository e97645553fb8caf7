-- Directories (ba-api C.7): the tree of places that requests go through, each with a function, users and fields of its own.
-- A directory with a name has the paths that begin with it, one without a name all of those of the directory it is in.
local Response = require "cosock.http.response"

local dir = {}

local Dir = {}
Dir.__index = Dir
Dir.__name = "dir"

-- Where dir:insert() without an argument puts a directory: into the application that its coroutine loads (loading may wait, and
-- another application may be loaded meanwhile), or into the only one.
local loading, only, applications = setmetatable({}, {__mode = "k"}), nil, 0

-- The directory itself. serve(x, path, hidden), if given, answers after its function and the directories in front: true when
-- it has; hidden: what begins with a dot too.
function dir.new(name, priority, serve)
  return setmetatable({key = name, priority = priority or 0, own = serve, front = {}, behind = {}}, Dir)
end

-- ba.create.dir([name [, priority]]): both may be left out.
function dir.dir(name, priority)
  if type(name) == "number" then name, priority = nil, name end
  if name ~= nil and (type(name) ~= "string" or name == "" or name:find "/") then error("dir: a name without slashes expected", 2) end
  return dir.new(name, priority)
end

-- Closed, it takes the key out of the table.
local Until = {__close = function(self) self.table[self.key] = nil end}

-- Runs f while that directory is the root of what this coroutine loads.
function dir.load(root, f)
  local me = coroutine.running()
  loading[me], applications = root, applications + 1
  local _ <close> = setmetatable({table = loading, key = me}, Until)
  only = applications == 1 and root or nil
  f()
end

-- ---- the tree ----

local function put(list, child)
  local at = 1
  while list[at] and list[at].priority > child.priority do at = at + 1 end
  table.insert(list, at, child)
end

local function insert(self, name, child)
  if getmetatable(child) ~= Dir then error(("bad argument #1 to '%s' (dir expected, got %s)"):format(name, type(child)), 3) end
  if child.parent then return nil, "alreadyinserted" end
  local above = self
  while above do
    if above == child then return nil, "incorrectuse" end
    above = above.parent
  end
  child.parent = self
  put(name == "insert" and self.behind or self.front, child)
  return true
end

-- A directory is asked after this one's own files and function; without an argument this one becomes part of the application.
-- Of two with the same priority the one that came last is asked first. nil, "alreadyinserted" or "incorrectuse".
function Dir:insert(child)
  if child ~= nil then return insert(self, "insert", child) end
  local root = loading[coroutine.running()] or only
  if not root then return nil, "incorrectuse" end
  return insert(root, "insert", self)
end

-- The same, asked before them.
function Dir:insertprolog(child) return insert(self, "insertprolog", child) end

function Dir:unlink()
  if not self.parent then return nil, "incorrectuse" end
  for _, list in ipairs {self.parent.front, self.parent.behind} do
    for i = #list, 1, -1 do
      if list[i] == self then table.remove(list, i) end
    end
  end
  self.parent = nil
  return true
end

function Dir:name() return self.key end

-- The path it has, with a slash at the end.
function Dir:baseuri()
  local above = self.parent and self.parent:baseuri() or "/"
  return self.key and self.parent and above .. self.key .. "/" or above
end

-- ---- what a directory does ----

-- f(_ENV, path): is asked before the files; it returns false when the search is to go on.
function Dir:setfunc(f)
  self.f = f
  return true
end

-- Nobody sees anything whom the authenticator does not know, or whom the authorizer, if given, does not let. nil: everybody.
function Dir:setauth(authenticator, authorizer)
  self.authenticator, self.authorizer = authenticator, authorizer
  return true
end

-- The page that answers those whom the authorizer has refused, with 403 if it sets no status.
function Dir:p403(path) self.refused_page = path end

-- Fields of every answer from here, {name = value}.
function Dir:header(fields)
  local copy = {}
  for name, value in pairs(fields or {}) do
    local why = Response.wrong_field(name, value)
    if why then error("header: " .. why, 2) end
    copy[name] = value
  end
  self.fields = copy
end

-- Of its files, not of its pages.
function Dir:maxage(seconds) self.max_age = seconds end

-- Requests without TLS are sent to the same address with it.
function Dir:redirect2tls()
  self.tls_only = true
  return true
end

-- Whether the request may go on here; if not it has been answered.
local function let_in(self, x, path)
  if self.tls_only and x:redirect2tls(true) then return false end
  local authenticator, authorizer = self.authenticator, self.authorizer
  if not authenticator or self.own and path:find "^public/" then return true end
  if not authenticator:authenticate(x, path) then return false end
  if not authorizer or authorizer:authorize(x, x:method(), path) then return true end
  if self.refused_page then
    x:setstatus(403)
    x:forward(self.refused_page)
  end
  x:senderror(403)
  return false
end

local ask

-- What is left of the path inside that directory, or nil.
local function below(child, path)
  local name = child.key
  if not name then return path end
  if path == name then return "" end
  return path:sub(1, #name + 1) == name .. "/" and path:sub(#name + 2) or nil
end

local function ask_each(list, x, path)
  for _, child in ipairs(list) do
    local rest = below(child, path)
    if rest and ask(child, x, rest) then return true end
  end
  return false
end

-- Whether it has answered the request for a path (without a slash at its beginning). unasked: nobody is asked who he is, and
-- what begins with a dot is found too.
function ask(self, x, path, unasked)
  if not unasked and not let_in(self, x, path) then return true end
  for name, value in pairs(self.fields or {}) do x:setheader(name, value) end
  local f, inside = self.f, x.inside
  if f and not inside[self] then
    inside[self] = true
    local _ <close> = setmetatable({table = inside, key = self}, Until)
    if f(x:env(), path) ~= false then return true end
  end
  return ask_each(self.front, x, path) or (self.own and self:own(x, path, unasked)) or ask_each(self.behind, x, path)
end

-- Hands a request over; from the directory's own function: to what stands behind it. as_forward: without asking who it is.
-- Whether it has been answered.
function Dir:service(x, path, as_forward) return ask(self, x, path, as_forward) end

-- ---- authorizers ----

local Authorizer = {}
Authorizer.__index = Authorizer

-- f(username, method, path, session): true when this user may do this.
function dir.authorizer(f)
  if type(f) ~= "function" then error("authorizer: function expected, got " .. type(f), 2) end
  return setmetatable({f = f}, Authorizer)
end

function Authorizer:authorize(x, method, path)
  return self.f(x:user() or nil, method, path, x:session()) == true
end

return dir
