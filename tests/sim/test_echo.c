/*
 * test_echo - listener and conn under an echo server that reads when it likes: every polite client
 * gets its own bytes back and a clean end, whatever the kernel does; and nothing is left behind.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn.h"
#include "net/listener.h"
#include "sim.h"
#include "sim_cell.h"
#include "sim_flow.h"

#define CLIENTS_MAX 12
#define BYTES_MAX 20000

static struct sim_cell cell;
static struct cs_listener *listener;
static struct cs_addr addr;
static struct sim_flow clients[CLIENTS_MAX];
static unsigned clients_n, sessions_open;
static bool listener_gone, stopping;
static bool idle_server; /* does nothing with what it reads */
static struct session *only_session;

/* ---- the server ---- */

struct session {
    struct cs_stream *stream;
    struct cs_timer lazy; /* reads later what it did not read at once */
    unsigned lazy_pm;
    bool paused, eof, closing;
};

static void session_close(struct session *s, enum cs_close_how how, int why)
{
    s->closing = true;
    cs_timer_stop(cs_loop_wheel(cell.loop), &s->lazy);
    cs_stream_close(s->stream, how, why);
}

/* Echoes n bytes of what is there, more if the end has been seen: nothing may stay then. */
static void session_echo(struct session *s, size_t n)
{
    struct cs_chain data;
    cs_chain_init(&data);
    SIM_CHECK(cs_stream_consume(s->stream, n, &data) == 0);
    SIM_CHECK(cs_chain_len(&data) == n);
    int err = cs_stream_write(s->stream, &data);
    SIM_CHECK(cs_chain_len(&data) == 0);
    SIM_CHECK(err == 0 || !s->stream->err || err == s->stream->err); /* it may know before on_eof */
    if (err < 0) {
        session_close(s, CS_CLOSE_ABORT, err);
    }
}

static void session_go_on(struct session *s)
{
    size_t n = cs_chain_len(&s->stream->in);
    if (s->closing || idle_server) {
        return;
    }
    if (n > 0 && cs_stream_room(s->stream) > 0) {
        session_echo(s, sim_chance(300) ? sim_size(n) : n);
    }
    if (s->closing) {
        return;
    }
    n = cs_chain_len(&s->stream->in);
    if (n == 0 && s->eof) {
        session_close(s, CS_CLOSE_GRACEFUL, 0);
        return;
    }
    bool full = cs_stream_room(s->stream) == 0;
    if (n > 0 && !full && !cs_timer_active(&s->lazy)) {
        cs_timer_set(cs_loop_wheel(cell.loop), &s->lazy, cs_loop_now(cell.loop) + sim_below(5));
    }
    if (full != s->paused) {
        s->paused = full;
        (full ? cs_stream_pause : cs_stream_resume)(s->stream);
    }
}

static void session_lazy(struct cs_timer *t)
{
    session_go_on(cs_container_of(t, struct session, lazy));
}

static void on_input(void *user, struct cs_stream *stream)
{
    struct session *s = user;
    SIM_CHECK(stream == s->stream && !s->closing && !s->eof && cs_chain_len(&stream->in) > 0);
    if (sim_chance(s->lazy_pm)) {
        if (!cs_timer_active(&s->lazy)) {
            cs_timer_set(cs_loop_wheel(cell.loop), &s->lazy,
                         cs_loop_now(cell.loop) + sim_below(20));
        }
        return;
    }
    session_go_on(s);
}

static void on_room(void *user, struct cs_stream *stream)
{
    struct session *s = user;
    SIM_CHECK(!s->closing && cs_stream_room(stream) > 0);
    session_go_on(s);
}

static void on_eof(void *user, struct cs_stream *stream, int err)
{
    struct session *s = user;
    SIM_CHECK(!s->closing && stream->eof && stream->err == err);
    SIM_CHECK(err != 0 || !s->eof);
    s->eof = true;
    if (err) {
        session_close(s, sim_chance(500) ? CS_CLOSE_ABORT : CS_CLOSE_GRACEFUL, err);
    } else {
        session_go_on(s);
    }
}

