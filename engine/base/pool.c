/*
 * pool - chunks at multiples of their size, so that cutting an object's address leads to its chunk.
 *
 *   chunk: header │ one bit per object: it is live │ object │ object │ ...
 *
 * Chunks with a free object stand in one of a few lists by how full they are; allocation takes from
 * the fullest, so the emptiest ones drain and can be freed. Full chunks stand in no such list; one
 * empty chunk is kept aside until cs_pool_trim, so that a single object coming and going does not
 * allocate every time.
 */
#include "base/pool.h"

#include <string.h>

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define POOL_POISON(ptr, size) ASAN_POISON_MEMORY_REGION(ptr, size)
#define POOL_UNPOISON(ptr, size) ASAN_UNPOISON_MEMORY_REGION(ptr, size)
#else
#define POOL_POISON(ptr, size) ((void)(ptr), (void)(size))
#define POOL_UNPOISON(ptr, size) ((void)(ptr), (void)(size))
#endif

#define POOL_LINE 64U
#define POOL_CLASSES 8U
#define WORD_BITS 64U

struct chunk {
    void *owner;         /* first: cs_pool_owner */
    struct cs_list node; /* in a class list unless full or kept aside */
    struct cs_list all;  /* in cs_pool.chunks */
    uint32_t live;
    uint64_t map[];
};

struct cs_pool {
    void *owner;
    size_t stride;  /* bytes of an object */
    size_t first;   /* bytes before the first one */
    uint32_t per;   /* objects a chunk holds */
    uint32_t words; /* of a chunk's map */
    size_t live;
    struct chunk *kept; /* the empty chunk kept aside, or NULL */
    struct cs_list chunks;
    struct cs_list classes[POOL_CLASSES];
};

static struct chunk *pool_chunk_of(const void *obj)
{
    return (struct chunk *)((uintptr_t)obj & ~(uintptr_t)(CS_POOL_CHUNK - 1));
}

static void *pool_object(const struct cs_pool *p, const struct chunk *c, uint32_t index)
{
    return (uint8_t *)(uintptr_t)c + p->first + p->stride * index;
}

static uint32_t pool_index(const struct cs_pool *p, const void *obj)
{
    return (uint32_t)((((uintptr_t)obj & (CS_POOL_CHUNK - 1)) - p->first) / p->stride);
}

static bool pool_is_live(const struct chunk *c, uint32_t index)
{
    return c->map[index / WORD_BITS] >> (index % WORD_BITS) & 1;
}

struct cs_pool *cs_pool_create(size_t size, void *owner)
{
    struct cs_pool *p;

    CS_ASSERT(size >= 1);
    CS_ASSERT(size <= CS_POOL_SIZE_MAX);
    p = cs_zalloc(sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    p->owner = owner;
    p->stride = (size + 7) & ~(size_t)7;
    /* As many bits as there would be objects without a header. */
    p->words = (uint32_t)(CS_POOL_CHUNK / p->stride + WORD_BITS - 1) / WORD_BITS;
    p->first = sizeof(struct chunk) + p->words * sizeof(uint64_t);
    p->first = (p->first + POOL_LINE - 1) & ~(size_t)(POOL_LINE - 1);
    p->per = (uint32_t)((CS_POOL_CHUNK - p->first) / p->stride);
    cs_list_init(&p->chunks);
    for (unsigned i = 0; i < POOL_CLASSES; i++) {
        cs_list_init(&p->classes[i]);
    }
    return p;
}

static void pool_chunk_free(struct chunk *c)
{
    cs_list_remove(&c->all);
    POOL_UNPOISON(c, CS_POOL_CHUNK);
    cs_free(c);
}

void cs_pool_trim(struct cs_pool *p)
{
    if (p->kept != NULL) {
        pool_chunk_free(p->kept);
        p->kept = NULL;
    }
}

void cs_pool_destroy(struct cs_pool *p)
{
    if (p == NULL) {
        return;
    }
    CS_ASSERT(p->live == 0);
    cs_pool_trim(p);
    cs_free(p);
}

/* A chunk with all its objects free, in no class list. The pages of objects stay untouched. */
static struct chunk *pool_chunk_create(struct cs_pool *p)
{
    struct chunk *c = cs_alloc_aligned(CS_POOL_CHUNK, CS_POOL_CHUNK);

