/*
 * test_proxy - the proxy as the daemon runs it: listener, dial and relay together, with origins
 * that answer, refuse, are not there or reset; dials that are cancelled; and the end of the daemon.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/dial.h"
#include "net/listener.h"
#include "net/relay.h"
#include "sim.h"
#include "sim_cell.h"
#include "sim_tunnel.h"

#define BYTES_MAX 20000

struct session {
    struct sim_tunnel far;
    enum sim_route route;
    struct cs_conn *a; /* until the relay has it */
    struct cs_dial *dial;
    uint64_t dial_ms;
    uint32_t timeout_ms;
    struct cs_relay_result result;
    int err; /* of the dial */
    bool came, starting, dialled, cancelled, relaying, done;
};

static struct sim_cell cell;
static struct cs_relay_options options;
static struct cs_listener *listener;
static struct cs_addr addr;
static struct session sessions[SIM_TUNNELS_MAX];
static unsigned sessions_n;
static bool listener_gone, ending;

/* ---- the proxy ---- */

static void on_relay_done(void *user, const struct cs_relay_result *result)
{
    struct session *s = user;
    SIM_CHECK(s->relaying && !s->done);
    s->relaying = false;
    s->done = true;
    s->result = *result;
}

static void on_dialled(void *user, struct cs_conn *c, int err)
{
    struct session *s = user;
    SIM_CHECK(!s->starting && !s->dialled && !s->cancelled && (c != NULL) == (err == 0));
    s->dial = NULL;
    s->dialled = true;
    s->err = err;
    s->dial_ms = sim_now_ms() - s->dial_ms;
    if (err) {
        cs_stream_close(cs_conn_stream(s->a), CS_CLOSE_GRACEFUL, err);
        return;
    }
    struct cs_relay *r = cs_relay_start(&cell.net, cs_conn_stream(s->a), cs_conn_stream(c),
                                        &options, on_relay_done, s);
    SIM_CHECK(r);
    s->relaying = true;
}

static void dial(struct session *s)
{
    char host[CS_ADDR_TEXT_MAX];
    struct cs_dial_spec spec = {
        .host = cs_addr_ip(&s->far.origin_addr, host),
        .port = cs_addr_port(&s->far.origin_addr),
        .timeout_ms = s->timeout_ms,
    };
    s->starting = true;
    s->dial_ms = sim_now_ms();
    s->dial = cs_dial_start(&cell.net, &spec, on_dialled, s);
    s->starting = false;
    memset(host, 0, sizeof host); /* the specification is copied */
    SIM_CHECK(s->dial);
}

static void on_ready(void *user)
{
    struct cs_conn *c;
    (void)user;
    while ((c = cs_listener_take(listener))) {
        struct cs_addr peer;
        struct session *s = NULL;
        for (unsigned i = 0; i < sessions_n && !s && cs_conn_peername(c, &peer) == 0; i++) {
            s = sim_tunnel_find(&sessions[i].far, 1, &peer) ? &sessions[i] : NULL;
        }
        if (!s) {
            cs_stream_close(cs_conn_stream(c), CS_CLOSE_ABORT, 0);
            continue;
        }
        SIM_CHECK(!s->came);
        s->came = true;
        s->a = c;
        dial(s);
    }
}

static void on_listener_closed(void *user)
{
    (void)user;
    listener_gone = true;
}

static void setup(void)
{
    struct cs_net_config config;
    memset(sessions, 0, sizeof sessions);
    sim_cell_marks(&config);
    sim_cell_open(&cell, &config);
    cs_relay_options_default(&options);
    options.linger_ms = 0;
    SIM_CHECK(cs_addr_parse(&addr, sim_chance(300) ? "unix:/run/proxy.sock" : "127.0.0.1", 0) == 0);
    bool by_name = cs_addr_family(&addr) == AF_UNIX; /* clients of a Unix socket have no name */
    SIM_CHECK(
        cs_listener_open(&listener, NULL, 0, &addr, &(struct cs_listen_options){0}, "proxy") == 0);
    cs_listener_attach(listener, on_ready, NULL);
    cs_listener_start(listener, &cell.net);
    listener_gone = ending = false;
    sessions_n = by_name ? 1 : (unsigned)sim_between(1, SIM_TUNNELS_MAX);
}

static void start(unsigned i, enum sim_route route, enum sim_flow_plan client,
                  enum sim_flow_plan origin)
{
    struct session *s = &sessions[i];
    s->route = route;
    s->timeout_ms = (uint32_t)sim_between(1000, 30000);
    sim_tunnel_start(&s->far, i, &addr, client, origin, BYTES_MAX);
    sim_route(&s->far.origin_addr, route);
}

