/*
 * script_faults - every allocation may fail, in the script room too: small scripts that use each
 * binding, over real sockets, run again and again with the 1st, 2nd, 3rd ... allocation failing
 * until one run meets no failure. Never a crash, a leak or a wait without end; what fails is an
 * error of the script or `nil, "mem"`, or a connection ends; and the next script finds all well.
 *
 * A new binding gets a script here. Time-outs in it may be long: when nothing happens the test
 * moves the clock.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "script/cell.h"

#ifndef CS_FAULTS

int main(void)
{
    return 77; /* only builds with CS_FAULTS can make allocations fail */
}

#else

/* ---- scripts ---- */

/* Before each: `serve` and `run`, which ends the program with main's outcome. */
static const char prelude[] =
    "local function serve(f, mode)\n"
    "  local listener = assert(ba.socket.bind(0, {intf = '127.0.0.1'}))\n"
    "  listener:event(function(s)\n"
    "    for c in s.accept, s do c:event(f, mode or 's') end\n"
    "  end)\n"
    "  return listener, select(2, assert(listener:sockname()))\n"
    "end\n"
    "local function echo(s)\n"
    "  for data in s.read, s do if not s:write(data) then break end end\n"
    "end\n"
    "local function connect(port)\n"
    "  return assert(ba.socket.connect('127.0.0.1', port, {timeout = 20000}))\n"
    "end\n"
    "local function expect(s, text)\n"
    "  local got = ''\n"
    "  while #got < #text do got = got .. assert(s:read(20000)) end\n"
    "  assert(got == text)\n"
    "end\n"
    "local function await(f)\n"
    "  for i = 0, 12 do if f() then break end assert(ba.sleep(1 << i)) end\n"
    "end\n"
    "local function run(main)\n"
    "  ba.thread.run(function()\n"
    "    local ok, err = xpcall(main, debug.traceback)\n"
    "    if not ok then pcall(tracep, false, 3, err) end\n"
    "    os.exit(ok)\n"
    "  end)\n"
    "end\n";

struct script {
    const char *name, *text;
};

