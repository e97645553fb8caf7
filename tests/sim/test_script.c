/*
 * test_script - the whole engine with its scripts over the simulated ring: the model-based test of
 * tests/model, whatever the kernel does. The far ends are played here.
 *
 * MODEL_SEQUENCES=n: sequences in each run (one run: one seed, one kernel; default 10), so 100,000
 * of them are SIM_RUNS=10000 sim_test_script sequences. MODEL_ARGUMENTS=words for
 * tests/model/run.lua, for example "verbose=1".
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "net/registry.h"
#include "script/cell.h"
#include "sim.h"
#include "sim_cell.h"

#define PEERS_MAX 64
#define LINE_MAX_ 1024 /* "forget" and the names of all peers */
#define ANSWER_MAX 65536
#define WORDS_MAX 24
#define FLUSH_MS 3600000 /* far ends read when a step says so */
#define ENDING_MS (2 * FLUSH_MS)

/* A sanitizer makes all of it ten times as slow: fewer sequences, and not every row is asked for.
 */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SEQUENCES "1"
#define COVERAGE "n=60 stop=1"
#else
#define SEQUENCES "10"
#define COVERAGE "n=200 cover=1 stop=1"
#endif

/* ---- the far ends: the other side of tests/model/far.lua ---- */

struct peer {
    struct sim_peer *sock;
    char name[16];
    char letter; /* still to be sent */
    unsigned to_send;
    bool fin; /* after that */
};

static struct {
    struct sim_actor actor;
    struct sim_far_listener *control_listener, *live_listener;
    struct cs_addr control_addr, live_addr, hole_addr, dead_addr;
    struct sim_peer *control;
    char line[LINE_MAX_];
    size_t line_len;
    char *answer;
    size_t answer_len, answer_sent;
    struct peer peers[PEERS_MAX];
    unsigned peers_n;
    char pending[16]; /* a connect whose answer is due when it is through */
    bool stop;
} far;

static struct peer *peer_add(struct sim_peer *sock, char kind, const struct cs_addr *a)
{
    SIM_CHECK(far.peers_n < PEERS_MAX);
    struct peer *p = &far.peers[far.peers_n++];
    *p = (struct peer){.sock = sock};
    snprintf(p->name, sizeof p->name, "%c%u", kind, cs_addr_port(a));
    return p;
}

static struct peer *peer_find(const char *name)
{
    for (unsigned i = 0; i < far.peers_n; i++) {
        if (strcmp(far.peers[i].name, name) == 0) {
            return &far.peers[i];
        }
    }
    return NULL;
}

static void peer_remove(struct peer *p)
{
    *p = far.peers[--far.peers_n];
}

static bool accept_all(void)
{
    struct sim_peer *sock;
    bool any = false;
    while ((sock = sim_far_accept(far.live_listener))) {
        peer_add(sock, 'e', sim_peer_remote(sock));
        any = true;
    }
    return any;
}

static void answer(const char *text)
{
    size_t n = strlen(text);
    SIM_CHECK(far.answer_len + n + 1 < ANSWER_MAX);
    memcpy(far.answer + far.answer_len, text, n);
    far.answer_len += n;
    far.answer[far.answer_len++] = '\n';
}

/* "a10 b3; open" */
static void receive(struct peer *p)
{
    static char text[ANSWER_MAX / 2];
    uint8_t buf[4096];
    size_t at = 0;
    ssize_t n;
    uint8_t letter = 0;
    unsigned run = 0;
    while ((n = sim_peer_read(p->sock, buf, sizeof buf)) > 0) {
        for (ssize_t i = 0; i < n; i++) {
            if (run > 0 && buf[i] != letter) {
                at += (size_t)snprintf(text + at, sizeof text - at, "%c%u ", letter, run);
                run = 0;
            }
            letter = buf[i];
            run++;
        }
    }
    if (run > 0) {
        at += (size_t)snprintf(text + at, sizeof text - at, "%c%u", letter, run);
    }
    snprintf(text + at, sizeof text - at, "; %s", n == 0 ? "eof" : n == -EAGAIN ? "open" : "reset");
    answer(text);
}

