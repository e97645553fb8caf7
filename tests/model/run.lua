-- Random sequences of API calls against the reference model of ba-api A.3 to A.7.
--
--   cosockd tests/model/run.lua control=PORT live=PORT dead=PORT hole=PORT [seed=N] [n=SEQUENCES] ...
--
-- It needs the far ends (far.lua): tests/e2e/test_model.py starts it with real ones, tests/sim/test_script.c in
-- the simulator. seed, n: N sequences from that seed on. low, high: bytes that a connection always takes, and
-- that it never takes, while the far end does not read. patience: ms. cover=1: goes on until every row of the
-- rules was hit, for n * 50 sequences at most. replay=FILE: makes the one sequence of the file. broken=NAME: the API breaks a rule
-- (broken.lua), and that must be noticed. parallel: how many sequences at the same time. verbose=1: each step to the log. stop=1: ends with the engine being stopped.
local arguments = {...}
local options = {seed = os.time(), n = 100, patience = 5000, low = 100000, high = 6000000, cover = 0, parallel = 1}
for _, word in ipairs(arguments) do
  local key, value = word:match "^(%w+)=(.*)$"
  assert(key, "what is " .. word .. "?")
  options[key] = tonumber(value) or value
end

local model = require "model"
local generate = require "generate"

-- A driver with far ends of its own: several make their sequences at the same time.
local function new_driver()
  package.loaded.drive, package.loaded.far = nil, nil
  return {drive = require "drive", far = require "far"}
end

-- ---- showing a sequence ----

