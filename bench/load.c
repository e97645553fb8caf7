/*
 * cosock-load - load for cosockd and its peers, as clients in front of them and as the origin
 * behind them.
 *
 *   sink   the origin: echoes, checks uploads, sends downloads
 *   hold   opens N connections, verifies each by an echo, holds them, verifies each again, closes
 *   rr     request and response over C connections
 *   bulk   S streams up, down or both, checked byte by byte
 *   rate   connect, one request, close
 *   slow   C downloads that are read at a trickle, or not at all, and then to their end
 *
 * Prints one JSON object a line; hold and slow print one per phase, the last line is always the
 * result. Loads nothing but 127.0.0.0/8 and ::1, and ends by itself.
 */
#include "load.h"

#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char usage_text[] =
    "usage: cosock-load MODE --to ADDRESS [options]\n"
    "\n"
    "modes: sink, hold, rr, bulk, rate, slow\n"
    "\n"
    "  --to HOST:PORT[-PORT]  where the proxy listens (sink: where to listen); may be repeated\n"
    "  --from HOST[-HOST]     source addresses, used in turn\n"
    "  -c, --connections N    connections, streams of bulk (default 1)\n"
    "  --procs N              processes (default: as many as RLIMIT_NOFILE makes necessary)\n"
    "  --size N               bytes of a message (default 100)\n"
    "  --seconds S            how long hold holds, rr and rate run, slow reads slowly (default 3)\n"
    "  --warmup S             rr, rate: seconds before that which do not count (default 0)\n"
    "  --count N              rr, rate: end after N instead\n"
    "  --pipeline N           rr: requests under way at once in each connection (default 1)\n"
    "  --rate N               rr: N requests a second by the clock; late ones count from when they "
    "were due\n"
    "  --mib N, --gib N       bulk, slow: amount over all streams, each way\n"
    "  --way up|down|both     bulk: from the client's point of view (default up)\n"
    "  --trickle N            slow: bytes a second that each connection reads (default 0)\n"
    "  --websocket            clients speak WebSocket: a message is a masked frame\n"
    "  --tls                  clients speak TLS and verify nobody\n"
    "  --resume               --tls: with the session of an earlier connection\n"
    "  --udp                  hold, rr, rate, sink: datagrams\n"
    "  --window N             connections being opened or verified at once, per process (default "
    "256)\n"
    "  --preface TEXT         what each connection says first, and gets no answer to\n"
    "  --wait                 hold, slow: until a line on standard input, and another before "
    "closing; at "
    "most --seconds\n"
    "  --cpu-pid PID          measure the CPU time of this process and its children; may be "
    "repeated\n"
    "  --limit S              seconds that opening, verifying or a bulk transfer may take (default "
    "60)\n"
    "  --alarm S              the program dies after this, whatever happens (default: sink 900, "
    "others a minute after all that --seconds and --limit allow)\n"
    "\n"
    "Exit status: 0 all verified, 1 something failed, was lost or differed, 2 usage.\n";

static struct load_options options = {
    .connections = 1,
    .size = 100,
    .seconds = 3,
    .limit = 60,
    .window = 256,
    .pipeline = 1,
    .way = LOAD_UP,
    .bytes = (uint64_t)64 << 20,
};

enum { UDP_MAX = 65507 };

static struct load_shared *shared;
static volatile sig_atomic_t stopped;

/* ---- options
 * ----------------------------------------------------------------------------------------- */

static double number(const char *text, double low, double high)
{
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || !(value >= low && value <= high)) {
        load_die("'%s': wanted a number from %g to %g", text, low, high);
    }
    return value;
}

static enum load_way way_of(const char *text)
{
    if (strcmp(text, "up") == 0) {
        return LOAD_UP;
    }
    if (strcmp(text, "down") == 0) {
        return LOAD_DOWN;
    }
    if (strcmp(text, "both") == 0) {
        return LOAD_BOTH;
    }
    load_die("'%s': wanted up, down or both", text);
}

static enum load_mode mode_of(const char *text)
{
    static const char *const names[] = {"sink", "hold", "rr", "bulk", "rate", "slow"};
    for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            return (enum load_mode)i;
        }
    }
    fputs(usage_text, stderr);
    exit(2);
}

