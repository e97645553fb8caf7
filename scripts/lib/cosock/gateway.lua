-- WebSockets that lead to TCP or Unix sockets, for wsbridge.lua and wstunnel.lua: a request's path and token say where. Once both ends
-- stand the engine moves the bytes, and no Lua object is left for the connection.
local address = require "cosock.address"
local options = require "cosock.options"
local tls = require "cosock.tls"
local url = require "cosock.url"
local websocket = require "cosock.websocket"

local gateway = {KEYS = "listen tls target targets tokens ping connect_timeout handshake_timeout idle_timeout"}

local ANY_SIZE = 0x7fffffff -- a frame is passed on as it arrives

local function check_target(what, text)
  local to, err = address.parse(text)
  if not to or not (to.unix or to.host) then error(("%s: %s"):format(what, err or ("%q names no host"):format(text)), 0) end
  return text
end

local function check_table(given, name)
  local t = given[name]
  if t == nil then return nil end
  if type(t) ~= "table" then error(("%s: expected a table { [%q] = address }"):format(name, name == "targets" and "/path" or "token"), 0) end
  for key, text in pairs(t) do
    if type(key) ~= "string" then error(("%s: a name is missing at %q"):format(name, tostring(text)), 0) end
    check_target(("%s[%q]"):format(name, key), text)
  end
  return t
end

-- Where the request leads, or nil. A token that is not known leads nowhere, also where a path would do.
local function find_target(given, head)
  local path, query = url.split(head.target)
  local token = given.tokens and query and query.token
  if given.tokens and (token or not (given.targets or given.target)) then return given.tokens[token or ""] end
  return given.targets and given.targets[path] or given.target
end

-- why: for the client and the log; what: for the log instead.
local function refuse(client, status, why, what)
  tracep("info", ("%s: %d, %s"):format(client:peername() or "unix", status, what or why or ba.http.reason(status)))
  websocket.refuse(client, status, why)
end

-- Milliseconds of given[name] as the seconds of an option of ba.socket.websocket.
local function seconds(given, name, default) return options.duration(given, name, default, true) / 1000 end

-- given.target             where every request leads
-- given.targets            {["/path"] = address}
-- given.tokens             {token = address}, for requests with ?token=...
-- given.tls                for clients: see lib/cosock/tls.lua
-- given.ping               ("30s"; "never")
-- given.connect_timeout    ("5s")  given.handshake_timeout ("10s")  given.idle_timeout ("1h"; "never")
-- given.listen
-- agree                    options for websocket.accept; text: send text messages; check(head): nil, status, why when it may not
function gateway.serve(given, agree)
  check_table(given, "targets")
  check_table(given, "tokens")
  if given.target then check_target("target", given.target) end
  if not (given.target or given.targets or given.tokens) then error("no target, targets or tokens: where do WebSockets lead?", 0) end
  local shark = given.tls and tls.server(given.tls)
  local connect = {timeout = options.duration(given, "connect_timeout", "5s")}
  local relay = {idle = options.duration(given, "idle_timeout", "1h", true), detach = true, text = agree.text}
  local head_ms = options.duration(given, "handshake_timeout", "10s")
  agree.ping, agree.maxframe = seconds(given, "ping", "30s"), ANY_SIZE

  -- Runs as a cosocket of its own, whose socket becomes the connection to the target.
  local function carry(_, client)
    local head, err, status = ba.http.reader(client, "request"):head(head_ms)
    if not head then
      if err == "badrequest" then return refuse(client, status) end
      return client:close()
    end
    local answer, why
    answer, status, why = websocket.answer(head, agree)
    if answer and agree.check then answer, status, why = agree.check(head) end
    if not answer then return refuse(client, status, why) end
    local target = find_target(given, head)
    if not target then return refuse(client, 404, nil, "no target for its path or token") end
    local server, reason
    server, err, _, reason = address.connect(target, connect)
    if not server then return refuse(client, err == "timeout" and 504 or 502, nil, ("%s: %s"):format(target, reason or err)) end
    if not websocket.accept(client, head, agree) or not ba.socket.relay(client, server, relay) then
      client:close()
      server:close()
    end
  end

  address.listen(given.listen, function(client) ba.socket.event(carry, client) end, {shark = shark})
end

gateway.ANY_SIZE, gateway.seconds = ANY_SIZE, seconds
return gateway
