/*
 * pool - objects of one size, packed without headers into chunks. An object leads to the pool's
 * owner, so that it need not keep a pointer to it. A chunk whose objects are all free goes back to
 * the allocator.
 *
 * Thread: one; the pool has no lock.
 */
#ifndef CS_BASE_POOL_H
#define CS_BASE_POOL_H

#include "base/base.h"

struct cs_pool;

#define CS_POOL_CHUNK 65536 /* bytes of a chunk, and what its address is a multiple of */

/* size: bytes of one object, 1..CS_POOL_SIZE_MAX. owner: for cs_pool_owner; may be NULL. NULL when
 * out of memory. */
#define CS_POOL_SIZE_MAX 8192
CS_MUST_CHECK struct cs_pool *cs_pool_create(size_t size, void *owner);

/* Every object must have been freed. Accepts NULL. */
void cs_pool_destroy(struct cs_pool *p);

/* A zero-filled object aligned for any type up to 8 bytes (one whose size is a multiple of 64: to a
 * cache line), or NULL when out of memory. */
CS_MUST_CHECK void *cs_pool_alloc(struct cs_pool *p);

void cs_pool_free(struct cs_pool *p, void *obj);

/* The owner of a live object's pool. */
static inline void *cs_pool_owner(const void *obj)
{
    /* The first word of the chunk. */
    return *(void **)((uintptr_t)obj & ~(uintptr_t)(CS_POOL_CHUNK - 1));
}

/* Number of live objects. */
size_t cs_pool_count(const struct cs_pool *p);

/* A walk: the next live object after `obj` (NULL: the first), NULL at the end. Objects may be freed
 * between two calls, except `obj` itself; whether one that is made meanwhile is met is open. */
void *cs_pool_next(const struct cs_pool *p, const void *obj);

/* Gives the empty chunk that is kept back. */
void cs_pool_trim(struct cs_pool *p);

#endif