static const struct script scripts[] = {
    {"echo", "local listener, port = serve(echo)\n"
             "run(function()\n"
             "  local s <close> = connect(port)\n"
             "  assert(s:write('hello'))\n"
             "  expect(s, 'hello')\n"
             "  s:setoption('tcp-nodelay', true)\n"
             "  s:setoption('keepalive', true, 60, 10)\n"
             "  assert(s:peername()) assert(s:sockname())\n"
             "  assert(s:state() and tostring(s))\n"
             "  assert(s:queuelen(1000) == 1000 and not s:owner())\n"
             "  assert(s:write(12.5)) assert(s:write('abc', 2, -1))\n"
             "  expect(s, '12.5bc')\n"
             "  listener:close()\n"
             "end)\n"},
    {"cosocket", "local listener, port = serve(echo)\n"
                 "run(function()\n"
                 "  local over\n"
                 "  ba.socket.event(function(s, word)\n"
                 "    local ok, err = pcall(function()\n"
                 "      assert(ba.socket.getsock() == s and s:owner())\n"
                 "      s:read(1)\n"
                 "      assert(assert(ba.socket.connect('127.0.0.1', port)) == s)\n"
                 "      assert(s:write(word))\n"
                 "      expect(s, word)\n"
                 "      assert(not ba.socket.connect('127.0.0.1', port))\n"
                 "    end)\n"
                 "    over = ok and 'yes' or tostring(err)\n"
                 "  end, 'word')\n"
                 "  await(function() return over end)\n"
                 "  assert(over == 'yes', over or 'mem')\n"
                 "end)\n"},
    {"async", "local listener, port = serve(echo, 'r')\n"
              "run(function()\n"
              "  local got\n"
              "  local s = connect(port)\n"
              "  s:event(function(s) got = s:read(20000) or 'mem' end)\n"
              "  assert(s:write('x'))\n"
              "  await(function() return got end)\n"
              "  assert(got == 'x', got or 'mem')\n"
              "end)\n"},
    {"disable", "run(function()\n"
                "  local got\n"
                "  local s = ba.socket.event(function(s)\n"
                "    s:enable(1, 'latched')\n"
                "    assert(select('#', s:disable()) == 2)\n"
                "    got = select(3, s:disable())\n"
                "  end)\n"
                "  collectgarbage()\n"
                "  s:enable(1, 2, {}, 'x')\n"
                "  assert(type(got) == 'table', 'mem')\n"
                "end)\n"},
    {"writers", "local listener, port = serve(function(s) s:read() s:disable() end)\n"
                "run(function()\n"
                "  local s = connect(port)\n"
                "  local data, over = ('x'):rep(400000), 0\n"
                "  for _ = 1, 3 do\n"
                "    ba.thread.run(function() s:write(data) over = over + 1 end)\n"
                "  end\n"
                "  ba.sleep(10)\n"
                "  s:close()\n"
                "  ba.sleep(10)\n"
                "  local sink\n"
                "  local listener, port = serve(function(s) sink = s s:read() end)\n"
                "  local peer = connect(port)\n"
                "  await(function() return sink end)\n"
                "  assert(sink, 'mem')\n"
                "  repeat local ok, err = sink:write(data, 1, 200000) until not ok or err\n"
                "  local ok, err = sink:write('one more')\n"
                "  assert(ok or type(err) == 'number', err)\n"
                "end)\n"},
    {"websocket", "local function options(role, deflate)\n"
                  "  return {role = role, messages = true, deflate = deflate, ping = 60}\n"
                  "end\n"
                  "local deflate\n"
                  "local listener, port = serve(function(s)\n"
                  "  assert(ba.socket.websocket(s, options('server', deflate)))\n"
                  "  echo(s)\n"
                  "end)\n"
                  "run(function()\n"
                  "  for _, d in ipairs {false, {send_takeover = true}} do\n"
                  "    deflate = d or nil\n"
                  "    local s <close> = connect(port)\n"
                  "    assert(ba.socket.websocket(s, options('client', deflate)))\n"
                  "    for _, data in ipairs {'hello', ('x'):rep(20000), ''} do\n"
                  "      assert(s:write(data, true))\n"
                  "      assert(s:ping('?'))\n"
                  "      assert(assert(s:read(20000)) == data)\n"
                  "    end\n"
                  "  end\n"
                  "end)\n"},
    {"frames", "local listener, port = serve(function(s)\n"
               "  assert(ba.socket.websocket(s, {role = 'server'}))\n"
               "  echo(s)\n"
               "end)\n"
               "run(function()\n"
               "  local s <close> = connect(port)\n"
               "  assert(ba.socket.websocket(s, {role = 'client'}))\n"
               "  for i = 1, 40 do assert(s:write('frame ' .. i)) end\n"
               "  for i = 1, 40 do assert(assert(s:read(20000)) == 'frame ' .. i) end\n"
               "  assert(s:write(('y'):rep(60000)))\n"
               "  expect(s, ('y'):rep(60000))\n"
               "end)\n"},
    {"relay", "local listener, port = serve(echo)\n"
              "local bytes = 0\n"
              "local inner = assert(ba.socket.bind(0, {intf = '127.0.0.1'}))\n"
              "local inner_port = select(2, assert(inner:sockname()))\n"
              "local function tunnel(server, client)\n"
              "  if ba.socket.connect('127.0.0.1', port) then\n"
              "    local r = ba.socket.relay(client, server, {idle = 60000})\n"
              "    if r then bytes = r.a_to_b end\n"
              "  end\n"
              "  client:close()\n"
              "end\n"
              "inner:event(function(s)\n"
              "  for c in s.accept, s do ba.socket.event(tunnel, c) end\n"
              "end)\n"
              "run(function()\n"
              "  local s = connect(inner_port)\n"
              "  assert(s:write('through'))\n"
              "  expect(s, 'through')\n"
              "  s:close()\n"
              "  await(function() return bytes > 0 end)\n"
              "  assert(bytes == 7, 'mem')\n"
              "end)\n"},
    {"detached relay", "local accepted = {}\n"
                       "local listener = assert(ba.socket.bind(0, {intf = '127.0.0.1'}))\n"
                       "local port = select(2, assert(listener:sockname()))\n"
                       "listener:event(function(s)\n"
                       "  for c in s.accept, s do accepted[#accepted + 1] = c end\n"
                       "end)\n"
                       "run(function()\n"
                       "  local a, b = connect(port), connect(port)\n"
                       "  await(function() return accepted[2] end)\n"
                       "  assert(accepted[2], 'mem')\n"
                       "  local result\n"
                       "  assert(ba.socket.relay(accepted[1], accepted[2],\n"
                       "    {detach = true, on_close = function(r) result = r end}))\n"
                       "  assert(a:write('x'))\n"
                       "  expect(b, 'x')\n"
                       "  a:close() b:close()\n"
                       "  await(function() return result end)\n"
                       "  assert(result, 'mem')\n"
                       "end)\n"},
    {"threads", "run(function()\n"
                "  local t, n = ba.thread.create(), 0\n"
                "  for i = 1, 3 do t:run(function() ba.sleep(1) n = n + 1 end) end\n"
                "  ba.thread.run(function() ba.sleep(1) error('memory') end)\n"
                "  assert(#ba.thread.dbg() > 0 and #t:dbg() == 3 and ba.thread.configure(2) == 2)\n"
                "  await(function() return n == 3 end)\n"
                "  assert(n == 3, 'mem')\n"
                "end)\n"},
    {"timers", "run(function()\n"
               "  local ticks, n = 0, 0\n"
               "  local a = ba.timer(function() ticks = ticks + 1 return ticks < 3 end)\n"
               "  a:set(1)\n"
               "  local b = ba.timer(function() coroutine.yield(true) n = n + 1 end)\n"
               "  b:set(1, true, true)\n"
               "  local c = ba.timer(function() error('memory') end)\n"
               "  c:set(1, true)\n"
               "  local d = ba.timer(function() ba.sleep(1) end)\n"
               "  d:set(1000)\n"
               "  d:reset(1)\n"
               "  await(function() return n == 1 and ticks == 3 end)\n"
               "  d:cancel()\n"
               "  assert(n == 1 and ticks == 3, 'mem')\n"
               "  assert(math.type(ba.clock()) == 'integer')\n"
               "end)\n"},
    {"files", "run(function()\n"
              "  local io = assert(ba.openio('disk'))\n"
              "  io:remove('b') io:remove('a') io:rmdir('d')\n"
              "  local f = assert(io:open('a', 'w'))\n"
              "  assert(f:write('return ', 7, '\\n'))\n"
              "  f:flush() f:close()\n"
              "  assert(io:mkdir('d'))\n"
              "  assert(io:rename('a', 'b'))\n"
              "  assert(assert(io:stat('b')).size == 9) assert(io:realpath('b'))\n"
              "  local names = 0\n"
              "  for name in io:files('/', true) do names = names + (#name == 1 and name ~= '.' "
              "and 1 or 0) end\n"
              "  assert(names == 2)\n"
              "  f = assert(io:open('b'))\n"
              "  assert(assert(f:read(6)) == 'return') assert(f:seek(0))\n"
              "  assert(#assert(f:read('a')) == 9)\n"
              "  f:close()\n"
              "  assert(assert(io:loadfile('b', {}))() == 7)\n"
              "  assert(io:dofile('b') == 7)\n"
              "  assert(io:remove('b')) assert(io:rmdir('d'))\n"
              "  assert(io:type() and io:resourcetype() and tostring(io))\n"
              "end)\n"},
    {"names and numbers", "run(function()\n"
                          "  assert(assert(ba.socket.toip('127.0.0.1')) == '127.0.0.1')\n"
                          "  assert(ba.socket.toip('localhost'))\n"
                          "  assert(ba.socket.n2h(4, ba.socket.h2n(4, 7)) == 7)\n"
                          "  assert(ba.socket.fn2h(8, ba.socket.fh2n(8, 1.5)) == 1.5)\n"
                          "  assert(ba.socket.stat())\n"
                          "  trace('text', nil, {}, 1)\n"
                          "  tracep(false, 5, ('long'):rep(1000))\n"
                          "  assert(not ba.socket.connect('localhost', 1))\n"
                          "end)\n"},
    {"bytes and texts", "run(function()\n"
                        "  local a = ba.bytearray.create('hello')\n"
                        "  a[1] = {72, 69} a[1] = a\n"
                        "  assert(tostring(a) == 'HEllo')\n"
                        "  assert(ba.socket.n2h(1, a) == 72)\n"
                        "  for _, f in ipairs {ba.b64encode, ba.b64urlencode} do\n"
                        "    assert(ba.b64decode(f(a)) == 'HEllo')\n"
                        "  end\n"
                        "  assert(ba.urldecode(ba.urlencode('a b')) == 'a b')\n"
                        "  assert(ba.mime('txt') and ba.cmpaddr('::1', '0::1') and ba.version())\n"
                        "  assert(ba.rnd(5, 5) == 5 and ba.rnds(2) and #ba.rndbs(2000) == 2000)\n"
                        "  local h = ba.crypto.hash('hmac', 'sha1', 'key')\n"
                        "  assert(#h('x')('y')(true, 'hex') == 40)\n"
                        "  assert(#ba.crypto.hash('md5')(true, 'b64') == 24)\n"
                        "  local d = assert(ba.datetime('NOW')) + {days = 1}\n"
                        "  assert(d > ba.datetime('NOW') and #tostring(d) > 0 and d:date())\n"
                        "  assert(ba.parsedate(ba.encdate(5)) == 5)\n"
                        "end)\n"},
    {"certificates",
     "run(function()\n"
     "  local key = assert(ba.create.key())\n"
     "  local csr = assert(ba.create.csr(key, {commonname = 'x'}, 'x;IP:10.0.0.1', {'SSL_CA'}, "
     "{'CRL_SIGN'}))\n"
     "  local cert = assert(ba.create.certificate(csr, key, {year = 2020, month = 1},\n"
     "                                            {year = 2049, month = 1}, 1))\n"
     "  assert(tostring(assert(ba.create.sharkcert(cert, key))):find 'x')\n"
     "  local store = assert(ba.create.certstore())\n"
     "  assert(assert(store:addcert(cert)) == 1)\n"
     "  assert(assert(ba.parsecert(cert)).san[2] == 'IP:10.0.0.1')\n"
     "end)\n"},
    {"client hello",
     "local p = string.pack\n"
     "local name = p('>I2s2', 0, p('>s2', p('>Bs2', 0, 'x.example')))\n"
     "local alpn = p('>I2s2', 16, p('>s2', p('s1', 'h2')))\n"
     "local body = '\\3\\3' .. ('r'):rep(32) .. '\\0' .. p('>s2', '\\x13\\x01') .. '\\1\\0' ..\n"
     "             p('>s2', name .. alpn)\n"
     "local hello = '\\22\\3\\1' .. p('>s2', '\\1' .. p('>I3', #body) .. body)\n"
     "local listener, port = serve(echo)\n"
     "run(function()\n"
     "  local s = connect(port)\n"
     "  assert(s:write(hello:sub(1, 50)))\n"
     "  assert(not s:clienthello(1))\n"
     "  assert(s:write(hello:sub(51)))\n"
     "  local h = assert(s:clienthello(20000))\n"
     "  assert(h.sni == 'x.example' and h.alpn[1] == 'h2')\n"
     "  expect(s, hello)\n"
     "  listener:close()\n"
     "end)\n"},
    {"json", "run(function()\n"
             "  local t = {a = {1, 2.5, true, ba.json.null}, b = ('x'):rep(1000)}\n"
             "  local text = assert(ba.json.encode(t))\n"
             "  assert(assert(ba.json.decode(text)).a[2] == 2.5)\n"
             "  local p = ba.json.parser()\n"
             "  assert(p:parse('['))\n"
             "  local _, list = assert(p:parse('1][2]', true))\n"
             "  assert(list[2][1] == 2)\n"
             "  assert(not p:parse('}'))\n"
             "  assert(not ba.json.decode('{'))\n"
             "  assert(ba.json.encodestr('x') == '\\\"x\\\"')\n"
             "end)\n"},
    {"datagrams", "local server = assert(ba.socket.udpcon({port = 0, intf = '127.0.0.1'}))\n"
                  "local port = select(2, assert(server:sockname()))\n"
                  "server:event(function(s)\n"
                  "  while true do\n"
                  "    local data, ip, from = s:read(true)\n"
                  "    if not data then break end\n"
                  "    s:sendto(data, ip, from)\n"
                  "  end\n"
                  "end, 's')\n"
                  "run(function()\n"
                  "  local s = assert(ba.socket.udpcon('127.0.0.1', port))\n"
                  "  s:setoption('broadcast', true)\n"
                  "  assert(s:write('hello'))\n"
                  "  assert(assert(s:read(20000)) == 'hello')\n"
                  "  assert(s:peername() and tostring(s))\n"
                  "  s:close()\n"
                  "  server:close()\n"
                  "end)\n"},
    {"luasocket", "run(function()\n"
                  "  local try = sockcompat.newtry(function() end)\n"
                  "  local f = sockcompat.protect(function() return try(nil, 'broken') end)\n"
                  "  local ok, err = f()\n"
                  "  assert(not ok and err == 'broken', 'mem')\n"
                  "  assert(sockcompat.skip(1, 1, 2) == 2)\n"
                  "end)\n"},
    {"coroutines", "run(function()\n"
                   "  local f = coroutine.wrap(function(a)\n"
                   "    ba.sleep(1)\n"
                   "    local b = coroutine.yield(a)\n"
                   "    return pcall(error, b)\n"
                   "  end)\n"
                   "  assert(f(1) == 1)\n"
                   "  local _, err = f('caught')\n"
                   "  assert(err == 'caught', err)\n"
                   "  local co = coroutine.create(function() local x <close> = "
                   "    setmetatable({}, {__close = function() end}) coroutine.yield() end)\n"
                   "  assert(coroutine.resume(co))\n"
                   "  assert(coroutine.close(co))\n"
                   "  assert(assert(load('return ...', '=x', 't', {}))(5) == 5)\n"
                   "end)\n"},
};

