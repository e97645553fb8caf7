/*
 * mem - the allocator every room uses (jemalloc underneath where it is linked). All may fail and
 * every caller handles it; builds with CS_FAULTS can make the Nth allocation of a thread fail.
 */
#ifndef CS_BASE_MEM_H
#define CS_BASE_MEM_H

#include "base/base.h"

/* NULL when out of memory. Free with cs_free. */
CS_MUST_CHECK void *cs_alloc(size_t size);
CS_MUST_CHECK void *cs_zalloc(size_t size); /* zero-filled */
CS_MUST_CHECK void *cs_realloc(void *ptr, size_t size);
/* At a multiple of alignment, a power of two; size is a multiple of alignment too. */
CS_MUST_CHECK void *cs_alloc_aligned(size_t alignment, size_t size);
CS_MUST_CHECK char *cs_strdup(const char *s);
CS_MUST_CHECK char *cs_strndup(const char *s, size_t n);

/* Accepts NULL. */
void cs_free(void *ptr);

/* The same three for an owner that knows the old size (Lua does): cheaper with jemalloc.
 * cs_resize_sized: old_size 0 allocates, new_size 0 frees and returns NULL. */
void *cs_resize_sized(void *ptr, size_t old_size, size_t new_size);

/* Blocks of one size, for bytes that live shortly and fill about a record of TLS: the thread hands
 * out first what it was given back last, so that they stay in the processor's cache. Each is memory
 * of cs_alloc, and may as well be freed by cs_free. NULL when out of memory. */
#define CS_BLOCK_MIN 16385 /* smaller needs are for cs_alloc: its next size class begins here */
#define CS_BLOCK_SIZE 20480
CS_MUST_CHECK void *cs_block_alloc(void);
void cs_block_free(void *ptr);

/* The whole pages in there go back to the system until they are touched again: what they hold is
 * lost. The memory stays the caller's. */
void cs_mem_discard(void *ptr, size_t size);

/* Gives what the calling thread holds back to the allocator, and unused pages to the system (with
 * jemalloc a second later, by a thread of its own). For quiet moments. */
void cs_mem_trim(void);

#ifdef CS_FAULTS
/* The nth allocation of this thread from now (1 = the next) fails, once; 0 switches it off. */
void cs_mem_fail_nth(unsigned long n);
/* It and those that follow it, `count` in all. Lua collects and asks a second time before it gives
 * up, so that a script notices only from two on. */
void cs_mem_fail_from(unsigned long n, unsigned long count);
/* True when the failure asked for has happened. */
bool cs_mem_failed(void);
/* Counts one allocation of an allocator that stands on this one; true when it has to fail. */
bool cs_mem_fault(void);
#else
static inline bool cs_mem_fault(void)
{
    return false;
}
#endif

#endif
