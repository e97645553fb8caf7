/*
 * test_relay - a relay in C between an accepted connection and one that was dialled: bytes, half
 * closes, broken ends, quiet times, back-pressure, and being stopped at any time.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/conn.h"
#include "net/listener.h"
#include "net/relay.h"
#include "sim.h"
#include "sim_cell.h"
#include "sim_tunnel.h"

#define BYTES_MAX 20000
/* Closing takes some turns, and a drain waits for the other end. */
#define SLACK_MS 4000

/* The engine's part of a tunnel. */
struct link {
    struct sim_tunnel far;
    struct cs_conn *a, *b; /* until one is closed */
    struct cs_relay *relay;
    struct cs_relay_result result;
    uint64_t start_ms, done_ms;
    bool relaying, closing, done;
};

static struct sim_cell cell;
static struct cs_net_config config;
static struct cs_relay_options options;
static struct cs_listener *listener;
static struct cs_addr addr;
static struct link links[SIM_TUNNELS_MAX];
static unsigned links_n;
static bool listener_gone, faults; /* faults: memory runs out, ops cannot be started */

/* ---- the engine's side ---- */

static void on_relay_done(void *user, const struct cs_relay_result *result)
{
    struct link *k = user;
    SIM_CHECK(k->relaying && !k->done);
    sim_trace("test  relay done: a=%llu b=%llu err=%d first=%d",
              (unsigned long long)result->bytes[0], (unsigned long long)result->bytes[1],
              result->err, (int)result->first);
    k->relaying = false;
    k->done = true;
    k->done_ms = sim_now_ms();
    k->result = *result;
}

static void on_connected(void *user, struct cs_conn *c, int err)
{
    struct link *k = user;
    SIM_CHECK(c == k->b);
    SIM_CHECK(err == 0 || faults);
    k->relay = err ? NULL
                   : cs_relay_start(&cell.net, cs_conn_stream(k->a), cs_conn_stream(k->b), &options,
                                    on_relay_done, k);
    if (!k->relay) {
        SIM_CHECK(faults);
        cs_stream_close(cs_conn_stream(c), CS_CLOSE_ABORT, err);
        cs_stream_close(cs_conn_stream(k->a), CS_CLOSE_ABORT, err);
        return;
    }
    k->relaying = true;
    k->start_ms = sim_now_ms();
}

static void on_ready(void *user)
{
    struct cs_conn *c;
    (void)user;
    while ((c = cs_listener_take(listener))) {
        struct cs_addr peer;
        struct sim_tunnel *t = NULL;
        for (unsigned i = 0; i < links_n && !t && cs_conn_peername(c, &peer) == 0; i++) {
            t = sim_tunnel_find(&links[i].far, 1, &peer);
        }
        if (!t) { /* its client has gone already */
            cs_stream_close(cs_conn_stream(c), CS_CLOSE_ABORT, 0);
            continue;
        }
        struct link *k = cs_container_of(t, struct link, far);
        k->a = c;
        if (sim_chance(300)) {
            cs_stream_resume(cs_conn_stream(c)); /* read-ahead: the relay finds input there */
        }
        k->b = cs_conn_dial(&cell.net, &t->origin_addr, NULL, on_connected, k);
        if (!k->b) {
            SIM_CHECK(faults);
            cs_stream_close(cs_conn_stream(c), CS_CLOSE_ABORT, -ENOMEM);
        }
    }
}

static void on_listener_closed(void *user)
{
    (void)user;
    listener_gone = true;
}

static void setup(void)
{
    memset(links, 0, sizeof links);
    sim_cell_marks(&config);
    cs_relay_options_default(&options);
    options.linger_ms = 0;
    sim_cell_open(&cell, &config);
    SIM_CHECK(cs_addr_parse(&addr, "127.0.0.1", 80) == 0);
    SIM_CHECK(
        cs_listener_open(&listener, NULL, 0, &addr, &(struct cs_listen_options){0}, "relay") == 0);
    cs_listener_attach(listener, on_ready, NULL);
    cs_listener_start(listener, &cell.net);
    listener_gone = faults = false;
    links_n = (unsigned)sim_between(1, SIM_TUNNELS_MAX);
}

static void start(unsigned i, enum sim_flow_plan client, enum sim_flow_plan origin)
{
    sim_tunnel_start(&links[i].far, i, &addr, client, origin, BYTES_MAX);
}

static bool all_done(void)
{
    for (unsigned i = 0; i < links_n; i++) {
        if (links[i].relaying || !sim_tunnel_settled(&links[i].far)) {
            return false;
        }
    }
    return cs_net_idle(&cell.net);
}