enum {
    OPT_TO = 256,
    OPT_FROM,
    OPT_PROCS,
    OPT_SIZE,
    OPT_SECONDS,
    OPT_WARMUP,
    OPT_COUNT,
    OPT_PIPELINE,
    OPT_RATE,
    OPT_MIB,
    OPT_GIB,
    OPT_WAY,
    OPT_TRICKLE,
    OPT_WEBSOCKET,
    OPT_TLS,
    OPT_RESUME,
    OPT_UDP,
    OPT_WINDOW,
    OPT_PREFACE,
    OPT_WAIT,
    OPT_PID,
    OPT_LIMIT,
    OPT_ALARM,
};

static const struct option long_options[] = {
    {"to", 1, 0, OPT_TO},
    {"from", 1, 0, OPT_FROM},
    {"connections", 1, 0, 'c'},
    {"procs", 1, 0, OPT_PROCS},
    {"size", 1, 0, OPT_SIZE},
    {"seconds", 1, 0, OPT_SECONDS},
    {"warmup", 1, 0, OPT_WARMUP},
    {"count", 1, 0, OPT_COUNT},
    {"pipeline", 1, 0, OPT_PIPELINE},
    {"rate", 1, 0, OPT_RATE},
    {"mib", 1, 0, OPT_MIB},
    {"gib", 1, 0, OPT_GIB},
    {"way", 1, 0, OPT_WAY},
    {"window", 1, 0, OPT_WINDOW},
    {"preface", 1, 0, OPT_PREFACE},
    {"wait", 0, 0, OPT_WAIT},
    {"cpu-pid", 1, 0, OPT_PID},
    {"limit", 1, 0, OPT_LIMIT},
    {"trickle", 1, 0, OPT_TRICKLE},
    {"websocket", 0, 0, OPT_WEBSOCKET},
    {"tls", 0, 0, OPT_TLS},
    {"resume", 0, 0, OPT_RESUME},
    {"udp", 0, 0, OPT_UDP},
    {"alarm", 1, 0, OPT_ALARM},
    {"help", 0, 0, 'h'},
    {NULL, 0, 0, 0},
};

static void set_option(struct load_options *o, int option, const char *value)
{
    switch (option) {
    case OPT_TO:
        load_parse_addrs(&o->to, value, true);
        break;
    case OPT_FROM:
        load_parse_addrs(&o->from, value, false);
        break;
    case 'c':
        o->connections = (unsigned)number(value, 1, 1e6);
        break;
    case OPT_PROCS:
        o->procs = (unsigned)number(value, 1, LOAD_PROCS_MAX);
        break;
    case OPT_SIZE:
        o->size = (size_t)number(value, 1, 1 << 30);
        break;
    case OPT_SECONDS:
        o->seconds = number(value, 0, 86400);
        break;
    case OPT_WARMUP:
        o->warmup = number(value, 0, 3600);
        break;
    case OPT_COUNT:
        o->count = (uint64_t)number(value, 1, 1e15);
        break;
    case OPT_PIPELINE:
        o->pipeline = (unsigned)number(value, 1, LOAD_PIPELINE_MAX);
        break;
    case OPT_RATE:
        o->rate = number(value, 1, 1e8);
        break;
    case OPT_MIB:
        o->bytes = (uint64_t)(number(value, 0.001, 1e9) * (1 << 20));
        break;
    case OPT_GIB:
        o->bytes = (uint64_t)(number(value, 0.001, 1e6) * (1 << 30));
        break;
    case OPT_WAY:
        o->way = way_of(value);
        break;
    case OPT_TRICKLE:
        o->trickle = number(value, 0, 1e9);
        break;
    case OPT_WEBSOCKET:
        o->websocket = true;
        break;
    case OPT_TLS:
        o->tls = true;
        break;
    case OPT_RESUME:
        o->resume = true;
        break;
    case OPT_UDP:
        o->udp = true;
        break;
    case OPT_WINDOW:
        o->window = (unsigned)number(value, 1, 1e6);
        break;
    case OPT_PREFACE:
        o->preface = value;
        break;
    case OPT_WAIT:
        o->wait = true;
        break;
    case OPT_PID:
        if (o->pid_count == LOAD_PIDS_MAX) {
            load_die("more than %d processes to measure", LOAD_PIDS_MAX);
        }
        o->pids[o->pid_count++] = (int)number(value, 1, 1 << 30);
        break;
    case OPT_LIMIT:
        o->limit = number(value, 0.1, 86400);
        break;
    case OPT_ALARM:
        o->alarm_s = (unsigned)number(value, 1, 864000);
        break;
    case 'h':
        fputs(usage_text, stdout);
        exit(0);
    default:
        fputs(usage_text, stderr);
        exit(2);
    }
}

