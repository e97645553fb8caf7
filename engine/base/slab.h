/*
 * slab - memory of one Lua state: objects of 129 to 1024 bytes in size classes of 16 bytes, without
 * headers. A coroutine, its stack and a socket fall between the classes of a general allocator,
 * which are up to a quarter apart. Other sizes go to mem.h.
 *
 * Owns:   its blocks; an object of another size belongs to the allocator below.
 * Thread: any one at a time.
 */
#ifndef CS_BASE_SLAB_H
#define CS_BASE_SLAB_H

#include "base/base.h"

struct cs_slab;

/* NULL when out of memory. */
CS_MUST_CHECK struct cs_slab *cs_slab_create(void);

/* Frees all blocks, whatever lives in them; larger and smaller objects must be gone. Accepts NULL.
 */
void cs_slab_destroy(struct cs_slab *s);

/* As cs_resize_sized: old_size 0 allocates, new_size 0 frees and returns NULL. NULL when out of
 * memory, ptr is as before then. An object that gets smaller and finds no smaller place stays where
 * it is, so shrinking fails only where cs_resize_sized fails to shrink. */
void *cs_slab_resize(struct cs_slab *s, void *ptr, size_t old_size, size_t new_size);

/* Gives the empty blocks that were kept back, and of some others the pages behind the last object.
 * A millisecond at most, for quiet moments. */
void cs_slab_trim(struct cs_slab *s);

/* Blocks of 64 KiB held, the empty ones in reserve among them. */
size_t cs_slab_blocks(const struct cs_slab *s);

#endif
