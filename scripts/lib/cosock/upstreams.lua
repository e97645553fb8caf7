-- Chooses among upstreams: in turn or by the fewest connections, none with more than it may have, those that
-- failed lately last. Counts are those of this Lua state: each cell of each worker has its own, and a reload begins at zero.
--
--   local pool = upstreams.new({"10.0.0.1:80", {"10.0.0.2:80", maxconn = 100}}, {balance = "leastconn"})
--   local upstream <close> = pool:take(tried)   -- upstream.address says where
local address = require "cosock.address"
local options = require "cosock.options"

local upstreams, pool = {}, {}
pool.__index = pool

local function parse(entry, meta)
  if type(entry) ~= "table" then entry = {entry} end
  for key in pairs(entry) do
    if key ~= 1 and key ~= "maxconn" then
      error(("upstreams: expected { ADDRESS, maxconn = N }, got the key %q"):format(tostring(key)), 0)
    end
  end
  local to, err = address.parse(entry[1])
  if not to then error("upstreams: " .. err, 0) end
  if not to.host and not to.unix then error(("upstreams: %q names no host"):format(entry[1]), 0) end
  local max = options.integer(entry, "maxconn", 0, 0, "upstream " .. entry[1])
  return setmetatable({address = entry[1], max = max > 0 and max or math.huge, connections = 0, down_until = 0}, meta)
end

-- list                 upstreams: addresses or { ADDRESS, maxconn = N }; one of them may stand alone
-- given.balance        "roundrobin" (default) or "leastconn"
-- given.fail_timeout   an upstream that failed is tried after the others for so long ("10s")
-- given.queue_timeout  how long to wait for a place while all are taken ("5s")
function upstreams.new(list, given)
  local balance = given.balance or "roundrobin"
  if balance ~= "roundrobin" and balance ~= "leastconn" then
    error(('balance: expected "roundrobin" or "leastconn", got %q'):format(tostring(balance)), 0)
  end
  local p = setmetatable({
    least = balance == "leastconn", counts = balance == "leastconn", turn = 0, first = 1, last = 0, queue = {},
    fail_timeout = options.duration(given, "fail_timeout", "10s", true),
    queue_timeout = options.duration(given, "queue_timeout", "5s", true),
  }, pool)
  local meta = {__close = function(upstream) p:leave(upstream) end}
  if type(list) == "table" and list.maxconn then list = {list} end
  for i, entry in ipairs(options.list("upstreams", list)) do
    p[i] = parse(entry, meta)
    p.counts = p.counts or p[i].max < math.huge
  end
  if not p[1] then error("no upstreams", 0) end
  return p
end

-- Whether a is the better choice; of equals the one whose turn it is.
local function better(a, b, now, least)
  local a_down, b_down = a.down_until > now, b.down_until > now
  if a_down ~= b_down then return b_down end
  return least and a.connections < b.connections
end

function pool:choose(tried)
  local best, now, count = nil, ba.clock(), #self
  local first = self.turn
  self.turn = (first + 1) % count
  for i = 0, count - 1 do
    local upstream = self[(first + i) % count + 1]
    if not tried[upstream] and upstream.connections < upstream.max and
       (not best or better(upstream, best, now, self.least)) then
      best = upstream
    end
  end
  return best
end

-- Waits in the queue until somebody hands over a place or the time is over.
function pool:wait(tried)
  local sock = ba.socket.getsock()
  local at, waiter = self.last + 1, {tried = tried, sock = sock}
  self.last, self.queue[at] = at, waiter
  local timer = ba.timer(function() sock:enable() end)
  timer:set(self.queue_timeout, true)
  local _, err = sock:disable()
  timer:cancel()
  self.queue[at] = nil
  if err and waiter.upstream then self:leave(waiter.upstream) end -- both in the same moment
  return not err and waiter.upstream or nil, err or "timeout"
end

-- A place at an upstream that is not in `tried` (a set); it is given back when the variable it is in closes (`local
-- upstream <close>`). Waits while all places are taken: called by a cosocket that is not connected yet. Else nil and
-- "tried" (every upstream is), "timeout" or "sysshutdown".
function pool:take(tried)
  local upstream = self:choose(tried)
  if upstream then
    upstream.connections = upstream.connections + 1
    return upstream
  end
  for _, other in ipairs(self) do
    if not tried[other] then
      if self.queue_timeout == 0 then return nil, "timeout" end
      return self:wait(tried)
    end
  end
  return nil, "tried"
end

-- One more place for the same connection, which leave gives back.
function pool:keep(upstream) upstream.connections = upstream.connections + 1 end

-- Gives a place back; the first in the queue that can use it gets it.
function pool:leave(upstream)
  local queue = self.queue
  upstream.connections = upstream.connections - 1
  while self.first <= self.last and not queue[self.first] do self.first = self.first + 1 end
  for at = self.first, upstream.connections < upstream.max and self.last or 0 do
    local waiter = queue[at]
    if waiter and not waiter.tried[upstream] then
      queue[at], waiter.upstream = nil, upstream
      upstream.connections = upstream.connections + 1
      waiter.sock:enable()
      return
    end
  end
end

-- Notes whether connecting worked; err: nil when it did; more: what else is known of it, or nil. Says it when that
-- changes.
function pool:result(upstream, err, more)
  upstream.down_until = err and ba.clock() + self.fail_timeout or 0
  if upstream.failing == err then return end
  upstream.failing = err
  local text = not err and "works again" or more and err .. ": " .. more or err
  tracep(err and "warning" or "notice", ("upstream %s: %s"):format(upstream.address, text))
end

return upstreams
