/*
 * slab - blocks of 64 KiB at multiples of 64 KiB, each with objects of one size: cutting an
 * object's address leads to its block.
 *
 *   block: header │ object │ object │ freed │ object │ never used ...
 *
 * Pages behind the last object ever used stay untouched. Blocks with a free object stand in one of
 * a few lists by how full they are; allocation takes from the fullest, so the emptiest ones drain.
 * One empty block of each size is kept until cs_slab_trim, so that a single object coming and going
 * does not allocate a block every time; the others are given back. What cs_slab_trim finds free
 * behind the last live object of a block counts as never used again: without that, the few objects
 * that outlive a rush hold all pages that it touched.
 *
 * The size that the owner names tells where an object lies: in a block, or with mem.h. The
 * exceptions are strays, objects that should have moved when they shrank and could not. There are
 * some only when memory has run out; while there are, the blocks are searched.
 */
#include "base/slab.h"

#include <string.h>

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define SLAB_POISON(ptr, size) ASAN_POISON_MEMORY_REGION(ptr, size)
#define SLAB_UNPOISON(ptr, size) ASAN_UNPOISON_MEMORY_REGION(ptr, size)
#else
#define SLAB_POISON(ptr, size) ((void)(ptr), (void)(size))
#define SLAB_UNPOISON(ptr, size) ((void)(ptr), (void)(size))
#endif

#define SLAB_BLOCK_BYTES 65536U
#define SLAB_SIZE_ABOVE 128U
#define SLAB_SIZE_MAX 1024U
#define SLAB_STEP 16U
#define SLAB_CLASSES ((SLAB_SIZE_MAX - SLAB_SIZE_ABOVE) / SLAB_STEP)
#define SLAB_BINS 4U
#define SLAB_TRIMMED 64U /* blocks looked at in one trim: a millisecond at most */

struct block {
    struct cs_list node; /* in a bin of its class unless full or kept */
    struct cs_list all;  /* in cs_slab.blocks */
    struct cs_slab *slab;
    void *freed;   /* chain through the first word of freed objects */
    uint32_t size; /* of an object */
    uint32_t max;  /* objects it has room for */
    uint32_t live;
    uint32_t used; /* objects from this one on were never handed out */
};

_Static_assert(sizeof(struct block) % SLAB_STEP == 0, "objects are aligned as malloc's are");

struct cs_slab {
    struct cs_list blocks;
    size_t count;                     /* of blocks */
    struct block *kept[SLAB_CLASSES]; /* an empty one of that size, or NULL */
    size_t strays;                    /* objects that lie elsewhere than their size says */
    struct cs_list bins[SLAB_CLASSES][SLAB_BINS];
};

/* Whether objects of this size belong into blocks. */
static inline bool slab_sized(size_t size)
{
    return size > SLAB_SIZE_ABOVE && size <= SLAB_SIZE_MAX;
}

static inline size_t slab_round(size_t size)
{
    return (size + SLAB_STEP - 1) & ~(size_t)(SLAB_STEP - 1);
}

static inline size_t slab_class(size_t size)
{
    return (slab_round(size) - SLAB_SIZE_ABOVE) / SLAB_STEP - 1;
}

static inline struct block *slab_block_of(const void *ptr)
{
    return (struct block *)((uintptr_t)ptr & ~(uintptr_t)(SLAB_BLOCK_BYTES - 1));
}

struct cs_slab *cs_slab_create(void)
{
    struct cs_slab *s = cs_zalloc(sizeof(*s));

    if (s == NULL) {
        return NULL;
    }
    cs_list_init(&s->blocks);
    for (size_t class = 0; class < SLAB_CLASSES; class ++) {
        for (size_t bin = 0; bin < SLAB_BINS; bin++) {
            cs_list_init(&s->bins[class][bin]);
        }
    }
    return s;
}

static void slab_block_free(struct cs_slab *s, struct block *b)
{
    cs_list_remove(&b->node);
    cs_list_remove(&b->all);
    s->count--;
    SLAB_UNPOISON(b, SLAB_BLOCK_BYTES);
    cs_free(b);
}

void cs_slab_destroy(struct cs_slab *s)
{
    if (s == NULL) {
        return;
    }
    cs_list_each(l, next, &s->blocks) {
        slab_block_free(s, cs_container_of(l, struct block, all));
    }
    cs_free(s);
}

