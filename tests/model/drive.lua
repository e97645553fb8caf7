-- Makes the calls of a sequence for real and compares all that can be seen with the model (model.lua).
--
-- A sequence is a list of steps, each {do = name, ...} with names for sockets and coroutines, so that any part of
-- it can be made again: a step whose names are missing or busy is passed over. Coroutines take calls one at a
-- time from their box; between two calls they sleep. After each step everything comes to rest as the model says,
-- or the sequence has failed.
local model = require "model"

local drive = {}

local PATIENCE = 5000 -- ms; set by drive.setup
local far                       -- the far ends: see far.lua
local limits

function drive.setup(o) PATIENCE, far, limits = o.patience, o.far, o.limits end

local run -- the sequence that is being made

-- What a whole sequence leaves behind must be collectable: sockets and coroutines.
local left = setmetatable({}, {__mode = "k"})
drive.left = left

-- ---- coroutines ----

local function wrapped(f) return coroutine.wrap(function() return f() end)() end
local function iterated(f) for r in function() return f() end do return r end end
local function closing(f)
  local r
  do local guard <close> = setmetatable({}, {__close = function() r = f() end}) end
  return r
end
local depths = {
  function(f) return f() end,
  wrapped,
  iterated,
  closing,
  function(f) return select(2, assert(pcall(f))) end,
  function(f) return select(2, assert(xpcall(f, debug.traceback))) end,
  function(f) return setmetatable({}, {__index = function() return f() end}).x end,
  function(f) return -setmetatable({}, {__unm = function() return f() end}) end,
  function(f) return wrapped(function() return wrapped(f) end) end,
}
drive.depths = #depths

-- Calls f, catching what it raises. Returns a list of results.
local function outcome(depth, f)
  return depths[depth](function()
    local r = table.pack(pcall(f))
    if not r[1] then return {n = 1, raised = true, tostring(r[2])} end
    return table.pack(table.unpack(r, 2, r.n))
  end)
end

local calls -- below

