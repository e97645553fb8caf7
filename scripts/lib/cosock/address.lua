-- Addresses as people write them:
--   "example.org:80"  "192.0.2.1:80"  "[::1]:80"  "unix:/run/x.sock"
-- and for listeners also ":80" or "*:80" (every IPv4 address; "[::]:80" is every IPv6 one) and "systemd:NAME" (a
-- socket unit's FileDescriptorName).
local options = require "cosock.options"

local address = {}

-- {host = string or nil for any, port = number}, {unix = "unix:..."} or {systemd = "systemd:..."}; nil and what is wrong.
function address.parse(text)
  if type(text) == "string" then
    if text:find "^unix:." then return {unix = text} end
    if text:find "^systemd:." then return {systemd = text} end
    local host, port = text:match "^%[(.+)%]:(%d+)$"
    if not host then host, port = text:match "^([^:]*):(%d+)$" end
    port = tonumber(port)
    if port and port <= 65535 then
      return {host = host ~= "" and host ~= "*" and host or nil, port = port}
    end
  end
  return nil, ("%q is not an address (host:port, [v6]:port or unix:/path)"):format(tostring(text))
end

-- ba.socket.connect to a written address.
function address.connect(text, op)
  local to, err = address.parse(text)
  if not to then return nil, err end
  if to.unix then return ba.socket.connect(to.unix, op) end
  if not to.host then return nil, ("%q names no host"):format(text) end
  return ba.socket.connect(to.host, to.port, op)
end

-- ba.socket.bind on a written address.
function address.bind(text, op)
  local at, err = address.parse(text)
  if not at then return nil, err end
  if not at.port then return ba.socket.bind(at.unix or at.systemd, op) end
  local copy = {}
  for k, v in pairs(op or {}) do copy[k] = v end
  copy.intf = at.host
  return ba.socket.bind(at.port, copy)
end

-- ba.socket.udpcon to a written address.
function address.udpcon(text, op)
  local to, err = address.parse(text)
  if not to then return nil, err end
  if not to.host then return nil, ("%q names no host"):format(text) end
  return ba.socket.udpcon(to.host, to.port, op)
end

local function each(addresses)
  local list = options.list("listen", addresses)
  if not list[1] then error("listen: no address", 3) end
  return ipairs(list)
end

-- What ba.socket says of an address that is not to be had; raises in the name of who called the caller.
local function refused(text, at, err, code, reason)
  if code == "ENODEV" then
    reason = ("%q is neither an IP address nor an interface of this machine"):format(at.host)
  end
  error(("cannot listen on %s: %s"):format(text, reason or err), 3)
end

-- Listens on one address or on a list of them; accepted(sock) is called for every connection and must not
-- wait: it starts a cosocket. ended, if given, is called once when all of them have closed: the server stops, or newer
-- scripts listen there. bind_options: of ba.socket.bind. An address that cannot be bound is an error.
function address.listen(addresses, accepted, bind_options, ended)
  local open = 0
  local function accept(listener)
    open = open + 1
    while true do
      local sock = listener:accept()
      if not sock then break end
      accepted(sock)
    end
    open = open - 1
    if open == 0 and ended then ended() end
  end
  for _, text in each(addresses) do
    local at, wrong = address.parse(text)
    if not at then error("listen: " .. wrong, 2) end
    local listener, err, code, reason = address.bind(text, bind_options)
    if not listener then refused(text, at, err, code, reason) end
    listener:event(accept, "r")
  end
end

-- The same for UDP: serve(sock) is called for each address, as the cosocket of a socket bound to it.
function address.listen_udp(addresses, serve)
  for _, text in each(addresses) do
    local at, err = address.parse(text)
    if not at or not at.port then error("listen: " .. (err or "not for UDP: " .. text), 2) end
    local sock, what, code, reason = ba.socket.udpcon {port = at.port, intf = at.host}
    if not sock then refused(text, at, what, code, reason) end
    sock:event(serve, "s")
  end
end

return address
