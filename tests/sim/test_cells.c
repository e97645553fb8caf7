/*
 * test_cells - several cells of one thread on the same addresses: they open at random times, have
 * tables of a few slots that fill and empty, are reloaded together while clients connect, and end
 * when they are of no use. An address that every generation has in every cell never loses or
 * refuses a client.
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

#define CELLS_MAX 3
#define ENDED_MAX 5
#define ADDRS 3
#define STABLE 1 /* the first of these every generation binds, in every cell */
#define CLIENTS_MAX 120
#define GREETING 100
#define GREETING_ID 7

/* What a generation holds in a cell. */
struct owner {
    struct owner *next;
    struct cs_bound *bound;
    unsigned cell, gen, address;
    bool lazy; /* takes later */
};

struct client {
    struct sim_flow flow;
    unsigned address;
};

static struct cs_loop_set *set;
static struct sim_cell *cells[CELLS_MAX];
static struct sim_cell *ended[ENDED_MAX]; /* no turns any more; closed after the run */
static unsigned cells_n, ended_n;
static struct cs_registry *registry;
static struct owner *owners;
static struct cs_stream *held[CLIENTS_MAX]; /* accepted and not closed yet */
static unsigned held_n;
static struct client clients[CLIENTS_MAX];
static unsigned clients_n, gen_now, gen_loading;

static struct cs_addr address(unsigned i)
{
    struct cs_addr a;
    SIM_CHECK(cs_addr_parse(&a, "127.0.0.1", (uint16_t)(100 + i)) == 0);
    return a;
}

/* ---- owners ---- */

static void greet(struct cs_conn *c)
{
    uint8_t buf[GREETING];
    struct cs_chain data;
    struct cs_stream *s = cs_conn_stream(c);
    cs_chain_init(&data);
    sim_stream_fill(GREETING_ID, 0, buf, sizeof buf);
    SIM_CHECK(cs_chain_append(&data, buf, sizeof buf) == 0);
    int err = cs_stream_write(s, &data);
    SIM_CHECK(err == 0 || err == s->err);
    SIM_CHECK(held_n < CLIENTS_MAX);
    held[held_n++] = s;
}

static void serve(struct owner *o)
{
    struct cs_conn *c;
    while ((c = cs_bound_take(o->bound))) {
        greet(c);
    }
}

static void on_ready(void *user)
{
    struct owner *o = user;
    if (!o->lazy) {
        serve(o);
    }
}

static void owner_free(void *user)
{
    for (struct owner **p = &owners; *p; p = &(*p)->next) {
        if (*p == user) {
            *p = (*p)->next;
            free(user);
            return;
        }
    }
    sim_fail("an owner loses its address twice");
}

static const struct cs_bound_user bound_user = {on_ready, owner_free};

static void bind_address(unsigned cell, unsigned i, unsigned gen, bool live)
{
    struct cs_addr a = address(i);
    struct cs_listen_options options = {.backlog = CLIENTS_MAX};
    struct owner *o = calloc(1, sizeof *o);
    o->cell = cell;
    o->gen = gen;
    o->address = i;
    o->lazy = sim_chance(300);
    int err = cs_registry_bind(registry, &o->bound, &cells[cell]->net, &a, &options, "sim", gen,
                               live, false, &bound_user, o);
    if (err < 0) {
        /* This cell has it already, or somebody is still closing it. */
        SIM_CHECK(err == -EADDRINUSE && i >= STABLE);
        free(o);
        return;
    }
    o->next = owners;
    owners = o;
}

static void stage(unsigned cell, unsigned gen)
{
    for (unsigned i = 0; i < ADDRS; i++) {
        if (i < STABLE || sim_chance(400)) {
            bind_address(cell, i, gen, false);
        }
    }
}

/* ---- generations ---- */

static void load(void)
{
    gen_loading = gen_now + 1;
    for (unsigned i = 0; i < cells_n; i++) {
        stage(i, gen_loading);
    }
}

static void commit(void)
{
    gen_now = gen_loading;
    gen_loading = 0;
    for (unsigned i = 0; i < cells_n; i++) {
        cs_registry_commit(registry, &cells[i]->net, gen_now);
    }
}

static void rollback(void)
{
    unsigned gen = gen_loading;
    gen_loading = 0;
    for (unsigned i = 0; i < cells_n; i++) {
        cs_registry_rollback(registry, &cells[i]->net, gen);
    }
    for (const struct owner *o = owners; o; o = o->next) {
        SIM_CHECK(o->gen != gen);
    }
}

static void open_cell(void)
{
    struct cs_net_config config;
    sim_cell_marks(&config);
    struct sim_cell *c = calloc(1, sizeof *c);
    sim_cell_open(c, &config);
    SIM_CHECK(cs_loop_set_add(set, c->loop) == 0);
    cells[cells_n] = c;
    stage(cells_n, gen_now);
    cs_registry_commit(registry, &c->net, gen_now);
    cells_n++;
}