static bool all_done(void)
{
    for (unsigned i = 0; i < sessions_n; i++) {
        if (sessions[i].relaying || !sim_tunnel_settled(&sessions[i].far)) {
            return false;
        }
    }
    return cs_net_idle(&cell.net);
}

static void run_to_end(void)
{
    sim_set_done(all_done);
    while (!all_done()) {
        sim_cell_turn(&cell, -1);
    }
}

static void teardown(void)
{
    if (!ending) {
        cs_listener_close(listener, on_listener_closed, NULL);
    }
    while (!listener_gone) {
        sim_cell_turn(&cell, 1000);
    }
    sim_cell_close(&cell);
    for (unsigned i = 0; i < sessions_n; i++) {
        SIM_CHECK(!sessions[i].relaying && !sessions[i].dial);
        sim_tunnel_stop(&sessions[i].far);
    }
}

/* ---- cases ---- */

static void run_polite(void)
{
    setup();
    for (unsigned i = 0; i < sessions_n; i++) {
        start(i, SIM_ROUTE_OPEN, SIM_FLOW_POLITE, SIM_FLOW_POLITE);
    }
    run_to_end();
    for (unsigned i = 0; i < sessions_n; i++) {
        sim_tunnel_check_complete(&sessions[i].far);
        SIM_CHECK(sessions[i].done && sessions[i].result.err == 0);
    }
    teardown();
}

static enum sim_route draw_route(void)
{
    static const enum sim_route routes[] = {
        SIM_ROUTE_OPEN,      SIM_ROUTE_OPEN,    SIM_ROUTE_OPEN, SIM_ROUTE_REFUSE,
        SIM_ROUTE_BLACKHOLE, SIM_ROUTE_UNREACH, SIM_ROUTE_RESET};
    return routes[sim_below(CS_ARRAY_LEN(routes))];
}

static void check_dial(const struct session *s)
{
    if (!s->came) {
        return;
    }
    SIM_CHECK(s->dialled);
    switch (s->route) {
    case SIM_ROUTE_OPEN:
    case SIM_ROUTE_RESET:
        SIM_CHECK(s->err == 0 && s->done);
        break;
    case SIM_ROUTE_REFUSE:
        SIM_CHECK(s->err == -ECONNREFUSED);
        break;
    case SIM_ROUTE_UNREACH:
        SIM_CHECK(s->err == -EHOSTUNREACH);
        break;
    case SIM_ROUTE_BLACKHOLE:
        SIM_CHECK(s->err == CS_ETIMEOUT);
        SIM_CHECK(s->dial_ms >= s->timeout_ms && s->dial_ms <= s->timeout_ms + 100);
        break;
    }
}

static void run_troubled(void)
{
    setup();
    for (unsigned i = 0; i < sessions_n; i++) {
        start(i, draw_route(), sim_flow_draw(), sim_flow_draw());
    }
    run_to_end();
    for (unsigned i = 0; i < sessions_n; i++) {
        check_dial(&sessions[i]);
    }
    teardown();
}

/* Dials are given up at any time, at last all of them; then the daemon ends, in one way or the
 * other. */
static void run_ending(void)
{
    setup();
    for (unsigned i = 0; i < sessions_n; i++) {
        start(i, draw_route(), sim_flow_draw(), sim_flow_draw());
    }
    uint64_t turns = sim_below(100);
    for (uint64_t turn = 0; turn <= turns; turn++) {
        for (unsigned i = 0; i < sessions_n; i++) {
            struct session *s = &sessions[i];
            if (s->dial && (turn == turns || sim_chance(20))) {
                s->cancelled = true;
                cs_dial_cancel(s->dial);
                s->dial = NULL;
                cs_stream_close(cs_conn_stream(s->a), CS_CLOSE_GRACEFUL, CS_ECLOSED);
            }
        }
        if (turn < turns) {
            sim_cell_turn(&cell, 20);
        }
    }
    ending = true;
    cs_listener_close(listener, on_listener_closed, NULL);
    cs_listener_attach(listener, NULL, NULL);
    cs_net_close_all(&cell.net, sim_chance(500), CS_ESHUTDOWN);
    for (turns = sim_below(50); turns > 0; turns--) {
        sim_cell_turn(&cell, 20);
    }
    teardown();
}

int main(int argc, char **argv)
{
    static const struct sim_case cases[] = {
        {"polite", run_polite, 60},
        {"troubled", run_troubled, 300},
        {"ending", run_ending, 500},
    };
    return sim_main(argc, argv, cases, CS_ARRAY_LEN(cases));
}