local function value_text(v)
  if type(v) == "string" then return ("%q"):format(v) end
  if type(v) ~= "table" then return tostring(v) end
  local parts = {}
  for i = 1, v.n do parts[i] = value_text(v[i]) end
  parts[#parts + 1] = "n = " .. v.n
  return "{" .. table.concat(parts, ", ") .. "}"
end

local function step_text(step)
  local keys = {}
  for k in pairs(step) do if k ~= "do" then keys[#keys + 1] = k end end
  table.sort(keys)
  local parts = {('["do"] = %q'):format(step["do"])}
  for _, k in ipairs(keys) do parts[#parts + 1] = k .. " = " .. value_text(step[k]) end
  return "  {" .. table.concat(parts, ", ") .. "},"
end

local function sequence_text(list)
  local lines = {"return {"}
  for _, step in ipairs(list) do lines[#lines + 1] = step_text(step) end
  lines[#lines + 1] = "}"
  return table.concat(lines, "\n")
end

-- ---- shrinking ----

-- The shortest part of the list that still fails, found by leaving out halves, quarters ... single steps.
local function shrink(d, list, wrong)
  local chunk = #list // 2
  while chunk >= 1 do
    local at, shorter = 1, false
    while at <= #list do
      local rest = table.move(list, 1, at - 1, 1, {})
      table.move(list, at + chunk, #list, at, rest)
      local err = d.drive.sequence(rest)
      if err then list, wrong, shorter = rest, err, true else at = at + chunk end
    end
    if not shorter or chunk > #list then chunk = chunk // 2 end
  end
  return list, wrong
end

-- ---- the end of all ----

local function verdict(good, text)
  trace("model: " .. (good and "good" or "bad") .. ": " .. text)
  print((good and "ok " or "not ok ") .. text)
  os.exit(good)
end

-- The rows that nothing has hit; those of a stop are hit at the very end.
local function missing_rows(stopped)
  local missing = {}
  for _, r in ipairs(model.rows) do
    if not model.hits[r.name] and (stopped or not r.name:find "^A.7 stop") then missing[#missing + 1] = r.name end
  end
  return missing
end

local function check_rows()
  print "# rows of the rules, and how often each was hit"
  for _, r in ipairs(model.rows) do
    print(("# %7d  %-24s %s"):format(model.hits[r.name] or 0, r.name, r.text))
  end
  local missing = missing_rows(options.stop == 1)
  if #missing > 0 then verdict(false, "rows that were never hit: " .. table.concat(missing, ", ")) end
end

-- One waiter of each kind while the engine stops: each hears of it.
local function stop_all(far)
  local got, waiting = {}, 0
  local function waiter(what, expected, f)
    waiting = waiting + 1
    return function(s)
      local r = table.pack(f(s))
      waiting = waiting - 1
      if r[1] == nil and (not expected or r[2] == expected) then model.hit("A.7 stop " .. what)
      else got[#got + 1] = ("%s gave %s, %s"):format(what, tostring(r[1]), tostring(r[2])) end
    end
  end
  local function connected(f) return function(s)
    assert(ba.socket.connect("127.0.0.1", far.live, {timeout = 60000}))
    f(s)
  end end
  local socks = {
    ba.socket.event(connected(waiter("read", "sysshutdown", function(s) return s:read() end))),
    ba.socket.event(connected(waiter("disable", "sysshutdown", function(s) return s:disable() end))),
    ba.socket.event(connected(waiter("write", "sysshutdown", function(s) return s:write(("x"):rep(options.high + 1)) end))),
    ba.socket.event(waiter("connect", "sysshutdown", function() return ba.socket.connect("127.0.0.1", far.hole, {timeout = 600000}) end)),
    ba.socket.event(waiter("accept", nil, function(s) ba.socket.bind(0, {intf = "127.0.0.1"}) return s:accept() end)),
  }
  local states = {"read", "disabled", "write", "connect", "accept"}
  for i, s in ipairs(socks) do
    local deadline = ba.clock() + options.patience
    while s:state() ~= states[i] and ba.clock() < deadline do ba.sleep(1) end
    if s:state() ~= states[i] then verdict(false, "before the stop: no " .. states[i]) end
  end
  far.stop()
  repeat until not ba.sleep(1)
  for _ = 1, 1000 do
    if waiting == 0 then break end
    ba.sleep(0)
  end
  if waiting > 0 then got[#got + 1] = waiting .. " still wait" end
  if #got > 0 then verdict(false, "stopping: " .. table.concat(got, "; ")) end
end

-- ---- main ----

local function failed(d, list, wrong, at, seed)
  if options.broken then verdict(true, options.broken .. " was noticed: " .. wrong) end
  print(("not ok sequence %s, step %d: %s"):format(seed, at, wrong))
  local short, why = shrink(d, table.move(list, 1, math.min(at, #list), 1, {}), wrong)
  print("# shrunk to " .. #short .. " steps: " .. why)
  print(sequence_text(short))
  verdict(false, ("sequence %s: %s"):format(seed, why))
end

local limits = {low = options.low, high = options.high}
local next_one, working, trouble = 1, 0, false

local function is_last()
  if next_one <= options.n then return false end
  return options.cover ~= 1 or #missing_rows(false) == 0 or next_one > options.n * 50
end

-- Takes one sequence after the other; after some of them nothing may be left of its own.
local function work(d)
  local since = 0
  while not is_last() and not trouble do
    local seed = options.seed + next_one - 1
    next_one = next_one + 1
    local list = generate(seed, limits, d.drive.depths)
    local wrong, at = d.drive.sequence(list)
    since = since + 1
    if not wrong and (since % 10 == 0 or is_last()) then wrong, at = d.drive.nothing_left(), #list end
    if wrong and not trouble then
      trouble = true
      failed(d, list, wrong, at, seed)
    end
  end
  working = working - 1
end

local function main()
  local drivers = {}
  for i = 1, options.parallel do
    local d = new_driver()
    drivers[i] = d
    d.far.open {control = options.control, live = options.live, dead = options.dead, hole = options.hole}
    d.drive.setup {patience = options.patience, far = d.far, limits = limits}
    if options.verbose then d.drive.tracing = function(k, step) trace(i, k, step_text(step)) end end
  end
  if options.broken then require "broken"(options.broken) end
  local sockets = ba.socket.stat()
  if options.replay then
    local list = assert(loadfile(options.replay))()
    local wrong, at = drivers[1].drive.sequence(list)
    verdict(not wrong, wrong and ("step %d: %s"):format(at, wrong) or "replayed")
  end
  working = #drivers
  for _, d in ipairs(drivers) do ba.thread.run(function() work(d) end) end
  while working > 0 do ba.sleep(1) end
  if options.broken then verdict(false, options.broken .. " was not noticed") end
  local deadline = ba.clock() + options.patience
  while ba.socket.stat() > sockets and ba.clock() < deadline do ba.sleep(1) end
  if ba.socket.stat() > sockets then verdict(false, ba.socket.stat() - sockets .. " sockets stay open") end
  if options.stop == 1 then stop_all(drivers[1].far) end
  if options.cover == 1 then check_rows() end
  verdict(true, next_one - 1 .. " sequences from seed " .. options.seed)
end

ba.thread.run(main)
