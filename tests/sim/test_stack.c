/*
 * test_stack - streams over streams: tunnels of several hops in one engine, whose inner links speak
 * frames, TLS or WebSocket (one or two layers, each drawn), each hop a relay:
 *
 *   client ── conn ≈ frame·conn ── conn·frame ≈ frame·conn ── conn·frame ≈ conn ── origin
 *             (first hop)           (middle hops)              (last hop)
 *
 * What the relay proves over plain connections must hold over these.
 */
#include <stdio.h>
#include <string.h>

#include "codec/cert.h"
#include "codec/cert_make.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/relay.h"
#include "net/tls.h"
#include "net/ws.h"
#include "sim.h"
#include "sim_cell.h"
#include "sim_tunnel.h"
#include "stream_frame.h"

#define HOPS_MAX 3
#define TUNNELS_MAX 4
#define BYTES_MAX 8000

struct hop {
    struct tunnel *tunnel;
    unsigned index;
    struct cs_conn *a, *b; /* until the relay has them */
    struct cs_listener *listener;
    struct cs_addr addr;
    struct cs_relay_result result;
    bool relaying, done;
};

struct tunnel {
    struct sim_tunnel far;
    struct hop hops[HOPS_MAX];
};

static struct sim_cell cell;
static struct cs_relay_options options;
static struct stream_frame_config frame_config;
static struct tunnel tunnels[TUNNELS_MAX];
enum kind { FRAMES, WEBSOCKET, TLS }; /* TLS's bytes differ from run to run, their number hardly */
static enum kind layers[2];           /* from below */
static struct cs_ws_deflate_options deflate_options;
static bool deflated; /* WebSockets compress */
static unsigned tunnels_n, hops_n, layers_n, listeners_open;
static struct cs_pem_text tls_pem, tls_key;
static struct cs_tls_context *tls_client, *tls_server;

static void on_relay_done(void *user, const struct cs_relay_result *result)
{
    struct hop *h = user;
    SIM_CHECK(h->relaying && !h->done);
    sim_trace("test  hop %u done: a=%llu b=%llu err=%d first=%d", h->index,
              (unsigned long long)result->bytes[0], (unsigned long long)result->bytes[1],
              result->err, (int)result->first);
    h->relaying = false;
    h->done = true;
    h->result = *result;
}

static struct cs_stream *layer(enum kind kind, struct cs_stream *lower, bool server)
{
    const struct cs_tls_stream_spec tls = {.context = server ? tls_server : tls_client,
                                           .peer = &(struct cs_tls_peer){.host = "hop"}};
    const struct cs_ws_stream_spec ws = {.role = server ? CS_WS_SERVER : CS_WS_CLIENT,
                                         .half_close = true,
                                         .messages = deflated,
                                         .deflate = deflated ? &deflate_options : NULL,
                                         .size_max = CS_WS_SIZE_MAX};
    struct cs_stream *s = NULL;
    switch (kind) {
    case TLS:
        return cs_tls_stream_create(&s, &cell.net, lower, &tls) == 0 ? s : NULL;
    case WEBSOCKET:
        SIM_CHECK(cs_ws_stream_create(&s, &cell.net, lower, &ws) == 0);
        cs_ws_stream_set_bytes(s);
        return s;
    default:
        return stream_frame_create(cell.loop, lower, &frame_config);
    }
}

/* The stream a hop relays: plain at the outer ends of the tunnel. */
static struct cs_stream *stack(struct cs_conn *c, bool plain, bool server)
{
    struct cs_stream *s = cs_conn_stream(c);
    for (unsigned i = 0; i < layers_n && !plain; i++) {
        s = layer(layers[i], s, server);
        SIM_CHECK(s && cs_conn_of(cs_stream_bottom(s)) == c);
    }
    return s;
}

static struct cs_tls_context *context(struct cs_cert *cert)
{
    struct cs_tls_context *c;
    struct cs_tls_config config;
    const char *field;
    cs_tls_config_default(&config);
    config.server = cert != NULL;
    config.max_version = sim_chance(500) ? "1.2" : NULL;
    SIM_CHECK(cs_tls_context_create(&c, &config, &field) == 0);
    SIM_CHECK(!cert || cs_tls_context_add_cert(c, cert) == 0);
    return c;
}

static void open_tls(void)
{
    struct cs_cert *cert;
    struct cs_cert_error why;
    if (!tls_pem.bytes) {
        SIM_CHECK(cs_make_self_signed(&tls_pem, &tls_key, "hop", "hop", 365, &why) == 0);
    }
    SIM_CHECK(cs_cert_load(&cert, (struct cs_cert_text){tls_pem.bytes, tls_pem.len},
                           (struct cs_cert_text){tls_key.bytes, tls_key.len}, NULL, &why) == 0);
    tls_server = context(cert);
    tls_client = context(NULL);
    cs_cert_unref(cert);
}

static void close_tls(void)
{
    cs_tls_context_unref(tls_server);
    cs_tls_context_unref(tls_client);
    tls_server = tls_client = NULL;
}

static void on_connected(void *user, struct cs_conn *c, int err)
{
    struct hop *h = user;
    SIM_CHECK(c == h->b);
    if (err) {
        cs_stream_close(cs_conn_stream(c), CS_CLOSE_ABORT, err);
        cs_stream_close(cs_conn_stream(h->a), CS_CLOSE_ABORT, err);
        return;
    }
    struct cs_stream *a = stack(h->a, h->index == 0, true);
    struct cs_stream *b = stack(h->b, h->index == hops_n - 1, false);
    struct cs_relay *r = cs_relay_start(&cell.net, a, b, &options, on_relay_done, h);
    SIM_CHECK(r);
    h->relaying = true;
}