static void forget(void)
{
    accept_all();
    while (far.peers_n > 0) {
        sim_peer_reset(far.peers[0].sock);
        peer_remove(&far.peers[0]);
    }
    answer("ok");
}

static void connect_to(const char *port)
{
    struct cs_addr a;
    SIM_CHECK(cs_addr_parse(&a, "127.0.0.1", (uint16_t)atoi(port)) == 0);
    struct sim_peer *sock = sim_peer_connect(&a);
    struct peer *p = peer_add(sock, 'p', sim_peer_local(sock));
    memcpy(far.pending, p->name, sizeof far.pending);
}

/* False: the connection it speaks of is not there yet. */
static bool obey(const char *line)
{
    char verb[16] = "", name[16] = "", letter = 0;
    unsigned n = 0;
    sscanf(line, "%15s %15s %c %u", verb, name, &letter, &n);
    if (strcmp(verb, "stop") == 0) {
        far.stop = true;
        return true;
    }
    if (strcmp(verb, "forget") == 0) {
        forget();
        return true;
    }
    if (strcmp(verb, "connect") == 0) {
        connect_to(name);
        return true;
    }
    accept_all();
    struct peer *p = peer_find(name);
    if (!p) {
        return false;
    }
    if (strcmp(verb, "receive") == 0) {
        receive(p);
        return true;
    }
    if (strcmp(verb, "send") == 0) {
        SIM_CHECK(p->to_send == 0);
        p->letter = letter;
        p->to_send = n;
        return true; /* the answer comes when all is sent */
    }
    if (strcmp(verb, "fin") == 0) {
        sim_peer_shutdown(p->sock);
    } else if (strcmp(verb, "reset") == 0) {
        sim_peer_reset(p->sock);
        peer_remove(p);
    } else {
        sim_fail("the far ends do not know '%s'", line);
    }
    answer("ok");
    return true;
}

static bool send_pending(void)
{
    bool any = false;
    for (unsigned i = 0; i < far.peers_n; i++) {
        struct peer *p = &far.peers[i];
        ssize_t n = p->to_send ? sim_peer_write(p->sock, &p->letter, 1) : 0;
        if (n < 0) {
            p->to_send = 0;
            answer("ok");
        } else if (n > 0) {
            any = true;
            if (--p->to_send == 0) {
                answer("ok");
            }
        }
    }
    return any;
}

static bool finish_connect(void)
{
    struct peer *p = *far.pending ? peer_find(far.pending) : NULL;
    if (!p || sim_peer_connected(p->sock) == 0) {
        return false;
    }
    SIM_CHECK(sim_peer_connected(p->sock) == 1);
    answer(far.pending);
    *far.pending = 0;
    return true;
}

static bool read_commands(void)
{
    bool any = false;
    char c;
    while (far.control && far.line_len + 1 < LINE_MAX_) {
        bool whole = far.line_len > 0 && far.line[far.line_len - 1] == '\n';
        if (whole) {
            far.line[far.line_len - 1] = 0;
            if (!obey(far.line)) {
                far.line[far.line_len - 1] = '\n'; /* again in the next round */
                break;
            }
            far.line_len = 0;
            any = true;
        } else if (sim_peer_read(far.control, &c, 1) == 1) {
            far.line[far.line_len++] = c;
            any = true;
        } else {
            break;
        }
    }
    return any;
}

static bool write_answers(void)
{
    size_t n = far.answer_len - far.answer_sent;
    ssize_t sent =
        far.control && n ? sim_peer_write(far.control, far.answer + far.answer_sent, n) : 0;
    if (sent > 0) {
        far.answer_sent += (size_t)sent;
    }
    if (far.answer_sent == far.answer_len) {
        far.answer_sent = far.answer_len = 0;
    }
    return sent > 0;
}

