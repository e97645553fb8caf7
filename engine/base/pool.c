/*
 * pool - objects in chunks that fill an allocator's page run; a slot number is chunk * per + index.
 *
 *   table[slot / per] ─▶ chunk: header │ {slot,gen} object │ {slot,gen} object │ ...
 *
 * A free object has gen 0 and the index of the chunk's next free one in the place of its slot.
 * Chunks with a free object stand in one of a few lists by how full they are; allocation takes from
 * the fullest, so the emptiest ones drain and can be freed. Full chunks stand in no list; one empty
 * chunk is kept aside, so that a single object coming and going does not allocate every time.
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

#define POOL_SIZE_MAX 65536U
#define POOL_CHUNK_BYTES 65536U
#define POOL_PAGE 4096U
#define POOL_CLASSES 8U
#define POOL_NONE UINT32_MAX

struct chunk {
    struct cs_list node; /* in a class list unless full or kept aside */
    uint32_t number;     /* place in the table */
    uint32_t live;
    uint32_t free;      /* index of the first free object, POOL_NONE when full */
    uint64_t objects[]; /* only for the alignment */
};

struct cs_pool {
    struct chunk **table; /* NULL where a chunk was freed */
    uint32_t table_len;   /* entries ever used */
    uint32_t table_size;
    uint32_t holes;    /* NULL entries below table_len */
    uint32_t hole_low; /* no NULL entry below this one */
    size_t size;       /* of one object without its header */
    size_t stride;
    uint32_t per; /* objects a chunk holds */
    uint32_t gen_last;
    size_t live;
    struct chunk *kept; /* the empty chunk kept aside, or NULL */
    struct cs_list classes[POOL_CLASSES];
};

static struct cs_ref *pool_header(const struct cs_pool *p, struct chunk *c, uint32_t index)
{
    return (struct cs_ref *)(void *)((uint8_t *)c->objects + p->stride * index);
}

static struct cs_ref *pool_header_of(const void *obj)
{
    return (struct cs_ref *)(uintptr_t)obj - 1;
}

struct cs_pool *cs_pool_create(size_t size)
{
    struct cs_pool *p;

    CS_ASSERT(size >= 1);
    CS_ASSERT(size <= POOL_SIZE_MAX);
    p = cs_zalloc(sizeof(*p));
    if (p == NULL) {
        return NULL;
    }
    p->size = (size + 7) & ~(size_t)7;
    p->stride = p->size + sizeof(struct cs_ref);
    p->per = (uint32_t)CS_MAX((POOL_CHUNK_BYTES - sizeof(struct chunk)) / p->stride, 1U);
    for (unsigned i = 0; i < POOL_CLASSES; i++) {
        cs_list_init(&p->classes[i]);
    }
    return p;
}

static void pool_chunk_free(struct cs_pool *p, struct chunk *c)
{
    p->table[c->number] = NULL;
    p->hole_low = p->holes == 0 ? c->number : CS_MIN(p->hole_low, c->number);
    p->holes++;
    POOL_UNPOISON(c->objects, p->stride * p->per);
    cs_free(c);
}

void cs_pool_destroy(struct cs_pool *p)
{
    if (p == NULL) {
        return;
    }
    CS_ASSERT(p->live == 0);
    if (p->kept != NULL) {
        pool_chunk_free(p, p->kept);
    }
    cs_free(p->table);
    cs_free(p);
}

/* A free place in the table, the lowest: slots stay dense. POOL_NONE when out of memory. The scan
 * is paid for by the chunk that is about to be allocated. */
static uint32_t pool_table_place(struct cs_pool *p)
{
    uint32_t size = CS_MAX(p->table_size * 2, 16U);
    struct chunk **table;

    if (p->holes > 0) {
        while (p->table[p->hole_low] != NULL) {
            p->hole_low++;
        }
        return p->hole_low;
    }
    if (p->table_len < p->table_size) {
        return p->table_len;
    }
    /* Slot numbers have 32 bits. */
    if ((uint64_t)size * p->per > UINT32_MAX) {
        return POOL_NONE;
    }
    table = cs_realloc(p->table, size * sizeof(struct chunk *));
    if (table == NULL) {
        return POOL_NONE;
    }
    p->table = table;
    p->table_size = size;
    return p->table_len;
}

