/*
 * test_ring - the simulator's own test: an echo server by hand on the bare ring, with the loop, and
 * the same properties that the kernel's ring has: bytes in order, one final event an op, cancels.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>

#include "base/chain.h"
#include "base/err.h"
#include "ring/loop.h"
#include "sim.h"

#define CLIENTS_MAX 8

static struct cs_loop *loop;
static struct cs_ring *ring;
static struct cs_addr addr;

static void setup(void)
{
    struct cs_ring_config config;
    char why[128];
    cs_ring_config_default(&config);
    SIM_CHECK(cs_ring_create(&ring, &config, why, sizeof why) == 0);
    loop = cs_loop_create(ring);
    SIM_CHECK(loop);
    SIM_CHECK(cs_addr_parse(&addr, "127.0.0.1", 0) == 0);
}

/* ---- the server: one slice at a time is received and sent back ---- */

struct session {
    struct session *next;
    cs_fd fd;
    struct cs_op recv, send;
    struct cs_chain out;
    bool eof, broken;
};

static int listen_fd;
static struct cs_op accept_op;
static struct session *sessions;
static unsigned sessions_open;

static void session_go_on(struct session *s)
{
    if (!s->send.armed && !s->broken && cs_chain_len(&s->out)) {
        struct iovec iov[CS_RING_IOV_MAX];
        unsigned n = cs_chain_iov(&s->out, iov, CS_RING_IOV_MAX);
        cs_ring_send(ring, &s->send, s->fd, iov, n);
    }
    bool over = s->broken || (s->eof && cs_chain_len(&s->out) == 0);
    if (over && s->recv.armed) {
        cs_ring_cancel(ring, &s->recv);
    }
    if (over && !s->recv.armed && !s->send.armed) {
        cs_chain_clear(&s->out);
        cs_ring_close(ring, s->fd, false);
        for (struct session **p = &sessions; *p; p = &(*p)->next) {
            if (*p == s) {
                *p = s->next;
                break;
            }
        }
        free(s);
        sessions_open--;
    } else if (!over && !s->eof && !s->recv.armed && !s->send.armed) {
        cs_ring_recv(ring, &s->recv, s->fd, CS_RING_SMALL);
    }
}

static void on_recv(struct cs_op *op, const struct cs_event *ev)
{
    struct session *s = cs_container_of(op, struct session, recv);
    if (ev->res > 0) {
        SIM_CHECK(ev->slice && ev->slice->len == (uint32_t)ev->res);
        bool keep = cs_ring_may_keep(ev->slice);
        struct cs_chain in; /* not s->out: a send may stand on that */
        cs_chain_init(&in);
        cs_chain_push(&in, ev->slice);
        SIM_CHECK(keep || cs_chain_own(&in) == 0);
        cs_chain_move_all(&s->out, &in);
    } else if (ev->res == 0) {
        s->eof = true;
    } else if (ev->res != -ENOBUFS && ev->res != -ECANCELED) {
        s->broken = true;
    }
    session_go_on(s);
}

static void on_send(struct cs_op *op, const struct cs_event *ev)
{
    struct session *s = cs_container_of(op, struct session, send);
    if (ev->res < 0) {
        s->broken = true;
    } else {
        cs_chain_drop(&s->out, (size_t)ev->res);
    }
    session_go_on(s);
}

static void on_accept(struct cs_op *op, const struct cs_event *ev)
{
    if (ev->res >= 0) {
        struct session *s = calloc(1, sizeof *s);
        s->fd = ev->res;
        cs_op_init(&s->recv, on_recv);
        cs_op_init(&s->send, on_send);
        cs_chain_init(&s->out);
        s->next = sessions;
        sessions = s;
        sessions_open++;
        session_go_on(s);
    }
    if (!ev->more && ev->res != -ECANCELED) {
        cs_ring_accept(ring, op, listen_fd, false);
    }
}

/* ---- the clients ---- */

struct client {
    struct sim_actor actor;
    struct sim_peer *peer;
    uint64_t id, size, sent, got;
    bool shut;
};

static struct client clients[CLIENTS_MAX];
static unsigned clients_open;

static void client_end(struct client *c)
{
    sim_peer_close(c->peer);
    c->peer = NULL;
    sim_actor_remove(&c->actor);
    clients_open--;
}

static bool client_send(struct client *c)
{
    uint8_t buf[512];
    if (c->sent == c->size) {
        return false;
    }
    size_t n = sim_size(CS_MIN(c->size - c->sent, sizeof buf));
    sim_stream_fill(c->id, c->sent, buf, n);
    ssize_t done = sim_peer_write(c->peer, buf, n);
    SIM_CHECK(done >= 0);
    c->sent += (uint64_t)done;
    return done > 0;
}

static bool client_step(struct sim_actor *a)
{
    struct client *c = cs_container_of(a, struct client, actor);
    uint8_t buf[512];
    if (sim_peer_connected(c->peer) != 1) {
        return false;
    }
    bool any = client_send(c);
    if (c->sent == c->size && !c->shut) {
        sim_peer_shutdown(c->peer);
        c->shut = any = true;
    }
    ssize_t n = sim_peer_read(c->peer, buf, sim_size(sizeof buf));
    if (n > 0) {
        sim_stream_verify(c->id, c->got, buf, (size_t)n);
        c->got += (uint64_t)n;
    } else if (n == 0) {
        SIM_CHECK(c->shut && c->got == c->size);
        client_end(c);
    }
    return any || n >= 0;
}

