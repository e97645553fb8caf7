/*
 * sim_tunnel - the far ends of tunnels through the engine: clients that connect to it, and an
 * origin each, to which the engine connects. What the engine does in between is the test's.
 */
#ifndef SIM_SIM_TUNNEL_H
#define SIM_SIM_TUNNEL_H

#include "sim_flow.h"

#define SIM_TUNNELS_MAX 8

/* Client and origin of one tunnel. Client i finds origin i. */
struct sim_tunnel {
    struct sim_actor actor; /* accepts for the origin */
    struct sim_far_listener *listener;
    struct cs_addr origin_addr;
    struct sim_flow client, origin;
    bool met;   /* the origin's end exists */
    bool brisk; /* nobody pauses */
    enum sim_flow_plan origin_plan;
    uint64_t up_id, down_id;     /* streams from the client, from the origin */
    uint64_t up_size, down_size; /* what they want to send */
};

/* Opens the origin and lets the client connect to `to`. */
void sim_tunnel_start(struct sim_tunnel *t, unsigned i, const struct cs_addr *to,
                      enum sim_flow_plan client, enum sim_flow_plan origin, size_t size_max);
/* Nobody pauses: for tests of quiet times. Just after the start. */
void sim_tunnel_hurry(struct sim_tunnel *t);

/* The tunnel whose client has this address, or NULL. */
struct sim_tunnel *sim_tunnel_find(struct sim_tunnel *tunnels, unsigned n,
                                   const struct cs_addr *client);

/* Both ends have come to rest; or the client has, and the origin was never reached. */
bool sim_tunnel_settled(const struct sim_tunnel *t);

/* Fails the run unless both have all that the other sent, and a clean end. */
void sim_tunnel_check_complete(const struct sim_tunnel *t);

/* Ends what still runs and closes the origin. */
void sim_tunnel_stop(struct sim_tunnel *t);

#endif