/* A chunk with all its objects free, in the table and in no list. */
static struct chunk *pool_chunk_create(struct cs_pool *p)
{
    uint32_t number = pool_table_place(p);
    struct chunk *c;

    if (number == POOL_NONE) {
        return NULL;
    }
    /* Aligned, because jemalloc puts a large block somewhere into its first page else: one more
     * page of each chunk would be in use. */
    c = cs_alloc_aligned(POOL_PAGE, (sizeof(*c) + (p->stride * p->per) + POOL_PAGE - 1) &
                                        ~(size_t)(POOL_PAGE - 1));
    if (c == NULL) {
        return NULL;
    }
    if (number == p->table_len) {
        p->table_len++;
    } else {
        p->holes--;
        p->hole_low = number + 1;
    }
    p->table[number] = c;
    cs_list_init(&c->node);
    c->number = number;
    c->live = 0;
    c->free = 0;
    for (uint32_t i = 0; i < p->per; i++) {
        struct cs_ref *h = pool_header(p, c, i);

        h->slot = i + 1 < p->per ? i + 1 : POOL_NONE;
        h->gen = 0;
        POOL_POISON(h + 1, p->size);
    }
    return c;
}

/* Puts the chunk into the list that its number of live objects asks for. An empty one is not this
 * function's business. */
static void pool_classify(struct cs_pool *p, struct chunk *c, uint32_t live_before)
{
    uint32_t class = (uint32_t)((uint64_t)c->live * POOL_CLASSES / p->per);
    uint32_t before = (uint32_t)((uint64_t)live_before * POOL_CLASSES / p->per);
    bool listed = !cs_list_empty(&c->node);

    if (c->free == POOL_NONE) {
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

void *cs_pool_alloc(struct cs_pool *p)
{
    struct chunk *c = pool_chunk_choose(p);
    struct cs_ref *h;
    uint32_t index;

    if (c == NULL) {
        return NULL;
    }
    index = c->free;
    h = pool_header(p, c, index);
    CS_ASSERT(h->gen == 0);
    POOL_UNPOISON(h + 1, p->size);
    memset(h + 1, 0, p->size);
    if (++p->gen_last == 0) {
        p->gen_last = 1;
    }
    h->gen = p->gen_last;
    c->free = h->slot;
    h->slot = c->number * p->per + index;
    c->live++;
    p->live++;
    pool_classify(p, c, c->live - 1);
    return h + 1;
}

void cs_pool_free(struct cs_pool *p, void *obj)
{
    struct cs_ref *h = pool_header_of(obj);
    struct chunk *c;
    uint32_t index;

    CS_ASSERT(h->gen != 0);
    CS_ASSERT(cs_pool_get(p, *h) == obj);
    c = p->table[h->slot / p->per];
    index = h->slot % p->per;
    h->gen = 0;
    h->slot = c->free;
    c->free = index;
    POOL_POISON(h + 1, p->size);
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
        pool_chunk_free(p, c);
    }
}

struct cs_ref cs_pool_ref(const void *obj)
{
    const struct cs_ref *h = pool_header_of(obj);

    CS_ASSERT(h->gen != 0);
    return *h;
}

void *cs_pool_get(const struct cs_pool *p, struct cs_ref ref)
{
    uint32_t number = ref.slot / p->per;
    struct cs_ref *h;

    if (ref.gen == 0 || number >= p->table_len || p->table[number] == NULL) {
        return NULL;
    }
    h = pool_header(p, p->table[number], ref.slot % p->per);
    return h->gen == ref.gen ? h + 1 : NULL;
}

size_t cs_pool_count(const struct cs_pool *p)
{
    return p->live;
}

void *cs_pool_next(const struct cs_pool *p, const void *obj)
{
    uint64_t slot = obj != NULL ? (uint64_t)pool_header_of(obj)->slot + 1 : 0;
    uint64_t end = (uint64_t)p->table_len * p->per;

    while (slot < end) {
        struct chunk *c = p->table[slot / p->per];
        uint32_t index = (uint32_t)slot % p->per;
        struct cs_ref *h;

        if (c == NULL || c->live == 0) {
            slot = (slot / p->per + 1) * p->per;
            continue;
        }
        h = pool_header(p, c, index);
        if (h->gen != 0) {
            return h + 1;
        }
        slot++;
    }
    return NULL;
}