static void on_closed(void *user, struct cs_stream *stream)
{
    struct session *s = user;
    /* cs_net_close_all closes streams over their users' heads. */
    SIM_CHECK((s->closing || stopping) && stream == s->stream);
    cs_timer_stop(cs_loop_wheel(cell.loop), &s->lazy);
    sessions_open--;
    free(s);
}

static const struct cs_stream_user session_user = {on_input, on_room, on_eof, on_closed};

static void session_start(struct cs_conn *c)
{
    struct cs_addr peer;
    struct session *s = calloc(1, sizeof *s);
    s->stream = cs_conn_stream(c);
    s->lazy_pm = sim_chance(500) ? 0 : (unsigned)sim_between(1, 900);
    cs_timer_init(&s->lazy, session_lazy);
    cs_stream_attach(s->stream, &session_user, s);
    SIM_CHECK(cs_chain_len(&s->stream->in) == 0); /* a new stream is paused */
    SIM_CHECK(cs_conn_peername(c, &peer) < 0 || cs_addr_port(&peer) >= 40000);
    sessions_open++;
    only_session = s;
    cs_stream_resume(s->stream);
}

static void on_ready(void *user)
{
    struct cs_conn *c;
    (void)user;
    while ((c = cs_listener_take(listener))) {
        session_start(c);
    }
}

static void on_listener_closed(void *user)
{
    (void)user;
    listener_gone = true;
}

static void server_open(const struct cs_net_config *config)
{
    sim_cell_open(&cell, config);
    SIM_CHECK(cs_addr_parse(&addr, sim_chance(500) ? "127.0.0.1" : "::1", 0) == 0);
    SIM_CHECK(cs_listener_open(&listener, NULL, 0, &addr,
                               &(struct cs_listen_options){.backlog = (int)sim_between(1, 20)},
                               "echo") == 0);
    cs_listener_attach(listener, on_ready, NULL);
    cs_listener_start(listener, &cell.net);
    listener_gone = stopping = idle_server = false;
    only_session = NULL;
    sessions_open = 0;
}

static void server_close(void)
{
    stopping = true;
    cs_listener_close(listener, on_listener_closed, NULL);
    while (!listener_gone) {
        sim_cell_turn(&cell, 1000);
    }
    sim_cell_close(&cell);
    SIM_CHECK(sessions_open == 0);
}

/* ---- the clients ---- */

static void clients_start(bool polite)
{
    clients_n = (unsigned)sim_between(1, CLIENTS_MAX);
    for (unsigned i = 0; i < clients_n; i++) {
        uint64_t id = sim_rand();
        sim_flow_start(&clients[i], sim_peer_connect(&addr),
                       polite ? SIM_FLOW_POLITE : sim_flow_draw(), id, sim_size(BYTES_MAX), id);
    }
}

/* An echo server that closes in a row never breaks a polite client. */
static void client_check(const struct sim_flow *f)
{
    if (f->plan == SIM_FLOW_POLITE) {
        if (f->err || f->got != f->out_size || !f->eof) {
            sim_fail("a polite client sent %llu of %llu and got %llu, end=%d err=%d",
                     (unsigned long long)f->sent, (unsigned long long)f->out_size,
                     (unsigned long long)f->got, f->eof, f->err);
        }
    }
}

static bool all_done(void)
{
    for (unsigned i = 0; i < clients_n; i++) {
        if (!clients[i].ended) {
            return false;
        }
    }
    return sessions_open == 0 && cs_net_idle(&cell.net);
}