static uint8_t *slab_object(struct block *b, uint32_t index)
{
    return (uint8_t *)(b + 1) + (size_t)index * b->size;
}

static uint32_t slab_index(struct block *b, const void *obj)
{
    return (uint32_t)((const uint8_t *)obj - (uint8_t *)(b + 1)) / b->size;
}

static void slab_chain(struct block *b, void *obj)
{
    SLAB_UNPOISON(obj, sizeof(b->freed));
    memcpy(obj, &b->freed, sizeof(b->freed));
    b->freed = obj;
    SLAB_POISON(obj, b->size);
}

/* The freed object behind this one in its block's chain. */
static void *slab_next(const struct block *b, void *obj)
{
    void *next;

    SLAB_UNPOISON(obj, sizeof(next));
    memcpy(&next, obj, sizeof(next));
    SLAB_POISON(obj, b->size);
    return next;
}

/* What lies behind the last live object becomes as if never used. */
static void slab_block_trim(struct block *b)
{
    bool freed[SLAB_BLOCK_BYTES / SLAB_SIZE_ABOVE] = {false};
    uint32_t used = b->used;
    void *next = b->freed;

    for (void *obj = next; obj != NULL; obj = slab_next(b, obj)) {
        freed[slab_index(b, obj)] = true;
    }
    while (b->used > 0 && freed[b->used - 1]) {
        b->used--;
    }
    if (b->used == used) {
        return;
    }
    b->freed = NULL;
    while (next != NULL) {
        void *obj = next;

        next = slab_next(b, obj);
        if (slab_index(b, obj) < b->used) {
            slab_chain(b, obj);
        }
    }
    cs_mem_discard(slab_object(b, b->used),
                   SLAB_BLOCK_BYTES - sizeof(*b) - (size_t)b->used * b->size);
}

void cs_slab_trim(struct cs_slab *s)
{
    unsigned left = SLAB_TRIMMED;

    for (size_t class = 0; class < SLAB_CLASSES; class ++) {
        if (s->kept[class] != NULL) {
            slab_block_free(s, s->kept[class]);
            s->kept[class] = NULL;
        }
        for (size_t bin = 0; bin < SLAB_BINS; bin++) {
            cs_list_each(l, next, &s->bins[class][bin]) {
                if (left > 0) {
                    slab_block_trim(cs_container_of(l, struct block, node));
                    left--;
                }
            }
        }
    }
}

/* The empty block kept for this size, or a new one; the caller formats it. */
static struct block *slab_block_get(struct cs_slab *s, size_t size)
{
    struct block *b = s->kept[slab_class(size)];

    if (b != NULL) {
        s->kept[slab_class(size)] = NULL;
        return b;
    }
    b = cs_alloc_aligned(SLAB_BLOCK_BYTES, SLAB_BLOCK_BYTES);
    if (b == NULL) {
        return NULL;
    }
    cs_list_init(&b->node);
    cs_list_append(&s->blocks, &b->all);
    b->slab = s;
    s->count++;
    return b;
}

/* Makes an empty block one for objects of this size, without touching its pages. */
static void slab_block_format(struct block *b, size_t size)
{
    b->freed = NULL;
    b->size = (uint32_t)slab_round(size);
    b->max = (uint32_t)(SLAB_BLOCK_BYTES - sizeof(*b)) / b->size;
    b->live = 0;
    b->used = 0;
    SLAB_POISON(b + 1, SLAB_BLOCK_BYTES - sizeof(*b));
}

/* The fullest block with a free object of this size, or an empty one. */
static struct block *slab_block_choose(struct cs_slab *s, size_t size)
{
    struct cs_list *bins = s->bins[slab_class(size)];
    struct block *b;

    for (unsigned i = SLAB_BINS; i-- > 0;) {
        struct cs_list *node = cs_list_first(&bins[i]);

        if (node != NULL) {
            return cs_container_of(node, struct block, node);
        }
    }
    b = slab_block_get(s, size);
    if (b != NULL) {
        slab_block_format(b, size);
    }
    return b;
}