-- Makes the call in the box. A function of its own: nothing of it stays on the stack. True at the end.
local function obey(a, s)
  local op = a.box
  a.box = nil
  if op.call == "return" or op.call == "error" then
    a.ended = true
    if op.call == "error" then error("expected in the log: model") end
    return true
  end
  op.begun = true
  local r = outcome(op.depth or 1, function() return calls[op.call](s, op, a) end)
  a.run.log[#a.run.log + 1] = a.name
  a.result = r
end

-- The life of every coroutine: s is its socket, nil for jobs and timers.
local function life(s, a, ...)
  a.started = true
  a.got_arguments = s == (a.model.s and a.sock or s) and select("#", ...) == 2 and select(1, ...) == nil
    and select(2, ...) == a
  left[coroutine.running()] = a.name
  if s then left[s] = a.name end
  a.sock = nil -- from here on only this coroutine and the list of sockets hold it
  repeat
    while not a.box do
      if a.run.over or not ba.sleep(1) then return end
    end
  until obey(a, s)
end

-- ---- calls: the real ones. s: the caller's socket; op.on: the name of the target ----

local function target(s, op)
  return op.own and s or run.socks[op.on]
end

local function keep(op, r)
  if type(r[1]) == "userdata" then
    left[r[1]] = "made by " .. op.call
    op.made_sock = r[1]
    local _, port = r[1]:sockname()
    op.port = op.call == "connect" and port and "e" .. port or nil -- the far end knows it by the engine's port
  end
end

-- Results and what the matchers need to know about them, which would not last: written into op.
local function note(op, s, ...)
  local r = table.pack(...)
  keep(op, r)
  op.same = r[1] ~= nil and r[1] == s or nil
  return ...
end

calls = {
  read = function(s, op) return target(s, op):read(op.ms) end,
  write = function(s, op)
    local block = op.letter:rep(4096) -- much faster than op.letter:rep(op.n)
    return target(s, op):write(block:rep(op.n // 4096) .. block:sub(1, op.n % 4096))
  end,
  disable = function(s, op) return target(s, op):disable() end,
  enable = function(s, op) return target(s, op):enable(table.unpack(op.values, 1, op.values.n)) end,
  close = function(s, op) return target(s, op):close() end,
  queuelen = function(s, op) return target(s, op):queuelen(op.n) end,
  connect = function(s, op)
    local port = far[op.to]
    return note(op, s, ba.socket.connect("127.0.0.1", port, {timeout = op.ms}))
  end,
  bind = function(s, op) return note(op, s, ba.socket.bind(0, {intf = "127.0.0.1"})) end,
  accept = function(s, op)
    local sock, err = target(s, op):accept()
    if sock then
      left[sock] = "accepted"
      op.made_sock = sock
      local _, port = sock:peername()
      op.port = port and "p" .. port -- by its own
    end
    return sock, err
  end,
  event = function(s, op)
    local b, t = op.actor, target(s, op)
    b.sock = t
    local r, err = t:event(life, op.mode, b, nil, b)
    op.same_target = r == t
    return r, err
  end,
}

-- ---- sequences ----

local function new_actor(name)
  local a = {name = name, run = run}
  run.actors[name] = a
  return a
end

local function fail(text, ...) error({sequence = text:format(...)}, 0) end

local function text_of(r)
  if not r then return "nothing yet" end
  local parts = {}
  for i = 1, r.n do
    local v = r[i]
    parts[i] = type(v) == "string" and (#v > 40 and ("%q... (%d bytes)"):format(v:sub(1, 10), #v) or ("%q"):format(v))
      or type(v) == "userdata" and "socket" or tostring(v)
  end
  return (r.raised and "raised " or "") .. (#parts > 0 and table.concat(parts, ", ") or "(no results)")
end

-- True when the actor is as the model wants it. Fails when it never can be.
local function settled(a)
  local m, r = a.model, a.result
  if not a.op then return true end
  if not m.want then
    if r then fail("%s: %s %s was to wait and gave %s", a.name, a.op.call, a.op.on or "", text_of(r)) end
    return a.op.begun
  end
  if not r then return a.op.begun and m.want.maybe end
  r.same, r.port, r.same_target = a.op.same, a.op.port, a.op.same_target
  for _, matches in ipairs(m.want) do
    if matches(r) then
      if a.op.made then
        run.socks[a.op.made.name] = a.op.made_sock
        run.ports[a.op.made.name] = a.op.port
        a.op.made_sock = nil
      end
      a.op, a.result, m.want, m.waits = nil, nil, nil, nil
      return true
    end
  end
  fail("%s: %s %s gave %s", a.name, a.op.call, a.op.on or "", text_of(r))
end

-- Lets the others run: at first it looks again at once, later once a millisecond.
local looks = 0
local function pause()
  looks = looks + 1
  ba.sleep(looks > 20 and 1 or 0)
end

-- Everything as the model says, soon.
local function settle()
  local deadline = ba.clock() + PATIENCE
  looks = 0
  while true do
    local waits
    for _, a in pairs(run.actors) do
      if not a.gone and not settled(a) then waits = a end
    end
    if not waits then break end
    if ba.clock() > deadline then
      fail("%s: %s %s did not complete", waits.name, waits.op.call, waits.op.on or "")
    end
    pause()
  end
end

-- The condition's second result: whether something has moved, so that patience begins anew.
local function wait(condition, text, ...)
  local deadline = ba.clock() + PATIENCE
  looks = 0
  while true do
    local value, moved = condition()
    if value then return value end
    if moved then deadline = ba.clock() + PATIENCE end
    if ba.clock() > deadline then fail(text, ...) end
    pause()
  end
end

-- The order in which calls of this step completed.
local function check_order()
  local at = {}
  for i, name in ipairs(run.log) do at[name] = at[name] or i end
  for _, pair in ipairs(run.world.order) do
    local first, second = at[pair[1]], at[pair[2]]
    if first and second and first > second then fail("%s came after %s", pair[1], pair[2]) end
  end
end

local function check_states()
  for name, s in pairs(run.world.socks) do
    local sock = run.socks[name]
    if sock then
      local state, connected = model.state(s)
      local function same()
        local got, on = sock:state()
        return (not state or got == state) and (connected == nil or on == connected), got, on
      end
      local deadline = ba.clock() + PATIENCE
      local good, got, on = same()
      while not good do
        if ba.clock() > deadline then
          fail("%s is %s, %s and not %s, %s", name, got, on, state or "?", connected)
        end
        pause()
        good, got, on = same()
      end
    end
  end
end

-- ---- steps ----

local steps = {}

local function busy(a) return not a or a.op or a.gone or a.ended end

-- Hands a call to a coroutine, or makes it here and now for the driver's own job.
local function begin(a, op)
  a.op, a.result = op, nil
  if a.driver then
    a.result = outcome(1, function() return calls[op.call](nil, op, a) end)
    run.log[#run.log + 1] = a.name
  else
    a.box = op
  end
end

function steps.spawn(step)
  if run.actors[step.actor] then return true end
  local a = new_actor(step.actor)
  if step.kind == "s" then
    local s = model.sock(run.world, step.sock, {mode = "s"})
    a.model = model.actor(run.world, a.name, "s", s)
    local state
    local sock = ba.socket.event(function(s, a, ...)
      state = {s:state()}
      a.sock = s
      return life(s, a, ...)
    end, a, nil, a)
    if not a.started then fail("%s: event returned before its function ran", a.name) end
    if not a.got_arguments then fail("%s: wrong arguments", a.name) end
    if state[1] ~= "exec" or state[2] ~= false then fail("%s: a new cosocket is %s", a.name, state[1]) end
    model.hit "A.3 unconnected" model.hit "A.3 arguments" model.hit "A.3 at-once"
    run.socks[step.sock] = sock
  else
    a.model = model.actor(run.world, a.name, step.kind)
    local function body() life(nil, a, nil, a) end
    if step.kind == "job" then
      ba.thread.run(body)
    else
      local timer = ba.timer(body)
      timer:set(0, true)
    end
    wait(function() return a.started end, "%s does not start", a.name)
  end
end

function steps.call(step)
  local a = run.actors[step.actor]
  if busy(a) then return true end
  local s = run.world.socks[step.on]
  local own = s and a.model.s == s
  if step.on and (not s or not own and not run.socks[step.on]) then return true end
  local op = {call = step.call, on = step.on, own = own and not run.socks[step.on], ms = step.ms, n = step.n, letter = step.letter,
    values = step.values, to = step.to, new = step.new, mode = step.mode, depth = step.depth, ports = run.far_ports}
  if (step.call == "connect" or step.call == "bind") and a.model.kind ~= "s" and not step.new then return true end
  if step.new and (run.world.socks[step.new] or run.actors[step.new]) then return true end
  if a.driver and (step.call == "read" or step.call == "connect" or step.call == "accept" or step.call == "write" and
      s.mode ~= "s") then return true end -- it must not wait
  if step.to == "hole" and a.model.kind ~= "s" then op.ms = 3 end -- nobody could end it
  if op.own and step.call == "disable" then return true end -- it could be collected at any time
  if (step.depth or 1) > 1 then model.hit "A.3 depth" end
  if step.call == "event" then
    op.actor = {name = step.new, run = run}
    if model.rules.event(run.world, a.model, s, op) then
      run.actors[step.new] = op.actor
      op.actor.model = run.world.actors[step.new]
    end
  else
    if step.call == "write" and step.n == "high" then op.n = limits.high + 1 end
    model.rules[step.call](run.world, a.model, s, op)
  end
  begin(a, op)
  if step.call == "event" then
    settle()
    local b = run.actors[step.new]
    if b and not b.started then fail("%s: event returned before its function ran", step.new) end
    if b and not b.got_arguments then fail("%s: wrong arguments", step.new) end
  end
end

-- One that waits for nothing ends.
function steps.finish(step)
  local a = run.actors[step.actor]
  if busy(a) or a.driver then return true end
  if step.how == "error" then model.hit "A.3 error" end
  a.box = {call = step.how}
  wait(function() return a.ended end, "%s does not end", a.name)
  a.gone = true
  model.ended(run.world, a.model)
  a.model.gone = true
  run.actors[a.name] = nil
  settle()
end

-- The far end of an open socket.
local function far_of(step)
  local s = run.world.socks[step.on]
  local port = run.ports[step.on]
  if s and port and not run.far_gone[port] and (s.state == "open" or s.was == "open") then return s, port end
end

function steps.far_send(step)
  local s, port = far_of(step)
  if not s or s.fin or s.rst or s.state ~= "open" then return true end
  far.send(port, step.letter, step.n)
  model.far_send(run.world, s, step.letter, step.n)
end

-- When the engine has noticed can be seen only of one that somebody holds, or that waits.
local function unseen(s, name)
  local o = s.owner
  return not run.socks[name] and not (o and o.waits and o.waits.s == s and o.waits.what == "read")
end

function steps.far_fin(step)
  local s, port = far_of(step)
  if not s or s.fin or s.rst or unseen(s, step.on) then return true end
  far.fin(port)
  model.far_end(run.world, s, "fin")
end

function steps.far_rst(step)
  local s, port = far_of(step)
  if not s or s.fin or s.rst or #s.inq > 0 or s.state ~= "open" or unseen(s, step.on) then return true end
  far.reset(port)
  run.far_gone[port] = true
  model.far_end(run.world, s, "rst")
end

-- Reads until all has come that must; at the end of a closed one, its end too.
local function drain(s, port)
  model.far_reads(run.world, s)
  local closed
  wait(function()
    local runs, state = far.receive(port)
    local wrong = model.far_got(s, runs)
    if wrong then fail("%s", wrong) end
    closed = closed or state
    local all = closed == "eof" or closed == "reset"
    if s.state ~= "closed" then all = model.missing(s) == 0 end
    return all, #runs > 0
  end, "%s: %d bytes were to arrive; some did not, or not the end", s.name, model.missing(s))
  settle()
  if s.state == "closed" and not s.rst and model.missing(s) > 0 then
    fail("%s: the end came before %d bytes", s.name, model.missing(s))
  end
  if s.state == "closed" and closed == "reset" and not s.rst then fail("%s: reset instead of an end", s.name) end
  if s.state ~= "closed" and closed then fail("%s: ended (%s) although nobody closed it", s.name, closed) end
end

function steps.far_read(step)
  local s, port = far_of(step)
  if not s or s.rst then return true end
  drain(s, port)
end

function steps.client(step)
  local s = run.world.socks[step.on]
  if not s or s.state ~= "listening" or not run.socks[step.on] or run.world.socks[step.new] or run.far_ports[step.new] then
    return true
  end
  local _, port = run.socks[step.on]:sockname()
  local id = far.connect(port)
  run.far_ports[step.new] = id
  model.client(run.world, s, step.new)
end

-- Nobody but its coroutine holds the socket any more.
function steps.drop(step)
  local s = run.world.socks[step.on]
  if not s or not run.socks[step.on] or s.state == "closed" then return true end
  for _, a in pairs(run.actors) do
    if a.op and (a.model.s ~= s and a.op.on == step.on or a.op.made == s) then return true end
    if s.mode == "blocking" and a.op and a.op.on == step.on then return true end
    if a.model.s == s and s.owner ~= a.model then return true end -- an older coroutine holds it
  end
  for _, other in pairs(run.world.socks) do
    if other ~= s and other.rst then return true end
  end
  local o = s.owner and run.actors[s.owner.name]
  local fate = model.dropped(run.world, s)
  run.socks[step.on] = nil
  if fate == "goes" then
    if o then
      o.gone = true
      o.op, o.box = nil, nil
      run.actors[o.name] = nil
    end
    o = nil
  end
  collectgarbage()
  collectgarbage()
  local port = run.ports[step.on]
  if fate == "goes" and port and not run.far_gone[port] and not s.rst then drain(s, port) end
end

-- ---- a whole sequence ----

local function step_once(step)
  run.log, run.world.order = {}, {}
  if steps[step["do"]](step) then return false end -- passed over
  settle()
  check_order()
  for _, a in pairs(run.actors) do -- a socket made by accept gets its far end from there
    if a.gone then run.actors[a.name] = nil end
  end
  check_states()
  return true
end

local function drain_closed()
  for name, port in pairs(run.ports) do
    local s = run.world.socks[name]
    if not run.far_gone[port] and not s.rst and not s.drained and s.state == "closed" then
      drain(s, port)
      s.drained = true
    end
  end
end

-- Whatever is left is closed; all that was written must arrive and nobody may be left waiting. One after the other:
-- what nobody reads for flush_timeout is lost.
local function finish()
  drain_closed()
  for name, s in pairs(run.world.socks) do
    local sock = run.socks[name]
    if sock and s.state ~= "closed" then
      run.log, run.world.order = {}, {}
      model.shut(run.world, s, nil)
      sock:close()
      settle()
      drain_closed()
    end
  end
  settle()
  drain_closed()
end

local function clean_up()
  run.over = true
  for thing in pairs(left) do
    if type(thing) == "userdata" then thing:close() end
  end
  local names = {}
  for _, name in pairs(run.ports) do
    if not run.far_gone[name] then names[#names + 1] = name end
  end
  far.forget(names)
end

-- Waits until nothing of the sequences so far is left: no socket, no coroutine. Nil, or what is.
function drive.nothing_left()
  local deadline = ba.clock() + PATIENCE
  while true do
    collectgarbage()
    collectgarbage()
    local thing, name = next(left)
    if not thing then return end
    if ba.clock() > deadline then return ("left behind: %s (%s)"):format(tostring(thing), name) end
    ba.sleep(1)
  end
end

-- Makes the sequence. Returns nil, or what went wrong and the number of the step.
function drive.sequence(list)
  run = {world = model.new(limits), actors = {}, socks = {}, ports = {}, far_ports = {}, far_gone = {}, log = {}}
  local driver = new_actor "D"
  driver.driver = true
  driver.model = model.actor(run.world, "D", "job")
  local at = 0
  local done, err = xpcall(function()
    for i, step in ipairs(list) do
      at = i
      if drive.tracing then drive.tracing(i, step) end
      step_once(step)
    end
    at = #list + 1
    finish()
  end, function(e) return type(e) == "table" and e or {sequence = debug.traceback(tostring(e))} end)
  clean_up()
  run = nil
  if not done then return err.sequence, at end
end

return drive