static void run(bool polite)
{
    struct cs_net_config config;
    sim_cell_marks(&config);
    server_open(&config);
    clients_start(polite);
    sim_set_done(all_done);
    while (!all_done()) {
        sim_cell_turn(&cell, -1);
    }
    for (unsigned i = 0; i < clients_n; i++) {
        client_check(&clients[i]);
    }
    server_close();
}

static void run_polite(void)
{
    run(true);
}

static void run_rough(void)
{
    run(false);
}

/* The daemon ends while all is under way. */
static void run_abort(void)
{
    struct cs_net_config config;
    sim_cell_marks(&config);
    server_open(&config);
    clients_start(false);
    for (uint64_t turns = sim_below(200); turns > 0; turns--) {
        sim_cell_turn(&cell, 100);
    }
    stopping = true;
    if (sim_chance(500)) {
        cs_net_close_all(&cell.net, true, CS_ESHUTDOWN);
    }
    for (unsigned i = 0; i < clients_n; i++) {
        if (sim_chance(500)) {
            sim_flow_stop(&clients[i]);
        }
    }
    cs_listener_close(listener, on_listener_closed, NULL);
    cs_net_close_all(&cell.net, true, CS_ESHUTDOWN);
    while (!listener_gone) {
        sim_cell_turn(&cell, 1000);
    }
    sim_cell_close(&cell);
    for (unsigned i = 0; i < clients_n; i++) {
        sim_flow_stop(&clients[i]);
    }
}

/* More clients than the table has slots: they wait or are lost, and the rest are served. */
static void run_table_full(void)
{
    struct cs_net_config config;
    sim_knobs()->slots_max = (unsigned)sim_between(4, 12);
    sim_cell_marks(&config);
    server_open(&config);
    clients_start(true);
    sim_set_done(all_done);
    while (!all_done()) {
        sim_cell_turn(&cell, -1);
    }
    unsigned served = 0;
    for (unsigned i = 0; i < clients_n; i++) {
        SIM_CHECK(!clients[i].eof || clients[i].got == clients[i].out_size);
        served += clients[i].eof && !clients[i].err;
    }
    SIM_CHECK(served > 0);
    SIM_CHECK(cell.net.count.accept_lost + served >= clients_n);
    server_close();
}

/* A server that never consumes: reading stops at the high mark, but for what the kernel can have
 * handed over before the cancel takes effect. */
static void run_read_ahead(void)
{
    struct cs_net_config config;
    struct sim_config *c = sim_knobs();
    c->cancel_rounds = 0;
    c->delay_pm = c->hold_pm = 0;
    c->small_buffers = CS_MIN(c->small_buffers, 8u);
    c->bulk_size = CS_MIN(c->bulk_size, 2048u);
    uint64_t buffers =
        (uint64_t)c->small_buffers * c->small_size + (uint64_t)c->bulk_buffers * c->bulk_size;
    sim_cell_marks(&config);
    server_open(&config);
    idle_server = true;
    clients_n = 1;
    sim_flow_start(&clients[0], sim_peer_connect(&addr), SIM_FLOW_POLITE, 1, 300000, 1);
    for (unsigned i = 0; i < 2000; i++) {
        sim_cell_turn(&cell, 10);
        SIM_CHECK(!only_session ||
                  cs_chain_len(&only_session->stream->in) <= config.in_high + 2 * buffers);
    }
    SIM_CHECK(only_session &&
              cs_chain_len(&only_session->stream->in) >= CS_MIN(config.in_high, 1000u));
    stopping = true;
    cs_net_close_all(&cell.net, true, CS_ESHUTDOWN);
    server_close();
    sim_flow_stop(&clients[0]);
}

int main(int argc, char **argv)
{
    static const struct sim_case cases[] = {
        {"polite", run_polite, 60},         {"rough", run_rough, 100},
        {"abort", run_abort, 300},          {"read_ahead", run_read_ahead, 60},
        {"table_full", run_table_full, 60},
    };
    return sim_main(argc, argv, cases, CS_ARRAY_LEN(cases));
}
