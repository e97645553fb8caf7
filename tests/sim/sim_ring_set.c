/* sim_ring_set - several simulated rings of one thread: sleeping lets the world go on until one of
 * them has an event. */
#include <stdlib.h>

#include "ring/ring_set.h"
#include "sim_ring.h"

struct cs_ring_set {
    struct cs_ring *rings[CS_RING_SET_MAX];
    unsigned count;
};

int cs_ring_set_create(struct cs_ring_set **out)
{
    *out = calloc(1, sizeof **out);
    return 0;
}

void cs_ring_set_destroy(struct cs_ring_set *s)
{
    if (s && s->count) {
        sim_fail("a set is destroyed with %u rings in it", s->count);
    }
    free(s);
}

int cs_ring_set_add(struct cs_ring_set *s, struct cs_ring *r)
{
    s->rings[s->count++] = r;
    return 0;
}

void cs_ring_set_remove(struct cs_ring_set *s, struct cs_ring *r)
{
    unsigned i = 0;
    while (i < s->count && s->rings[i] != r) {
        i++;
    }
    if (i == s->count) {
        sim_fail("a ring leaves a set that it is not in");
    }
    s->rings[i] = s->rings[--s->count];
}

static bool has_work(const struct cs_ring_set *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        sim_ring_check(s->rings[i]);
        if (cs_ring_has_work(s->rings[i])) {
            return true;
        }
    }
    return false;
}

void cs_ring_set_sleep(struct cs_ring_set *s, int64_t timeout_ms)
{
    uint64_t until_ms = timeout_ms < 0 ? UINT64_MAX : sim_world.now_ms + (uint64_t)timeout_ms;
    sim_count_turn();
    for (unsigned rounds = 0; rounds < SIM_ROUNDS_MAX; rounds++) {
        bool any = sim_world_step();
        if (has_work(s) || timeout_ms == 0 || sim_chance(sim_world.config.interrupt_pm) ||
            (!any && !sim_let_time_pass(until_ms))) {
            return;
        }
    }
    sim_fail("the world spins: %u rounds without an event", SIM_ROUNDS_MAX);
}