/* ---- a cell, and time that passes when nothing happens ---- */

static uint64_t skew_ms;

static uint64_t skewed_clock(void)
{
    return cs_clock_ns() / 2000000 + skew_ms;
}

static struct cs_cell *cell;
static struct cs_registry *registry;
static unsigned generation;
static char folder[64];

/* What the log said since the run began. */
static unsigned script_errors;
static char unexpected[1024];

/* BoringSSL does not say that it was memory: hence the last ones. */
static bool about_memory(const char *line)
{
    static const char *const texts[] = {"memory",
                                        "mem",
                                        "timeout",
                                        "closed",
                                        "socketreadfailed",
                                        "socketwritefailed",
                                        "cannotresolve",
                                        "bind",
                                        "stack overflow",
                                        "invalidsocketcon",
                                        "cannotconnect",
                                        "failed",
                                        "invalidparam",
                                        "no certificate",
                                        "pem_"};

    for (size_t i = 0; i < CS_ARRAY_LEN(texts); i++) {
        if (strstr(line, texts[i])) {
            return true;
        }
    }
    return false;
}

static void read_log(enum cs_log_level level, const char *line, size_t len)
{
    (void)len;
    if (strncmp(line, "script error", 12) == 0) {
        script_errors++;
    }
    if (level <= CS_LOG_ERROR && !about_memory(line)) {
        (void)snprintf(unexpected, sizeof(unexpected), "%s", line);
    }
}