static bool far_step(struct sim_actor *a)
{
    (void)a;
    bool any = accept_all();
    if (!far.control) {
        far.control = sim_far_accept(far.control_listener);
    }
    any |= read_commands();
    any |= send_pending();
    any |= finish_connect();
    any |= write_answers();
    return any;
}

static void far_open(void)
{
    memset(&far, 0, sizeof far);
    far.answer = malloc(ANSWER_MAX);
    struct cs_addr *all[] = {&far.control_addr, &far.live_addr, &far.hole_addr, &far.dead_addr};
    for (unsigned i = 0; i < CS_ARRAY_LEN(all); i++) {
        SIM_CHECK(cs_addr_parse(all[i], "127.0.0.1", (uint16_t)(27001 + i)) == 0);
    }
    far.control_listener = sim_far_listen(&far.control_addr, 10);
    far.live_listener = sim_far_listen(&far.live_addr, 100);
    sim_route(&far.hole_addr, SIM_ROUTE_BLACKHOLE);
    sim_route(&far.dead_addr, SIM_ROUTE_REFUSE);
    sim_actor_add(&far.actor, far_step);
}

static void far_shut(void)
{
    sim_actor_remove(&far.actor);
    forget();
    if (far.control) {
        sim_peer_reset(far.control);
    }
    sim_far_close(far.control_listener);
    sim_far_close(far.live_listener);
    free(far.answer);
}

/* ---- the engine ---- */

static struct cs_cell *cell;
static bool loaded, good;
static char verdict[2048];

/* The script says how it went in a line of the log. */
static void on_log(enum cs_log_level level, const char *line, size_t len)
{
    static const char marker[] = "model: ";
    const char *at = memmem(line, len, marker, sizeof marker - 1);
    if (at) {
        size_t n = CS_MIN(len - (size_t)(at - line), sizeof verdict - 1);
        memcpy(verdict, at, n);
        verdict[n] = 0;
        good = memmem(at, n, "model: good", 11) != NULL;
    }
    if (sim_tracing || (level <= CS_LOG_ERROR && memmem(line, len, "assertion", 9))) {
        fprintf(stderr, "%.*s\n", (int)len, line);
    }
}

static void on_loaded(void *user, unsigned generation, int err, const char *errors)
{
    (void)user;
    (void)generation;
    if (err < 0) {
        sim_fail("the script does not load: %s", errors ? errors : "?");
    }
    loaded = true;
}

static const char *env(const char *name, const char *otherwise)
{
    const char *text = getenv(name);
    return text && *text ? text : otherwise;
}

static void turn(void)
{
    cs_loop_turn(cs_cell_loop(cell), -1);
    if (loaded) {
        loaded = false;
        cs_cell_commit(cell);
    }
}

/* Stops it, and waits for the end of everything. */
static void stop(void)
{
    uint64_t until = sim_now_ms() + ENDING_MS;
    cs_cell_stop(cell);
    while (!cs_cell_finished(cell)) {
        SIM_CHECK(sim_now_ms() < until);
        turn();
    }
}

static void run_script(char **argv, int argc)
{
    struct cs_registry *registry;
    struct cs_program_part part = {.name = "model", .path = "tests/model/run.lua"};
    struct cs_program program = {
        .parts = &part, .count = 1, .argv = argv, .argc = argc, .script_mode = true};
    struct cs_cell_config config = {.lua_memory_max = 64u << 20};
    char why[256];
    int status;
    cs_log_set_writer(on_log);
    cs_ring_config_default(&config.ring);
    cs_net_config_default(&config.net);
    config.net.out_high = 1u << 12;
    config.net.out_low = 1u << 11;
    config.net.flush_ms = FLUSH_MS;
    config.net.log_connections = false;
    SIM_CHECK(cs_registry_create(&registry, NULL, 0) == 0);
    SIM_CHECK(cs_cell_create(&cell, &config, registry, why, sizeof why) == 0);
    SIM_CHECK(cs_cell_load(cell, &program, 1, on_loaded, NULL) == 0);
    while (!cs_cell_script_done(cell, &status) && !far.stop) {
        turn();
    }
    stop();
    cs_cell_destroy(cell);
    cs_registry_destroy(registry);
    cs_log_set_writer(NULL);
}

