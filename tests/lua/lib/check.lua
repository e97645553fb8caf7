-- What the tests of this folder share, on top of `cosockd test`: a test as a cosocket or as a job, checks,
-- servers on free ports.
local check = {}

local DEADLINE = 60000 -- ms, for one test; a machine may be busy, and a sanitizer build is slow

function check.job(name, f) it(name .. " (job)", f, {timeout = DEADLINE}) end
function check.cosocket(name, f) it(name .. " (cosocket)", f, {timeout = DEADLINE, cosocket = true}) end
function check.both(name, f) check.cosocket(name, f) check.job(name, f) end

local function show(value)
  if type(value) ~= "string" then return tostring(value) end
  return #value > 80 and string.format("%q... (%d bytes)", value:sub(1, 60), #value) or string.format("%q", value)
end

function check.eq(got, expected, what)
  if got ~= expected then
    error(("%s: expected %s, got %s"):format(what or "value", show(expected), show(got)), 2)
  end
end

function check.ok(value, what)
  if not value then error((what or "condition") .. ": " .. show(value), 2) end
  return value
end

-- f must raise an error that has `pattern` in it.
function check.raises(pattern, f, ...)
  local ok, err = pcall(f, ...)
  if ok then error("no error raised; expected one with: " .. pattern, 2) end
  if not tostring(err):find(pattern) then error(("error %s lacks %s"):format(show(err), show(pattern)), 2) end
end

-- A list of all results, nils included, against the expected ones.
function check.results(expected, ...)
  local n = expected.n or #expected
  if select("#", ...) < n then error(("%d results, expected %d"):format(select("#", ...), n), 2) end
  for i = 1, n do
    local got = select(i, ...)
    if got ~= expected[i] then
      error(("result %d: expected %s, got %s"):format(i, show(expected[i]), show(got)), 2)
    end
  end
end

-- Waits until the condition holds; returns its value. The test's deadline bounds it. `what` is for the reader.
function check.wait(condition, what)
  local value = condition()
  while not value do
    ba.sleep(1)
    value = condition()
  end
  return value
end

-- Waits until f() has given the same value for a while; returns it.
function check.settled(f, what)
  local value, since = f(), ba.clock()
  check.wait(function()
    local now = f()
    if now ~= value then value, since = now, ba.clock() end
    return ba.clock() - since > 50
  end, what)
  return value
end

-- Runs f in a job and waits for its results: in a cosocket, bind and connect would take the cosocket's own
-- socket.
function check.in_job(f, ...)
  if not ba.socket.getsock() then return f(...) end
  local args, results = table.pack(...), nil
  ba.thread.run(function() results = table.pack(pcall(f, table.unpack(args, 1, args.n))) end)
  check.wait(function() return results end, "a job")
  assert(results[1], results[2])
  return table.unpack(results, 2, results.n)
end

-- Calls f(...) while each allocation is followed by a whole collection; the first one runs the finalizer.
function check.with_finalizer(finalizer, f, ...)
  local meta = {__gc = finalizer}
  for _ = 1, 2 do collectgarbage() end
  collectgarbage("stop")
  collectgarbage("incremental", 1, 1000, 64)
  setmetatable({}, meta)
  collectgarbage("restart")
  local results = table.pack(pcall(f, ...))
  collectgarbage("incremental", 200, 100, 13)
  if not results[1] then error(results[2], 0) end
  return table.unpack(results, 2, results.n)
end

-- ---- servers for tests ----

-- A listener on a free port; each connection runs f as a cosocket. Returns it and its port.
function check.listen(f, options)
  options = options or {}
  options.intf = options.intf or "127.0.0.1"
  local listener = assert(check.in_job(ba.socket.bind, options.port or 0, options))
  listener:event(function(s)
    while true do
      local sock = s:accept()
      if not sock then break end
      if f then sock:event(f, "s") end
    end
  end, "r")
  local _, port = listener:sockname()
  return listener, port
end

function check.echo(sock)
  while true do
    local data = sock:read()
    if not data or not sock:write(data) then break end
  end
end