static int open_cell(void **state)
{
    struct cs_cell_config config = {.cpu_budget_ms = 0};
    char why[256] = "";

    (void)state;
    cs_clock_set_source(skewed_clock);
    cs_log_set_writer(read_log);
    (void)snprintf(folder, sizeof(folder), "/tmp/cosockd-faults-XXXXXX");
    if (!mkdtemp(folder)) {
        return -1;
    }
    cs_ring_config_default(&config.ring);
    cs_net_config_default(&config.net);
    config.net.log_connections = false;
    config.data_dir = folder;
    if (cs_registry_create(&registry, NULL, 0) != 0) {
        return -1;
    }
    if (cs_cell_create(&cell, &config, registry, why, sizeof(why)) != 0) {
        fprintf(stderr, "skipped: %s\n", why);
        exit(77);
    }
    return 0;
}

/* A turn. When nothing happens in it, time passes: four seconds, and twice as much each time. */
static void turn(void)
{
    static uint64_t jump_ms = 4000;

    if (cs_loop_turn(cs_cell_loop(cell), 5) > 0) {
        jump_ms = 4000;
    } else {
        skew_ms += jump_ms;
        jump_ms = CS_MIN(2 * jump_ms, 64000);
    }
}

static int close_cell(void **state)
{
    uint64_t by = skewed_clock() + 600000;

    (void)state;
    cs_cell_stop(cell);
    while (!cs_cell_finished(cell)) {
        if (skewed_clock() > by) {
            return -1;
        }
        turn();
    }
    cs_cell_destroy(cell);
    cs_registry_destroy(registry);
    cs_log_set_writer(NULL);
    return rmdir(folder);
}

