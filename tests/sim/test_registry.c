/*
 * test_registry - reloads: generations bind addresses, are committed or rolled back, at random
 * times and while clients connect. An address that every generation has never loses or refuses a
 * client.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/conn.h"
#include "net/registry.h"
#include "sim.h"
#include "sim_cell.h"
#include "sim_flow.h"

#define ADDRS 6
#define STABLE 2 /* the first of these every generation binds */
#define CLIENTS_MAX 30
#define GREETING 100
#define GREETING_ID 7

/* What a generation holds. */
struct owner {
    struct owner *next;
    struct cs_bound *bound;
    unsigned gen, address;
    bool lazy; /* takes later */
};

struct client {
    struct sim_flow flow;
    unsigned address;
    bool started;
};

static struct sim_cell cell;
static struct cs_registry *registry;
static struct owner *owners;
static struct client clients[CLIENTS_MAX];
static unsigned clients_n, gen_now, gen_loading;
static bool stopping, stopped, in_call;

static struct cs_addr address(unsigned i)
{
    struct cs_addr a;
    SIM_CHECK(cs_addr_parse(&a, "127.0.0.1", (uint16_t)(100 + i)) == 0);
    return a;
}

/* ---- a generation ---- */

/* Every connection is greeted and closed. */
static void serve(struct owner *o)
{
    uint8_t buf[GREETING];
    struct cs_conn *c;
    struct cs_chain data;
    while ((c = cs_bound_take(o->bound))) {
        struct cs_stream *s = cs_conn_stream(c);
        cs_chain_init(&data);
        sim_stream_fill(GREETING_ID, 0, buf, sizeof buf);
        SIM_CHECK(cs_chain_append(&data, buf, sizeof buf) == 0);
        int err = cs_stream_write(s, &data);
        SIM_CHECK(err == 0 || err == s->err);
        cs_stream_close(s, CS_CLOSE_GRACEFUL, 0);
    }
}

static void on_ready(void *user)
{
    struct owner *o = user;
    SIM_CHECK(!in_call);
    if (!o->lazy) {
        serve(o);
    }
}

static void owner_free(struct owner *o)
{
    for (struct owner **p = &owners; *p; p = &(*p)->next) {
        if (*p == o) {
            *p = o->next;
            free(o);
            return;
        }
    }
    sim_fail("an owner loses its address twice");
}

static void on_lost(void *user)
{
    owner_free(user);
}

static const struct cs_bound_user bound_user = {on_ready, on_lost};

static void bind_address(unsigned i, unsigned gen, bool live)
{
    struct cs_addr a = address(i);
    struct cs_listen_options options = {.backlog = (int)sim_between(1, 20)};
    struct owner *o = calloc(1, sizeof *o);
    o->gen = gen;
    o->address = i;
    o->lazy = sim_chance(300);
    in_call = true;
    int err = cs_registry_bind(registry, &o->bound, &cell.net, &a, &options, "sim", gen, live,
                               false, &bound_user, o);
    in_call = false;
    if (err < 0) {
        /* This generation has it, or an older one that is still closing it. */
        SIM_CHECK(err == -EADDRINUSE && i >= STABLE);
        free(o);
        return;
    }
    o->next = owners;
    owners = o;
}

static void load(void)
{
    gen_loading = gen_now + 1;
    for (unsigned i = 0; i < ADDRS; i++) {
        if (i < STABLE || sim_chance(400)) {
            bind_address(i, gen_loading, false);
        }
    }
}

static void commit(void)
{
    gen_now = gen_loading;
    gen_loading = 0;
    cs_registry_commit(registry, &cell.net, gen_now);
}

static void rollback(void)
{
    unsigned gen = gen_loading;
    gen_loading = 0;
    cs_registry_rollback(registry, &cell.net, gen);
    for (const struct owner *o = owners; o; o = o->next) {
        SIM_CHECK(o->gen != gen);
    }
}

