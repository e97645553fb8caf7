/*
 * sim_ring_buf - receive buffers of the simulated ring. Every lent slice stands in memory of its
 * own, exactly as long as it is, so that a sanitizer sees each byte read beyond it or after it was
 * given back.
 */
#include <stdlib.h>
#include <string.h>

#include "base/chain.h"
#include "sim_ring.h"

enum where { WITH_KERNEL, LENT, RELEASED };

struct lent {
    struct cs_slice slice;
    struct cs_list node; /* cs_ring.released */
    struct cs_ring *ring;
    enum cs_ring_group group;
    enum where where;
    uint8_t *memory;
    size_t size;
};

static void release(struct cs_slice *s)
{
    struct lent *l = cs_container_of(s, struct lent, slice);
    struct sim_group *g = &l->ring->groups[l->group];
    if (l->where != LENT) {
        sim_fail("a slice was released that is %s",
                 l->where == RELEASED ? "released already" : "not lent yet");
    }
    if (s->data < l->memory || s->data + s->len > l->memory + l->size || s->room) {
        sim_fail("a slice was released that points outside its buffer");
    }
    l->where = RELEASED;
    g->lent--;
    g->filled--;
    memset(l->memory, 0xdd, l->size);
    free(l->memory);
    s->data = NULL;
    s->next = NULL;
    cs_list_append(&l->ring->released, &l->node);
}

static struct cs_slice *take(struct cs_ring *r, enum cs_ring_group group, size_t n)
{
    struct lent *l = calloc(1, sizeof *l);
    l->memory = malloc(n);
    l->size = n;
    l->ring = r;
    l->group = group;
    l->where = WITH_KERNEL;
    l->slice = (struct cs_slice){.data = l->memory, .len = (uint32_t)n, .release = release};
    r->groups[group].filled++;
    return &l->slice;
}

struct cs_slice *sim_slice_fill(struct cs_ring *r, enum cs_ring_group group, struct sim_sock *s,
                                size_t n)
{
    struct cs_slice *slice = take(r, group, n);
    sim_bytes_pop(&s->rx, slice->data, n);
    return slice;
}

struct cs_slice *sim_slice_fill_datagram(struct cs_ring *r, struct sim_sock *s)
{
    struct cs_addr from;
    size_t n = sim_datagram_len(s);
    struct cs_slice *slice = take(r, CS_RING_DATAGRAM, sizeof from + n);
    sim_datagram_pop(s, &from, slice->data + sizeof from);
    memcpy(slice->data, &from, sizeof from);
    slice->data += sizeof from;
    slice->len = (uint32_t)n;
    return slice;
}

void sim_slice_lend(struct cs_slice *s)
{
    struct lent *l = cs_container_of(s, struct lent, slice);
    l->where = LENT;
    l->ring->groups[l->group].lent++;
}

void sim_slices_free(struct cs_ring *r)
{
    for (unsigned i = 0; i < CS_RING_GROUPS; i++) {
        if (r->groups[i].lent) {
            sim_fail("the ring is destroyed with %u slices of group %u lent", r->groups[i].lent, i);
        }
    }
    cs_list_each(it, tmp, &r->released) {
        cs_list_remove(it);
        free(cs_container_of(it, struct lent, node));
    }
}

unsigned cs_ring_buffer_size(const struct cs_ring *r, enum cs_ring_group group)
{
    return r->groups[group].size;
}

void cs_ring_trim(struct cs_ring *r)
{
    (void)r; /* every buffer is memory of its own */
}

/* The engine counts what it was given: buffers of events it has not seen yet look free to it. */
unsigned cs_ring_buffers_free(const struct cs_ring *r, enum cs_ring_group group)
{
    return r->groups[group].count - r->groups[group].lent;
}

bool cs_ring_may_keep(const struct cs_slice *s)
{
    const struct lent *l = cs_container_of(s, struct lent, slice);
    const struct sim_group *g = &l->ring->groups[l->group];
    if (l->where != LENT) {
        sim_fail("cs_ring_may_keep is asked about a slice that is not lent");
    }
    return g->lent * 2 <= g->count && !sim_chance(sim_world.config.keep_refuse_pm);
}

unsigned sim_slices_lent(const struct cs_ring *r)
{
    return r->groups[0].lent + r->groups[1].lent + r->groups[2].lent;
}
