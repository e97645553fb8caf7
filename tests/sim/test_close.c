/*
 * test_close - every call of a stream at every time: random sequences of write, consume, pause,
 * resume, shutdown, close, abort, watch and detach on accepted and dialled connections, from the
 * script phase and from inside events, while the far ends do as they like. The rules of stream.h
 * hold throughout: no event from inside a call, none after on_closed or detach, on_closed once.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn.h"
#include "net/listener.h"
#include "sim.h"
#include "sim_cell.h"
#include "sim_flow.h"

#define ENDS_MAX 10
#define BYTES_MAX 10000

/* The far end of one connection, and the stream that the engine sends to it. */
struct far {
    struct sim_actor actor; /* of an origin: accepts */
    struct sim_far_listener *listener;
    struct cs_addr addr;
    struct sim_flow flow;
    bool met;
    uint64_t id;      /* of what the engine writes */
    uint64_t written; /* by the engine, accepted */
    bool whole;       /* closed gracefully, so all of that must arrive */
};

/* One connection as its user sees it. */
struct user {
    struct user *next;
    struct cs_stream *stream;
    struct far *far;
    bool connecting, closing, eof, broken, shut, full;
    unsigned calls; /* deep: an event now comes from inside a call */
};

static struct sim_cell cell;
static struct cs_net_config config;
static struct cs_listener *listener;
static struct cs_addr addr;
static struct far fars[ENDS_MAX];
static unsigned fars_n;
static struct user *users;
static bool listener_gone, ending, gentle;
static bool faults;    /* memory runs out, ops cannot be started */
static bool close_now; /* from now on the script phase closes all: calls belong into a turn */

/* ---- calls ---- */

static void user_free(struct user *u)
{
    for (struct user **p = &users; *p; p = &(*p)->next) {
        if (*p == u) {
            *p = u->next;
            free(u);
            return;
        }
    }
    sim_fail("a user is freed twice");
}

static void call_write(struct user *u)
{
    uint8_t buf[2000];
    struct cs_chain data;
    size_t n = sim_size(sizeof buf);
    cs_chain_init(&data);
    sim_stream_fill(u->far->id, u->far->written, buf, n);
    if (cs_chain_append(&data, buf, n) < 0) {
        SIM_CHECK(faults);
        return;
    }
    int err = cs_stream_write(u->stream, &data);
    SIM_CHECK(cs_chain_len(&data) == 0 && !cs_chain_first(&data));
    if (faults && err == -ENOMEM && !u->stream->err) {
        return; /* nothing was taken, the stream goes on */
    }
    if (err == 0) {
        SIM_CHECK(!u->closing && !u->shut && !u->broken && !u->connecting);
        u->far->written += n;
        u->full = u->full || cs_stream_room(u->stream) == 0;
    } else {
        SIM_CHECK(u->closing || u->shut || u->broken || u->connecting || ending);
    }
}

static void call_consume(struct user *u)
{
    struct cs_chain into;
    size_t had = cs_chain_len(&u->stream->in);
    size_t n = sim_chance(500) ? had : (size_t)sim_below(had + 1);
    bool keep = sim_chance(500);
    cs_chain_init(&into);
    int err = cs_stream_consume(u->stream, n, keep ? &into : NULL);
    SIM_CHECK(err == 0 || (faults && keep && err == -ENOMEM));
    SIM_CHECK(cs_chain_len(&u->stream->in) + cs_chain_len(&into) == had - (keep ? 0 : n));
    SIM_CHECK(err < 0 || cs_chain_len(&u->stream->in) == had - n);
    cs_chain_clear(&into);
}

static void call_close(struct user *u, enum cs_close_how how)
{
    bool was_whole = !u->closing && !u->broken && !u->connecting;
    u->far->whole = how == CS_CLOSE_GRACEFUL && (was_whole || u->far->whole);
    u->closing = true;
    cs_stream_close(u->stream, how, sim_chance(500) ? 0 : CS_ECLOSED);
}

