-- An HTTP proxy for tunnels (CONNECT, RFC 9110, 9.3.6): what browsers, curl and others use for https.
--
--   service "proxy" { script = "connect.lua", listen = "127.0.0.1:8080" }
--   cosockd connect.lua 127.0.0.1:8080 "*:443" "intranet:22"
--
-- listen           an address or a list of them
-- destinations     where clients may go, a list of "host:port": a host may be "*.example.com" or "*", a port "*" ({"*:443"}). This
--                  machine is meant by none that has a "*" for the host
-- (where other machines can connect, users or destinations must be given)
-- users            {name = password}: who may (Basic). The password crosses the network as it is
-- connect_timeout  ("10s")
-- idle_timeout     a tunnel without a byte either way for so long ends ("1h"; "never")
local address = require "cosock.address"
local credentials = require "cosock.credentials"
local options = require "cosock.options"
local outbound = require "cosock.outbound"

local HEAD_MS = 10000

local args = ...
if type(args) ~= "table" then args = {listen = args, destinations = select(2, ...) and {select(2, ...)}} end
options.check_service(args, "listen destinations users connect_timeout idle_timeout")
local out = outbound.new(args, {"*:443"})

-- why: for the client and the log.
local function refuse(client, status, why, header)
  tracep("info", ("%s: %d, %s"):format(client:peername() or "unix", status, why))
  header = header or {}
  header["Content-Type"], header["Content-Length"], header.Connection = "text/plain; charset=utf-8", #why + 1, "close"
  client:write(ba.http.response(status, header) .. why .. "\n")
  client:close()
end

local function may(head)
  if not out.users then return true end
  local text = (head.header["proxy-authorization"] or ""):match "^[Bb][Aa][Ss][Ii][Cc] +(.*)$"
  local user, password = credentials.basic(text or "")
  return user and out:knows(user, password)
end

local STATUS = {denied = 403, timeout = 504, cannotresolve = 502}

-- Runs as a cosocket of its own, whose socket becomes the connection to the destination.
local function serve(_, client)
  local head, err, status, why = ba.http.reader(client, "request"):head(HEAD_MS)
  if not head then
    if err == "badrequest" then return refuse(client, status, why) end
    return client:close()
  end
  if head.method ~= "CONNECT" then return refuse(client, 405, "only CONNECT is served here", {Allow = "CONNECT"}) end
  if not may(head) then return refuse(client, 407, "none of the users", {["Proxy-Authenticate"] = 'Basic realm="cosockd"'}) end
  local to = address.parse(head.target)
  if not to or not to.host or head.body ~= "none" then return refuse(client, 400, "no destination") end
  local server, reason
  server, err, _, reason = out:connect(to.host, to.port)
  if not server then return refuse(client, STATUS[err] or 502, ("%s: %s"):format(head.target, reason or err)) end
  client:write "HTTP/1.1 200 Connection established\r\n\r\n"
  out:carry(client, server)
end

address.listen(args.listen, function(client) ba.socket.event(serve, client) end)
