/*
 * test_udp - datagram sockets under an echo server: whatever the network loses, delays or turns
 * round, what arrives is whole and from whom it says, and nothing is left behind.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "net/udp.h"
#include "sim.h"
#include "sim_cell.h"

#define CLIENTS_MAX 6
#define SENT_MAX 40
#define BYTES_MAX 65507

static struct sim_cell cell;
static struct cs_addr addr; /* of the server */

/* ---- a server that echoes, in the place of a script ---- */

struct server {
    struct cs_udp *udp; /* NULL: closed */
    struct cs_timer lazy;
    bool asleep;  /* reads nothing */
    bool waiting; /* for room */
    unsigned got, errors;
    bool closed_by_engine;
};

static struct server servers[2];

static void server_read(struct server *s)
{
    const struct cs_datagram *d;
    while (s->udp && !s->asleep && !s->waiting && (d = cs_udp_first(s->udp))) {
        struct cs_addr from;
        cs_datagram_from(d, &from);
        int err = cs_udp_send(s->udp, d->data, d->len, &from);
        if (err == -EAGAIN) {
            s->waiting = true;
            cs_udp_watch(s->udp);
            return;
        }
        SIM_CHECK(err == 0 || err == -ECONNREFUSED);
        cs_udp_drop(s->udp);
        s->got++;
    }
    if (s->udp && !s->asleep && !s->waiting) {
        int err = cs_udp_take_error(s->udp);
        s->errors += err < 0;
        SIM_CHECK(err == 0 || err == -ENOMEM || err == -ECONNREFUSED);
        cs_udp_resume(s->udp);
    }
}

static void server_lazy(struct cs_timer *t)
{
    server_read(cs_container_of(t, struct server, lazy));
}

static void on_input(void *user)
{
    struct server *s = user;
    SIM_CHECK(s->udp);
    if (!cs_timer_active(&s->lazy)) {
        cs_timer_set(cs_loop_wheel(cell.loop), &s->lazy, cs_loop_now(cell.loop) + sim_below(5));
    }
}

static void on_room(void *user)
{
    struct server *s = user;
    s->waiting = false;
    server_read(s);
}

static void on_closed(void *user)
{
    struct server *s = user;
    s->udp = NULL;
    s->closed_by_engine = true;
}

static const struct cs_udp_user server_user = {on_input, on_room, on_closed};

/* A result of cs_udp_open. */
static int server_open(struct server *s, unsigned gen, bool staged)
{
    s->udp = NULL;
    s->got = 0;
    s->asleep = s->waiting = s->closed_by_engine = false;
    cs_timer_init(&s->lazy, server_lazy);
    const struct cs_udp_spec spec = {
        .family = AF_INET, .local = &addr, .gen = gen, .staged = staged};
    return cs_udp_open(&s->udp, &cell.net, &spec, &server_user, s);
}

static void server_close(struct server *s)
{
    cs_timer_stop(cs_loop_wheel(cell.loop), &s->lazy);
    if (s->udp) {
        cs_udp_close(s->udp);
        s->udp = NULL;
    }
}

/* ---- clients ---- */

/* Datagram i of a client has its number in front and bytes of stream `id * SENT_MAX + i`. */
struct client {
    struct sim_actor actor;
    struct sim_udp *udp;
    unsigned id, to_send, sent, got;
    bool seen[SENT_MAX];
    size_t sizes[SENT_MAX];
};

static struct client clients[CLIENTS_MAX];
static unsigned clients_n;
static uint8_t buf[BYTES_MAX];

static void client_send(struct client *c)
{
    size_t len = c->sizes[c->sent];
    sim_stream_fill(c->id * SENT_MAX + c->sent, 0, buf, len);
    if (len > 0) {
        buf[0] = (uint8_t)c->sent;
    }
    SIM_CHECK(sim_udp_send(c->udp, buf, len, &addr) == 0);
    c->sent++;
}

/* An empty one has no number: it counts only. */
static void client_receive(struct client *c, size_t len, const struct cs_addr *from)
{
    SIM_CHECK(cs_addr_port(from) == cs_addr_port(&addr));
    c->got++;
    if (len == 0) {
        return;
    }
    unsigned i = buf[0];
    SIM_CHECK(i < c->sent && !c->seen[i] && c->sizes[i] == len);
    c->seen[i] = true;
    sim_stream_verify(c->id * SENT_MAX + i, 1, buf + 1, len - 1);
}

