-- TLS in front of a tunnel, behind it, or on both sides.
--
--   service "https" {                                  -- terminates: TLS in, plain out
--       script = "tls.lua", listen = ":443", upstreams = { "127.0.0.1:80" },
--       tls = { cert = "/etc/ssl/www.pem", key = "/etc/ssl/private/www.key" },
--   }
--   service "wrap" {                                   -- originates: plain in, TLS out, and the peer is verified
--       script = "tls.lua", listen = "127.0.0.1:5432", upstreams = { "db.example.com:5432" },
--       upstream_tls = { ca = "/etc/ssl/company-ca.pem" },
--   }
--
-- tls           for clients; without it they speak plainly. Keys: cert, key, password_file, ocsp; certs, a list of
--               such tables; client_ca, client_crl, clientcert; alpn, minversion, ciphers, groups, timeout ...
-- upstream_tls  for upstreams; {} trusts whom the system trusts. Keys: ca, crl, verify = false, host, cert, key ...
--               lib/cosock/tls.lua explains all of them.
-- connect_timeout  for an upstream, with its handshake ("5s")
-- The other keys are those of proxy.lua: listen, upstreams, balance, fail_timeout, queue_timeout, idle_timeout.
local address = require "cosock.address"
local options = require "cosock.options"
local tls = require "cosock.tls"
local tunnel = require "cosock.tunnel"

local args = ...
if type(args) ~= "table" then error("tls.lua needs a service block (tls.lua's first lines show one)", 0) end
options.check_service(args, "tls upstream_tls listen upstreams balance connect_timeout fail_timeout queue_timeout " ..
                            "idle_timeout")
if not (args.tls or args.upstream_tls) then error("neither tls nor upstream_tls: proxy.lua is for that", 0) end
local server = args.tls and tls.server(args.tls)
local client = args.upstream_tls and tls.client(args.upstream_tls) or {}
client.timeout = options.duration(args, "connect_timeout", "5s")
local upstreams = tunnel.new(args.upstreams or {}, args, client)

-- Runs as a cosocket of its own, whose socket becomes the connection to the upstream. Who does not finish a handshake
-- costs no upstream anything.
local function carry(_, sock)
  if server and not sock:cipher() then return sock:close() end
  upstreams:carry(sock)
end

address.listen(args.listen, function(sock) ba.socket.event(carry, sock) end, {shark = server})