-- Reads until n bytes are there, or the end. Returns them, and the error.
function check.read(sock, n, ms)
  local parts, len, err = {}, 0, nil
  while len < n do
    local data
    data, err = sock:read(ms)
    if not data then break end
    parts[#parts + 1], len = data, len + #data
  end
  return table.concat(parts), err
end

-- n bytes that differ at every place one would confuse.
function check.pattern(n)
  local block, parts = {}, {}
  for i = 1, 509 do block[i] = string.char(i % 251, i // 251) end
  block = table.concat(block)
  for i = 0, n // #block do parts[#parts + 1] = ("%08x"):format(i) .. block end
  return table.concat(parts):sub(1, n)
end

-- n times the byte c; much faster than c:rep(n).
function check.bulk(c, n)
  local block = c:rep(65536)
  return block:rep(n // #block) .. block:sub(1, n % #block)
end

-- Two connected sockets that no coroutine owns: what connect gave, what accept gave.
function check.pair(options)
  local accepted, own
  local strangers = {} -- of other programs, which think that nobody listens at this port
  local listener = assert(check.in_job(ba.socket.bind, 0, {intf = "127.0.0.1"}))
  listener:event(function(s)
    repeat
      local sock = s:accept()
      strangers[#strangers + 1] = sock
    until not sock
  end, "r")
  local _, port = listener:sockname()
  local sock = assert(check.in_job(ba.socket.connect, "127.0.0.1", port, options))
  _, own = sock:sockname()
  check.wait(function()
    for i, s in ipairs(strangers) do
      local _, from = s:peername()
      if from == own then accepted = table.remove(strangers, i) break end
    end
    return accepted
  end, "accept")
  for _, s in ipairs(strangers) do s:close() end
  listener:close()
  return sock, accepted
end

-- Calls f, which waits: another coroutine must run meanwhile.
function check.others_run(f)
  local turns, going = 0, true
  ba.thread.run(function()
    while going do
      turns = turns + 1
      ba.sleep(0)
    end
  end)
  f()
  going = false
  check.ok(turns > 1, turns .. " turns of another coroutine")
end

-- Runs f as a cosocket of its own and waits for its results.
function check.in_cosocket(f, ...)
  local results
  local sock = ba.socket.event(function(...) results = table.pack(pcall(f, ...)) end, ...)
  check.wait(function() return results end, "a cosocket")
  assert(results[1], results[2])
  return table.unpack(results, 2, results.n)
end

-- A port of this machine at which nobody listens.
function check.dead_port()
  local listener, port
  repeat -- none of those that other tests get from the system
    port = math.random(10000, 32000)
    listener = check.in_job(ba.socket.bind, port, {intf = "127.0.0.1"})
  until listener
  listener:close()
  check.wait(function() -- a listener takes a moment to go
    local sock = check.in_job(ba.socket.connect, "127.0.0.1", port)
    if sock then sock:close() end
    return not sock
  end, "the end of a listener")
  return port
end

-- Three tests: f(sock, peer) with the sock as a blocking one in a job, as "r" and as cosocket.
function check.every_mode(name, f)
  check.job(name .. ", blocking", function()
    local a, b = check.pair()
    f(a, b)
    a:close()
    b:close()
  end)
  for _, mode in ipairs {"r", "s"} do
    check.job(name .. ", mode " .. mode, function()
      local a, b = check.pair()
      local done, err
      a:event(function(s) done, err = xpcall(f, debug.traceback, s, b) done = done or false end, mode)
      check.wait(function() return done ~= nil end)
      check.ok(done, err)
      b:close()
    end)
  end
end

-- In the place of trace or print: a function that writes down what it is given, as a line of the log has it; the list
-- of the lines; a function that empties it.
function check.recorder()
  local lines = {}
  local function record(...)
    local texts = table.pack(...)
    for i = 1, texts.n do texts[i] = tostring(texts[i]) end
    lines[#lines + 1] = table.concat(texts, "\t")
  end
  return record, lines, function() for i = #lines, 1, -1 do lines[i] = nil end end
end

return check