static void on_ready(void *user)
{
    struct hop *h = user;
    struct cs_conn *c;
    while ((c = cs_listener_take(h->listener))) {
        bool last = h->index == hops_n - 1;
        SIM_CHECK(!h->a);
        h->a = c;
        h->b = cs_conn_dial(&cell.net, last ? &h->tunnel->far.origin_addr : &h[1].addr, NULL,
                            on_connected, h);
        SIM_CHECK(h->b);
    }
}

static void on_listener_closed(void *user)
{
    (void)user;
    listeners_open--;
}

/* Every hop of every tunnel has an address of its own. */
static void open_hop(struct tunnel *t, unsigned index)
{
    struct hop *h = &t->hops[index];
    h->tunnel = t;
    h->index = index;
    SIM_CHECK(cs_addr_parse(&h->addr, "127.0.0.1", 0) == 0);
    SIM_CHECK(cs_listener_open(&h->listener, NULL, 0, &h->addr, &(struct cs_listen_options){0},
                               "hop") == 0);
    cs_listener_attach(h->listener, on_ready, h);
    cs_listener_start(h->listener, &cell.net);
    listeners_open++;
}

static void setup(void)
{
    struct cs_net_config config;
    memset(tunnels, 0, sizeof tunnels);
    sim_cell_marks(&config);
    sim_cell_open(&cell, &config);
    cs_relay_options_default(&options);
    options.linger_ms = 0;
    frame_config = (struct stream_frame_config){
        .frame_max = (size_t)sim_between(1, 3000),
        .in_high = (size_t)sim_between(1, 5000),
        .late_pm = sim_chance(500) ? 0 : (unsigned)sim_between(1, 900),
    };
    hops_n = (unsigned)sim_between(2, HOPS_MAX);
    layers_n = (unsigned)sim_between(1, 2);
    for (unsigned i = 0; i < layers_n; i++) {
        layers[i] = (enum kind)sim_between(FRAMES, TLS);
    }
    if (!tls_pem.bytes) { /* the first run fills the library's caches */
        layers[0] = TLS;
    }
    deflated = sim_chance(400);
    deflate_options =
        (struct cs_ws_deflate_options){.send_bits = CS_WS_BITS_MIN, .receive_bits = CS_WS_BITS_MIN};
    deflate_options.send_takeover = deflate_options.receive_takeover = sim_chance(500);
    open_tls();
    tunnels_n = (unsigned)sim_between(1, TUNNELS_MAX);
    listeners_open = 0;
    for (unsigned i = 0; i < tunnels_n * hops_n; i++) {
        open_hop(&tunnels[i / hops_n], i % hops_n);
    }
}

static bool all_done(void)
{
    for (unsigned i = 0; i < tunnels_n; i++) {
        if (!sim_tunnel_settled(&tunnels[i].far)) {
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
    for (unsigned i = 0; i < tunnels_n * hops_n; i++) {
        cs_listener_close(tunnels[i / hops_n].hops[i % hops_n].listener, on_listener_closed, NULL);
    }
    while (listeners_open) {
        sim_cell_turn(&cell, 1000);
    }
    sim_cell_close(&cell);
    SIM_CHECK(stream_frame_count() == 0);
    close_tls();
    for (unsigned i = 0; i < tunnels_n; i++) {
        for (unsigned k = 0; k < hops_n; k++) {
            SIM_CHECK(!tunnels[i].hops[k].relaying);
        }
        sim_tunnel_stop(&tunnels[i].far);
    }
}

static void start(unsigned i, enum sim_flow_plan client, enum sim_flow_plan origin)
{
    sim_tunnel_start(&tunnels[i].far, i, &tunnels[i].hops[0].addr, client, origin, BYTES_MAX);
}

static void run_polite(void)
{
    setup();
    for (unsigned i = 0; i < tunnels_n; i++) {
        enum sim_flow_plan plan = sim_chance(500) ? SIM_FLOW_POLITE : SIM_FLOW_REPLY;
        bool swap = sim_chance(500);
        start(i, swap ? plan : SIM_FLOW_POLITE, swap ? SIM_FLOW_POLITE : plan);
    }
    run_to_end();
    for (unsigned i = 0; i < tunnels_n; i++) {
        const struct tunnel *t = &tunnels[i];
        sim_tunnel_check_complete(&t->far);
        for (unsigned k = 0; k < hops_n; k++) {
            SIM_CHECK(t->hops[k].done && t->hops[k].result.err == 0);
            SIM_CHECK(t->hops[k].result.bytes[0] == t->far.up_size);
            SIM_CHECK(t->hops[k].result.bytes[1] == t->far.down_size);
        }
    }
    teardown();
}

static void run_rough(void)
{
    setup();
    for (unsigned i = 0; i < tunnels_n; i++) {
        start(i, sim_flow_draw(), sim_flow_draw());
    }
    run_to_end();
    teardown();
}

static void run_abort(void)
{
    setup();
    for (unsigned i = 0; i < tunnels_n; i++) {
        start(i, sim_flow_draw(), sim_flow_draw());
    }
    for (uint64_t turns = sim_below(300); turns > 0; turns--) {
        sim_cell_turn(&cell, 100);
    }
    cs_net_close_all(&cell.net, true, CS_ESHUTDOWN);
    teardown();
}

int main(int argc, char **argv)
{
    static const struct sim_case cases[] = {
        {"polite", run_polite, 150},
        {"rough", run_rough, 150},
        {"abort", run_abort, 200},
    };
    return sim_main(argc, argv, cases, CS_ARRAY_LEN(cases));
}