/* ---- one run ---- */

enum outcome { SUCCESS, FAILURE };

struct load {
    bool over;
    int err;
};

static void loaded(void *user, unsigned number, int err, const char *errors)
{
    struct load *l = user;

    (void)number;
    l->over = true;
    l->err = err;
    if (errors && !about_memory(errors)) {
        (void)snprintf(unexpected, sizeof(unexpected), "%s", errors);
    }
}

/* Loads the script and commits it. 0, or what went wrong; then nothing of it is left. */
static int load_script(const char *text)
{
    struct cs_program_part part = {.name = "faults", .source = text};
    static char *argv[] = {NULL};
    struct cs_program program = {
        .parts = &part, .count = 1, .argv = argv, .argc = 0, .script_mode = true};
    struct load load = {.over = false};
    int err = cs_cell_load(cell, &program, ++generation, loaded, &load);

    if (err != 0) {
        return err;
    }
    while (!load.over) {
        turn();
    }
    if (load.err == 0) {
        cs_cell_commit(cell);
    }
    return load.err;
}

/* An end of both clocks: a helper thread works in real time only. After an error of the script, of
 * which its main may have been the victim, the skewed one is enough. */
struct deadline {
    uint64_t skewed_ms, real_ns;
};

static struct deadline deadline(void)
{
    return (struct deadline){skewed_clock() + 120000, cs_clock_ns() + UINT64_C(10000000000)};
}