static void call_bottom(struct user *u)
{
    static const int one = 1;
    struct cs_conn *c = cs_conn_of(cs_stream_bottom(u->stream));
    struct cs_addr a;
    int err;
    switch (sim_below(4)) {
    case 0:
        cs_conn_watch(c);
        break;
    case 1:
        err = cs_conn_setsockopt(c, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        SIM_CHECK(err == 0 || err == CS_ECLOSED);
        break;
    case 2:
        err = cs_conn_sockname(c, &a);
        SIM_CHECK(err <= 0);
        break;
    default:
        err = cs_conn_peername(c, &a);
        SIM_CHECK(err <= 0);
        break;
    }
}

/* False: the user let go of the stream and is gone. */
static bool call_detach(struct user *u)
{
    struct cs_stream *s = u->stream;
    if (u->connecting) {
        return true; /* who dials waits for the connection */
    }
    if (!u->closing) {
        call_close(u, sim_chance(500) ? CS_CLOSE_ABORT : CS_CLOSE_GRACEFUL);
    }
    cs_stream_detach(s);
    user_free(u);
    return false;
}

/* One call, any. False when u is gone. */
static bool act(struct user *u)
{
    enum cs_close_how how = gentle ? CS_CLOSE_GRACEFUL : CS_CLOSE_ABORT;
    bool here = true;
    u->calls++;
    /* One that connects has no user yet but for who dialled it, and may only be given up. */
    switch (u->connecting ? 6 : sim_below(gentle ? 16 : 20)) {
    case 0:
        cs_stream_pause(u->stream);
        break;
    case 1:
    case 2:
    case 3:
        cs_stream_resume(u->stream);
        break;
    case 4:
        call_bottom(u);
        break;
    case 5:
        if (sim_chance(100)) {
            cs_stream_shutdown(u->stream);
            u->shut = true;
        }
        break;
    case 6:
        if (sim_chance(100)) {
            call_close(u, sim_chance(500) ? CS_CLOSE_GRACEFUL : how);
        }
        break;
    case 7:
    case 8:
    case 9:
    case 10:
        call_consume(u);
        break;
    case 16:
        if (sim_chance(100)) {
            call_close(u, how);
        }
        break;
    case 17:
        here = !sim_chance(50) || call_detach(u);
        break;
    default:
        call_write(u);
        break;
    }
    if (here) {
        SIM_CHECK((cs_stream_room(u->stream) > 0) <= !u->closing);
        u->calls--;
    }
    return here;
}

/* Any user, or NULL. */
static struct user *draw_user(void)
{
    unsigned n = 0;
    struct user *found = NULL;
    for (struct user *u = users; u; u = u->next) {
        found = sim_below(++n) == 0 ? u : found;
    }
    return found;
}

/* ---- events ---- */

static void check_event(const struct user *u, const struct cs_stream *s)
{
    SIM_CHECK(u->stream == s);
    SIM_CHECK(u->calls == 0); /* not from inside a call */
    SIM_CHECK(!u->connecting);
}

/* Sometimes a user acts from inside an event. */
static void maybe_act(struct user *u)
{
    unsigned more = u->calls > 0 ? 0 : 300;
    while (sim_chance(more) && act(u)) {
    }
}

static void on_input(void *user, struct cs_stream *s)
{
    struct user *u = user;
    check_event(u, s);
    SIM_CHECK(!u->closing && !u->eof && !u->broken && cs_chain_len(&s->in) > 0);
    maybe_act(u);
}

static void on_room(void *user, struct cs_stream *s)
{
    struct user *u = user;
    check_event(u, s);
    SIM_CHECK(!u->closing && !u->broken && u->full && cs_stream_room(s) > 0);
    u->full = false;
    maybe_act(u);
}

static void on_eof(void *user, struct cs_stream *s, int err)
{
    struct user *u = user;
    check_event(u, s);
    SIM_CHECK(!u->closing && s->eof && s->err == err);
    SIM_CHECK(!u->broken && (err || !u->eof)); /* once clean, once with an error */
    u->eof = true;
    u->broken = err != 0;
    maybe_act(u);
}

static void on_closed(void *user, struct cs_stream *s)
{
    struct user *u = user;
    SIM_CHECK(u->stream == s && u->calls == 0);
    SIM_CHECK(u->closing || ending);
    user_free(u);
    /* The last event of one is where a user turns to another. */
    u = draw_user();
    if (u && sim_chance(300)) {
        maybe_act(u);
    } else if (u && !gentle && sim_chance(100)) {
        u->calls++;
        call_write(u);
        call_close(u, CS_CLOSE_ABORT);
        u->calls--;
    }
}

static const struct cs_stream_user stream_user = {on_input, on_room, on_eof, on_closed};

static struct user *user_create(struct cs_conn *c, struct far *f)
{
    struct user *u = calloc(1, sizeof *u);
    u->stream = cs_conn_stream(c);
    u->far = f;
    u->next = users;
    users = u;
    cs_stream_attach(u->stream, &stream_user, u);
    return u;
}

/* ---- accepted and dialled ---- */

static void on_ready(void *arg)
{
    struct cs_conn *c;
    (void)arg;
    while ((c = cs_listener_take(listener))) {
        struct cs_addr peer;
        struct far *found = NULL;
        int err = cs_conn_peername(c, &peer);
        for (unsigned i = 0; i < fars_n && !found && err == 0; i++) {
            const struct sim_peer *p = fars[i].flow.peer;
            found = p && cs_addr_equal(sim_peer_local(p), &peer) ? &fars[i] : NULL;
        }
        if (found) {
            user_create(c, found);
        } else { /* gone already */
            cs_stream_close(cs_conn_stream(c), CS_CLOSE_ABORT, 0);
        }
    }
}

static void on_connected(void *arg, struct cs_conn *c, int err)
{
    struct user *u = arg;
    SIM_CHECK(u->connecting && u->calls == 0 && !u->closing && cs_conn_stream(c) == u->stream);
    u->connecting = false;
    if (err) {
        u->broken = true;
        call_close(u, sim_chance(500) ? CS_CLOSE_ABORT : CS_CLOSE_GRACEFUL);
    } else {
        maybe_act(u);
    }
}

static bool far_accept(struct sim_actor *a)
{
    struct far *f = cs_container_of(a, struct far, actor);
    struct sim_peer *p = f->met ? NULL : sim_far_accept(f->listener);
    if (!p) {
        return false;
    }
    f->met = true;
    sim_flow_start(&f->flow, p, gentle ? SIM_FLOW_SILENT : sim_flow_draw(), sim_rand(),
                   sim_size(BYTES_MAX), f->id);
    return true;
}

static void far_dialled(struct far *f, unsigned i)
{
    static const enum sim_route routes[] = {
        SIM_ROUTE_OPEN,      SIM_ROUTE_OPEN,    SIM_ROUTE_OPEN, SIM_ROUTE_REFUSE,
        SIM_ROUTE_BLACKHOLE, SIM_ROUTE_UNREACH, SIM_ROUTE_RESET};
    char ip[32];
    snprintf(ip, sizeof ip, "10.0.0.%u", i + 1);
    SIM_CHECK(cs_addr_parse(&f->addr, ip, 80) == 0);
    sim_route(&f->addr, gentle ? SIM_ROUTE_OPEN : routes[sim_below(CS_ARRAY_LEN(routes))]);
    f->listener = sim_far_listen(&f->addr, 5);
    sim_actor_add(&f->actor, far_accept);
    /* The user first: there is no stream to attach before the dial. */
    struct user *u = calloc(1, sizeof *u);
    struct cs_conn *c = cs_conn_dial(&cell.net, &f->addr, NULL, on_connected, u);
    SIM_CHECK(c);
    *u = (struct user){.next = users, .stream = cs_conn_stream(c), .far = f, .connecting = true};
    users = u;
    cs_stream_attach(u->stream, &stream_user, u);
}

static void far_client(struct far *f)
{
    f->met = true;
    sim_flow_start(&f->flow, sim_peer_connect(&addr), gentle ? SIM_FLOW_SILENT : sim_flow_draw(),
                   sim_rand(), sim_size(BYTES_MAX), f->id);
}

/* ---- the run ---- */

static void close_users(void)
{
    for (struct user *u = users; u; u = u->next) {
        if (u->closing) {
            continue;
        }
        u->calls++;
        call_close(u, gentle || sim_chance(500) ? CS_CLOSE_GRACEFUL : CS_CLOSE_ABORT);
        u->calls--;
    }
}

static bool script_phase(void *arg)
{
    (void)arg;
    if (close_now) {
        close_users();
    }
    for (unsigned i = 0; i < 3 && users; i++) {
        act(draw_user());
    }
    return users && sim_chance(300);
}

static void on_listener_closed(void *arg)
{
    (void)arg;
    listener_gone = true;
}

static void setup(void)
{
    memset(fars, 0, sizeof fars);
    users = NULL;
    listener_gone = ending = close_now = false;
    sim_cell_marks(&config);
    sim_cell_open(&cell, &config);
    SIM_CHECK(cs_addr_parse(&addr, "127.0.0.1", 80) == 0);
    SIM_CHECK(
        cs_listener_open(&listener, NULL, 0, &addr, &(struct cs_listen_options){0}, "close") == 0);
    cs_listener_attach(listener, on_ready, NULL);
    cs_listener_start(listener, &cell.net);
    cs_loop_set_phase(cell.loop, CS_PHASE_SCRIPT, script_phase, NULL);
    fars_n = (unsigned)sim_between(1, ENDS_MAX);
    for (unsigned i = 0; i < fars_n; i++) {
        fars[i].id = sim_rand();
        if (sim_chance(500)) {
            far_dialled(&fars[i], i);
        } else {
            far_client(&fars[i]);
        }
    }
}

static void teardown(void)
{
    ending = true;
    sim_cell_fail_nth(0);
    sim_knobs()->start_error_pm = 0;
    cs_listener_close(listener, on_listener_closed, NULL);
    while (!listener_gone) {
        sim_cell_turn(&cell, 1000);
    }
    sim_cell_close(&cell);
    SIM_CHECK(!users);
    for (unsigned i = 0; i < fars_n; i++) {
        if (fars[i].met) {
            sim_flow_stop(&fars[i].flow);
        }
        if (fars[i].listener) {
            sim_actor_remove(&fars[i].actor);
            sim_far_close(fars[i].listener);
        }
    }
}

/* A wait without events must end by itself, for the script phase acts all the time. */
static void play(uint64_t turns)
{
    while (turns-- > 0) {
        if (faults && sim_chance(100)) {
            sim_cell_fail_nth((unsigned long)sim_between(1, 30));
        }
        sim_cell_turn(&cell, (int64_t)sim_below(10));
    }
}

static void chaos(void)
{
    play(sim_below(600));
    if (sim_chance(700)) {
        close_now = true;
        play(sim_between(1, 300));
    }
    teardown();
}

static void run_chaos(void)
{
    gentle = faults = false;
    setup();
    chaos();
}

/* The same while memory runs out and ops cannot be started. */
static void run_faults(void)
{
    gentle = false;
    setup();
    faults = true;
    sim_knobs()->start_error_pm = (unsigned)sim_between(0, 50);
    sim_knobs()->shutdown_error_pm = (unsigned)sim_between(0, 300);
    chaos();
    faults = false;
}

/* Far ends that read everything: what was written before a graceful close arrives. No latency, and
 * no time passes in a turn, because a drain ends after a time. */
static void run_graceful(void)
{
    sim_knobs()->latency_ms = sim_knobs()->drift_ms = 0;
    gentle = true;
    faults = false;
    setup();
    for (unsigned i = 0; i < fars_n; i++) {
        fars[i].flow.slow_pm = 0;
    }
    play(sim_below(600));
    close_now = true;
    play(1);
    ending = true;
    sim_cell_drain(&cell);
    for (unsigned i = 0; i < fars_n; i++) {
        while (fars[i].met && !fars[i].flow.ended) {
            sim_cell_turn(&cell, 10);
        }
    }
    for (unsigned i = 0; i < fars_n; i++) {
        const struct far *f = &fars[i];
        if (f->met && f->whole && f->flow.got != f->written) {
            sim_fail("closed gracefully after %llu bytes, but %llu arrived (end=%d err=%d)",
                     (unsigned long long)f->written, (unsigned long long)f->flow.got, f->flow.eof,
                     f->flow.err);
        }
    }
    teardown();
}

/* Far ends that neither read nor end: a graceful close has its deadlines. */
static void run_deadlines(void)
{
    gentle = true;
    faults = false;
    setup();
    play(sim_below(100));
    for (unsigned i = 0; i < fars_n; i++) {
        struct sim_flow *f = &fars[i].flow;
        f->plan = sim_chance(500) ? SIM_FLOW_DEAF : SIM_FLOW_STUCK;
        f->limit = 0;
        f->slow_pm = 0; /* who takes a byte now and then moves the deadline for long */
    }
    cs_listener_attach(listener, NULL, NULL);
    close_now = true;
    play(1);
    ending = true;
    uint64_t t = sim_now_ms(), limit_ms = config.flush_ms + config.drain_ms;
    while (users) {
        /* Every byte that goes out moves the deadline: so many kernels' buffers at most. */
        SIM_CHECK(sim_now_ms() <= t + 2 * limit_ms);
        sim_cell_turn(&cell, 1000);
    }
    teardown();
}

int main(int argc, char **argv)
{
    static const struct sim_case cases[] = {
        {"chaos", run_chaos, 400},
        {"faults", run_faults, 400},
        {"graceful", run_graceful, 40},
        {"deadlines", run_deadlines, 100},
    };
    return sim_main(argc, argv, cases, CS_ARRAY_LEN(cases));
}