static bool echo_done(void)
{
    return clients_open == 0 && sessions_open == 0;
}

static void run_echo(void)
{
    setup();
    SIM_CHECK(cs_listen_open(&listen_fd, &addr, &(struct cs_listen_options){0}) == 0);
    SIM_CHECK(cs_addr_port(&addr) != 0);
    cs_op_init(&accept_op, on_accept);
    cs_ring_accept(ring, &accept_op, listen_fd, false);
    unsigned n = (unsigned)sim_between(1, CLIENTS_MAX);
    for (unsigned i = 0; i < n; i++) {
        clients[i] = (struct client){.id = sim_rand(), .size = sim_size(5000)};
        clients[i].peer = sim_peer_connect(&addr);
        sim_actor_add(&clients[i].actor, client_step);
    }
    clients_open = n;
    sim_set_done(echo_done);
    while (!echo_done()) {
        cs_loop_turn(loop, -1);
    }
    cs_ring_cancel(ring, &accept_op);
    while (accept_op.armed) {
        cs_loop_turn(loop, -1);
    }
    cs_listen_close(listen_fd, &addr);
    SIM_CHECK(sim_ops_armed(ring) == 0 && sim_slices_lent(ring) == 0);
    cs_loop_destroy(loop);
}

/* ---- connecting out, in all ways ---- */

static int result;
static unsigned results;

static void on_connect(struct cs_op *op, const struct cs_event *ev)
{
    (void)op;
    SIM_CHECK(!ev->more);
    result = ev->res;
    results++;
}

static int connect_once(bool cancel)
{
    cs_fd fd;
    struct cs_op op;
    cs_op_init(&op, on_connect);
    results = 0;
    cs_ring_connect(ring, &op, &fd, &addr, NULL);
    for (unsigned i = 0; op.armed; i++) {
        if (cancel && i == 3) {
            cs_ring_cancel(ring, &op);
        }
        cs_loop_turn(loop, cancel ? 10 : -1);
    }
    SIM_CHECK(results == 1 && fd != CS_FD_NONE);
    cs_ring_close(ring, fd, false);
    return result;
}

static void run_connect(void)
{
    setup();
    sim_knobs()->interrupt_pm = 0;
    cs_addr_set_port(&addr, 7);
    SIM_CHECK(connect_once(false) == -ECONNREFUSED);
    sim_route(&addr, SIM_ROUTE_UNREACH);
    SIM_CHECK(connect_once(false) == -EHOSTUNREACH);
    sim_route(&addr, SIM_ROUTE_BLACKHOLE);
    SIM_CHECK(connect_once(true) == -ECANCELED);
    sim_route(&addr, SIM_ROUTE_RESET);
    SIM_CHECK(connect_once(false) == 0);
    sim_route(&addr, SIM_ROUTE_OPEN);
    struct sim_far_listener *l = sim_far_listen(&addr, 1);
    SIM_CHECK(connect_once(false) == 0);
    int r = connect_once(true);
    SIM_CHECK(r == 0 || r == -ECANCELED);
    sim_far_close(l);
    cs_loop_destroy(loop);
}

/* No descriptor is left, and no memory either: still one final event. */
static void run_connect_without_descriptor(void)
{
    struct cs_op op;
    cs_fd fd, taken[16];
    unsigned n = 0;
    sim_knobs()->slots_max = 8;
    setup();
    while ((taken[n] = cs_ring_udp_open(ring, AF_INET, NULL, &addr, false)) >= 0) {
        SIM_CHECK(++n < CS_ARRAY_LEN(taken));
    }
    sim_knobs()->start_error_pm = 1000;
    cs_op_init(&op, on_connect);
    results = 0;
    cs_ring_connect(ring, &op, &fd, &addr, NULL);
    SIM_CHECK(fd == CS_FD_NONE);
    while (op.armed) {
        cs_loop_turn(loop, -1);
    }
    SIM_CHECK(results == 1 && (result == -ENFILE || result == -EMFILE));
    while (n > 0) {
        cs_ring_udp_close(ring, taken[--n]);
    }
    cs_loop_destroy(loop);
}

/* ---- time ---- */

static void run_time(void)
{
    setup();
    *sim_knobs() = (struct sim_config){.progress_pm = 1000, .turns_max = 100};
    uint64_t t = sim_now_ms();
    cs_loop_turn(loop, 500);
    SIM_CHECK(sim_now_ms() == t + 500);
    cs_loop_destroy(loop);
}

int main(int argc, char **argv)
{
    static const struct sim_case cases[] = {
        {"echo", run_echo, 300},
        {"connect", run_connect, 300},
        {"descriptors", run_connect_without_descriptor, 50},
        {"time", run_time, 10},
    };
    return sim_main(argc, argv, cases, CS_ARRAY_LEN(cases));
}
