/* sim_tunnel - clients and origins of tunnels through the engine. */
#include "sim_tunnel.h"

#include <stdio.h>

static bool tunnel_accept(struct sim_actor *a)
{
    struct sim_tunnel *t = cs_container_of(a, struct sim_tunnel, actor);
    struct sim_peer *p = sim_far_accept(t->listener);
    if (!p) {
        return false;
    }
    SIM_CHECK(!t->met);
    t->met = true;
    sim_flow_start(&t->origin, p, t->origin_plan, t->down_id, t->down_size, t->up_id);
    t->origin.slow_pm = t->brisk ? 0 : t->origin.slow_pm;
    return true;
}

void sim_tunnel_start(struct sim_tunnel *t, unsigned i, const struct cs_addr *to,
                      enum sim_flow_plan client, enum sim_flow_plan origin, size_t size_max)
{
    char ip[32];
    *t = (struct sim_tunnel){.origin_plan = origin, .up_id = sim_rand(), .down_id = sim_rand()};
    t->up_size = sim_size(size_max);
    t->down_size = sim_size(size_max);
    snprintf(ip, sizeof ip, "10.0.0.%u", i + 1);
    SIM_CHECK(cs_addr_parse(&t->origin_addr, ip, 80) == 0);
    t->listener = sim_far_listen(&t->origin_addr, 5);
    sim_actor_add(&t->actor, tunnel_accept);
    sim_flow_start(&t->client, sim_peer_connect(to), client, t->up_id, t->up_size, t->down_id);
}

void sim_tunnel_hurry(struct sim_tunnel *t)
{
    t->brisk = true;
    t->client.slow_pm = 0;
}

struct sim_tunnel *sim_tunnel_find(struct sim_tunnel *tunnels, unsigned n,
                                   const struct cs_addr *client)
{
    for (unsigned i = 0; i < n; i++) {
        const struct sim_peer *p = tunnels[i].client.peer;
        if (p && cs_addr_equal(sim_peer_local(p), client)) {
            return &tunnels[i];
        }
    }
    return NULL;
}

bool sim_tunnel_settled(const struct sim_tunnel *t)
{
    return sim_flow_settled(&t->client) && (!t->met || sim_flow_settled(&t->origin));
}

static void check_end(const struct sim_flow *f, const char *who, uint64_t wanted)
{
    if (f->err || !f->eof || f->got != wanted || f->sent != f->out_size) {
        sim_fail("a polite %s sent %llu of %llu and got %llu of %llu, end=%d err=%d", who,
                 (unsigned long long)f->sent, (unsigned long long)f->out_size,
                 (unsigned long long)f->got, (unsigned long long)wanted, f->eof, f->err);
    }
}

void sim_tunnel_check_complete(const struct sim_tunnel *t)
{
    SIM_CHECK(t->met);
    check_end(&t->client, "client", t->down_size);
    check_end(&t->origin, "origin", t->up_size);
}

void sim_tunnel_stop(struct sim_tunnel *t)
{
    sim_flow_stop(&t->client);
    if (t->met) {
        sim_flow_stop(&t->origin);
    }
    sim_actor_remove(&t->actor);
    sim_far_close(t->listener);
}
