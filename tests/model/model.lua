-- The reference model of ba-api A.3 to A.7: what each call must return, who must wake, in which order. It knows
-- nothing of the engine. Calls on it say what is about to happen; it then says of each coroutine what it wants:
--
--   actor.want == nil          it must still be waiting (or have nothing to do)
--   actor.want = {m, m, ...}   it must complete with a result that one of the matchers takes
--   ... want.maybe             it may still be waiting: the bytes are between two marks
--
-- A matcher takes the list of results and returns true, and may take note of what it has seen.
local model = {}

-- ---- coverage: each row of A.3 to A.7 has a name here ----

model.rows = {}
local function row(name, text) model.rows[#model.rows + 1] = {name = name, text = text} end
row("A.3 at-once", "event runs its function before it returns")
row("A.3 arguments", "the socket comes first, then the extra arguments; event returns the socket")
row("A.3 unconnected", "a new cosocket is exec, false")
row("A.3 connect-own", "connect in a cosocket binds its own socket")
row("A.3 bind-own", "bind in a cosocket binds its own socket")
row("A.3 second-connect", "a second connect gives incorrectuse")
row("A.3 second-bind", "a second bind gives incorrectuse")
row("A.3 return-connected", "a connected socket closes when its function returns")
row("A.3 return-unconnected", "a function may return while unconnected")
row("A.3 depth", "calls work in coroutines, pcall and metamethods below the function")
row("A.3 blocking-connect", "elsewhere connect makes a blocking socket of its own")
row("A.3 handed-over", "event on a socket from inside its own coroutine; the old one's end does not close it")
row("A.3 given-again", "event on a socket whose coroutine is elsewhere")
row("A.3 event-busy", "event on a socket whose coroutine waits on it is raised")
row("A.3 event-listener", "a listener takes \"r\" only")
row("A.3 error", "an error in the function closes the socket and nothing else")
row("A.4 live", "a connected socket that reads lives although nobody holds it")
row("A.4 disabled-connected", "a disabled connected one that nobody holds is closed")
row("A.4 disabled-unconnected", "a disabled unconnected one that nobody holds goes")
row("A.4 unconnected-read", "an unconnected one in read(ms) lives")
row("A.4 blocking", "a blocking socket that nobody holds is closed")
row("A.4 listener", "a listener with an \"r\" coroutine lives")
row("A.5 to-blocking", "anyone writes to a blocking socket")
row("A.5 own-r", "an \"r\" coroutine writes to its own socket")
row("A.5 cosocket", "a cosocket writes to a cosocket and goes on")
row("A.5 suspends", "a cosocket's write suspends when TCP is full, and ends with true")
row("A.5 queue-true", "a non-cosocket's text is taken whole: true")
row("A.5 queue-part", "... in part or queued: true, number")
row("A.5 queue-full", "... not at all: nil, number")
row("A.5 queue-error", "... nil, string")
row("A.5 behind-writers", "... stands behind suspended writers, or is refused there")
row("A.5 queuelen-0", "queuelen 0")
row("A.5 fifo", "several suspended writers, first come first served")
row("A.5 close-delivers", "what was written before close arrives")
row("A.5 nothing", "nothing to write is false")
row("A.5 dead", "writing to a closed or unconnected socket is an error value")
row("A.6 self", "disable suspends (1)")
row("A.6 values", "enable's arguments are disable's results (2)")
row("A.6 at-once", "enable resumes before it returns (3)")
row("A.6 hang-up", "closed by the peer while disabled (4)")
row("A.6 unconnected", "an unconnected one may disable (5)")
row("A.6 after-close", "disable on a closed one gives incorrectuse (6)")
row("A.6 outside", "disable from outside while it reads; enable (7)")
row("A.6 outside-refused", "... fails while it does not read (7)")
row("A.6 not-kept", "enable is not kept while it waits elsewhere (8, 9)")
row("A.6 r", "disable in an \"r\" coroutine (10)")
row("A.6 latch", "enable while it executes is kept once")
row("A.6 unread", "the peer's end behind unread data does not wake it (F-32)")
for _, event in ipairs {"close", "fin", "reset", "timeout", "stop"} do
  for _, waiter in ipairs {"read", "disable", "connect", "accept", "write", "later"} do
    local none = event == "fin" and (waiter == "accept" or waiter == "connect")
      or event == "reset" and (waiter == "accept" or waiter == "connect")
      or event == "timeout" and waiter ~= "read" and waiter ~= "connect"
      or event == "stop" and waiter == "later"
    if not none then row("A.7 " .. event .. " " .. waiter, "what " .. waiter .. " sees of " .. event) end
  end
end
row("A.7 refused connect", "nobody listens: cannotconnect")
row("A.7 collected", "collected: closed, no code runs")
row("A.7 data first", "data before the peer's end is read first")
row("A.7 usable", "after a time-out the socket is usable")

local hits = {}
model.hits = hits
local function hit(name) hits[name] = (hits[name] or 0) + 1 end
model.hit = hit

-- ---- matchers ----

local function exact(...)
  local expected = table.pack(...)
  return function(r)
    if r.raised or r.n ~= expected.n then return false end
    for i = 1, r.n do
      if r[i] ~= expected[i] then return false end
    end
    return true
  end
end

-- nil and this string; the system's name for it may follow.
local function fails(text, then_)
  return function(r)
    if r.raised or r[1] ~= nil or r[2] ~= text then return false end
    if then_ then then_() end
    return true
  end
end

local function raises(pattern) return function(r) return r.raised and r[1]:find(pattern) ~= nil end end

-- Takes n bytes from the front of a list of {letter, n}; false when they are not those.
local function take(list, text)
  local at = 1
  while at <= #text do
    local first = list[1]
    if not first then return false end
    local n = math.min(first.n, #text - at + 1)
    if text:sub(at, at + n - 1) ~= first.letter:rep(n) then return false end
    first.n = first.n - n
    if first.n == 0 then table.remove(list, 1) end
    at = at + n
  end
  return true
end

local function is_data(s)
  return function(r)
    if type(r[1]) ~= "string" or #r[1] == 0 or r.raised or r.n ~= 1 then return false end
    return take(s.inq, r[1])
  end
end

-- ---- the world ----

-- limits: low (bytes that may always be outstanding), high (bytes that are too many for sure)
function model.new(limits)
  return {socks = {}, actors = {}, limits = limits, order = {}}
end

function model.sock(w, name, fields)
  local s = {name = name, state = "unbound", inq = {}, out = {}, at = 1, off = 0, got = 0, sent = 0, queuelen = 16384}
  for k, v in pairs(fields) do s[k] = v end
  w.socks[name] = s
  return s
end

function model.actor(w, name, kind, s)
  local a = {name = name, kind = kind, s = s}
  w.actors[name] = a
  if s then s.owner = a s.mode = kind end
  return a
end

local function want(a, ...)
  a.want = {...}
  a.waits = nil
end

-- For one that waits: an outcome that is certain now, or (maybe so far) one more that is possible.
local function wake(a, matcher)
  if a.want then
    a.want[#a.want + 1] = matcher
    a.want.maybe = nil
  else
    want(a, matcher)
  end
  a.waits = nil
end

local function block(a, what, s, entry) a.want, a.waits = nil, {what = what, s = s, entry = entry} end

local function before(w, first, second) w.order[#w.order + 1] = {first.name, second.name} end

local function closed_error(s) return s.closed == "peer" and "socketclosed" or "closed" end

local function eof(s) return (s.fin or s.rst) and #s.inq == 0 end

-- What a reader is told of the end. A reset while output is under way is told to the first who asks the kernel,
-- the send or the receive; the other one sees a plain end.
local function ends(s)
  local failed = fails(s.rst and "socketreadfailed" or "socketclosed")
  return s.race and function(r) return failed(r) or r[2] == "socketclosed" and not r.raised end or failed
end

local function outstanding(s) return s.sent - s.got end

-- ---- closing ----

-- Everybody who waits on s, and what he is told; by: the actor that does it, told first.
local function tell_all(w, s, by, text)
  for _, a in pairs(w.actors) do
    if a.waits and a.waits.s == s then
      local what = a.waits.what
      if by and by ~= a and not a.want then before(w, by, a) end -- else it may be through already
      hit("A.7 close " .. what)
      if what == "accept" then wake(a, function(r) return not r.raised and r[1] == nil end)
      else wake(a, fails(text)) end
      if a.entry and a.entry.state == "pending" then a.entry.state = "cut" end
    end
  end
end

function model.shut(w, s, by, collected)
  if s.state == "closed" then return end
  if s.state == "open" and not s.rst then hit("A.5 close-delivers") end
  s.was, s.state, s.disabled, s.closed = s.state, "closed", nil, "closed"
  s.owner_left = s.owner
  if collected then return end
  tell_all(w, s, by, "closed")
end

-- The coroutine a has ended.
function model.ended(w, a)
  w.actors[a.name] = nil
  a.gone = true
  local s = a.s
  if s and s.owner == a then
    s.owner = nil
    if s.state == "unbound" then hit "A.3 return-unconnected" else hit "A.3 return-connected" end
    model.shut(w, s, nil)
  elseif s then
    hit "A.3 handed-over"
  end
end

-- ---- rules: one function for each call; a makes it on s ----

local rules = {}
model.rules = rules

function rules.read(w, a, s, op)
  if s.owner and s.owner ~= a then return want(a, raises "own coroutine") end
  if s.state == "listening" then return want(a, raises "accept") end
  if s.state == "closed" then
    hit "A.7 close later"
    return want(a, fails(closed_error(s)))
  end
  local short = op.ms and op.ms < 1000
  if s.state == "unbound" then
    if not op.ms then return want(a, fails "incorrectuse") end
    if short then return want(a, fails("timeout", function() hit "A.7 timeout read" end)) end
    return block(a, "read", s)
  end
  local late = short and fails("timeout", function() hit "A.7 timeout read" s.timed_out = true end)
  local data = is_data(s)
  if #s.inq > 0 then
    if s.fin then hit "A.7 data first" end
    if s.timed_out then hit "A.7 usable" end
    want(a, data, late or nil)
  elseif s.rst or s.fin then
    hit(s.rst and "A.7 reset later" or "A.7 fin later")
    want(a, ends(s), late or nil)
  else
    for _, other in pairs(w.actors) do
      if other ~= a and other.waits and other.waits.what == "read" and other.waits.s == s then
        return want(a, raises "busy")
      end
    end
    if short then want(a, late) else block(a, "read", s) end
  end
  s.resumed = true
end

-- A write that may have to wait: from a cosocket, or to a socket that is none.
local function write_waiting(w, a, s, op)
  local entry = {letter = op.letter, n = op.n, state = "pending", actor = a}
  local ahead, maybe = false, false
  for _, e in ipairs(s.out) do
    if e.state == "pending" then
      if e.actor.want then maybe = true else ahead = true end
    end
  end
  if s.rst then
    hit "A.7 reset later"
    entry.state = "void"
    s.out[#s.out + 1] = entry
    local failed = fails "socketwritefailed"
    if s.rst == "noticed" then return want(a, failed) end
    s.race = true
    return want(a, failed, exact(true))
  end
  s.out[#s.out + 1] = entry
  s.sent = s.sent + op.n
  a.entry = entry
  local function done(r)
    if not exact(true)(r) then return false end
    for _, e in ipairs(s.out) do -- first come first served
      if e == entry then break end
      if e.state == "pending" and not e.actor.want then return false end
    end
    entry.state, a.entry = "sure", nil
    if s.mode == "blocking" then hit "A.5 to-blocking"
    elseif a.s == s and a.kind == "r" then hit "A.5 own-r"
    elseif a.kind == "s" then hit(entry.waited and "A.5 suspends" or "A.5 cosocket") end
    if entry.behind then hit "A.5 fifo" end
    return true
  end
  entry.done = done
  if ahead or outstanding(s) > w.limits.high then
    entry.waited, entry.behind = true, ahead
    block(a, "write", s, entry)
  else
    want(a, done)
    a.waits = {what = "write", s = s, entry = entry}
    a.want.maybe = maybe or outstanding(s) > w.limits.low
    if not a.want.maybe then a.waits = nil end
  end
end

-- A write that never waits: from a non-cosocket to a cosocket. What the far end has already, the engine may not have
-- heard of yet: of that much the numbers may be larger.
local function write_queued(w, a, s, op)
  local ahead = false
  for _, e in ipairs(s.out) do ahead = ahead or e.state == "pending" and not e.actor.want end
  local outstanding_before = outstanding(s)
  local function accept(r)
    s.out[#s.out + 1] = {letter = op.letter, n = op.n, state = s.rst and "void" or "sure"}
    s.sent = s.sent + op.n
    if ahead then hit "A.5 behind-writers" end
    if r[2] then hit "A.5 queue-part" else hit "A.5 queue-true" end
    return true
  end
  want(a, function(r)
    local q = r[2]
    if r.raised then return false end
    if r[1] == nil and type(q) == "string" then
      if s.rst then hit "A.5 queue-error" end
      return s.rst and q == "socketwritefailed"
    end
    if s.rst == "noticed" then return false end
    if s.rst then -- behind what is lost already
      s.race = true
      return r[1] == nil and math.type(q) == "integer" or r[1] == true and accept(r)
    end
    if r[1] == true and r.n == 1 then return not ahead and accept(r) end
    if math.type(q) ~= "integer" or r.n ~= 2 then return false end
    if r[1] == true then -- a part was taken (then nothing was before it), or all of it fitted
      local fitted = q <= s.queuelen and q >= op.n
      local part = not ahead and q < op.n
      return q > 0 and q <= outstanding_before + op.n + w.limits.low and (fitted or part) and accept(r)
    end
    if r[1] ~= nil or q > outstanding_before + w.limits.low or q + op.n <= s.queuelen then return false end
    if not ahead and outstanding_before == 0 and q == 0 then return false end -- TCP cannot have been full
    if ahead then hit "A.5 behind-writers" end
    if s.queuelen == 0 then hit "A.5 queuelen-0" end
    hit "A.5 queue-full"
    return true
  end)
end

function rules.write(w, a, s, op)
  if s.state == "closed" then
    hit "A.5 dead" hit "A.7 close later"
    return want(a, fails(closed_error(s)))
  end
  if s.state ~= "open" then
    hit "A.5 dead"
    return want(a, fails "invalidsocketcon")
  end
  if op.n == 0 then
    hit "A.5 nothing"
    return want(a, exact(false))
  end
  if s.mode == "s" and a.kind ~= "s" then return write_queued(w, a, s, op) end
  write_waiting(w, a, s, op)
end

function rules.disable(w, a, s)
  if s.owner ~= a then -- from outside
    local reads = s.owner and s.owner.waits and s.owner.waits.what == "read" and s.owner.waits.s == s
    if not reads then
      hit "A.6 outside-refused"
      return want(a, fails "incorrectuse")
    end
    hit "A.6 outside"
    s.disabled = "outside"
    return want(a, exact(true))
  end
  if s.state == "closed" or s.state == "listening" then
    hit "A.6 after-close"
    return want(a, fails "incorrectuse")
  end
  if s.latched then
    hit "A.6 latch"
    local values = s.latched
    s.latched = nil
    return want(a, exact(table.unpack(values, 1, values.n)))
  end
  hit "A.6 self"
  if a.kind == "r" then hit "A.6 r" end
  if s.state == "unbound" then hit "A.6 unconnected" end
  s.resumed = s.state == "open" or s.resumed
  if s.state == "open" and eof(s) then
    hit(s.rst and "A.7 reset later" or "A.7 fin later")
    return want(a, ends(s))
  end
  s.disabled = "self"
  block(a, "disable", s)
end

function rules.enable(w, a, s, op)
  local o = s.owner
  if s.disabled == "outside" then
    s.disabled = nil
    if #s.inq > 0 then wake(o, is_data(s)) elseif eof(s) then wake(o, ends(s)) end
  elseif s.disabled == "self" then
    hit "A.6 values" hit "A.6 at-once"
    s.disabled = nil
    wake(o, exact(table.unpack(op.values, 1, op.values.n)))
    before(w, o, a)
  elseif o == a and s.state ~= "closed" or o == a then
    s.latched = s.latched or op.values
  elseif o and o.waits then
    hit "A.6 not-kept"
  end
  want(a, exact(true))
end

function rules.close(w, a, s)
  want(a, exact(true))
  model.shut(w, s, a)
end

function rules.queuelen(_, a, s, op)
  s.queuelen = op.n
  want(a, exact(op.n))
end

-- op: to ("live", "dead", "hole"), ms, name of the socket it makes elsewhere
function rules.connect(w, a, _, op)
  local s = a.s
  if a.kind == "s" then
    if not s or s.owner ~= a or s.state ~= "unbound" then
      hit "A.3 second-connect"
      return want(a, fails "incorrectuse")
    end
  else
    s = nil
  end
  if op.to == "dead" then
    hit "A.7 refused connect"
    return want(a, fails "cannotconnect")
  end
  if op.to == "hole" then
    if op.ms < 1000 then return want(a, fails("timeout", function() hit "A.7 timeout connect" end)) end
    if s then s.state = "connecting" end
    return block(a, "connect", s)
  end
  want(a, function(r)
    if r.raised or type(r[1]) ~= "userdata" then return false end
    if s then
      if not r.same then return false end
      hit "A.3 connect-own"
    else
      if r.same then return false end -- it has none, or another one
      hit "A.3 blocking-connect"
      s = model.sock(w, op.new, {mode = "blocking"})
    end
    s.state = "open"
    op.made = s
    return true
  end)
end

function rules.bind(w, a, _, op)
  local s = a.kind == "s" and a.s
  if a.kind == "s" and (not s or s.owner ~= a or s.state ~= "unbound") then
    hit "A.3 second-bind"
    return want(a, fails "incorrectuse")
  end
  want(a, function(r)
    if type(r[1]) ~= "userdata" or r.same ~= (s and true or nil) then return false end
    if s then hit "A.3 bind-own" else s = model.sock(w, op.new, {mode = "blocking"}) end
    s.state, s.backlog = "listening", {}
    op.made = s
    return true
  end)
end

local function take_client(w, s, op)
  return function(r)
    if r.raised or type(r[1]) ~= "userdata" or not r.port then return false end
    for i, name in ipairs(s.backlog) do
      if op.ports[name] == r.port then
        table.remove(s.backlog, i)
        op.made = model.sock(w, name, {mode = "blocking", state = "open", port = r.port})
        return true
      end
    end
    return false
  end
end

function rules.accept(w, a, s, op)
  if s.state ~= "listening" and s.state ~= "closed" then return want(a, raises "does not listen") end
  if s.state == "closed" and (not s.owner or s.owner == a) then
    return want(a, function(r) return not r.raised and r[1] == nil end)
  end
  if s.owner ~= a then return want(a, raises "own coroutine") end
  s.accepting = op
  if #s.backlog > 0 then return want(a, take_client(w, s, op)) end
  block(a, "accept", s)
end

-- A far end has connected to the listener; its socket will have this name.
function model.client(w, s, name)
  s.backlog[#s.backlog + 1] = name
  local o = s.owner
  if o and o.waits and o.waits.what == "accept" then wake(o, take_client(w, s, s.accepting)) end
end

-- a gives s to a new coroutine b. Whether that is allowed; then the caller makes b with model.actor.
function rules.event(w, a, s, op)
  if s.state == "listening" and op.mode == "s" then
    hit "A.3 event-listener"
    return want(a, raises "\"r\"")
  end
  if s.state ~= "open" and s.state ~= "listening" then
    return want(a, fails(s.state == "closed" and closed_error(s) or "incorrectuse"))
  end
  for _, other in pairs(w.actors) do
    if other.waits and other.waits.s == s and other.waits.what ~= "write" then
      hit "A.3 event-busy"
      return want(a, raises "waits")
    end
  end
  hit "A.3 at-once"
  if s.owner == a then hit "A.3 handed-over" elseif s.owner then hit "A.3 given-again" end
  s.latched = nil
  model.actor(w, op.new, op.mode, s)
  want(a, function(r) return not r.raised and r.same_target and true or false end)
  return true
end

-- ---- what the far end does ----

local function reader_of(w, s)
  for _, a in pairs(w.actors) do
    if a.waits and a.waits.s == s and a.waits.what == "read" then return a end
  end
end

function model.far_send(w, s, letter, n)
  s.inq[#s.inq + 1] = {letter = letter, n = n}
  local a = s.state == "open" and reader_of(w, s)
  if a and s.disabled ~= "outside" then wake(a, is_data(s)) end
end

-- The peer's end, clean (fin) or not.
function model.far_end(w, s, how)
  s[how] = true
  if how == "rst" then
    s.rst = s.resumed and "noticed" or "unnoticed"
    s.race = outstanding(s) > 0
  end
  if s.state ~= "open" then return end
  local name = how == "rst" and "reset" or "fin"
  local a = reader_of(w, s)
  if a and (s.disabled ~= "outside" or #s.inq == 0) then
    hit("A.7 " .. name .. " read")
    s.disabled = nil
    wake(a, ends(s))
  elseif s.disabled == "self" then
    if #s.inq == 0 or how == "rst" then
      hit("A.7 " .. name .. " disable") hit "A.6 hang-up"
      s.disabled = nil
      wake(s.owner, ends(s))
    else
      hit "A.6 unread"
    end
  end
  for _, other in pairs(w.actors) do
    if other.waits and other.waits.s == s and other.waits.what == "write" then
      if how == "fin" then
        hit "A.7 fin write" -- it goes on
      else
        hit "A.7 reset write"
        if not other.want then s.rst = "noticed" end -- TCP was full: a send is under way
        wake(other, fails "socketwritefailed")
      end
    end
  end
  if how == "rst" then
    for _, e in ipairs(s.out) do e.state = e.state == "pending" and "cut" or "void" end
  end
end

-- The far end has read these runs, a list of {letter, n}. Nil, or what is wrong.
function model.far_got(s, runs)
  for _, run in ipairs(runs) do
    local letter, n = run.letter, run.n
    while n > 0 do
      local e = s.out[s.at]
      if not e then return ("%s: %d bytes %q that nobody wrote"):format(s.name, n, letter) end
      if e.letter == letter and e.state ~= "refused" then
        local k = math.min(n, e.n - s.off)
        s.off, s.got, n = s.off + k, s.got + k, n - k
        if s.off == e.n then s.at, s.off = s.at + 1, 0 end
      elseif e.state == "void" then
        s.at, s.off = s.at + 1, 0
      else
        return ("%s: got %q where %d bytes %q (%s) are missing"):format(s.name, letter, e.n - s.off, e.letter, e.state)
      end
    end
  end
end

-- What must still arrive at the far end; behind a text that was cut nothing must.
function model.missing(s)
  local n = 0
  for i = s.at, #s.out do
    local e = s.out[i]
    if e.state == "cut" or e.state == "void" then break end
    n = n + e.n - (i == s.at and s.off or 0)
  end
  return n
end

-- The far end reads everything: whoever waits to write goes on.
function model.far_reads(w, s)
  for _, a in pairs(w.actors) do
    if a.waits and a.waits.s == s and a.waits.what == "write" then
      if a.want then a.want.maybe = nil else wake(a, a.waits.entry.done) end
      a.waits = nil
    end
  end
end

-- ---- collection ----

-- Nobody but its own coroutine holds s any more. "goes": the collector closes it; "stays".
function model.dropped(w, s)
  local o = s.owner
  if s.state == "closed" then return "gone" end
  if s.mode == "blocking" then
    hit "A.4 blocking"
    model.shut(w, s, nil, true)
    return "goes"
  end
  if s.disabled == "self" then
    hit(s.state == "open" and "A.4 disabled-connected" or "A.4 disabled-unconnected")
    hit "A.7 collected"
    model.shut(w, s, nil, true)
    w.actors[o.name] = nil
    o.gone = true
    return "goes"
  end
  if s.state == "listening" then hit "A.4 listener"
  elseif s.state == "unbound" then hit "A.4 unconnected-read"
  else hit "A.4 live" end
  return "stays"
end

-- ---- state() ----

-- The name and the second value; nil for what cannot be known.
function model.state(s)
  if s.state == "closed" then return "terminated", false end
  local connected = s.state == "open" or s.state == "listening"
  if s.state == "open" and eof(s) then
    if s.rst == "unnoticed" or not s.resumed and not s.rst then connected = nil else connected = false end
  end
  if s.disabled then return "disabled", connected end
  local o = s.owner
  if o then
    if o.want and o.want.maybe then return nil, connected end
    return o.waits and (o.waits.what == "disable" and "disabled" or o.waits.what) or "exec", connected
  end
  if s.state == "connecting" then return "connect", false end
  return nil, connected
end

return model