static bool passed(const struct deadline *d)
{
    return skewed_clock() > d->skewed_ms && (script_errors > 0 || cs_clock_ns() > d->real_ns);
}

/* Until the current script has ended; false when it hangs. A script whose main was lost to an error
 * cannot end. */
static bool finish_script(int *status)
{
    struct deadline by = deadline();

    while (!cs_cell_script_done(cell, status)) {
        if (passed(&by)) {
            *status = EXIT_FAILURE;
            return script_errors > 0;
        }
        turn();
    }
    return true;
}

/* Everything of the script has to go; false when something stays. */
static bool clean_up(void)
{
    struct deadline by = deadline();
    struct cs_cell_status s;

    if (load_script("") != 0) {
        return false;
    }
    cs_cell_end_draining(cell, generation - 1);
    do {
        turn();
        cs_cell_status(cell, &s);
        if (passed(&by)) {
            fprintf(stderr, "left: %u generations, %zu connections, %u relays\n",
                    s.generation_count, s.connections, s.relays);
            return false;
        }
    } while (s.generation_count > 1 || s.connections > 0 || s.relays > 0);
    return true;
}

/* The nth allocation and `count` - 1 more fail, counted from loading on or from the commit. *met:
 * whether one was met. */
static enum outcome run_once(const struct script *s, unsigned long nth, unsigned long count,
                             bool loading, bool *met)
{
    char text[8192];
    int status = EXIT_FAILURE, err;

    (void)snprintf(text, sizeof(text), "%s%s", prelude, s->text);
    script_errors = 0;
    unexpected[0] = '\0';
    cs_mem_fail_from(loading ? nth : 0, count);
    err = load_script(text);
    if (err == 0) {
        if (!loading) {
            cs_mem_fail_from(nth, count);
        }
        if (!finish_script(&status)) {
            fail_msg("%s: hangs when allocation %lu fails (%lu)", s->name, nth, count);
        }
    }
    *met = cs_mem_failed();
    cs_mem_fail_from(0, 0);
    if (unexpected[0]) {
        fail_msg("%s: allocation %lu (%lu): %s", s->name, nth, count, unexpected);
    }
    if (!clean_up()) {
        fail_msg("%s: leaves something when allocation %lu fails (%lu)", s->name, nth, count);
    }
    return status == EXIT_SUCCESS ? SUCCESS : FAILURE;
}

/* Two in a row are what a script notices; one alone is what the engine's own memory does, with
 * Lua's emergency collection at every place in turn; many leave no memory for the error either. */
static void run_all(const struct script *s, unsigned long count, bool loading)
{
    unsigned long step = loading ? 5 : 1; /* setting up a VM is many alike */
    unsigned long n = 0, failures = 0;
    bool met = true;

    if (run_once(s, 0, 0, loading, &met) != SUCCESS) {
        fail_msg("%s: fails without a failing allocation", s->name);
    }
    do {
        n += step;
        failures += run_once(s, n, count, loading, &met) != SUCCESS;
        if (!met && run_once(s, 0, 0, loading, &met) != SUCCESS) {
            fail_msg("%s: fails after all is over", s->name);
        }
    } while (met || n < 10);
    print_message("%s: %lu allocations, %lu runs failed\n", s->name, n - step, failures);
}

/* ---- tests ---- */

static void test_running(void **state)
{
    (void)state;
    for (size_t i = 0; i < CS_ARRAY_LEN(scripts); i++) {
        run_all(&scripts[i], 1, false);
        run_all(&scripts[i], 2, false);
        run_all(&scripts[i], 20, false);
    }
}

static void test_loading(void **state)
{
    (void)state;
    run_all(&scripts[0], 2, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_running),
        cmocka_unit_test(test_loading),
    };

    return cmocka_run_group_tests(tests, open_cell, close_cell);
}

#endif