/* Lazy owners take in the script phase; some addresses are given up. */
static void owners_act(void)
{
    for (struct owner *o = owners, *next; o; o = next) {
        next = o->next;
        if (sim_chance(300)) {
            serve(o);
        }
        if (o->address >= STABLE && sim_chance(20)) {
            cs_bound_close(o->bound);
            owner_free(o);
        }
    }
}

static bool script_phase(void *arg)
{
    (void)arg;
    owners_act();
    if (stopped) {
        return owners != NULL;
    }
    if (stopping) {
        stopped = true;
        cs_registry_stop(registry);
        if (gen_loading) {
            rollback();
        }
        return true;
    }
    if (gen_loading && sim_chance(100)) {
        (sim_chance(600) ? commit : rollback)();
    } else if (!gen_loading && sim_chance(50)) {
        load();
    } else if (sim_chance(30)) {
        bind_address((unsigned)sim_between(STABLE, ADDRS - 1), gen_now, true);
    }
    return owners != NULL && sim_chance(200);
}

/* ---- clients ---- */

static void client_start(void)
{
    struct client *c = &clients[clients_n++];
    c->address = (unsigned)sim_below(ADDRS);
    struct cs_addr a = address(c->address);
    sim_flow_start(&c->flow, sim_peer_connect(&a), SIM_FLOW_POLITE, sim_rand(), sim_below(200),
                   GREETING_ID);
}

static bool clients_done(void)
{
    for (unsigned i = 0; i < clients_n; i++) {
        if (!clients[i].flow.ended) {
            return false;
        }
    }
    return true;
}

static void clients_check(void)
{
    for (unsigned i = 0; i < clients_n; i++) {
        const struct client *c = &clients[i];
        if (c->address < STABLE && (c->flow.got != GREETING || c->flow.err)) {
            sim_fail("client %u of stable address %u got %llu bytes, end=%d err=%d", i, c->address,
                     (unsigned long long)c->flow.got, c->flow.eof, c->flow.err);
        }
    }
}

/* ---- the run ---- */

static void setup(void)
{
    struct cs_net_config config;
    memset(clients, 0, sizeof clients);
    owners = NULL;
    clients_n = gen_loading = 0;
    gen_now = 1;
    stopping = stopped = false;
    sim_cell_marks(&config);
    sim_cell_open(&cell, &config);
    SIM_CHECK(cs_registry_create(&registry, NULL, 0) == 0);
    cs_loop_set_phase(cell.loop, CS_PHASE_SCRIPT, script_phase, NULL);
    for (unsigned i = 0; i < STABLE; i++) {
        bind_address(i, gen_now, true);
    }
}

static void teardown(void)
{
    stopping = true;
    for (unsigned i = 0; !cs_registry_idle(registry) || owners; i++) {
        SIM_CHECK(i < SIM_CELL_TURNS_MAX);
        sim_cell_turn(&cell, 10);
    }
    cs_loop_set_phase(cell.loop, CS_PHASE_SCRIPT, NULL, NULL);
    cs_registry_destroy(registry);
    sim_cell_close(&cell);
    for (unsigned i = 0; i < clients_n; i++) {
        sim_flow_stop(&clients[i].flow);
    }
}

static void play(uint64_t turns)
{
    while (turns-- > 0) {
        if (clients_n < CLIENTS_MAX && sim_chance(200)) {
            client_start();
        }
        sim_cell_turn(&cell, (int64_t)sim_below(10));
    }
}

static void run_reload(void)
{
    setup();
    play(sim_between(100, 600));
    while (!clients_done()) {
        sim_cell_turn(&cell, 10);
    }
    clients_check();
    teardown();
}

/* The end comes in the middle of everything. */
static void run_stop(void)
{
    setup();
    play(sim_between(1, 200));
    teardown();
}

int main(int argc, char **argv)
{
    static const struct sim_case cases[] = {
        {"reload", run_reload, 150},
        {"stop", run_stop, 300},
    };
    return sim_main(argc, argv, cases, CS_ARRAY_LEN(cases));
}