static void check_datagrams(const struct load_options *o)
{
    bool stream = o->mode == LOAD_BULK || o->mode == LOAD_SLOW;
    if (o->udp && (stream || o->tls || o->websocket || o->pipeline > 1 || o->size > UDP_MAX)) {
        load_die("--udp: hold, rr or rate with one message of up to %d bytes at a time", UDP_MAX);
    }
}

static void parse(struct load_options *o, int argc, char **argv)
{
    int c;
    if (argc < 2) {
        fputs(usage_text, stderr);
        exit(2);
    }
    if (argv[1][0] != '-') {
        o->mode = mode_of(argv[1]);
        argc--;
        argv++;
    }
    while ((c = getopt_long(argc, argv, "c:h", long_options, NULL)) != -1) {
        set_option(o, c, optarg);
    }
    if (optind != argc || o->to.count == 0) {
        load_die("wanted --to and nothing but options after the mode");
    }
    if (o->bytes < o->connections) {
        load_die("less than a byte per stream");
    }
    if (o->mode == LOAD_SLOW) {
        o->way = LOAD_DOWN;
    }
    check_datagrams(o);
    if (o->rate > 0 && o->pipeline > 1) {
        load_die("--rate has one request under way in a connection: not with --pipeline");
    }
    if (o->alarm_s == 0) {
        double phases = 2 * o->seconds + o->warmup + 3 * o->limit;
        o->alarm_s = o->mode == LOAD_SINK ? 900 : (unsigned)phases + 60;
    }
    unsigned per_process = load_descriptors();
    if (o->procs == 0) {
        o->procs = o->mode == LOAD_SINK ? 1 : (o->connections + per_process - 1) / per_process;
    }
    if (o->procs > o->connections && o->mode != LOAD_SINK) {
        o->procs = o->connections;
    }
    if (o->procs > LOAD_PROCS_MAX) {
        load_die("%u connections need more than %d processes", o->connections, LOAD_PROCS_MAX);
    }
}

/* ---- children
 * ---------------------------------------------------------------------------------------- */

static void on_signal(int sig)
{
    (void)sig;
    stopped = 1;
}

static void start_children(const struct load_options *o, const int *listeners)
{
    shared->procs = o->procs;
    shared->record_ns = UINT64_MAX;
    fflush(stdout);
    for (unsigned i = 0; i < o->procs; i++) {
        struct load_child *child = &shared->child[i];
        pid_t parent = getpid();
        pid_t pid = fork();
        if (pid < 0) {
            load_die("fork: %s", strerror(errno));
        }
        if (pid > 0) {
            child->pid = pid; /* shared memory: the child must not write its 0 here */
        } else {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() != parent) {
                _exit(1);
            }
            signal(SIGINT, SIG_IGN); /* the parent decides */
            signal(SIGTERM, SIG_DFL);
            if (o->mode == LOAD_SINK) {
                load_sink_child(o, shared, child, listeners);
            } else {
                load_client_child(o, shared, child, i);
            }
            _exit(0);
        }
    }
}

static uint64_t sum(size_t offset)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < shared->procs; i++) {
        total += *(_Atomic uint64_t *)((char *)&shared->child[i] + offset);
    }
    return total;
}
#define SUM(field) sum(offsetof(struct load_child, field))

static void rest(uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    nanosleep(&t, NULL);
}

/* False when a child died. */
static bool children_live(void)
{
    for (unsigned i = 0; i < shared->procs; i++) {
        struct load_child *child = &shared->child[i];
        int status;
        if (!child->exited && waitpid(child->pid, &status, WNOHANG) == child->pid) {
            child->exited = true;
        }
        if (child->exited && child->finished < LOAD_END) {
            load_note(child, "a process of the load died");
            return false;
        }
    }
    return true;
}

static bool finished(int phase)
{
    for (unsigned i = 0; i < shared->procs; i++) {
        if (shared->child[i].finished < phase) {
            return false;
        }
    }
    return true;
}

/* Waits until all children have finished the phase. False when they did not in time. */
static bool await(int phase, double seconds)
{
    uint64_t end = load_now_ns() + (uint64_t)(seconds * 1e9);
    for (unsigned i = 0; !finished(phase); i++) {
        if (load_now_ns() > end || stopped || (i % 64 == 0 && !children_live())) {
            return false;
        }
        rest(1000000);
    }
    return true;
}

