/*
 * mem - one thin layer over the C allocator, so that sizes can be passed to jemalloc and failures
 * can be produced on demand.
 */
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef CS_JEMALLOC
#include <jemalloc/jemalloc.h>
/* Read by jemalloc. Pages that have been free for a second go back to the system, by a thread of
 * its own: the 30 MB that a cell full of tunnels leaves would hold up a worker for 10 ms. A thread
 * keeps as many free blocks of a size as a turn's writes take, 2 * 8 would be little. */
extern const char *malloc_conf;
const char *malloc_conf = "background_thread:true,dirty_decay_ms:1000,lg_tcache_nslots_mul:5";
#else
#include <malloc.h>
#endif

#ifdef CS_FAULTS

static _Thread_local unsigned long mem_countdown; /* 0: off */
static _Thread_local unsigned long mem_failures;  /* to come, once the countdown is over */
static _Thread_local bool mem_has_failed;

void cs_mem_fail_from(unsigned long n, unsigned long count)
{
    mem_countdown = n;
    mem_failures = count;
    mem_has_failed = false;
}

void cs_mem_fail_nth(unsigned long n)
{
    cs_mem_fail_from(n, 1);
}

bool cs_mem_failed(void)
{
    return mem_has_failed;
}

bool cs_mem_fault(void)
{
    if (mem_countdown == 0) {
        return false;
    }
    if (mem_countdown > 1) {
        mem_countdown--;
        return false;
    }
    if (--mem_failures == 0) {
        mem_countdown = 0;
    }
    mem_has_failed = true;
    return true;
}

#endif

/* NULL means failure and nothing else, so a request for nothing gets a byte. */
static inline size_t mem_size(size_t size)
{
    return size != 0 ? size : 1;
}

void *cs_alloc(size_t size)
{
    return cs_mem_fault() ? NULL : malloc(mem_size(size));
}

void *cs_zalloc(size_t size)
{
    return cs_mem_fault() ? NULL : calloc(1, mem_size(size));
}

void *cs_realloc(void *ptr, size_t size)
{
    return cs_mem_fault() ? NULL : realloc(ptr, mem_size(size));
}

void *cs_alloc_aligned(size_t alignment, size_t size)
{
    return cs_mem_fault() ? NULL : aligned_alloc(alignment, size);
}

char *cs_strndup(const char *s, size_t n)
{
    size_t len = strnlen(s, n);
    char *copy = cs_alloc(len + 1);

    if (copy != NULL) {
        memcpy(copy, s, len);
        copy[len] = '\0';
    }
    return copy;
}

char *cs_strdup(const char *s)
{
    size_t size = strlen(s) + 1;
    char *copy = cs_alloc(size);

    if (copy != NULL) {
        memcpy(copy, s, size);
    }
    return copy;
}

void cs_free(void *ptr)
{
    free(ptr);
}

static void mem_free_sized(void *ptr, size_t size)
{
#ifdef CS_JEMALLOC
    if (ptr != NULL) {
        sdallocx(ptr, mem_size(size), 0);
    }
#else
    (void)size;
    free(ptr);
#endif
}

void *cs_resize_sized(void *ptr, size_t old_size, size_t new_size)
{
    if (new_size == 0) {
        mem_free_sized(ptr, old_size);
        return NULL;
    }
    if (ptr == NULL || old_size == 0) {
        return cs_alloc(new_size);
    }
    /* Lua takes it for granted that shrinking works, so only growth can be made to fail. */
    if (new_size > old_size && cs_mem_fault()) {
        return NULL;
    }
#ifdef CS_JEMALLOC
    return rallocx(ptr, new_size, 0);
#else
    return realloc(ptr, new_size);
#endif
}

/* Under AddressSanitizer none is kept: a block that is used after its end is to be noticed. */
#if defined(__SANITIZE_ADDRESS__)
#define BLOCKS_KEPT 0
#else
#define BLOCKS_KEPT 12
#endif

static _Thread_local struct {
    unsigned count;
    void *kept[BLOCKS_KEPT + 1];
} mem_blocks;

void *cs_block_alloc(void)
{
    if (mem_blocks.count == 0) {
        return cs_alloc(CS_BLOCK_SIZE);
    }
    return cs_mem_fault() ? NULL : mem_blocks.kept[--mem_blocks.count];
}

void cs_block_free(void *ptr)
{
    if (mem_blocks.count + 1 < CS_ARRAY_LEN(mem_blocks.kept)) {
        mem_blocks.kept[mem_blocks.count++] = ptr;
    } else {
        mem_free_sized(ptr, CS_BLOCK_SIZE);
    }
}

void cs_mem_discard(void *ptr, size_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t skipped = -(uintptr_t)ptr & (page - 1);

    if (size >= skipped + page) {
        /* Failure costs memory only. */
        int err = madvise((uint8_t *)ptr + skipped, (size - skipped) & ~(page - 1), MADV_DONTNEED);
        (void)err;
    }
}

void cs_mem_trim(void)
{
    while (mem_blocks.count > 0) {
        free(mem_blocks.kept[--mem_blocks.count]);
    }
#ifdef CS_JEMALLOC
    mallctl("thread.tcache.flush", NULL, NULL, NULL, 0); /* what it holds counts as used */
#else
    malloc_trim(0);
#endif
}
