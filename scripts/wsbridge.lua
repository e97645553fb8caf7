-- WebSockets to TCP or Unix sockets, as websockify does it: noVNC, MQTT in a browser, anything that speaks TCP.
--
--   service "novnc" {
--       script = "wsbridge.lua", listen = ":6080",
--       tokens = { desk1 = "10.0.0.5:5900", desk2 = "10.0.0.6:5900" },         -- ws://host:6080/websockify?token=desk1
--   }
--   service "mqtt" {
--       script = "wsbridge.lua", listen = ":8083", targets = { ["/mqtt"] = "127.0.0.1:1883" },
--       tls = { cert = "/etc/ssl/www.pem", key = "/etc/ssl/private/www.key" }, origins = { "https://www.example.com" },
--   }
--   cosockd wsbridge.lua 127.0.0.1:6080 127.0.0.1:5900
--
-- listen        an address or a list of them
-- target        where every request leads: "host:port" or "unix:/path"
-- targets       {["/path"] = address}: by the path of the request
-- tokens        {token = address}: by ?token=... in it; a token that is not known leads nowhere
-- subprotocols  those that are spoken ({"binary", "mqtt", "mqttv3.1"}); the first that the client names is agreed on
-- text          true: what the target sends goes out as text messages, which must then be UTF-8
-- origins       a list: pages of other origins may not connect; without it all may
-- tls           wss: keys of lib/cosock/tls.lua
-- ping          a client that says nothing for so long is asked for a sign of life ("30s"; "never")
-- connect_timeout ("5s")  handshake_timeout ("10s")  idle_timeout: without a byte either way ("1h"; "never")
local gateway = require "cosock.gateway"
local options = require "cosock.options"
local websocket = require "cosock.websocket"

local args, target = ...
if type(args) ~= "table" then args = {listen = args, target = target} end
options.check_service(args, gateway.KEYS .. " subprotocols text origins")

if args.text ~= nil and type(args.text) ~= "boolean" then error("text: expected true or false", 0) end

gateway.serve(args, {
  subprotocols = options.list("subprotocols", args.subprotocols or {"binary", "mqtt", "mqttv3.1"}),
  origins = websocket.origins(args.origins),
  text = args.text,
})