static void end_children(void)
{
    shared->phase = LOAD_CLOSE;
    await(LOAD_END, 10);
    for (unsigned i = 0; i < shared->procs; i++) {
        if (!shared->child[i].exited) {
            kill(shared->child[i].pid, SIGKILL);
            waitpid(shared->child[i].pid, NULL, 0);
        }
    }
}

/* ---- what was seen
 * ----------------------------------------------------------------------------------- */

struct snapshot {
    uint64_t ns, cpu_ns, done, bytes;
};

static struct snapshot snapshot(const struct load_options *o)
{
    struct snapshot s = {.ns = load_now_ns(), .done = SUM(done), .bytes = SUM(bytes)};
    s.cpu_ns = load_cpu_ns(o->pids, o->pid_count);
    return s;
}

static const char *first_note(void)
{
    for (unsigned i = 0; i < shared->procs; i++) {
        if (shared->child[i].note[0] != '\0') {
            return shared->child[i].note;
        }
    }
    return "";
}

static void print_latencies(void)
{
    static struct load_hist all;
    for (unsigned i = 0; i < shared->procs; i++) {
        load_hist_merge(&all, &shared->child[i].hist);
    }
    if (load_hist_total(&all) == 0) {
        return;
    }
    printf(", \"latency_us\": {\"p50\": %.1f, \"p90\": %.1f, \"p99\": %.1f, \"p99.9\": %.1f, "
           "\"max\": %.1f}",
           (double)load_hist_percentile(&all, 50) / 1e3,
           (double)load_hist_percentile(&all, 90) / 1e3,
           (double)load_hist_percentile(&all, 99) / 1e3,
           (double)load_hist_percentile(&all, 99.9) / 1e3,
           (double)load_hist_percentile(&all, 100) / 1e3);
}

static void print_event(const char *event, uint64_t since)
{
    printf("{\"event\": \"%s\", \"seconds\": %.3f, \"opened\": %llu, \"verified\": %llu, "
           "\"reverified\": %llu, \"lost\": %llu, \"failed\": %llu}\n",
           event, (double)(load_now_ns() - since) / 1e9, (unsigned long long)SUM(opened),
           (unsigned long long)SUM(verified), (unsigned long long)SUM(reverified),
           (unsigned long long)SUM(lost), (unsigned long long)SUM(failed));
    fflush(stdout);
}

/* The last line. Returns the exit status. */
static int print_result(const struct load_options *o, const char *mode, const struct snapshot *a,
                        const struct snapshot *b, bool complete)
{
    bool ok = complete && SUM(bad) == 0 && SUM(lost) == 0 && SUM(failed) == 0;
    double seconds = (double)(b->ns - a->ns) / 1e9;
    printf("{\"event\": \"result\", \"mode\": \"%s\", \"ok\": %s, \"connections\": %u, "
           "\"seconds\": %.6f",
           mode, ok ? "true" : "false", o->connections, seconds);
    printf(", \"opened\": %llu, \"verified\": %llu, \"reverified\": %llu, \"lost\": %llu, "
           "\"failed\": %llu, \"bad\": %llu",
           (unsigned long long)SUM(opened), (unsigned long long)SUM(verified),
           (unsigned long long)SUM(reverified), (unsigned long long)SUM(lost),
           (unsigned long long)SUM(failed), (unsigned long long)SUM(bad));
    printf(", \"count\": %llu, \"bytes\": %llu", (unsigned long long)(b->done - a->done),
           (unsigned long long)(b->bytes - a->bytes));
    if (o->pid_count > 0) {
        printf(", \"cpu_ns\": %llu", (unsigned long long)(b->cpu_ns - a->cpu_ns));
    }
    if (o->tls) {
        printf(", \"resumed\": %llu", (unsigned long long)SUM(resumed));
    }
    print_latencies();
    printf(", \"note\": \"%s\"}\n", first_note());
    fflush(stdout);
    return ok ? 0 : 1;
}

/* ---- modes
 * ------------------------------------------------------------------------------------------- */

