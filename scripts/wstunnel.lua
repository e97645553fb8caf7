-- TCP through a WebSocket to a peer cosockd: where only HTTPS gets through. One end of each:
--
--   service "ssh" {                                          -- here: plain TCP in, a WebSocket out
--       script = "wstunnel.lua", listen = "127.0.0.1:2222", url = "wss://gate.example.com/ssh", secret = "a-long-one",
--   }
--   service "gate" {                                         -- there: a WebSocket in, plain TCP out
--       script = "wstunnel.lua", listen = ":443", targets = { ["/ssh"] = "127.0.0.1:22" }, secret = "a-long-one",
--       tls = { cert = "/etc/ssl/gate.pem", key = "/etc/ssl/private/gate.key" },
--   }
--
-- listen            an address or a list of them
-- secret            who does not know it is refused; without TLS it crosses the network as it is
-- ping              a peer that says nothing for so long is asked for a sign of life ("30s"; "never")
-- connect_timeout   ("5s")   handshake_timeout  ("10s")   idle_timeout  without a byte either way ("1h"; "never")
-- here:  url, "ws://host:port/path" or "wss://..."; upstream_tls, keys of lib/cosock/tls.lua ({}: whom the system trusts)
-- there: target, targets, tokens, tls: as in wsbridge.lua
--
-- Half-closed connections stay so: an empty message ends a direction, on which both ends agree by the subprotocol.
local address = require "cosock.address"
local credentials = require "cosock.credentials"
local gateway = require "cosock.gateway"
local options = require "cosock.options"
local tls = require "cosock.tls"
local url = require "cosock.url"
local websocket = require "cosock.websocket"

local SUBPROTOCOL = "tunnel.cosockd"

local args = ...
if type(args) ~= "table" then error("wstunnel.lua needs a service block (wstunnel.lua's first lines show one)", 0) end
if args.secret ~= nil and (type(args.secret) ~= "string" or not args.secret:find "^[%w%-._~+/]+=*$") then
  error("secret: expected a word of letters, digits and -._~+/", 0) -- RFC 6750
end
local agree = {subprotocols = {SUBPROTOCOL}, required = true, halfclose = true}

-- ---- there ----

local function may(head)
  if not args.secret then return true end
  local given = (head.header.authorization or ""):match "^[Bb][Ee][Aa][Rr][Ee][Rr] +(.*)$" or ""
  if credentials.same(given, args.secret) then return true end
  return nil, 403, "wrong secret"
end

if not args.url then
  options.check_service(args, gateway.KEYS .. " secret")
  agree.check = may
  return gateway.serve(args, agree)
end

-- ---- here ----

options.check_service(args, "listen url upstream_tls secret ping connect_timeout handshake_timeout idle_timeout")
local to = url.parse(args.url)
if not to or not (to.scheme == "ws" or to.scheme == "wss") then
  error(("url: %q is not one (ws://host:port/path or wss://...)"):format(tostring(args.url)), 0)
end
if to.scheme == "ws" and args.upstream_tls then error("upstream_tls with a ws:// url: wss:// is TLS", 0) end
local connect = to.scheme == "wss" and tls.client(args.upstream_tls or {}) or {}
connect.timeout = options.duration(args, "connect_timeout", "5s")
local relay = {idle = options.duration(args, "idle_timeout", "1h", true), detach = true}
agree.ping, agree.maxframe = gateway.seconds(args, "ping", "30s"), gateway.ANY_SIZE
agree.timeout = options.duration(args, "handshake_timeout", "10s")
agree.header = args.secret and {{"Authorization", "Bearer " .. args.secret}}

-- Says it at most once a second.
local said = 0
local function note(err, why)
  if ba.clock() - said < 1000 then return end
  said = ba.clock()
  tracep("warning", ("no tunnel through %s: %s"):format(args.url, why or err))
end

-- Runs as a cosocket of its own, whose socket becomes the connection to the peer.
local function carry(_, client)
  local ok
  local peer, err, _, why = ba.socket.connect(to.host, to.port, connect)
  if peer then ok, err, why = websocket.connect(peer, url.authority(to), to.target, agree) end
  if ok and ba.socket.relay(client, peer, relay) then return end
  if not ok and err ~= "sysshutdown" then note(err, why) end
  client:close()
  if peer then peer:close() end
end

address.listen(args.listen, function(client) ba.socket.event(carry, client) end)
