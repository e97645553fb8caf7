-- A UDP proxy. What a client sends goes to one of the upstreams, and what that answers goes back: a session, which
-- lasts as long as one of the two has something to say.
--
--   service "dns" { script = "udp.lua", listen = ":53", upstreams = { "10.0.0.1:53", "10.0.0.2:53" } }
--   cosockd udp.lua :53 10.0.0.1:53 10.0.0.2:53
--
-- listen         an address or a list of them. Name each address of a machine that has several: an answer from ":53"
--                carries the one that the system prefers
-- upstreams      an address or a list of them; { ADDRESS, maxconn = N } gives it no more than N sessions at a time
-- balance        "roundrobin" (default): in turn; "leastconn": to the one with the fewest sessions
-- fail_timeout   an upstream that nobody answers at is tried after all others for so long ("10s")
-- queue_timeout  how long a new session may wait while every upstream has its maxconn ("5s")
-- idle_timeout   a session without a datagram either way for so long ends ("30s")
-- sessions_max   sessions at a time; who comes then is not served (10000)
local address = require "cosock.address"
local options = require "cosock.options"
local upstreams = require "cosock.upstreams"

local args = ...
if type(args) ~= "table" then args = {listen = args, upstreams = {select(2, ...)}} end
options.check_service(args, "listen upstreams balance fail_timeout queue_timeout idle_timeout sessions_max")
local pool = upstreams.new(args.upstreams or {}, args)
for _, upstream in ipairs(pool) do
  if not address.parse(upstream.address).host then error("upstreams: not for UDP: " .. upstream.address, 0) end
end
local idle = options.duration(args, "idle_timeout", "30s")
local sessions_max = options.integer(args, "sessions_max", 10000, 1)
local WAITING_MAX = 16 -- datagrams that a session keeps until it has its upstream
local SHORT = 100      -- ms without new sessions when there was no memory for one

local count, full, short_until = 0, false, 0
local session = {__close = function(s)
  local front = s.front
  front.sessions[s.key], front.count, count = nil, front.count - 1, count - 1
  if front.count == 0 then front.sock:enable() end -- see serve
end}

-- Runs as a cosocket of its own, whose socket becomes the connection to the upstream.
local function carry(server, state)
  local s <close> = setmetatable(state, session)
  local upstream <close> = pool:take {}
  if not upstream then return end
  local ok, err, code, reason = address.udpcon(upstream.address)
  if not ok then return pool:result(upstream, err, reason) end
  s.server = server
  for _, data in ipairs(s.waiting) do server:sendto(data) end
  while true do
    local left = s.last + idle - ba.clock()
    local data
    if left > 0 then data, err, code, reason = server:read(left) end
    if data then
      if not s.answered then pool:result(upstream) end
      s.answered, s.last = true, ba.clock()
      s.front.sock:sendto(data, s.ip, s.port)
    elseif left <= 0 or err ~= "timeout" then
      return code and pool:result(upstream, code, reason) -- nobody there: the client's next try starts a new session
    end
  end
end

-- why: what is missing, or nil: sessions_max.
local function no_more(why)
  if not full then tracep("warning", ("%d sessions: no new ones%s"):format(count, why and " (" .. why .. ")" or "")) end
  full = true
end

local function start(front, key, ip, port)
  if count >= sessions_max or ba.clock() < short_until then return no_more() end
  count, front.count = count + 1, front.count + 1
  local s = {front = front, key = key, ip = ip, port = port, last = ba.clock(), waiting = {}}
  front.sessions[key] = s
  local ok, why = pcall(ba.socket.event, carry, s)
  if not ok then -- no memory for one more coroutine
    front.sessions[key], front.count, count, short_until = nil, front.count - 1, count - 1, ba.clock() + SHORT
    return no_more(why)
  end
  full = false
  return front.sessions[key]
end

local function serve(sock)
  local front = {sock = sock, sessions = {}, count = 0}
  while true do
    local data, ip, port = sock:read(true)
    if not data then break end
    local key = ip .. " " .. port
    local s = front.sessions[key] or start(front, key, ip, port)
    if s then
      s.last = ba.clock()
      if s.server then
        s.server:sendto(data)
      elseif #s.waiting < WAITING_MAX then
        s.waiting[#s.waiting + 1] = data
      end
    end
  end
  if front.count > 0 then sock:disable() end -- after a reload: the sessions end here, new scripts have the address
end

address.listen_udp(args.listen, serve)