static bool client_step(struct sim_actor *a)
{
    struct client *c = cs_container_of(a, struct client, actor);
    struct cs_addr from;
    ssize_t n = sim_udp_recv(c->udp, buf, &from);
    if (n >= 0) {
        client_receive(c, (size_t)n, &from);
        return true;
    }
    if (c->sent < c->to_send && sim_chance(300)) {
        client_send(c);
        return true;
    }
    return c->sent < c->to_send;
}

static void clients_start(unsigned n, unsigned each, size_t bytes)
{
    clients_n = n;
    for (unsigned i = 0; i < n; i++) {
        struct client *c = &clients[i];
        struct cs_addr a;
        *c = (struct client){.id = i, .to_send = each};
        SIM_CHECK(cs_addr_parse(&a, "127.0.0.1", 0) == 0);
        c->udp = sim_udp_open(&a, NULL);
        for (unsigned j = 0; j < each; j++) {
            c->sizes[j] = sim_chance(50) ? 0 : sim_size(bytes);
        }
        sim_actor_add(&c->actor, client_step);
        c->actor.wake_ms = UINT64_MAX;
    }
}

static void clients_stop(void)
{
    for (unsigned i = 0; i < clients_n; i++) {
        sim_actor_remove(&clients[i].actor);
        sim_udp_close(clients[i].udp);
    }
}

static unsigned sum_sent(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < clients_n; i++) {
        n += clients[i].sent;
    }
    return n;
}

static unsigned sum_got(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < clients_n; i++) {
        n += clients[i].got;
    }
    return n;
}

static bool all_sent(void)
{
    return sum_sent() == clients_n * clients[0].to_send;
}

static unsigned sum_read(void)
{
    return servers[0].got + servers[1].got;
}

/* ---- cases ---- */

static void open_cell(void)
{
    struct cs_net_config config;
    memset(servers, 0, sizeof servers);
    sim_cell_marks(&config);
    config.in_high = CS_MAX(config.in_high, 4096u);
    sim_cell_open(&cell, &config);
    SIM_CHECK(cs_addr_parse(&addr, "127.0.0.1", 5353) == 0);
}

static void turn_for(uint64_t ms)
{
    uint64_t end = sim_now_ms() + ms;
    while (sim_now_ms() < end) {
        sim_cell_turn(&cell, (int64_t)(end - sim_now_ms()));
    }
}

static void turn_until_sent(void)
{
    while (!all_sent()) {
        sim_cell_turn(&cell, 10);
    }
    turn_for(200);
}

/* Everything that was sent came back: the run fails when it never does. */
static void turn_until_answered(void)
{
    while (!all_sent() || sum_got() != sum_sent()) {
        sim_cell_turn(&cell, 10);
    }
    SIM_CHECK(sum_read() == sum_sent());
}

/* Nothing is lost on the way. */
static void lossless(void)
{
    sim_knobs()->lose_pm = 0;
    sim_knobs()->rcvbuf = 1 << 20;
}

/* With every knob. */
static void case_echo(void)
{
    open_cell();
    SIM_CHECK(server_open(&servers[0], 1, false) == 0);
    cs_udp_resume(servers[0].udp);
    clients_start((unsigned)sim_between(1, CLIENTS_MAX), (unsigned)sim_between(1, SENT_MAX),
                  sim_chance(200) ? BYTES_MAX : 1500);
    turn_until_sent();
    SIM_CHECK(sum_got() <= servers[0].got && servers[0].got <= sum_sent());
    clients_stop();
    server_close(&servers[0]);
    sim_cell_close(&cell);
}

/* A network that loses nothing, and a server that keeps up: everything comes back. */
static void case_lossless(void)
{
    lossless();
    open_cell();
    cell.net.config.in_high = 1 << 20;
    SIM_CHECK(server_open(&servers[0], 1, false) == 0);
    cs_udp_resume(servers[0].udp);
    clients_start((unsigned)sim_between(1, CLIENTS_MAX), (unsigned)sim_between(1, SENT_MAX), 1500);
    turn_until_answered();
    SIM_CHECK(cell.net.count.datagrams_in == sum_sent());
    SIM_CHECK(cell.net.count.datagrams_out == sum_sent());
    SIM_CHECK(cell.net.count.datagrams_dropped == 0);
    clients_stop();
    server_close(&servers[0]);
    sim_cell_close(&cell);
}