/* Puts a block that is not empty where its number of live objects asks for. */
static void slab_classify(struct cs_slab *s, struct block *b, uint32_t live_before)
{
    uint32_t bin = b->live * b->size / (SLAB_BLOCK_BYTES / SLAB_BINS);
    uint32_t before = live_before * b->size / (SLAB_BLOCK_BYTES / SLAB_BINS);

    if (b->live == b->max) {
        cs_list_remove(&b->node);
    } else if (bin != before || cs_list_empty(&b->node)) {
        cs_list_remove(&b->node);
        cs_list_append(&s->bins[slab_class(b->size)][bin], &b->node);
    }
}

/* An object where its size says it belongs, or NULL. */
static void *slab_take(struct cs_slab *s, size_t size)
{
    struct block *b;
    void *obj;

    if (!slab_sized(size)) {
        return cs_alloc(size);
    }
    b = cs_mem_fault() ? NULL : slab_block_choose(s, size);
    if (b == NULL) {
        return NULL;
    }
    if (b->freed != NULL) {
        obj = b->freed;
        SLAB_UNPOISON(obj, b->size);
        memcpy(&b->freed, obj, sizeof(b->freed));
    } else {
        obj = slab_object(b, b->used++);
        SLAB_UNPOISON(obj, b->size);
    }
    b->live++;
    slab_classify(s, b, b->live - 1);
    return obj;
}

/* Frees an object of a block. */
static void slab_give(struct cs_slab *s, void *obj)
{
    struct block *b = slab_block_of(obj);

    CS_ASSERT(b->slab == s);
    CS_ASSERT(b->live > 0);
    slab_chain(b, obj);
    b->live--;
    if (b->live > 0) {
        slab_classify(s, b, b->live + 1);
    } else if (s->kept[slab_class(b->size)] == NULL) {
        cs_list_remove(&b->node);
        s->kept[slab_class(b->size)] = b;
    } else {
        slab_block_free(s, b);
    }
}

/* Whether the object lies in a block. */
static bool slab_holds(struct cs_slab *s, const void *ptr, size_t size)
{
    if (CS_LIKELY(s->strays == 0)) {
        return slab_sized(size);
    }
    /* The memory at the cut address may be no block, nor ours to read. */
    cs_list_each(l, next, &s->blocks) {
        if (cs_container_of(l, struct block, all) == slab_block_of(ptr)) {
            return true;
        }
    }
    return false;
}

/* A smaller object for which there is no place where it belongs. */
static void *slab_keep(struct cs_slab *s, void *ptr, size_t old_size, size_t new_size, bool held)
{
    /* What lies with mem.h must have the size that it will be freed with. */
    void *p = held ? ptr : cs_resize_sized(ptr, old_size, new_size);

    if (p != NULL && held != slab_sized(new_size)) {
        s->strays++;
    }
    return p;
}

static void *slab_move(struct cs_slab *s, void *ptr, size_t old_size, size_t new_size, bool held)
{
    void *p = slab_take(s, new_size);

    if (p == NULL) {
        return new_size > old_size ? NULL : slab_keep(s, ptr, old_size, new_size, held);
    }
    memcpy(p, ptr, CS_MIN(old_size, new_size));
    if (held) {
        slab_give(s, ptr);
    } else {
        (void)cs_resize_sized(ptr, old_size, 0);
    }
    return p;
}

void *cs_slab_resize(struct cs_slab *s, void *ptr, size_t old_size, size_t new_size)
{
    bool held, stray;
    void *p = NULL;

    if (ptr == NULL || old_size == 0) {
        return new_size != 0 ? slab_take(s, new_size) : NULL;
    }
    held = slab_holds(s, ptr, old_size);
    stray = held != slab_sized(old_size);
    if (!held && !slab_sized(new_size)) {
        p = cs_resize_sized(ptr, old_size, new_size);
    } else if (new_size == 0) {
        slab_give(s, ptr);
    } else if (held && slab_round(new_size) == slab_block_of(ptr)->size) {
        p = ptr;
    } else {
        p = slab_move(s, ptr, old_size, new_size, held);
    }
    if (stray && (p != NULL || new_size == 0)) {
        s->strays--;
    }
    return p;
}

size_t cs_slab_blocks(const struct cs_slab *s)
{
    return s->count;
}
