-- Names and passwords. How a server looks at those it is given, and a client's answers to servers and proxies that want them:
-- Basic (RFC 7617) and Digest (RFC 7616, MD5 and SHA-256, also as RFC 2069 had it).
--
--   local c = credentials.new("joe", "secret")
--   if status == 401 and c:challenged(fields) then header.Authorization = c:answer("GET", "/") ... again
local credentials, methods = {}, {}
methods.__index = methods

local key = ba.rndbs(32)

-- Whether two texts are the same, in a time that says nothing about where they differ.
function credentials.same(a, b)
  local function mac(text) return ba.crypto.hash("hmac", "sha256", key)(text)() end
  return mac(a) == mac(b)
end

-- The name and the password in what follows the word "Basic"; nil when there are none.
function credentials.basic(text)
  return (ba.b64decode(text) or ""):match "^([^:]*):(.*)$"
end

local TOKEN = "[%w!#$%%&'*+.^_`|~-]+"

-- The text of the quoted string that begins at `at`, and what is behind it; nil when it has no end.
local function unquote(value, at)
  local parts = {}
  at = at + 1
  while true do
    local text, special, behind = value:match('^([^"\\]*)(["\\])()', at)
    if not text then return nil, #value + 1 end
    parts[#parts + 1] = text
    if special == '"' then return table.concat(parts), behind end
    parts[#parts + 1] = value:sub(behind, behind)
    at = math.min(behind + 1, #value + 1)
  end
end

-- The challenges in the value of a WWW-Authenticate field: a list of {scheme =, realm =, nonce = ...}, names in lower case.
function credentials.challenges(value)
  local list, at = {}, 1
  while true do
    at = value:find("[^%s,]", at)
    if not at then return list end
    local name, equals = value:match("^(" .. TOKEN .. ")%s*=%s*()", at)
    local text, behind = value:match("^(" .. TOKEN .. ")()", equals or at)
    if name and value:find('^"', equals) then text, behind = unquote(value, equals) end
    if name and list[1] then
      list[#list][name:lower()] = text or ""
    elseif text and not name then
      list[#list + 1] = {scheme = text:lower()}
    end
    at = behind or equals or at + 1 -- not a second look at a name whose value is missing
  end
end

function credentials.new(user, password)
  return setmetatable({user = user, password = password or "", count = 0}, methods) -- count: answers to the challenge
end

local ALGORITHMS = {md5 = 1, ["md5-sess"] = 1, ["sha-256"] = 2, ["sha-256-sess"] = 2}

-- How good an answer to it can be; nil: none.
local function strength(challenge)
  if challenge.scheme == "basic" then return 0 end
  if challenge.scheme ~= "digest" or not challenge.nonce or not challenge.realm then return nil end
  local qop = challenge.qop and ("," .. challenge.qop .. ","):lower()
  if qop and not qop:find ",%s*auth%s*," then return nil end
  return ALGORITHMS[(challenge.algorithm or "MD5"):lower()]
end

-- Takes the challenges of a refused request: {{name, value} ...} are its answer's fields, `name` the one to look at, in lower
-- case. True when answer() can be tried now: not when the first answer to a challenge was refused, unless its nonce was too old.
function methods:challenged(fields, name)
  local best
  for _, field in ipairs(fields) do
    for _, challenge in ipairs(field[1]:lower() == name and credentials.challenges(field[2]) or {}) do
      local good = strength(challenge)
      if good and (not best or good > strength(best)) then best = challenge end
    end
  end
  if self.count == 1 and not (best and (best.stale or ""):lower() == "true") then best = nil end
  self.challenge, self.count = best, 0
  return best ~= nil
end

local function quote(text) return '"' .. text:gsub('[\\"]', "\\%0") .. '"' end

local function digest(self, challenge, method, target)
  local algorithm = (challenge.algorithm or "MD5"):lower()
  local hash = algorithm:find "^sha" and "sha256" or "md5"
  local function h(...) return ba.crypto.hash(hash)(table.concat({...}, ":"))(true, "hex") end
  local nc, cnonce = ("%08x"):format(self.count), ba.b64urlencode(ba.rndbs(12))
  local secret = h(self.user, challenge.realm, self.password)
  if algorithm:find "sess$" then secret = h(secret, challenge.nonce, cnonce) end
  local parts = {"Digest username=" .. quote(self.user), "realm=" .. quote(challenge.realm), "nonce=" .. quote(challenge.nonce),
                 "uri=" .. quote(target)}
  if challenge.qop then
    parts[#parts + 1] = "response=" .. quote(h(secret, challenge.nonce, nc, cnonce, "auth", h(method, target)))
    parts[#parts + 1] = "qop=auth, nc=" .. nc .. ", cnonce=" .. quote(cnonce)
  else
    parts[#parts + 1] = "response=" .. quote(h(secret, challenge.nonce, h(method, target)))
  end
  if challenge.algorithm then parts[#parts + 1] = "algorithm=" .. challenge.algorithm end
  if challenge.opaque then parts[#parts + 1] = "opaque=" .. quote(challenge.opaque) end
  return table.concat(parts, ", ")
end

-- The value of the field (Proxy-)Authorization for a request; nil while nothing has asked for it.
function methods:answer(method, target)
  local challenge = self.challenge
  if not challenge then return nil end
  self.count = self.count + 1
  if challenge.scheme == "basic" then return "Basic " .. ba.b64encode(self.user .. ":" .. self.password) end
  return digest(self, challenge, method, target)
end

return credentials
