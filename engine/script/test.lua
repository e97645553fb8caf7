-- cosockd test: runs test files and reports in TAP. The chunk gets what only the engine knows (bind_test.c) and
-- the words of the command line.
--
-- The files are loaded by this start-up chunk, one after the other, each with globals of its own. Then every test
-- is a job, and between two tests runs another one, which looks at what the test has left behind.
local engine = ...

local USAGE = [[
usage: cosockd test [-f PATTERN] [-t MS] FILE...

  -f, --filter PATTERN  only tests whose name contains this (a Lua pattern)
  -t, --timeout MS      a test fails after so long; default 10000

Exit status: 0 all passed; 1 a test failed, or a file; 64 nothing to run.
]]

local SETTLE_MS = 2000 -- what a test has started may take so long to end

local tests, passed, failed, skipped = {}, 0, 0, 0
local filter, timeout, files = nil, 10000, {}

local function say(text)
  io.stdout:write(text, "\n")
  io.stdout:flush()
end

local function note(text)
  say("# " .. tostring(text):gsub("\n", "\n# "))
end

-- A test that ends the process would hide the others.
local exit = os.exit
function os.exit() error("os.exit in a test", 2) end

local function usage(why)
  io.stderr:write("cosockd test: ", why, "\n", USAGE)
  exit(64)
end

-- An error or a place, with a traceback without the frames of this file.
local function with_traceback(text, trace)
  local lines = {text}
  for line in trace:gmatch("[^\n]+") do
    if line:find("^\t") and not line:find("cosockd test:", 1, true) and not line:find("[C]: in function 'xpcall'", 1, true) and
       not line:find("[C]: in function 'error'", 1, true) then
      table.insert(lines, line)
    end
  end
  return table.concat(lines, "\n")
end

local function describe_error(err) return with_traceback(tostring(err), debug.traceback("", 2)) end

-- ---- what a file may call ----

local SKIP = {}

local function checked(f, what)
  if type(f) ~= "function" then error(what .. ": function expected, got " .. type(f), 3) end
  return f
end

local function new_group(outer, name)
  return {outer = outer, name = outer and outer.name .. name .. " " or "", before = {}, after = {}}
end

local group -- the one that is being described

-- Ends the running test: it cannot be done here.
function skip(why) error(setmetatable({why = why or ""}, SKIP), 0) end

function describe(name, f)
  checked(f, "describe")
  local outer = group
  group = new_group(outer, tostring(name))
  f()
  group = outer
end

-- Without a function: not written yet. options: `timeout` in ms; `cosocket`: f runs as one and gets its socket.
function it(name, f, options)
  if f ~= nil then checked(f, "it") end
  options = options or {}
  if type(options) ~= "table" then error("it: options: expected a table, got " .. type(options), 2) end
  for key in pairs(options) do
    if key ~= "timeout" and key ~= "cosocket" then error(("it: unknown option %q"):format(tostring(key)), 2) end
  end
  local limit = options.timeout
  if limit ~= nil and not (type(limit) == "number" and limit >= 1) then
    error("it: option timeout: expected milliseconds, at least 1, got " .. tostring(limit), 2)
  end
  table.insert(tests, {name = group.name .. tostring(name), f = f, group = group, timeout = options.timeout,
                       start = options.cosocket and ba.socket.event or ba.thread.run})
end

function before_each(f) table.insert(group.before, checked(f, "before_each")) end
function after_each(f) table.insert(group.after, checked(f, "after_each")) end

-- ---- files ----

-- Global functions of a file that are named test*, in the order of the text.
local function add_functions(env)
  local found = {}
  for name, f in pairs(env) do
    if type(name) == "string" and name:find("^test") and type(f) == "function" then
      table.insert(found, {name = name, f = f, line = debug.getinfo(f, "S").linedefined})
    end
  end
  table.sort(found, function(a, b) return a.line < b.line end)
  for _, test in ipairs(found) do it(test.name, test.f) end
end

-- Modules are found beside the file and in its lib/.
local function add_path(dir)
  local path = ("%s/?.lua;%s/?/init.lua;%s/lib/?.lua;"):format(dir, dir, dir)
  if not package.path:find(path, 1, true) then package.path = path .. package.path end
end

-- A file that cannot be loaded is a test that fails.
local function load_file(file)
  local env = setmetatable({arg = {[0] = file}}, {__index = _G})
  add_path(file:match("^(.*)/[^/]*$") or ".")
  group = new_group()
  local first = #tests + 1
  local chunk, err = loadfile(file, "t", env)
  if chunk and xpcall(chunk, function(e) err = describe_error(e) end) then
    add_functions(env)
  else
    table.insert(tests, first, {name = file, f = function() error(err, 0) end, group = new_group(), broken = true,
                                start = ba.thread.run})
  end
end

-- ---- what a test leaves behind ----

-- The tasks by coroutine, weakly: a task in disable() may be collected.
local function look()
  local sockets, listeners, relays, timers = engine.counts()
  return {tasks = setmetatable(engine.tasks(), {__mode = "k"}), sockets = sockets, listeners = listeners, relays = relays, timers = timers}
end

local KINDS = {"sockets", "listeners", "relays", "timers"}

