-- A SOCKS5 proxy (RFC 1928; user and password, RFC 1929): TCP connections, names looked up here.
--
--   service "socks" { script = "socks.lua", listen = "127.0.0.1:1080", users = { joe = "secret" } }
--   cosockd socks.lua 127.0.0.1:1080 "*:443" "*:80"
--
-- listen           an address or a list of them
-- destinations     where clients may go, a list of "host:port": a host may be "*.example.com" or "*", a port "*" ({"*:*"}). This
--                  machine is meant by none that has a "*" for the host
-- (where other machines can connect, users or destinations must be given)
-- users            {name = password}: who may. The password crosses the network as it is
-- connect_timeout  ("10s")
-- idle_timeout     a tunnel without a byte either way for so long ends ("1h"; "never")
local address = require "cosock.address"
local options = require "cosock.options"
local outbound = require "cosock.outbound"
local proxy = require "cosock.proxy"

local HANDSHAKE_MS = 10000 -- for all that comes before the connection

local args = ...
if type(args) ~= "table" then args = {listen = args, destinations = select(2, ...) and {select(2, ...)}} end
options.check_service(args, "listen destinations users connect_timeout idle_timeout")
local out = outbound.new(args, {"*:*"})

local function note(client, why) tracep("info", ("%s: %s"):format(client:peername() or "unix", why)) end

-- A text with its length in front.
local function counted(read)
  local n = read(1)
  return n and read(n:byte())
end

-- Agrees on the method, and asks who it is. Whether the client may go on.
local function login(client, read)
  local version = read(1)
  local methods = version == "\5" and counted(read)
  if not methods then return false end
  local method = out.users and "\2" or "\0"
  if not methods:find(method, 1, true) then
    client:write "\5\255"
    note(client, out.users and "it offers no user and password" or "it insists on a user or the like")
    return false
  end
  client:write("\5" .. method)
  if not out.users then return true end
  version = read(1)
  local user = version == "\1" and counted(read)
  local password = user and counted(read)
  if not password then return false end
  local known = out:knows(user, password)
  client:write(known and "\1\0" or "\1\1")
  if not known then note(client, "none of the users") end
  return known
end

local function read_host(read, kind)
  if kind == "\3" then return counted(read) end
  local bytes = read(kind == "\1" and 4 or 16)
  if not bytes then return nil end
  if kind == "\1" then return ("%d.%d.%d.%d"):format(bytes:byte(1, 4)) end
  return (("%02x%02x:"):rep(8):format(bytes:byte(1, 16)):sub(1, -2))
end

local REPLIES = {denied = "\2", ENETUNREACH = "\3", cannotresolve = "\4", EHOSTUNREACH = "\4", timeout = "\4", ECONNREFUSED = "\5"}

local function reply(client, code, ip, port) client:write("\5" .. code .. "\0" .. proxy.socks_address(ip or "0.0.0.0", port or 0)) end

-- The destination of a request to connect; answers anything else.
local function destination(client, read)
  local request = read(4)
  if not request or request:byte() ~= 5 then return nil end
  local command, kind = request:sub(2, 2), request:sub(4, 4)
  if kind ~= "\1" and kind ~= "\3" and kind ~= "\4" then return reply(client, "\8") end
  local host = read_host(read, kind)
  local port = host and read(2)
  if not port then return nil end
  port = ba.socket.n2h(2, port)
  if command ~= "\1" then return reply(client, "\7") end
  if port == 0 or not host:find "^[%w._:-]+$" then return reply(client, "\1") end
  return host, port
end

-- Runs as a cosocket of its own, whose socket becomes the connection to the destination.
local function serve(_, client)
  local read, done = proxy.exactly(client, HANDSHAKE_MS)
  local host, port
  if login(client, read) then host, port = destination(client, read) end
  if not host then return client:close() end
  local server, err, name, reason = out:connect(host, port)
  if not server then
    note(client, ("%s:%d: %s"):format(host, port, reason or err))
    reply(client, REPLIES[err] or REPLIES[name] or "\1")
    return client:close()
  end
  reply(client, "\0", server:sockname())
  done() -- a client may not have waited
  out:carry(client, server)
end

address.listen(args.listen, function(client) ba.socket.event(serve, client) end)
