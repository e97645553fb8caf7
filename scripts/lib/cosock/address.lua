-- Addresses as people write them:
--   "example.org:80"  "192.0.2.1:80"  "[::1]:80"  "unix:/run/x.sock"
-- and for listeners also ":80" or "*:80" (every IPv4 address; "[::]:80" is every IPv6 one) and "systemd:NAME" (a
-- socket unit's FileDescriptorName).
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
function address.connect(text, options)
  local to, err = address.parse(text)
  if not to then return nil, err end
  if to.unix then return ba.socket.connect(to.unix, options) end
  if not to.host then return nil, ("%q names no host"):format(text) end
  return ba.socket.connect(to.host, to.port, options)
end

-- ba.socket.bind on a written address.
function address.bind(text, options)
  local at, err = address.parse(text)
  if not at then return nil, err end
  if not at.port then return ba.socket.bind(at.unix or at.systemd, options) end
  local copy = {}
  for k, v in pairs(options or {}) do copy[k] = v end
  copy.intf = at.host
  return ba.socket.bind(at.port, copy)
end

-- ba.socket.udpcon to a written address.
function address.udpcon(text, options)
  local to, err = address.parse(text)
  if not to then return nil, err end
  if not to.host then return nil, ("%q names no host"):format(text) end
  return ba.socket.udpcon(to.host, to.port, options)
end

local function each(addresses)
  if type(addresses) ~= "table" then addresses = {addresses} end
  if not addresses[1] then error("no address to listen on", 3) end
  return ipairs(addresses)
end

-- Listens on one address or on a list of them; accepted(sock) is called for every connection and must not
-- wait: it starts a cosocket. options: of ba.socket.bind. An address that cannot be bound is an error.
function address.listen(addresses, accepted, options)
  local function accept(listener)
    while true do
      local sock = listener:accept()
      if not sock then break end
      accepted(sock)
    end
  end
  for _, text in each(addresses) do
    local listener, err, _, reason = address.bind(text, options)
    if not listener then error(("cannot listen on %s: %s"):format(text, reason or err), 2) end
    listener:event(accept, "r")
  end
end

-- The same for UDP: serve(sock) is called for each address, as the cosocket of a socket bound to it.
function address.listen_udp(addresses, serve)
  for _, text in each(addresses) do
    local at, err = address.parse(text)
    if not at or not at.port then error(err or ("cannot listen on %s: not for UDP"):format(text), 2) end
    local sock, what, _, reason = ba.socket.udpcon {port = at.port, intf = at.host}
    if not sock then error(("cannot listen on %s: %s"):format(text, reason or what), 2) end
    sock:event(serve, "s")
  end
end

return address