static void teardown(void)
{
    sim_cell_fail_nth(0);
    sim_knobs()->start_error_pm = 0;
    cs_listener_close(listener, on_listener_closed, NULL);
    while (!listener_gone) {
        sim_cell_turn(&cell, 1000);
    }
    sim_cell_close(&cell);
    for (unsigned i = 0; i < links_n; i++) {
        SIM_CHECK(!links[i].relaying);
        sim_tunnel_stop(&links[i].far);
    }
}

static void run_to_end(void)
{
    sim_set_done(all_done);
    while (!all_done()) {
        sim_cell_turn(&cell, -1);
    }
}

/* ---- cases ---- */

static enum sim_flow_plan polite_plan(void)
{
    return sim_chance(500) ? SIM_FLOW_POLITE : SIM_FLOW_REPLY;
}

/* Everything arrives and both half closes pass. Two that wait for each other's end would wait for
 * ever, so one side is simply polite. */
static void run_polite(void)
{
    setup();
    for (unsigned i = 0; i < links_n; i++) {
        bool swap = sim_chance(500);
        enum sim_flow_plan plan = polite_plan();
        start(i, swap ? plan : SIM_FLOW_POLITE, swap ? SIM_FLOW_POLITE : plan);
    }
    run_to_end();
    for (unsigned i = 0; i < links_n; i++) {
        const struct link *k = &links[i];
        sim_tunnel_check_complete(&k->far);
        SIM_CHECK(k->done && k->result.err == 0 && k->result.first != CS_RELAY_NOBODY);
        SIM_CHECK(k->result.bytes[0] == k->far.up_size && k->result.bytes[1] == k->far.down_size);
    }
    teardown();
}

/* Ends break anywhere: the other end hears of it, and nothing stays. */
static void run_rough(void)
{
    setup();
    options.idle_ms = sim_chance(500) ? 0 : 500000; /* never comes, but must be taken back */
    options.linger_ms = sim_chance(500) ? 0 : 400000;
    for (unsigned i = 0; i < links_n; i++) {
        start(i, sim_flow_draw(), sim_flow_draw());
    }
    run_to_end();
    for (unsigned i = 0; i < links_n; i++) {
        const struct link *k = &links[i];
        SIM_CHECK(!k->done || k->result.bytes[0] >= k->far.origin.got);
        SIM_CHECK(!k->done || k->result.bytes[1] >= k->far.client.got);
    }
    teardown();
}

static uint64_t last_moved(const struct link *k)
{
    uint64_t t = CS_MAX(k->far.client.last_read_ms, k->far.origin.last_read_ms);
    return CS_MAX(t, k->start_ms);
}

static void check_quiet(const struct link *k, int err, uint32_t limit_ms)
{
    SIM_CHECK(k->done);
    if (k->result.err != err) {
        sim_fail("a quiet relay ends with %d, not %d", k->result.err, err);
    }
    SIM_CHECK(k->done_ms >= k->start_ms + limit_ms);
    /* A relay looks four times within the limit, so it may notice a quarter late. */
    SIM_CHECK(k->done_ms <= last_moved(k) + limit_ms + limit_ms / 4 + SLACK_MS);
    /* What was sent before the silence has arrived. */
    SIM_CHECK(k->far.client.got == k->far.down_size && k->far.origin.got == k->far.up_size);
}

static void run_idle(void)
{
    setup();
    options.idle_ms = (uint32_t)sim_between(2000, 60000);
    options.linger_ms = sim_chance(500) ? 1000 : 0; /* must not matter */
    for (unsigned i = 0; i < links_n; i++) {
        start(i, SIM_FLOW_SILENT, SIM_FLOW_SILENT);
        sim_tunnel_hurry(&links[i].far);
    }
    run_to_end();
    for (unsigned i = 0; i < links_n; i++) {
        check_quiet(&links[i], CS_EIDLE, options.idle_ms);
        SIM_CHECK(links[i].result.first == CS_RELAY_NOBODY);
    }
    teardown();
}

static void run_linger(void)
{
    setup();
    options.linger_ms = (uint32_t)sim_between(2000, 60000);
    options.idle_ms = sim_chance(500) ? 0 : options.linger_ms + 1;
    for (unsigned i = 0; i < links_n; i++) {
        bool swap = sim_chance(500);
        start(i, swap ? SIM_FLOW_DEAF : SIM_FLOW_POLITE, swap ? SIM_FLOW_POLITE : SIM_FLOW_DEAF);
        sim_tunnel_hurry(&links[i].far);
    }
    run_to_end();
    for (unsigned i = 0; i < links_n; i++) {
        check_quiet(&links[i], CS_ELINGER, options.linger_ms);
        SIM_CHECK(links[i].result.first != CS_RELAY_NOBODY);
    }
    teardown();
}

