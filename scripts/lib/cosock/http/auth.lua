-- Who is asking: Basic and Digest (RFC 7617, RFC 7616) and a login form with a session, in front of an application:
--
--   dir:setauth(ba.create.authenticator(ba.create.authuser(function(username, password) return passwords[username] end),
--                                       {type = "digest", realm = "here"}))
local credentials = require "cosock.credentials"
local html = require "cosock.http.html"
local auth = {}

local NONCE_LIFE = 300     -- s
local NONCE_USES = 1000
local NONCES = 10000

local secret = ba.rndbs(32)

local function hash(algorithm, text) return ba.crypto.hash(algorithm)(text)(true, "hex") end
local function mac(text) return ba.crypto.hash("hmac", "sha256", secret)(text)(true, "hex") end

-- ---- users ----

local Users = {}
Users.__index = Users

-- f(username, password, _ENV): the right password, or {HASH}: its HA1 (RFC 7616 3.4.2 with MD5: of "username:realm:password", in hex);
-- or true, when it has found the given one right; else nothing. password is nil with Digest, which does not send it. A fourth
-- result: seconds after which a session that a form has begun ends when nobody comes with it (ba.create.authuser's "inactive").
function auth.authuser(f)
  if type(f) ~= "function" then error("authuser: function expected, got " .. type(f), 2) end
  return setmetatable({find = f}, Users)
end

-- What is right for that name: "plain" and the password, "hash" and the HA1 in lower case, "yes"; or nil.
local function right_one(right)
  if right == true then return "yes" end
  if type(right) == "string" then return "plain", right end
  local ha1 = type(right) == "table" and right[1]
  if type(ha1) == "string" and ha1:find "^%x+$" and #ha1 == 32 then return "hash", ha1:lower() end
  return nil
end

-- Whether it is the right password; and the seconds of a session.
function Users:check(username, password, env, realm)
  local found = table.pack(self.find(username, password, env))
  local kind, right = right_one(found[1])
  local ok = kind == "yes" or kind == "plain" and credentials.same(right, password) or
             kind == "hash" and credentials.same(right, hash("md5", username .. ":" .. realm .. ":" .. password))
  return ok, math.tointeger(found[4])
end

-- The password or the list with the HA1 of that name, and what the function gives behind it; nil when it gives neither.
function Users:getpwd(username)
  local found = table.pack(self.find(username))
  if type(found[1]) ~= "string" and type(found[1]) ~= "table" then return nil end
  return table.unpack(found, 1, found.n)
end

-- ---- Basic ----

local function quoted(text) return '"' .. text:gsub('[\\"]', "\\%0"):gsub("%c", "") .. '"' end

-- The user and the password; or nil.
local function basic_user(self, x, text)
  local username, password = credentials.basic(text)
  if not username or not self.users:check(username, password, x:env(), self.realm) then return nil end
  return username, password
end

-- ---- Digest ----

local ALGORITHMS = {["SHA-256"] = "sha256", MD5 = "md5"}

local function new_nonce()
  local time = ("%x"):format(os.time())
  local salt = ba.b64urlencode(ba.rndbs(9))
  return time .. "." .. salt .. "." .. mac(time .. "." .. salt):sub(1, 32)
end

-- true; false: too old.
local function nonce_fresh(nonce)
  local time, salt, sum = nonce:match "^(%x+)%.([%w_-]+)%.(%x+)$"
  if not time or not credentials.same(mac(time .. "." .. salt):sub(1, 32), sum) then return false end
  return os.time() - tonumber(time, 16) <= NONCE_LIFE
end

-- Each count of a nonce is good once.
local function use_nonce(self, nonce, count)
  local used = self.nonces[nonce]
  if not used then
    if self.nonce_count >= NONCES then self.nonces, self.nonce_count = {}, 0 end
    used = {n = 0}
    self.nonces[nonce], self.nonce_count = used, self.nonce_count + 1
  end
  if used[count] or used.n >= NONCE_USES then return false end
  used[count], used.n = true, used.n + 1
  return true
end

-- name=value, name="value", ...: one after the other, so that no text takes long.
local function parameters(text)
  local found, at = {}, 1
  while true do
    local name, behind = text:match("^[%s,]*(%w+)%s*=%s*()", at)
    if not name then return found end
    local value, next_at = text:match('^"([^"]*)"()', behind)
    if not value then value, next_at = text:match('^([^%s,"]*)()', behind) end
    found[name:lower()], at = value, next_at
  end
end

-- The user; or nil, nil, and whether only the nonce is too old.
local function digest_user(self, x, text)
  local p = parameters(text)
  local algorithm = ALGORITHMS[(p.algorithm or "MD5"):upper()]
  if not (algorithm and p.username and p.nonce and p.response and p.cnonce and (p.nc or ""):find "^%x%x%x%x%x%x%x%x$") or p.qop ~= "auth" or p.realm ~= self.realm or
     p.uri ~= x.head.target then
    return nil
  end
  if algorithm ~= "md5" and self.users.hashed then return nil, nil, true end -- whoever it is: this is not to tell who has an HA1
  local kind, ha1 = right_one((self.users.find(p.username, nil, x:env())))
  if kind == "plain" then
    ha1 = hash(algorithm, p.username .. ":" .. self.realm .. ":" .. ha1)
  elseif kind ~= "hash" then
    return nil
  elseif algorithm ~= "md5" then -- an HA1 is of MD5: only that is offered from now on
    self.users.hashed = true
    return nil, nil, true
  end
  local ha2 = hash(algorithm, x:method() .. ":" .. p.uri)
  local right = hash(algorithm, table.concat({ha1, p.nonce, p.nc, p.cnonce, p.qop, ha2}, ":"))
  if not credentials.same(right, p.response:lower()) then return nil end
  if not nonce_fresh(p.nonce) or not use_nonce(self, p.nonce, p.nc) then return nil, nil, true end
  return p.username
end

-- ---- the form ----

local PAGE = [[
<!DOCTYPE html>
<html lang="en">
<title>%s</title>
<style>body { font: 1.1em/1.6 sans-serif; max-width: 22em; margin: 4em auto } input { width: 100%%; font: inherit }</style>
<h1>%s</h1>
<p>%s</p>
<form method="post">
<p><label>Name <input name="ba_username" autocomplete="username" autofocus></label></p>
<p><label>Password <input name="ba_password" type="password" autocomplete="current-password"></label></p>
<p><input type="submit" value="Log in"></p>
</form>
</html>
]]

local function show_form(self, x, info)
  if self.response then return self.response(x:env(), info) end
  local realm = html.escape(self.realm)
  x:setheader("Cache-Control", "no-store")
  x:answer(200, "text/html; charset=utf-8", PAGE:format(realm, realm, info.denied and "Wrong name or password." or ""))
end

local function form_user(self, x)
  local info = {type = "form", realm = self.realm}
  if x.head.upgrade then
    x:senderror(403)
    return nil
  end
  if x:method() == "POST" then
    local username, password = x:data("ba_username", "ba_password")
    if username and password then
      local ok, inactive = self.users:check(username, password, x:env(), self.realm)
      if ok then
        if not x:form_login(username, self.users, inactive) then
          x:senderror(503, "There are too many sessions.")
          return nil
        end
        x:sendredirect(x:url() .. (x.query and "?" .. x.query or ""), 303, true)
        return nil
      end
      info.username, info.denied = username, true
    end
  end
  show_form(self, x, info)
  return nil
end

-- ---- authenticators ----

local Authenticator = {}
Authenticator.__index = Authenticator

local TYPES = {auth = true, basic = true, digest = true, form = true}

-- op.type: "basic", "digest", "form", or "auth" (the form for browsers, Digest and Basic for whoever offers them).
-- op.realm: what the user is told. op.response(_ENV, info): answers instead of our own form or error; info has type,
-- realm, and after a refusal denied and username.
function auth.authenticator(users, op)
  op = op or {}
  if getmetatable(users) ~= Users then error("authenticator: an authuser expected, got " .. type(users), 2) end
  local kind = op.type or "digest"
  if not TYPES[kind] then error(("authenticator: no type %q"):format(tostring(kind)), 2) end
  return setmetatable({users = users, type = kind, realm = op.realm or "Barracuda Server", response = op.response, nonces = {}, nonce_count = 0},
                      Authenticator)
end

local function offer_digest(x, realm, algorithm, stale)
  x:setheader("WWW-Authenticate", ('Digest realm=%s, qop="auth", algorithm=%s, nonce="%s"%s')
              :format(quoted(realm), algorithm, new_nonce(), stale and ", stale=true" or ""), true)
end

local function offer_basic(x, realm) x:setheader("WWW-Authenticate", "Basic realm=" .. quoted(realm) .. ', charset="UTF-8"', true) end

local function challenge(self, x, stale, denied)
  if self.type ~= "basic" then
    if not self.users.hashed then offer_digest(x, self.realm, "SHA-256", stale) end
    offer_digest(x, self.realm, "MD5", stale)
  end
  if self.type ~= "digest" then offer_basic(x, self.realm) end
  if self.response and self.type ~= "auth" then
    x:setstatus(401)
    self.response(x:env(), {type = self.type, realm = self.realm, denied = denied})
  else
    x:senderror(401)
  end
end

local function is_browser(x)
  return (x:header "accept" or ""):find("text/html", 1, true) ~= nil
end

-- Whether a browser shows the answer to a person, who can fill in a form.
local function wants_form(self, x, given)
  return self.type == "form" or (self.type == "auth" and not given and is_browser(x))
end

-- Who asks, as x:user() says then; or nil, with the answer made.
function Authenticator:authenticate(x)
  local user = x:session_user(self.users)
  if user then return x:authenticated(user, nil, "form") end
  local given = x:header "authorization"
  local scheme, rest = (given or ""):match "^(%a+)%s+(.*)$"
  scheme = (scheme or ""):lower()
  local password, stale
  if scheme == "basic" and (self.type == "basic" or self.type == "auth") then
    user, password = basic_user(self, x, rest)
  elseif scheme == "digest" and (self.type == "digest" or self.type == "auth") then
    user, password, stale = digest_user(self, x, rest)
  end
  if user then return x:authenticated(user, password, scheme) end
  if x:committed() or x.over then return nil end -- the function that knows the users has answered
  if wants_form(self, x, given) then return form_user(self, x) end
  challenge(self, x, stale, given ~= nil)
  return nil
end

-- ---- what an exchange can do with them ----

local Exchange = {}

-- For an authenticator's `response`, which makes the answer: status 401 and the field that asks for a name and a password.
function Exchange:setbasic(realm)
  self:setstatus(401)
  offer_basic(self, realm)
end

function Exchange:setdigest(realm)
  self:setstatus(401)
  offer_digest(self, realm, "MD5")
end

auth.Exchange = Exchange

return auth
