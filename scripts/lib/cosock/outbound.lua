-- Where clients of a proxy may go, who they are, and the way there. For connect.lua and socks.lua.
--
--   local out = outbound.new({destinations = {"*.example.com:443"}, users = {joe = "secret"}}, {})
local address = require "cosock.address"
local credentials = require "cosock.credentials"
local options = require "cosock.options"

local outbound, methods = {}, {}
methods.__index = methods

-- Addresses in the one spelling in which they are compared; names as they are. nil: neither.
local function spelling(host) return host:find ":" and ba.socket.toip(host) or not host:find ":" and host or nil end

-- {host pattern, port or nil for any, whether the host stands there itself}
local function parse(text)
  local host, port = tostring(text):lower():match "^%[([%x:.]+)%]:([%d*]+)$"
  if not host then host, port = tostring(text):lower():match "^([%w._*-]+):([%d*]+)$" end
  local number = tonumber(port)
  if not host or not (port == "*" or number and number >= 1 and number <= 65535) or host:find("*", 2, true) or host:find "^%*[^.]" then
    error(("destinations: %q is not one (host:port, *.domain:port, with * for any host or port)"):format(tostring(text)), 0)
  end
  local spelled = spelling(host)
  if not spelled then error(("destinations: %q has an address that is none"):format(tostring(text)), 0) end
  return {host = spelled, port = number, exact = not host:find "^%*"}
end

-- Names and passwords; nil when there are none to be had.
local function users(given)
  if given == nil then return nil end
  if type(given) ~= "table" then error(("users: expected a table { name = password }, got a %s"):format(type(given)), 0) end
  for name, password in pairs(given) do
    if type(name) ~= "string" or type(password) ~= "string" then
      error(("users: expected name = \"password\", got a %s = a %s"):format(type(name), type(password)), 0)
    end
  end
  return given
end

-- Raises when other machines may connect, all of them, and nobody has said where to.
local function not_open(listen)
  for _, text in ipairs(options.list("listen", listen)) do
    local at = address.parse(text) or {unix = true} -- address.listen says what is wrong with it
    local host = at.host or ""
    if not at.unix and not (host == "localhost" or host == "::1" or host:find "^127%.") then
      error(("%s: a proxy that is open to everybody: give users or destinations"):format(text), 0)
    end
  end
end

-- given.listen           where the proxy's clients connect
-- given.destinations     a list of "host:port", "*.domain:port"; "*" is any host, or any port
-- given.users            {name = password}; without it everybody may
-- given.connect_timeout  ("10s")
-- given.idle_timeout     a tunnel without a byte either way for so long ends ("1h"; "never")
-- destinations           those that hold when none are given
function outbound.new(given, destinations)
  if not given.users and not given.destinations then not_open(given.listen) end
  local o = setmetatable({destinations = {}, users = users(given.users), timeout = options.duration(given, "connect_timeout", "10s"),
                          relay = {idle = options.duration(given, "idle_timeout", "1h", true), detach = true}}, methods)
  for i, text in ipairs(options.list("destinations", given.destinations or destinations)) do o.destinations[i] = parse(text) end
  return o
end

-- Whether this is one of the users. How long it takes says nothing about the password.
function methods:knows(user, password)
  local secret = self.users[user]
  return credentials.same(tostring(secret), password) and secret ~= nil
end

-- "exact" when the destination stands in the list itself, "pattern" when something with a "*" fits it; nil.
local function match(self, host, port)
  local found
  for _, d in ipairs(self.destinations) do
    if not d.port or d.port == port then
      if d.host == host then return "exact" end
      if d.host == "*" or not d.exact and host:sub(-#d.host + 1) == d.host:sub(2) then found = "pattern" end
    end
  end
  return found
end

local NEAR = "this machine, which no destination names itself"

-- This machine and its link: nobody means these by a pattern. (Its other addresses: see connect.)
local function is_near(ip)
  ip = ip:gsub("^::ffff:", "")
  return ip:find "^127%." or ip:find "^0%." or ip:find "^169%.254%." or ip == "::1" or ip == "::" or ip:find "^fe[89ab]"
end

-- Called by a cosocket that is not connected: its socket becomes the connection. nil, "denied", nil and why;
-- nil and the error of connect.
function methods:connect(host, port)
  host = spelling(host:lower():gsub("%.$", ""))
  if not host then return nil, "cannotresolve" end
  local how = match(self, host, port)
  if not how then return nil, "denied", nil, "not among the destinations" end
  if how == "pattern" then
    local ip, err = ba.socket.toip(host)
    if not ip then return nil, err end
    if is_near(ip) then return nil, "denied", nil, NEAR end
    host = ip -- another look might find another one
  end
  local sock, err, code, reason = ba.socket.connect(host, port, {timeout = self.timeout})
  if sock and how == "pattern" and sock:peername() == sock:sockname() then -- an address of this machine's own
    sock:close()
    return nil, "denied", nil, NEAR
  end
  return sock, err, code, reason
end

-- Both sockets are the engine's from here on.
function methods:carry(client, server)
  if not ba.socket.relay(client, server, self.relay) then
    client:close()
    server:close()
  end
end

return outbound
