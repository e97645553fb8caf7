-- Cookies and sessions. A session is a table of the application's own values, found again by a cookie; it lives in this
-- Lua state and ends when nobody has come with it for a while.
local session = {}

local COOKIE = "cosockd_session"
local INACTIVE = 1800   -- s, unless maxinactiveinterval says otherwise
local MOST = 10000      -- sessions of one store
local SWEEP = 30000     -- ms

local Methods = {}
local state = setmetatable({}, {__mode = "k"}) -- of a session: what is not the application's
local meta = {__index = Methods, __name = "session"}

local Store = {}
Store.__index = Store

-- A ring of states, least recently seen first.
local function new_ring()
  local ring = {}
  ring.next, ring.before_it = ring, ring
  return ring
end

local function take_off(st)
  st.before_it.next, st.next.before_it = st.next, st.before_it
end

local function put_on(ring, st)
  st.before_it, st.next = ring.before_it, ring
  ring.before_it.next, ring.before_it = st, st
end

local function over(st, now) return st.locks == 0 and now - st.seen > st.inactive end

-- Ends those whose state is such. They are collected first: what ends one may begin another.
local function terminate_each(self, is_such)
  local list = {}
  for _, s in pairs(self.all) do
    if is_such(state[s]) then list[#list + 1] = s end
  end
  for _, s in ipairs(list) do Methods.terminate(s) end
end

function session.store()
  local self = setmetatable({all = {}, count = 0, new = new_ring(), known = new_ring()}, Store)
  self.timer = ba.timer(function()
    local now = os.time()
    terminate_each(self, function(st) return over(st, now) end)
    return self.count > 0
  end)
  return self
end

-- Room for one more: who asks for sessions and does not come back loses them first, then who was not seen for the longest time.
local function make_room(self)
  for _, ring in ipairs {self.new, self.known} do
    local st = ring.next
    while st ~= ring and st.locks > 0 do st = st.next end
    if st ~= ring then return Methods.terminate(self.all[st.id]) end
  end
end

-- nil when all are locked.
function Store:create(peer)
  if self.count >= MOST then make_room(self) end
  if self.count >= MOST then return nil end
  local s = setmetatable({}, meta)
  local now = os.time()
  state[s] = {id = ba.b64urlencode(ba.rndbs(18)), store = self, created = now, seen = now, before = now, inactive = INACTIVE, peer = peer,
              locks = 0, uses = 1}
  self.all[state[s].id] = s
  put_on(self.new, state[s])
  self.count = self.count + 1
  if self.count == 1 then self.timer:set(SWEEP, true) end
  return s
end

function Store:find(id)
  local s = id and self.all[id]
  if not s then return nil end
  local now, st = os.time(), state[s]
  if over(st, now) then
    Methods.terminate(s)
    return nil
  end
  st.before, st.seen, st.uses = st.seen, now, st.uses + 1
  take_off(st)
  put_on(self.known, st)
  return s
end

function Methods:id() return state[self].id end
function Methods:creationtime() return state[self].created end
function Methods:lastaccessedtime() return state[self].before end
function Methods:peername() return state[self].peer end
function Methods:usecounter() return state[self].uses end

function Methods:attributes()
  local copy = {}
  for name, value in next, self do copy[name] = value end
  return copy
end

function Methods:maxinactiveinterval(seconds)
  if seconds then state[self].inactive = seconds end
  return state[self].inactive
end

-- A locked session does not end by itself: a WebSocket may hold it.
function Methods:lock() state[self].locks = state[self].locks + 1 end
function Methods:release() state[self].locks = math.max(state[self].locks - 1, 0) end

function Methods:terminate()
  local st = state[self]
  if st.store.all[st.id] then
    st.store.all[st.id] = nil
    take_off(st)
    st.store.count = st.store.count - 1
    local f = rawget(self, "onterminate")
    if type(f) == "function" then
      local ok, err = pcall(f)
      if not ok then tracep(false, "error", "onterminate of a session: " .. tostring(err)) end
    end
  end
end

-- Who has logged in with it, and how; false: nobody.
function Methods:user()
  local user = state[self].user
  if not user then return false end
  return user, "form"
end

-- ---- cookies (RFC 6265) ----

-- The value of that name among what a client sent.
function session.cookie_value(header, name)
  for pair in (header or ""):gmatch "[^;]+" do
    local key, at = pair:match "^%s*([^=%s]+)%s*=%s*()"
    if key == name then
      local value = pair:match("^.*%S", at) or ""
      return value:match '^"(.*)"$' or value
    end
  end
  return nil
end

local Cookie = {}
Cookie.__index = Cookie
Cookie.__name = "cookie"

function session.cookie(exchange, name, value)
  if not ba.http.response(200, {[name] = ""}) then error(("no name for a cookie: %q"):format(name), 2) end
  return setmetatable({exchange = exchange, key = name, text = value or "", attributes = {}}, Cookie)
end

function Cookie:name() return self.key end

function Cookie:value(value)
  if value ~= nil then self.text = tostring(value) end
  return self.text
end

local function attribute(name, format)
  return function(self, value)
    if value ~= nil then self.attributes[name] = value end
    return self.attributes[name]
  end
end

Cookie.path = attribute "Path"
Cookie.domain = attribute "Domain"
Cookie.maxage = attribute "Max-Age"
Cookie.secure = attribute "Secure"
Cookie.httponly = attribute "HttpOnly"
Cookie.samesite = attribute "SameSite"

-- Sends it with the answer.
function Cookie:activate()
  if self.text:find '[%c ",;\\]' then error("cookie: a value that cookies do not allow (ba.urlencode it)", 2) end
  local parts = {self.key .. "=" .. self.text}
  for _, name in ipairs {"Path", "Domain", "Max-Age", "SameSite", "Secure", "HttpOnly"} do
    local value = self.attributes[name]
    if value == true then
      parts[#parts + 1] = name
    elseif value then
      value = tostring(value)
      if value:find "[%c;]" then error("cookie: a bad " .. name, 2) end
      parts[#parts + 1] = name .. "=" .. value
    end
  end
  return self.exchange:setheader("Set-Cookie", table.concat(parts, "; "), true)
end

function Cookie:delete()
  self.text, self.attributes["Max-Age"] = "", 0
  return self:activate()
end

-- ---- what an exchange can do with them ----

local Exchange = {}

function Exchange:cookie(name)
  local value = session.cookie_value(self.head.header.cookie, name)
  return value and session.cookie(self, name, value)
end

function Exchange:createcookie(name) return session.cookie(self, name) end

local function new_session(self)
  if self.sent then return nil, "iscommitted" end
  local s = self.store:create(self:peername())
  if not s then return nil, "toomuchdata" end
  local cookie = session.cookie(self, COOKIE, Methods.id(s))
  cookie:path "/"
  cookie:httponly(true)
  cookie:samesite "Lax"
  cookie:secure(self:issecure())
  cookie:activate()
  self.own_session = s
  return s
end

-- The session that the client has a cookie of, or nil; create: a new one then.
function Exchange:session(create)
  local s = self.own_session
  if s == nil then
    s = self.store:find(session.cookie_value(self.head.header.cookie, COOKIE))
    self.own_session = s
  end
  if s or not create then return s end
  return new_session(self)
end

-- The session becomes that of a user: a new one, so that no cookie from before opens it.
local function log_in(self, username, users)
  local old = self:session()
  local s, err = new_session(self)
  if not s then return nil, err end
  if old then
    for name, value in next, Methods.attributes(old) do s[name] = value end
    old.onterminate = nil -- it goes on as the new one
    Methods.terminate(old)
  end
  state[s].user, state[s].users = username, users
  self:authenticated(username, nil, "form")
  return true
end

-- For a page that has found out by itself who it is: every authenticator believes it.
function Exchange:login(username) return log_in(self, username, nil) end

-- For an authenticator's form: only authenticators with the same users believe it. inactive: seconds without a request after which it
-- ends, or nil.
function Exchange:form_login(username, users, inactive)
  local ok, err = log_in(self, username, users)
  if ok and inactive then Methods.maxinactiveinterval(self:session(), inactive) end
  return ok, err
end

-- all: the other sessions of the same user end too. False when nobody has logged in.
function Exchange:logout(all)
  local s, known = self:session(), self.username ~= nil
  local st = state[s or false]
  if st then
    known = known or st.user ~= nil
    if all and st.user then
      terminate_each(self.store, function(other) return other.user == st.user and other.users == st.users end)
    end
    Methods.terminate(s)
  end
  self.own_session, self.username, self.password, self.user_type = nil, nil, nil, nil
  return known
end

-- From now on request:user() is that. How: "basic", "digest" or "form". The name.
function Exchange:authenticated(username, password, how)
  self.username, self.password, self.user_type = username, password, how
  return username
end

-- Who has logged in with the session, as one of those users.
function Exchange:session_user(users)
  local st = state[self:session() or false]
  return st and (st.users == nil or st.users == users) and st.user or nil
end

session.Exchange = Exchange

return session
