/*
 * sim_flow - a far end with a plan: it sends one pseudo-random stream, checks the one it gets, and
 * ends in one of several ways. Clients and origins of the tests.
 */
#ifndef SIM_SIM_FLOW_H
#define SIM_SIM_FLOW_H

#include "sim.h"

enum sim_flow_plan {
    SIM_FLOW_POLITE, /* sends all, FIN, reads to the end, closes */
    SIM_FLOW_REPLY,  /* reads to the end first, then sends the rest and closes */
    SIM_FLOW_RESET,  /* RST after `limit` bytes of both directions together */
    SIM_FLOW_CLOSE,  /* the same with close(2), leaving what it did not read */
    SIM_FLOW_SILENT, /* sends all, then neither sends nor ends, but reads; closes at the end */
    SIM_FLOW_DEAF,   /* the same, but the end makes no difference to it */
    SIM_FLOW_STUCK,  /* neither reads nor sends after `limit` bytes, and never ends */
};

struct sim_flow {
    struct sim_actor actor;
    struct sim_peer *peer; /* NULL once it has ended */
    enum sim_flow_plan plan;
    uint64_t out_id, out_size, sent;
    uint64_t in_id, got;
    uint64_t limit;
    unsigned slow_pm;      /* a step reads nothing for a while instead */
    unsigned pause_ms;     /* ... so long at most */
    uint64_t read_from_ms; /* until then it does not read */
    uint64_t last_read_ms; /* when bytes came */
    bool shut, eof, ended;
    int err; /* why it broke */
};

/* Starts it on a peer. Ids are those of the stream to send and of the one to expect. */
void sim_flow_start(struct sim_flow *f, struct sim_peer *peer, enum sim_flow_plan plan,
                    uint64_t out_id, uint64_t out_size, uint64_t in_id);

/* A plan that ends by itself: polite ones most of the time. */
enum sim_flow_plan sim_flow_draw(void);

/* Has ended, or will do nothing more by itself. */
bool sim_flow_settled(const struct sim_flow *f);

/* Resets it if it still runs. */
void sim_flow_stop(struct sim_flow *f);

#endif
