-- What a start-up chunk may do: it is a context of its own, neither cosocket nor job (ba-api A.1, A.3).
local check = require "check"
local eq, ok, raises, results, wait = check.eq, check.ok, check.raises, check.results, check.wait

local log = {}
local function note(what) log[#log + 1] = what end

eq(ba.socket.getsock(), nil)
eq(select("#", ...), #arg)

-- Listeners stand at once; what has to wait waits here like a blocking call.
local listener, port = check.listen(check.echo)
ok(port > 0)
ba.thread.run(function() note "job" end)
local timer = ba.timer(function() note "timer" end)
timer:set(5)
local co = ba.socket.event(function(s)
  note "cosocket at once"
  note(ba.socket.connect("127.0.0.1", port) == s and "cosocket connected" or "cosocket failed")
  s:write("from a cosocket")
  note(s:read())
end)
note "chunk goes on"

-- What a held udpcon was given may be another thing when it goes on.
local held, udp_options = {}, {port = 0}
ba.socket.event(function(s)
  held.good, held.why = pcall(ba.socket.udpcon, "127.0.0.1", 9, udp_options)
  held.state = s:state()
  udp_options.port = 0
  held.again = ba.socket.udpcon("127.0.0.1", 9, udp_options) == s
end)
udp_options.port = 70000

local sock, err = ba.socket.connect("127.0.0.1", port)
local state = sock and table.pack(sock:state())
local sent = sock and sock:write("from the chunk")
local got = sock and check.read(sock, 14)
local none, why = sock:read(10)
local second = ba.socket.connect("127.0.0.1", port)
local refused = table.pack(ba.socket.connect("no such host", 80))
local slept = ba.sleep(20)
note "chunk ends"

local nested = coroutine.wrap(function() ba.sleep(1) return "nested" end)()
local good, caught = pcall(function() ba.sleep(1) error("caught", 0) end)

check.job("connect, write and read in the chunk", function()
  ok(sock, err)
  results({"exec", true}, table.unpack(state, 1, state.n))
  eq(sent, true)
  eq(got, "from the chunk")
  results({nil, "timeout"}, none, why)
  ok(second and second ~= sock)
  results({nil, "cannotresolve"}, table.unpack(refused, 1, refused.n))
  sock:close()
  second:close()
end)

check.job("sleep, nested coroutines, pcall", function()
  eq(slept, true)
  eq(nested, "nested")
  eq(good, false)
  eq(caught, "caught")
end)

check.job("a held udpcon whose options have become wrong", function()
  eq(held.good, false)
  ok(held.why:find "port out of range", held.why)
  eq(held.state, "exec")
  eq(held.again, true)
end)

check.job("the order of things", function()
  wait(function() return #log >= 7 end)
  eq(log[1], "cosocket at once")
  eq(log[2], "chunk goes on")
  local seen = {}
  for i, what in ipairs(log) do seen[what] = i end
  for _, what in ipairs {"job", "timer", "cosocket connected", "from a cosocket", "chunk ends"} do
    ok(seen[what], what)
  end
  ok(seen["timer"] < seen["chunk ends"], "timers run while the chunk waits")
  eq(co:state(), "terminated")
end)

check.job("trace and print take anything", function()
  trace("plain", nil, 1.5, true, {}, nil)
  trace()
  trace(setmetatable({}, {__tostring = function() return "by __tostring" end}))
  trace("zero\0byte", ("long"):rep(5000))
  tracep(false, 5, "without place")
  tracep(true, "debug", "not at this level")
  tracep(0, "as urgent as can be: expected in the log")
  tracep("warning", "by name")
  tracep(8, "more of a detail than debug")
  raises("priority", tracep, -1, "x")
  raises("invalid option", tracep, "loud", "x")
  raises("expected", tracep)
  raises("oops", trace, setmetatable({}, {__tostring = function() error "oops" end}))
  raises("must return a string", trace, setmetatable({}, {__tostring = function() return {} end}))
end)

check.job("the end of it", function() listener:close() end)
