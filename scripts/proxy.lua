-- A TCP proxy: every connection goes to one of the upstreams; when one refuses, to the next.
--
--   service "web" { script = "proxy.lua", listen = ":80", upstreams = { "10.0.0.1:80", "10.0.0.2:80" } }
--   cosockd proxy.lua :80 10.0.0.1:80 10.0.0.2:80
--
-- listen           an address or a list of them
-- upstreams        an address or a list of them: "host:port", "[v6]:port" or "unix:/path"; { ADDRESS, maxconn = N }
--                  gives it no more than N connections at a time (of each worker's each cell)
-- balance          "roundrobin" (default): in turn; "leastconn": to the one with the fewest connections
-- connect_timeout  for each upstream that is tried ("1s")
-- fail_timeout     an upstream that failed is tried after all others for so long ("10s")
-- queue_timeout    how long a client may wait while every upstream has its maxconn ("5s")
-- idle_timeout     a tunnel without a byte either way for so long ends ("1h"; "never")
local address = require "cosock.address"
local options = require "cosock.options"
local tunnel = require "cosock.tunnel"

local args = ...
if type(args) ~= "table" then args = {listen = args, upstreams = {select(2, ...)}} end
options.check_service(args, "listen upstreams balance connect_timeout fail_timeout queue_timeout idle_timeout")
local web = tunnel.new(args.upstreams or {}, args)
address.listen(args.listen, function(client) web:start(client) end)