/* What the engine may hold of one direction: both marks, and what the kernel can have handed over
 * before a cancel takes effect. */
static uint64_t hold_max(void)
{
    const struct sim_config *c = sim_knobs();
    uint64_t buffers =
        (uint64_t)c->small_buffers * c->small_size + (uint64_t)c->bulk_buffers * c->bulk_size;
    return config.out_high + config.in_high + buffers * 2;
}

static bool relays_done(void)
{
    for (unsigned i = 0; i < links_n; i++) {
        if (!links[i].done) {
            return false;
        }
    }
    return true;
}

static bool is_open(const struct cs_conn *c)
{
    const struct cs_conn *it = NULL;
    do {
        it = cs_pool_next(cell.net.conns, it);
    } while (it && it != c);
    return it && strcmp(cs_conn_state_name(it), "open") == 0;
}

/* After each turn, so that no other connection can have taken the place of one. */
static void check_held(struct link *k, uint64_t max)
{
    const struct cs_conn *a = k->a, *b = k->b;
    k->closing |= k->relaying && !(is_open(a) && is_open(b));
    if (!k->relaying || k->closing) {
        return; /* one that is closing reads to throw away */
    }
    uint64_t up = cs_conn_bytes_in(a) - cs_conn_bytes_out(b);
    uint64_t down = cs_conn_bytes_in(b) - cs_conn_bytes_out(a);
    if (up > max || down > max) {
        sim_fail("a relay holds %llu and %llu bytes, more than %llu", (unsigned long long)up,
                 (unsigned long long)down, (unsigned long long)max);
    }
}

/* An end that does not read stops the other one, at a bounded cost; in the end it breaks. */
static void run_back_pressure(void)
{
    struct sim_config *c = sim_knobs();
    c->small_buffers = CS_MIN(c->small_buffers, 8u);
    c->bulk_size = CS_MIN(c->bulk_size, 2048u);
    c->cancel_rounds = 0;
    c->delay_pm = 0;
    setup();
    links_n = CS_MIN(links_n, 3u);
    options.idle_ms = 20000;
    for (unsigned i = 0; i < links_n; i++) {
        bool swap = sim_chance(500);
        sim_tunnel_start(&links[i].far, i, &addr, swap ? SIM_FLOW_STUCK : SIM_FLOW_POLITE,
                         swap ? SIM_FLOW_POLITE : SIM_FLOW_STUCK, 60000);
    }
    uint64_t until_ms = sim_now_ms() + 600000;
    while (!relays_done()) {
        SIM_CHECK(sim_now_ms() < until_ms);
        sim_cell_turn(&cell, 1000);
        for (unsigned i = 0; i < links_n; i++) {
            check_held(&links[i], hold_max());
        }
    }
    for (unsigned i = 0; i < links_n; i++) {
        SIM_CHECK(links[i].result.err != 0);
    }
    teardown();
}

/* A slow reader is not a silent one: while bytes go out, neither quiet time has come. Here the
 * client has ended its side and the origin reads for longer than both limits before it answers. */
static void run_slow_reader(void)
{
    sim_knobs()->sndbuf = sim_knobs()->rcvbuf = 512;
    setup();
    links_n = 1;
    options.linger_ms = 5000;
    options.idle_ms = 6000;
    cell.net.config.out_high = 16384;
    cell.net.config.out_low = 1024;
    start(0, SIM_FLOW_POLITE, SIM_FLOW_REPLY);
    struct sim_tunnel *t = &links[0].far;
    t->client.out_size = t->up_size = 14000;
    t->client.slow_pm = 0;
    t->down_size = 100;
    sim_set_done(all_done);
    while (!all_done()) {
        t->origin.slow_pm = 500; /* some KB a second, never silent for long */
        t->origin.pause_ms = 100;
        sim_cell_turn(&cell, -1);
    }
    sim_tunnel_check_complete(t);
    SIM_CHECK(links[0].done && links[0].result.err == 0);
    teardown();
}

