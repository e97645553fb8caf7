-- require "httpc" with redirects, and with default options for its requests. docs/httpc.md says all of it.
--
--   local h = require "http".create {url = "https://example.com/", trusted = true}
--   h:request()
local httpc = require "httpc"
local url = require "cosock.url"

local http, methods = {}, {}
local meta = {__index = methods, __name = "http", __close = function(self) self.raw:close() end}

local REDIRECTS_MAX = 10
local REDIRECT = {[301] = true, [302] = true, [303] = true, [307] = true, [308] = true}
local TO_GET = {[301] = true, [302] = true, [303] = true} -- what is neither GET nor HEAD becomes GET
local PRIVATE = {authorization = true, cookie = true, ["proxy-authorization"] = true}

for _, name in ipairs {"timeout", "header", "headerpairs", "cookie", "read", "write", "certificate", "cipher", "trusted", "peername",
                       "sockname", "close"} do
  methods[name] = function(self, ...) return self.raw[name](self.raw, ...) end
end

-- a with the fields of b over it.
local function merge(a, b)
  local all = {}
  for k, v in pairs(a) do all[k] = v end
  for k, v in pairs(b or {}) do all[k] = v end
  return all
end

local function origin(text)
  local to = url.parse(text)
  return to and to.scheme .. "://" .. url.authority(to)
end

-- "w" for WebSockets, "h" for HTTP.
local function kind(text) return text:sub(1, 1):lower() end

-- Where the answer that is there sends us; nil when it does not.
local function redirect(self)
  local raw, base = self.raw, self.place
  local location = REDIRECT[raw:status()] and raw:header "location"
  return location and url.resolve(base, location) or nil
end

-- The request that follows a redirect. Passwords and cookies are for the server they were given for.
local function next_request(op, status, from, to)
  local next_, to_get = merge(op), TO_GET[status] and op.method ~= "HEAD"
  next_.url, next_.query = to, nil
  if to_get then next_.method, next_.size = "GET", nil end
  local same = origin(from) == origin(to)
  if not same then next_.user, next_.password = nil, nil end
  next_.header = {}
  for name, value in pairs(op.header or {}) do
    local lower = tostring(name):lower()
    local dropped = lower == "host" or lower == "content-length" and to_get or not same and PRIVATE[lower]
    if not dropped then next_.header[name] = value end
  end
  return next_
end

-- As httpc's; the options are those of create with these over them. Follows redirects of requests that have no body.
function methods:request(op)
  op = merge(self.op, op)
  self.err = nil
  for _ = 0, REDIRECTS_MAX do
    local ok, err, why = self.raw:request(op)
    if not ok then
      self.err = err
      return nil, err, why
    end
    self.place = url.with_query(op.url, op.query)
    if not self.raw:answered() then return true end
    local to = redirect(self)
    if not to then return true end
    if kind(self.place) == "w" then to = to:gsub("^[hH][tT][tT][pP]", "ws") end
    if kind(to) ~= kind(self.place) then return nil, "invalidurl" end
    op = next_request(op, self.raw:status(), self.place, to)
  end
  self.err = "redirect"
  self.raw:close()
  return nil, "redirect"
end

-- The number. nil, the number and where to, when a request with a body was redirected: it cannot be sent again. nil, err.
function methods:status()
  if self.err then return nil, self.err end
  local status, err = self.raw:status()
  if not status then return nil, err end
  local to = redirect(self)
  if to then return nil, status, to end
  return status
end

-- What was asked last, after redirects: the URL without its query, and the query as a table or nil.
function methods:url()
  if self.err or not self.place then return nil, self.err or "incorrectuse" end
  return url.split(self.place)
end

-- op: what httpc.create takes, and defaults for requests.
function http.create(op, method_op)
  if op == http then op = method_op end -- written http:create(op)
  return setmetatable({raw = httpc.create(op), op = op or {}}, meta)
end

-- The methods, for libraries that add to them.
function http.getmetatable() return methods end

return http