static void hold(const struct load_options *o)
{
    uint64_t end = load_now_ns() + (uint64_t)(o->seconds * 1e9);
    for (unsigned i = 0; !stopped && children_live(); i++) {
        uint64_t now = load_now_ns();
        if (now >= end) {
            return;
        }
        uint64_t ms = (end - now) / 1000000 + 1;
        struct pollfd in = {.fd = o->wait ? STDIN_FILENO : -1, .events = POLLIN};
        char line[64];
        if (poll(&in, 1, ms > 100 ? 100 : (int)ms) > 0 &&
            read(STDIN_FILENO, line, sizeof(line)) >= 0) {
            return; /* also at its end */
        }
    }
}

static int run_hold(const struct load_options *o, const char *mode)
{
    bool slow = o->mode == LOAD_SLOW;
    struct snapshot a = snapshot(o);
    shared->phase = LOAD_OPEN;
    bool complete = await(LOAD_OPEN, o->limit);
    print_event("opened", a.ns);
    shared->phase = LOAD_RUN;
    hold(o);
    print_event("held", a.ns);
    shared->phase = LOAD_VERIFY;
    complete = await(LOAD_VERIFY, o->limit) && complete;
    complete = complete && (slow ? SUM(done) : SUM(reverified)) == o->connections;
    complete = complete && (slow || SUM(verified) == o->connections);
    struct snapshot b = snapshot(o);
    print_event("reverified", a.ns);
    if (o->wait) {
        hold(o);
    }
    end_children();
    return print_result(o, mode, &a, &b, complete);
}

/* Lets rr or rate run for a while and looks at its beginning and end. */
static int run_for(const struct load_options *o, const char *mode)
{
    shared->phase = LOAD_OPEN;
    bool complete = await(LOAD_OPEN, o->limit);
    shared->begin_ns = load_now_ns();
    struct snapshot a = snapshot(o);
    if (o->warmup > 0) {
        shared->phase = LOAD_RUN;
        rest((uint64_t)(o->warmup * 1e9));
        a = snapshot(o);
    }
    shared->record_ns = load_now_ns();
    shared->phase = LOAD_RUN;
    if (o->count > 0) {
        complete = await(LOAD_RUN, o->limit) && complete;
    } else {
        await(LOAD_RUN, o->seconds); /* reached only when no connection is left */
    }
    struct snapshot b = snapshot(o);
    shared->phase = LOAD_VERIFY;
    complete = await(LOAD_VERIFY, o->limit) && complete;
    end_children();
    return print_result(o, mode, &a, &b, complete && b.done > a.done);
}

static int run_bulk(const struct load_options *o)
{
    shared->phase = LOAD_OPEN;
    bool complete = await(LOAD_OPEN, o->limit);
    struct snapshot a = snapshot(o);
    shared->phase = LOAD_RUN;
    complete = await(LOAD_RUN, o->limit) && complete;
    struct snapshot b = snapshot(o);
    end_children();
    return print_result(o, "bulk", &a, &b, complete && SUM(done) == o->connections);
}

static int run_sink(const struct load_options *o)
{
    printf("{\"event\": \"ready\", \"pid\": %d}\n", getpid());
    fflush(stdout);
    while (!stopped && children_live()) {
        rest(50000000);
    }
    end_children();
    bool ok = SUM(bad) == 0;
    printf("{\"event\": \"result\", \"mode\": \"sink\", \"ok\": %s, \"accepted\": %llu, "
           "\"closed\": %llu, "
           "\"bytes\": %llu, \"bad\": %llu, \"note\": \"%s\"}\n",
           ok ? "true" : "false", (unsigned long long)SUM(accepted),
           (unsigned long long)SUM(closed), (unsigned long long)SUM(bytes),
           (unsigned long long)SUM(bad), first_note());
    (void)o;
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    static int listeners[LOAD_ADDRS_MAX];
    struct load_options *o = &options;
    parse(o, argc, argv);
    load_stream_init();
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        load_die("mmap: %s", strerror(errno));
    }
    signal(SIGPIPE, SIG_IGN);
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    alarm(o->alarm_s);
    if (o->mode == LOAD_SINK) {
        load_sink_listen(o, listeners);
    }
    start_children(o, listeners);
    switch (o->mode) {
    case LOAD_SINK:
        return run_sink(o);
    case LOAD_HOLD:
        return run_hold(o, "hold");
    case LOAD_SLOW:
        return run_hold(o, "slow");
    case LOAD_BULK:
        return run_bulk(o);
    case LOAD_RATE:
        return run_for(o, "rate");
    default:
        return run_for(o, "rr");
    }
}
