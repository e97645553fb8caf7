-- A router for TLS: each connection goes to the upstream for the name that its client asks for. Nothing is decrypted
-- or changed; the certificates and keys stay with the upstreams.
--
--   service "tls" {
--       script = "sni.lua", listen = ":443",
--       routes = {
--           ["www.example.com"] = "10.0.0.1:443",
--           ["*.example.com"] = { "10.0.0.2:443", "10.0.0.3:443" },   -- whatever is below, the longest match wins
--       },
--       alpn = { ["acme-tls/1"] = "127.0.0.1:10443" },                -- by protocol, looked at first
--       default = "10.0.0.9:443",                                     -- every other name, and none
--   }
--
-- hello_timeout  how long a client may take to say what it wants ("5s")
-- The other keys are those of proxy.lua: listen, balance, connect_timeout, fail_timeout, queue_timeout,
-- idle_timeout; an upstream is an address or { ADDRESS, maxconn = N }.
local address = require "cosock.address"
local options = require "cosock.options"
local tunnel = require "cosock.tunnel"

local args = ...
if type(args) ~= "table" then args = {listen = args, default = select(2, ...)} end
options.check_service(args, "listen routes alpn default hello_timeout balance connect_timeout fail_timeout " ..
                            "queue_timeout idle_timeout")
local hello_timeout = options.duration(args, "hello_timeout", "5s")

local function tunnels(where) return tunnel.new(where, args) end

-- A table from names to upstreams.
local function named(key)
  local given = args[key] or {}
  if type(given) ~= "table" or given[1] then
    error(key .. ": expected { [NAME] = upstreams, ... }", 0)
  end
  return pairs(given)
end

-- Tunnels by name, by what follows the "*" of a wildcard, by protocol.
local names, wildcards, protocols = {}, {}, {}
for name, where in named "routes" do
  local wildcard, rest = name:lower():match "^(%*?)([%w%.%-_]+)$"
  if not rest or (wildcard == "*" and not rest:find "^%.[^.]") then
    error(("routes: %q is neither a name nor \"*.\" and a name"):format(name), 0)
  end
  local into = wildcard == "*" and wildcards or names
  into[rest] = tunnels(where)
end
for name, where in named "alpn" do protocols[name] = tunnels(where) end
local default = args.default and tunnels(args.default)
if not (default or next(names) or next(wildcards) or next(protocols)) then error("no routes and no default", 0) end

local function choose(hello)
  for _, protocol in ipairs(hello.alpn) do
    if protocols[protocol] then return protocols[protocol] end
  end
  local name = hello.sni and hello.sni:lower():gsub("%.$", "")
  if not name then return default end
  if names[name] then return names[name] end
  local dot = name:find(".", 1, true)
  while dot do
    local found = wildcards[name:sub(dot)]
    if found then return found end
    dot = name:find(".", dot + 1, true)
  end
  return default
end

local UNRECOGNIZED_NAME = "\21\3\1\0\2\2\112" -- a fatal alert (RFC 6066 3)

local function refuse(client, why)
  tracep("info", ("%s: %s"):format(client:peername() or "unix", why))
  client:close()
end

-- Runs as a cosocket of its own, whose socket becomes the connection to the upstream.
local function route(_, client)
  local hello, err = client:clienthello(hello_timeout)
  if not hello then return refuse(client, err) end
  local to = choose(hello)
  if to then return to:carry(client) end
  client:write(UNRECOGNIZED_NAME)
  refuse(client, hello.sni and "no route for " .. hello.sni or "no route without a name")
end

address.listen(args.listen, function(client) ba.socket.event(route, client) end)