static void run_model(const char *extra)
{
    static char text[WORDS_MAX][64];
    char *argv[WORDS_MAX];
    int n = 0;
    struct sim_config *k = sim_knobs();
    unsigned sequences = (unsigned)atoi(env("MODEL_SEQUENCES", SEQUENCES));
    sim_allow_seconds(300 + sequences / 5);
    k->interrupt_pm = 0;
    k->slots_max = 1024;
    k->rcvbuf = CS_MAX(k->rcvbuf, (size_t)8192); /* what far ends send always finds room */
    /* The times in a sequence are patience and deadlines, never part of a rule: no kernel may be so
     * slow that one of them is over. The script's patience ends what spins, not a number of turns.
     */
    k->sndbuf = CS_MAX(k->sndbuf, (size_t)512);
    k->latency_ms = CS_MIN(k->latency_ms, 5u);
    k->turns_max = UINT64_MAX;
    snprintf(text[n++], 64, "control=27001");
    snprintf(text[n++], 64, "live=27002");
    snprintf(text[n++], 64, "hole=27003");
    snprintf(text[n++], 64, "dead=27004");
    snprintf(text[n++], 64, "seed=%llu", (unsigned long long)sim_below(1000000000));
    snprintf(text[n++], 64, "n=%u", sequences);
    snprintf(text[n++], 64, "low=4096");
    snprintf(text[n++], 64, "high=%zu", 4096 + k->sndbuf + k->rcvbuf);
    snprintf(text[n++], 64, "patience=60000");
    static char words[256];
    snprintf(words, sizeof words, "%s %s", env("MODEL_ARGUMENTS", ""), extra);
    for (char *w = strtok(words, " "); w && n < WORDS_MAX; w = strtok(NULL, " ")) {
        snprintf(text[n++], 64, "%s", w);
    }
    for (int i = 0; i < n; i++) {
        argv[i] = text[i];
    }
    good = loaded = false;
    verdict[0] = 0;
    far_open();
    run_script(argv, n);
    far_shut();
    if (!good) {
        sim_fail("%s", *verdict ? verdict : "the script ended without a verdict");
    }
}

static void run_sequences(void)
{
    run_model("");
}

static void run_stopped(void)
{
    run_model("n=0 stop=1");
}

/* Sequences until every row of the rules was hit, and the engine is stopped at the end. Over a calm
 * kernel: what others do to a sequence is seen by run_sequences.
 */
static void run_coverage(void)
{
    sim_config_calm(sim_knobs());
    run_model(COVERAGE);
}

/* The model notices each rule that is broken (tests/model/broken.lua), sooner or later. Over a calm
 * kernel, so that nothing else can be what was noticed. */
static void run_broken(void)
{
    static const char *const rules[] = {
        "enable_is_kept",   "enable_is_late",       "enable_loses_values", "refused_is_sent",
        "writers_overtake", "close_loses_output",   "timeout_closes",      "wrong_reason",
        "end_before_data",  "old_coroutine_closes", "second_connect",      "disabled_is_kept"};
    static unsigned turn_of; /* one after the other, a world each */
    char words[64];
    sim_config_calm(sim_knobs());
    snprintf(words, sizeof words, "n=50000 patience=2000 broken=%s",
             rules[turn_of++ % CS_ARRAY_LEN(rules)]);
    run_model(words);
}

int main(int argc, char **argv)
{
    static const struct sim_case cases[] = {
        {"sequences", run_sequences, 100},
        {"coverage", run_coverage, 1},
        {"stopped", run_stopped, 4},
        {"broken", run_broken, 12},
    };
    return sim_main(argc, argv, cases, CS_ARRAY_LEN(cases));
}