    if (c == NULL) {
        return NULL;
    }
    c->owner = p->owner;
    cs_list_init(&c->node);
    cs_list_append(&p->chunks, &c->all);
    c->live = 0;
    memset(c->map, 0, p->words * sizeof(uint64_t));
    POOL_POISON((uint8_t *)c + p->first, CS_POOL_CHUNK - p->first);
    return c;
}

/* Puts the chunk into the list that its number of live objects asks for. An empty one is not this
 * function's business. */
static void pool_classify(struct cs_pool *p, struct chunk *c, uint32_t live_before)
{
    uint32_t class = c->live * POOL_CLASSES / p->per;
    uint32_t before = live_before * POOL_CLASSES / p->per;
    bool listed = !cs_list_empty(&c->node);

    if (c->live == p->per) {
        cs_list_remove(&c->node);
    } else if (!listed || class != before) {
        cs_list_remove(&c->node);
        cs_list_append(&p->classes[class], &c->node);
    }
}

/* The fullest chunk that has a free object, or the one kept aside, or a new one. */
static struct chunk *pool_chunk_choose(struct cs_pool *p)
{
    struct chunk *c;

    for (unsigned i = POOL_CLASSES; i-- > 0;) {
        struct cs_list *node = cs_list_first(&p->classes[i]);

        if (node != NULL) {
            return cs_container_of(node, struct chunk, node);
        }
    }
    c = p->kept;
    p->kept = NULL;
    return c != NULL ? c : pool_chunk_create(p);
}

/* Marks the first free object of a chunk that has one. */
static uint32_t pool_take(struct chunk *c)
{
    uint32_t word = 0, bit;

    while (c->map[word] == UINT64_MAX) {
        word++;
    }
    bit = (uint32_t)__builtin_ctzll(~c->map[word]);
    c->map[word] |= (uint64_t)1 << bit;
    return word * WORD_BITS + bit;
}

void *cs_pool_alloc(struct cs_pool *p)
{
    struct chunk *c = pool_chunk_choose(p);
    uint32_t index;
    void *obj;

    if (c == NULL) {
        return NULL;
    }
    index = pool_take(c);
    CS_ASSERT(index < p->per);
    obj = pool_object(p, c, index);
    POOL_UNPOISON(obj, p->stride);
    memset(obj, 0, p->stride);
    c->live++;
    p->live++;
    pool_classify(p, c, c->live - 1);
    return obj;
}

void cs_pool_free(struct cs_pool *p, void *obj)
{
    struct chunk *c = pool_chunk_of(obj);
    uint32_t index = pool_index(p, obj);

    CS_ASSERT(pool_is_live(c, index));
    CS_ASSERT(pool_object(p, c, index) == obj);
    c->map[index / WORD_BITS] &= ~((uint64_t)1 << (index % WORD_BITS));
    POOL_POISON(obj, p->stride);
    c->live--;
    p->live--;
    if (c->live > 0) {
        pool_classify(p, c, c->live + 1);
        return;
    }
    cs_list_remove(&c->node);
    if (p->kept == NULL) {
        p->kept = c;
    } else {
        pool_chunk_free(c);
    }
}

size_t cs_pool_count(const struct cs_pool *p)
{
    return p->live;
}

/* The first live object of the chunk from an index on, or NULL. */
static void *pool_live_from(const struct cs_pool *p, const struct chunk *c, uint32_t index)
{
    while (index < p->per && !pool_is_live(c, index)) {
        index++;
    }
    return index < p->per ? pool_object(p, c, index) : NULL;
}

void *cs_pool_next(const struct cs_pool *p, const void *obj)
{
    const struct cs_list *at = &p->chunks;
    void *next = NULL;

    if (obj != NULL) {
        next = pool_live_from(p, pool_chunk_of(obj), pool_index(p, obj) + 1);
        at = &pool_chunk_of(obj)->all;
    }
    while (next == NULL && (at = at->next) != &p->chunks) {
        next = pool_live_from(p, cs_container_of(at, struct chunk, all), 0);
    }
    return next;
}
