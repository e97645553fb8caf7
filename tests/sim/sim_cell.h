/*
 * sim_cell - one cell of the real engine (ring, loop, net) for a test, from beginning to end. In a
 * header so that the library of the simulator does not need engine/net.
 */
#ifndef SIM_SIM_CELL_H
#define SIM_SIM_CELL_H

#include <stdio.h>

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/net.h"
#include "sim.h"

/* No test needs longer for everything to end after an abort. */
#define SIM_CELL_TURNS_MAX 10000

/* Later than any timer of a test. */
#define SIM_CELL_LATER_MS 1000000

struct sim_cell {
    struct cs_ring *ring;
    struct cs_loop *loop;
    struct cs_net net;
};

/* Errors would be lost in thousands of runs, all the rest would drown them. */
static void sim_cell_log(enum cs_log_level level, const char *line, size_t len)
{
    if (sim_tracing) {
        sim_trace_line("log   %.*s", (int)len, line);
    } else if (level <= CS_LOG_ERROR && memcmp(line, "assertion", 9) == 0) {
        fprintf(stderr, "%.*s\n", (int)len, line);
    }
}

/* As cs_mem_fail_nth, where that is compiled in. */
static inline void sim_cell_fail_nth(unsigned long n)
{
#ifdef CS_FAULTS
    cs_mem_fail_nth(n);
#else
    (void)n;
#endif
}

/* Small marks, so that every run passes them. */
static inline void sim_cell_marks(struct cs_net_config *c)
{
    cs_net_config_default(c);
    c->out_high = 1u << sim_between(6, 14);
    c->out_low = (uint32_t)sim_between(1, c->out_high);
    c->in_high = 1u << sim_between(6, 14);
    c->in_low = (uint32_t)sim_between(1, c->in_high);
}

static inline void sim_cell_open(struct sim_cell *c, const struct cs_net_config *config)
{
    struct cs_ring_config ring_config;
    char why[256];
    cs_log_set_writer(sim_cell_log);
    cs_ring_config_default(&ring_config);
    SIM_CHECK(cs_ring_create(&c->ring, &ring_config, why, sizeof why) == 0);
    c->loop = cs_loop_create(c->ring);
    SIM_CHECK(c->loop);
    SIM_CHECK(cs_net_init(&c->net, c->loop, config) == 0);
}

/* Between two turns nothing is lent unless output holds it, and then the ring can spare it. */
static inline void sim_cell_turn(struct sim_cell *c, int64_t timeout_ms)
{
    cs_loop_turn(c->loop, timeout_ms);
    SIM_CHECK(c->net.lent_count == 0);
}

/* Waits until every connection has come to its own end. */
static inline void sim_cell_drain(struct sim_cell *c)
{
    while (!cs_net_idle(&c->net)) {
        sim_cell_turn(c, -1);
    }
}

/* Everything that is left is aborted; nothing may be left then. */
static inline void sim_cell_close(struct sim_cell *c)
{
    cs_net_close_all(&c->net, true, CS_ESHUTDOWN);
    for (unsigned i = 0; !cs_net_idle(&c->net); i++) {
        if (i > SIM_CELL_TURNS_MAX) {
            sim_fail("%zu connections do not end", cs_pool_count(c->net.conns));
        }
        sim_cell_turn(c, 100);
    }
    /* A timer that somebody left in the wheel fires now, into memory that is gone. */
    for (unsigned i = 0; i < 4; i++) {
        sim_cell_turn(c, SIM_CELL_LATER_MS);
    }
    SIM_CHECK(sim_slices_lent(c->ring) == 0);
    SIM_CHECK(sim_ops_armed(c->ring) == 0);
    SIM_CHECK(sim_sockets_open(c->ring) == 0);
    SIM_CHECK(cs_list_empty(&c->net.starved) && !c->net.buried.first && !c->net.joined.first &&
              !c->net.dirty.first);
    cs_net_finish(&c->net);
    cs_loop_destroy(c->loop);
    cs_log_set_writer(NULL);
}

#endif