/* An end that does not read keeps at most half of the receive buffers: the others go on. */
static void run_fair(void)
{
    struct sim_config *c = sim_knobs();
    c->small_buffers = CS_MIN(c->small_buffers, 4u);
    c->small_size = CS_MIN(c->small_size, 256u);
    c->bulk_buffers = 2;
    c->bulk_size = CS_MIN(c->bulk_size, 1024u);
    c->sndbuf = CS_MIN(c->sndbuf, (size_t)1024);
    c->rcvbuf = CS_MIN(c->rcvbuf, (size_t)1024);
    setup();
    links_n = 4;
    for (unsigned i = 0; i < links_n; i++) {
        bool stuck = i < 3;
        sim_tunnel_start(&links[i].far, i, &addr, SIM_FLOW_POLITE,
                         stuck ? SIM_FLOW_STUCK : SIM_FLOW_POLITE, stuck ? 100000 : 2000);
    }
    const struct sim_tunnel *t = &links[3].far;
    uint64_t until_ms = sim_now_ms() + 600000;
    while (!t->client.ended || !t->met || !t->origin.ended) {
        SIM_CHECK(sim_now_ms() < until_ms);
        sim_cell_turn(&cell, 1000);
    }
    sim_tunnel_check_complete(t);
    cs_net_close_all(&cell.net, true, CS_ESHUTDOWN);
    teardown();
}

/* A side that is paused, with input nobody reads, is reset: the relay hears of it at once. */
static void run_watch(void)
{
    sim_knobs()->sndbuf = sim_knobs()->rcvbuf = 1024;
    setup();
    links_n = 1;
    sim_tunnel_start(&links[0].far, 0, &addr, SIM_FLOW_DEAF, SIM_FLOW_STUCK, 2000);
    struct sim_tunnel *t = &links[0].far;
    t->client.out_size = t->up_size = 300000;
    for (uint64_t until_ms = sim_now_ms() + 20000; sim_now_ms() < until_ms;) {
        sim_cell_turn(&cell, 1000);
    }
    SIM_CHECK(t->client.sent < t->up_size && links[0].relaying);
    sim_flow_stop(&t->client);
    uint64_t reset_ms = sim_now_ms();
    while (!links[0].done) {
        SIM_CHECK(sim_now_ms() <= reset_ms + 1000);
        sim_cell_turn(&cell, 10);
    }
    SIM_CHECK(links[0].result.first == CS_RELAY_A && links[0].result.err < 0);
    teardown();
}

/* Stopped at any time, in both ways, once or twice, with or without somebody to tell. */
static void run_stop(void)
{
    setup();
    options.idle_ms = sim_chance(500) ? 0 : 500000;
    for (unsigned i = 0; i < links_n; i++) {
        start(i, sim_flow_draw(), sim_flow_draw());
    }
    for (uint64_t turns = sim_below(300); turns > 0; turns--) {
        struct link *k = &links[sim_below(links_n)];
        if (k->relaying && sim_chance(100)) {
            cs_relay_stop(k->relay, sim_chance(500) ? CS_CLOSE_ABORT : CS_CLOSE_GRACEFUL,
                          CS_ESHUTDOWN);
        } else if (k->relaying && sim_chance(20)) {
            cs_relay_forget(k->relay);
            k->relaying = false;
        }
        sim_cell_turn(&cell, 100);
    }
    if (sim_chance(500)) {
        run_to_end();
    } else {
        cs_net_close_all(&cell.net, true, CS_ESHUTDOWN);
    }
    teardown();
}

/* Memory runs out, ops cannot be started: tunnels break, but only as tunnels may. */
static void run_faults(void)
{
    setup();
    faults = true;
    sim_knobs()->start_error_pm = (unsigned)sim_between(0, 30);
    sim_knobs()->shutdown_error_pm = (unsigned)sim_between(0, 300);
    for (unsigned i = 0; i < links_n; i++) {
        start(i, sim_flow_draw(), sim_flow_draw());
    }
    for (uint64_t turns = sim_below(500); turns > 0; turns--) {
        if (sim_chance(100)) {
            sim_cell_fail_nth((unsigned long)sim_between(1, 30));
        }
        sim_cell_turn(&cell, 100);
    }
    cs_net_close_all(&cell.net, sim_chance(500), CS_ESHUTDOWN);
    teardown();
}

int main(int argc, char **argv)
{
    static const struct sim_case cases[] = {
        {"polite", run_polite, 40},
        {"rough", run_rough, 100},
        {"idle", run_idle, 30},
        {"linger", run_linger, 30},
        {"slow_reader", run_slow_reader, 40},
        {"fair", run_fair, 40},
        {"watch", run_watch, 50},
        {"stop", run_stop, 200},
        {"faults", run_faults, 300},
        {"back_pressure", run_back_pressure, 40},
    };
    return sim_main(argc, argv, cases, CS_ARRAY_LEN(cases));
}
