-- Serves a folder: files, Lua Server Pages, and the WebSockets that pages make of their requests.
--
--   service "www" { app = "www", listen = ":80" }
--   service "secure" {
--       app = "www", listen = { ":443", "[::]:443" },
--       tls = { cert = "/etc/ssl/www.pem", key = "/etc/ssl/private/www.key" },
--   }
--   cosockd --app www 127.0.0.1:8080
--
-- app            the folder, or a ZIP file, relative to the configuration's folder
-- listen         one address or several
-- tls            as in tls.lua
-- listen_tls     addresses that speak TLS, when those of `listen` do not
-- show_errors    true: what went wrong in a page is shown in the browser, not only in the log. With --app it is
-- origins        a list ({ "https://www.example.com" }): pages of other servers that may open WebSockets here; "*": all. Those of
--                this one always may
-- hosts          a list ({ "www.example.com", "localhost" }): the names under which the service answers; requests with another one in
--                their Host field get 421. Without it every name is good
-- head_timeout   how long the head of a request may take ("10s")
-- idle_timeout   how long a connection waits for the next request ("60s")
local address = require "cosock.address"
local app = require "cosock.http.app"
local options = require "cosock.options"
local server = require "cosock.http.server"
local tls = require "cosock.tls"
local websocket = require "cosock.websocket"

local args = ...
if type(args) ~= "table" then
  args = {app = args, listen = {select(2, ...)}, show_errors = true}
  if not args.app then error("pages.lua needs a folder: cosockd --app DIR [ADDRESS...]", 0) end
  if not args.listen[1] then args.listen = "127.0.0.1:8080" end
end

options.check_service(args, "app listen listen_tls tls show_errors origins hosts head_timeout idle_timeout")

if args.listen_tls and not args.tls then error("listen_tls: without tls", 0) end

local shark = args.tls and tls.server(args.tls) or nil

-- The port of the first address that speaks TLS, for those who are sent there.
local function tls_port()
  local first = shark and options.list("listen_tls", args.listen_tls or args.listen)[1]
  local at = first and address.parse(first)
  return at and at.port
end

-- A set of the names, in lower case; nil: every name.
local function hosts()
  if args.hosts == nil then return nil end
  local set = {}
  for _, name in ipairs(options.list("hosts", args.hosts)) do
    if type(name) ~= "string" or name:find "[/:%s]" and not name:find "^%[[%x:.]+%]$" then
      error(("hosts: %q is no name (www.example.com, without a port)"):format(tostring(name)), 0)
    end
    set[name:lower()] = true
  end
  return set
end

args.tls_port, args.origins, args.hosts = tls_port(), websocket.origins(args.origins), hosts()
local application = app.load(args.app, args)

local web = server.new(function(conn, head) return application:handle(conn, head) end, {
  head_timeout = options.duration(args, "head_timeout", "10s"), idle_timeout = options.duration(args, "idle_timeout", "60s"),
})

local lists = args.listen_tls and 2 or 1

local function ended()
  lists = lists - 1
  if lists > 0 then return end
  web:close()
  application:unload()
end

local function accepted(sock) web:accepted(sock) end

if args.listen_tls then
  address.listen(args.listen, accepted, {}, ended)
  address.listen(args.listen_tls, accepted, {shark = shark}, ended)
else
  address.listen(args.listen, accepted, {shark = shark}, ended)
end