/* A server that reads nothing: its queue has a bound, and the rest is counted. */
static void case_nobody_reads(void)
{
    lossless();
    open_cell();
    cell.net.config.in_high = 4096;
    SIM_CHECK(server_open(&servers[0], 1, false) == 0);
    struct server *s = &servers[0];
    s->asleep = true;
    cs_udp_resume(s->udp);
    clients_start(CLIENTS_MAX, SENT_MAX, 1000);
    turn_until_sent();
    s->asleep = false;
    uint64_t dropped = cs_udp_dropped(s->udp);
    SIM_CHECK(dropped == cell.net.count.datagrams_dropped);
    size_t bytes = 0, n = 0;
    for (const struct cs_datagram *d; (d = cs_udp_first(s->udp)); cs_udp_drop(s->udp)) {
        bytes += d->len;
        n++;
    }
    SIM_CHECK(n > 0 && bytes <= 4096 && dropped + n == cell.net.count.datagrams_in);
    SIM_CHECK(dropped > 0);
    clients_stop();
    server_close(s);
    sim_cell_close(&cell);
}

/* Closed by its user, or by the engine, with anything under way. */
static void case_close(void)
{
    sim_knobs()->start_error_pm = (unsigned)sim_between(0, 50);
    open_cell();
    SIM_CHECK(server_open(&servers[0], 1, false) == 0);
    cs_udp_resume(servers[0].udp);
    clients_start((unsigned)sim_between(1, CLIENTS_MAX), SENT_MAX, 1500);
    for (uint64_t turns = sim_below(60); turns > 0; turns--) {
        sim_cell_turn(&cell, 5);
    }
    if (sim_chance(500)) {
        cs_udp_watch(servers[0].udp);
    }
    if (sim_chance(500)) {
        server_close(&servers[0]);
        SIM_CHECK(server_open(&servers[1], 1, false) == 0); /* the address is free at once */
        cs_udp_resume(servers[1].udp);
        for (uint64_t turns = sim_below(60); turns > 0; turns--) {
            sim_cell_turn(&cell, 5);
        }
        server_close(&servers[1]);
    }
    clients_stop();
    sim_cell_close(&cell);
    SIM_CHECK(!servers[0].udp);
}

/* Nobody has the port: an error that is told once, and the socket is as good as before. */
static void case_refused(void)
{
    struct cs_addr local;
    struct server *s = &servers[0];
    sim_knobs()->lose_pm = sim_knobs()->full_pm = 0;
    open_cell();
    *s = (struct server){.asleep = true};
    cs_timer_init(&s->lazy, server_lazy);
    const struct cs_udp_spec spec = {.family = AF_INET, .remote = &addr, .gen = 1};
    SIM_CHECK(cs_udp_open(&s->udp, &cell.net, &spec, &server_user, s) == 0);
    cs_udp_resume(s->udp);
    SIM_CHECK(cs_udp_send(s->udp, "x", 1, NULL) == 0);
    turn_for(100);
    SIM_CHECK(!cs_udp_first(s->udp));
    SIM_CHECK(cs_udp_take_error(s->udp) == -ECONNREFUSED);
    SIM_CHECK(cs_udp_take_error(s->udp) == 0);
    SIM_CHECK(cs_udp_sockname(s->udp, &local) == 0);
    struct sim_udp *peer = sim_udp_open(&addr, NULL);
    cs_udp_resume(s->udp);
    SIM_CHECK(cs_udp_send(s->udp, "yes", 3, NULL) == 0);
    turn_for(100);
    struct cs_addr from;
    SIM_CHECK(sim_udp_recv(peer, buf, &from) == 3);
    SIM_CHECK(sim_udp_send(peer, "well", 4, &from) == 0);
    turn_for(100);
    const struct cs_datagram *d = cs_udp_first(s->udp);
    SIM_CHECK(d && d->len == 4 && memcmp(d->data, "well", 4) == 0);
    sim_udp_close(peer);
    server_close(s);
    sim_cell_close(&cell);
}

