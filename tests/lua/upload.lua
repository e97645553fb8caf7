-- ba.create.upload with a request that is none: how slow a client may be. The clock is the test's own.
local here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" -- tests/lua
package.path = here .. "/../../scripts/lib/?.lua;" .. package.path
local check = require "check"
local exchange = require "cosock.http.exchange"
local upload = require "cosock.http.upload"
local eq, ok = check.eq, check.ok

local path = os.tmpname()
local folder, name = path:match "^(.*)/([^/]*)$"
local now, clock = 0, ba.clock
before_each(function()
  now = 0
  ba.clock = function() return now end
end)
after_each(function()
  ba.clock = clock
  os.remove(path)
end)

-- Uploads pieces that come one after the other: {{ms, data}, ...}. What the functions heard, and the answer.
local function put(pieces)
  local heard, answer, longest = {}, nil, 0
  local kind = exchange.kind {
    allow = function() return true end, method = function() return "PUT" end, uri = function() return "/up/" .. name end,
    piece = function(_, _, ms)
      longest = math.max(longest, ms)
      local next = table.remove(pieces, 1)
      if not next then return nil end
      now = now + math.min(next[1], ms)
      if next[1] > ms then return nil, "timeout" end
      return next[2]
    end,
    answer = function(_, status) answer = status end, senderror = function(_, status) answer = status end,
    abort = function() error "aborted" end,
  }
  local uploader = upload.upload(ba.mkio(folder), 1)
  local function failed(_, _, err) heard[#heard + 1] = err end
  eq(select(2, pcall(uploader, setmetatable({over = false}, kind), name, nil, function() heard[#heard + 1] = "complete" end, failed)):match "aborted",
     "aborted")
  ok(longest <= 30000)
  return table.concat(heard, " "), answer
end

local function content()
  local file = io.open(path, "rb")
  if not file then return nil end
  local text = file:read "a"
  file:close()
  return text
end

check.job("fast enough", function()
  local pieces, whole = {}, ("x"):rep(2000):rep(100)
  for i = 1, 100 do pieces[i] = {1999, ("x"):rep(2000)} end
  check.results({"complete", 204}, put(pieces))
  ok(content() == whole)
  os.remove(path)
  check.results({"complete", 204}, put {{29999, "a"}, {1, "b"}})
  eq(content(), "ab")
end)

check.job("too slow", function()
  os.remove(path)
  check.results({"timeout", 408}, put {{30001, "never"}})
  check.results({"timeout", 408}, put {{20000, "a"}, {20000, "b"}})
  local pieces = {}
  for i = 1, 100 do pieces[i] = {1000, ("x"):rep(500)} end -- half of what it takes
  check.results({"timeout", 408}, put(pieces))
  ok(#pieces > 30 and #pieces < 50, #pieces .. " pieces were left")
  eq(content(), nil)
  pieces = {{0, ("x"):rep(100000)}, {29000, "a"}, {29000, "b"}, {29000, "c"}, {29000, "d"}} -- what came fast gives time
  check.results({"complete", 204}, put(pieces))
end)
