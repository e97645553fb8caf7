/*
 * pool - objects of one size in chunks, addressed by slot and generation. Whoever does not own an
 * object keeps a reference and looks it up: a stale one answers NULL, never freed memory.
 * A chunk whose objects are all free goes back to the allocator; generations come from one counter
 * of the pool, so they stay unique over that.
 *
 * Thread: one; the pool has no lock.
 */
#ifndef CS_BASE_POOL_H
#define CS_BASE_POOL_H

#include "base/base.h"

/* {0,0} refers to nothing. */
struct cs_ref {
    uint32_t slot;
    uint32_t gen;
};

struct cs_pool;

/* size: bytes of one object, 1..65536. NULL when out of memory. */
CS_MUST_CHECK struct cs_pool *cs_pool_create(size_t size);

/* Every object must have been freed. Accepts NULL. */
void cs_pool_destroy(struct cs_pool *p);

/* A zero-filled object aligned for any type up to 8 bytes, or NULL when out of memory. */
CS_MUST_CHECK void *cs_pool_alloc(struct cs_pool *p);

/* The object's references go stale at once. */
void cs_pool_free(struct cs_pool *p, void *obj);

/* The reference of a live object. */
struct cs_ref cs_pool_ref(const void *obj);

/* The live object, or NULL when it is gone or the reference is {0,0}. */
void *cs_pool_get(const struct cs_pool *p, struct cs_ref ref);

/* Number of live objects. */
size_t cs_pool_count(const struct cs_pool *p);

/* The next live object after `obj` in slot order (NULL: the first), NULL at the end. Objects may be
 * freed between two calls, except `obj` itself. */
void *cs_pool_next(const struct cs_pool *p, const void *obj);

#endif