/* ---- between the turns ---- */

static void close_one(unsigned i)
{
    cs_stream_close(held[i], CS_CLOSE_GRACEFUL, 0);
    held[i] = held[--held_n];
}

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

static void turn(unsigned close_pm)
{
    cs_loop_set_turn(set, (int64_t)sim_below(10));
    owners_act();
    for (unsigned i = held_n; i-- > 0;) {
        if (sim_chance(close_pm)) {
            close_one(i);
        }
    }
}

/* Once a cell is spare nobody comes to it any more, not even while it leaves. */
static void end_cell(void)
{
    struct sim_cell *c = cells[cells_n - 1];
    if (!cs_net_idle(&c->net) || !cs_registry_spare(registry, &c->net)) {
        return;
    }
    cs_registry_leave(registry, &c->net);
    for (unsigned i = 0; !cs_registry_left(registry, &c->net); i++) {
        SIM_CHECK(i < SIM_CELL_TURNS_MAX);
        turn(5);
    }
    SIM_CHECK(cs_net_idle(&c->net));
    cs_loop_set_remove(set, c->loop);
    ended[ended_n++] = c;
    cells_n--;
}

static void generations_act(void)
{
    if (gen_loading && sim_chance(100)) {
        (sim_chance(600) ? commit : rollback)();
    } else if (!gen_loading && sim_chance(50)) {
        load();
    } else if (!gen_loading && cells_n < CELLS_MAX && sim_chance(50)) {
        open_cell();
    } else if (!gen_loading && cells_n > 1 && ended_n < ENDED_MAX && sim_chance(200)) {
        end_cell();
    } else if (sim_chance(30)) {
        bind_address((unsigned)sim_below(cells_n), (unsigned)sim_between(STABLE, ADDRS - 1),
                     gen_now, true);
    }
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
    memset(clients, 0, sizeof clients);
    owners = NULL;
    clients_n = gen_loading = cells_n = ended_n = held_n = 0;
    gen_now = 1;
    sim_knobs()->direct = true; /* ordinary descriptors have no table to fill here */
    sim_knobs()->slots_max = (unsigned)sim_between(48, 80); /* head-room: one per address */
    sim_knobs()->start_error_pm = 0; /* ... and no memory of the kernel's to run out of */
    set = cs_loop_set_create();
    SIM_CHECK(set && cs_registry_create(&registry, NULL, 0) == 0);
    open_cell();
}

static bool all_idle(void)
{
    for (unsigned i = 0; i < cells_n; i++) {
        if (!cs_net_idle(&cells[i]->net)) {
            return false;
        }
    }
    return true;
}

static void cell_free(struct sim_cell *c)
{
    sim_cell_close(c);
    free(c);
}

static void teardown(void)
{
    cs_registry_stop(registry);
    if (gen_loading) {
        rollback();
    }
    for (unsigned i = 0; !cs_registry_idle(registry) || owners; i++) {
        SIM_CHECK(i < SIM_CELL_TURNS_MAX);
        turn(300);
    }
    while (held_n > 0) {
        close_one(0);
    }
    cs_registry_destroy(registry);
    /* Together: a ring with events that nobody takes would keep the world from going on. */
    for (unsigned i = 0; i < cells_n; i++) {
        cs_net_close_all(&cells[i]->net, true, CS_ESHUTDOWN);
    }
    for (unsigned i = 0; !all_idle(); i++) {
        SIM_CHECK(i < SIM_CELL_TURNS_MAX);
        cs_loop_set_turn(set, 10);
    }
    while (cells_n > 0) {
        cs_loop_set_remove(set, cells[--cells_n]->loop);
        cell_free(cells[cells_n]);
    }
    while (ended_n > 0) {
        cell_free(ended[--ended_n]);
    }
    cs_loop_set_destroy(set);
    for (unsigned i = 0; i < clients_n; i++) {
        sim_flow_stop(&clients[i].flow);
    }
}

static void play(uint64_t turns)
{
    unsigned close_pm = 0;
    while (turns-- > 0) {
        if (clients_n < CLIENTS_MAX && sim_chance(500)) {
            client_start();
        }
        if (sim_chance(50)) { /* tables fill for a while, then empty */
            close_pm = sim_chance(500) ? 5 : 100;
        }
        turn(close_pm);
        generations_act();
    }
}

static void run_reload(void)
{
    setup();
    play(sim_between(100, 600));
    while (!clients_done()) {
        turn(100);
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
        {"reload", run_reload, 300},
        {"stop", run_stop, 600},
    };
    return sim_main(argc, argv, cases, CS_ARRAY_LEN(cases));
}