-- Lines about what is there now and was not before.
local function left_since(before)
  local now, lines = look(), {}
  for co, what in pairs(now.tasks) do
    if not before.tasks[co] and co ~= coroutine.running() then table.insert(lines, what) end
  end
  table.sort(lines)
  for _, kind in ipairs(KINDS) do
    local n = now[kind] - before[kind]
    if n > 0 then table.insert(lines, n .. " " .. kind) end
  end
  return lines
end

-- Closing takes a moment; what nobody refers to any more goes with the collector.
local function leaks(before)
  local by, pause = ba.clock() + SETTLE_MS, 1
  while true do
    collectgarbage()
    local lines = left_since(before)
    if #lines == 0 or ba.clock() >= by then return lines end
    ba.sleep(pause)
    pause = math.min(2 * pause, 100)
  end
end

-- ---- running ----

local function run_hooks(group, kind)
  if group.outer and kind == "before" then run_hooks(group.outer, kind) end
  for _, f in ipairs(group[kind]) do f() end
  if group.outer and kind == "after" then run_hooks(group.outer, kind) end
end

-- Notes the first thing that goes wrong, at once: an overrun of the CPU budget ends the coroutine soon after.
local function guarded(test, f, ...)
  xpcall(f, function(e)
    test.err = test.err or (getmetatable(e) == SKIP and e) or (test.broken and tostring(e)) or describe_error(e)
  end, ...)
end

local function tidy(test)
  test.tidied = true
  guarded(test, run_hooks, test.group, "after")
end

local function perform(test, ...)
  guarded(test, function(...)
    run_hooks(test.group, "before")
    test.f(...)
  end, ...)
  tidy(test)
end

local function report(n, test, leaked)
  local err, ms = test.err, ba.clock() - test.began
  local slow = ms > 1000 and (" # %d ms"):format(ms) or ""
  if getmetatable(err) == SKIP then
    skipped = skipped + 1
    return say(("ok %d - %s # SKIP %s"):format(n, test.name, err.why))
  end
  local good = not err and #leaked == 0
  passed, failed = passed + (good and 1 or 0), failed + (good and 0 or 1)
  say(("%s %d - %s%s"):format(good and "ok" or "not ok", n, test.name, slow))
  if err then note(err) end
  for _, line in ipairs(leaked) do note("left behind: " .. line) end
end

local function finish(began)
  say(("1..%d"):format(#tests))
  say(("# %d passed, %d failed, %d skipped, %d ms"):format(passed, failed, skipped, ba.clock() - began))
  exit(failed == 0)
end

local began
local run_next

-- Runs f as `start` does for at most ms; then done(err): nil, or what has ended it, the CPU budget for one.
local function limited(start, f, ms, done)
  local over, job, late, watchdog = false, nil, nil, nil
  local function ended(err)
    if over then return end
    over = true
    watchdog:cancel()
    done(err)
  end
  watchdog = ba.timer(function()
    late = ("did not end within %d ms"):format(ms)
    if job then
      late = with_traceback(late .. ", waits at", debug.traceback(job))
      engine.kill(job) -- closes `last`
    end
    ended(late)
  end)
  watchdog:set(ms, true)
  start(function(...)
    job = coroutine.running()
    local last <close> = setmetatable({}, {__close = function(_, err) ended(late or err) end})
    f(...)
  end)
end

-- In a job of its own: the test's has ended by then.
local function conclude(n, test, before)
  ba.thread.run(function()
    report(n, test, leaks(before))
    run_next(n + 1)
  end)
end

local function start(n, test)
  local before = look()
  test.began = ba.clock()
  limited(test.start, function(...) perform(test, ...) end, test.timeout or timeout, function(err)
    test.err = test.err or err
    if test.tidied then return conclude(n, test, before) end
    limited(ba.thread.run, function() tidy(test) end, timeout, function(late)
      test.err = test.err or late
      conclude(n, test, before)
    end)
  end)
end

function run_next(n)
  local test = tests[n]
  if not test then return finish(began) end
  if not test.f then
    skipped = skipped + 1
    say(("ok %d - %s # SKIP"):format(n, test.name))
    return run_next(n + 1)
  end
  start(n, test)
end

-- ---- the command line ----

local words, i = {select(2, ...)}, 1

local function value(option)
  i = i + 1
  return words[i] or usage("option " .. option .. " needs a value")
end

while words[i] do
  local word = words[i]
  if word == "-f" or word == "--filter" then
    filter = value(word)
  elseif word == "-t" or word == "--timeout" then
    timeout = math.tointeger(tonumber(value(word))) or 0
    if timeout < 1 then usage("option " .. word .. ": a number of milliseconds expected") end
  elseif word == "-h" or word == "--help" then
    io.stdout:write(USAGE)
    exit(0)
  elseif word:find("^%-.") then
    usage("unknown option " .. word)
  else
    table.insert(files, word)
  end
  i = i + 1
end

if not files[1] then usage("no FILE") end
if filter and not pcall(string.find, "", filter) then usage("-f " .. filter .. ": malformed pattern") end
for _, file in ipairs(files) do
  local f, err = io.open(file)
  if not f then usage(err) end
  f:close()
end
for _, file in ipairs(files) do load_file(file) end
if filter then
  local some = {}
  for _, test in ipairs(tests) do
    if test.broken or test.name:find(filter) then table.insert(some, test) end
  end
  tests = some
end
if not tests[1] then usage(filter and "no test is named like " .. filter or "no tests") end
say("TAP version 13")
began = ba.clock()
ba.thread.run(function() run_next(1) end)