/* ---- generations ---- */

/* The address goes from old scripts to new ones under traffic, and not one datagram is lost. */
static void case_hand_over(void)
{
    lossless();
    open_cell();
    cell.net.config.in_high = 1 << 20;
    SIM_CHECK(server_open(&servers[0], 1, false) == 0);
    cs_udp_resume(servers[0].udp);
    clients_start(CLIENTS_MAX, SENT_MAX, 1500);
    while (sum_sent() < CLIENTS_MAX * SENT_MAX / 3) {
        sim_cell_turn(&cell, 10);
    }
    SIM_CHECK(server_open(&servers[1], 1, true) == -EADDRINUSE);
    SIM_CHECK(server_open(&servers[1], 2, true) == 0);
    cs_udp_resume(servers[1].udp);
    while (sum_sent() < CLIENTS_MAX * SENT_MAX / 2) {
        sim_cell_turn(&cell, 10);
    }
    SIM_CHECK(servers[1].got == 0 && !cs_udp_lost(servers[0].udp));
    bool early = sim_chance(300); /* the old scripts close before the new ones are in force */
    if (early) {
        server_close(&servers[0]);
        turn_for(10);
    }
    cs_udp_commit(&cell.net, 2);
    SIM_CHECK(!cs_udp_lost(servers[1].udp) && (early || cs_udp_lost(servers[0].udp)));
    unsigned old = servers[0].got;
    if (early) {
        turn_until_sent();
    } else {
        turn_until_answered();
    }
    SIM_CHECK(servers[0].got == old);
    if (!early) { /* it may still send */
        struct cs_addr to, from;
        const uint8_t none = 0;
        sim_knobs()->full_pm = 0;
        SIM_CHECK(cs_addr_parse(&to, "127.0.0.1", 0) == 0);
        struct sim_udp *peer = sim_udp_open(&to, NULL);
        SIM_CHECK(cs_udp_send(servers[0].udp, &none, 0, &to) == 0);
        turn_for(100);
        SIM_CHECK(sim_udp_recv(peer, buf, &from) == 0 && cs_addr_equal(&from, &addr));
        sim_udp_close(peer);
    }
    clients_stop();
    server_close(&servers[0]);
    server_close(&servers[1]);
    sim_cell_close(&cell);
}

/* New scripts that fail leave the old ones as they were; new ones that do not want the address
 * leave it to nobody. */
static void case_generations(void)
{
    lossless();
    open_cell();
    SIM_CHECK(server_open(&servers[0], 1, false) == 0);
    cs_udp_resume(servers[0].udp);
    clients_start(1, 20, 100);
    SIM_CHECK(server_open(&servers[1], 2, true) == 0);
    server_close(&servers[1]);
    turn_until_answered();
    SIM_CHECK(!cs_udp_lost(servers[0].udp));
    clients_stop();
    cs_udp_commit(&cell.net, 3);
    SIM_CHECK(cs_udp_lost(servers[0].udp));
    clients_start(1, 20, 100);
    turn_until_sent();
    SIM_CHECK(sum_got() == 0);
    SIM_CHECK(server_open(&servers[1], 3, false) == 0); /* at run time: taken over at once */
    cs_udp_resume(servers[1].udp);
    while (servers[1].got + cell.net.count.datagrams_dropped < 20) { /* sent to nobody */
        sim_cell_turn(&cell, 10);
    }
    clients_stop();
    clients_start(1, 20, 100);
    servers[0].got = servers[1].got = 0;
    turn_until_answered();
    cs_udp_stop(&cell.net);
    SIM_CHECK(cs_udp_lost(servers[1].udp));
    clients_stop();
    server_close(&servers[0]);
    server_close(&servers[1]);
    sim_cell_close(&cell);
}

int main(int argc, char **argv)
{
    static const struct sim_case cases[] = {
        {"echo", case_echo, 150},
        {"lossless", case_lossless, 150},
        {"nobody_reads", case_nobody_reads, 100},
        {"close", case_close, 300},
        {"refused", case_refused, 300},
        {"hand_over", case_hand_over, 150},
        {"generations", case_generations, 150},
    };
    return sim_main(argc, argv, cases, CS_ARRAY_LEN(cases));
}
