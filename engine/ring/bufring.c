/* bufring - provided buffers: lent by the kernel, given back once. */
#include "ring/bufring.h"

#include <errno.h>
#include <liburing.h>
#include <sys/mman.h>

#include "base/assert.h"
#include "base/mem.h"

struct lent {
    struct cs_slice slice;
    struct cs_bufring *owner;
    uint16_t id;
};

struct cs_bufring {
    struct io_uring *ring;
    struct io_uring_buf_ring *shared; /* what the kernel reads */
    uint8_t *memory;
    size_t shared_bytes, memory_bytes;
    unsigned group, count, size;
    unsigned out; /* lent */
    struct lent lent[];
};

static void give(struct cs_bufring *b, unsigned id)
{
    io_uring_buf_ring_add(b->shared, b->memory + (size_t)id * b->size, b->size, (unsigned short)id,
                          io_uring_buf_ring_mask(b->count), 0);
    io_uring_buf_ring_advance(b->shared, 1);
}

static void release(struct cs_slice *s)
{
    struct lent *l = cs_container_of(s, struct lent, slice);
    struct cs_bufring *b = l->owner;
    CS_ASSERT(b->out > 0);
    b->out--;
    give(b, l->id);
}

/* Untouched pages cost nothing, so groups are mapped, not allocated. */
static void *map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static int register_group(struct cs_bufring *b)
{
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)b->shared,
        .ring_entries = b->count,
        .bgid = (uint16_t)b->group,
    };
    return io_uring_register_buf_ring(b->ring, &reg, 0);
}

int cs_bufring_create(struct cs_bufring **out, struct io_uring *ring, unsigned group,
                      unsigned count, unsigned size)
{
    struct cs_bufring *b = cs_zalloc(sizeof(*b) + count * sizeof(b->lent[0]));
    int err = -ENOMEM;
    if (!b) {
        return err;
    }
    *b = (struct cs_bufring){.ring = ring, .group = group, .count = count, .size = size};
    b->shared_bytes = count * sizeof(struct io_uring_buf);
    b->memory_bytes = (size_t)count * size;
    b->shared = map(b->shared_bytes);
    b->memory = map(b->memory_bytes);
    if (!b->shared || !b->memory) {
        goto fail;
    }
    err = register_group(b);
    if (err < 0) {
        goto fail;
    }
    io_uring_buf_ring_init(b->shared);
    for (unsigned id = 0; id < count; id++) {
        b->lent[id].owner = b;
        b->lent[id].id = (uint16_t)id;
        b->lent[id].slice.release = release;
        give(b, id);
    }
    *out = b;
    return 0;
fail:
    if (b->memory) {
        munmap(b->memory, b->memory_bytes);
    }
    if (b->shared) {
        munmap(b->shared, b->shared_bytes);
    }
    cs_free(b);
    return err;
}

void cs_bufring_destroy(struct cs_bufring *b)
{
    if (!b) {
        return;
    }
    CS_ASSERT(b->out == 0);
    io_uring_unregister_buf_ring(b->ring, (int)b->group);
    munmap(b->memory, b->memory_bytes);
    munmap(b->shared, b->shared_bytes);
    cs_free(b);
}

struct cs_slice *cs_bufring_lend(struct cs_bufring *b, unsigned id, unsigned len)
{
    CS_ASSERT(id < b->count && len <= b->size);
    struct cs_slice *s = &b->lent[id].slice;
    s->next = NULL;
    s->data = b->memory + (size_t)id * b->size;
    s->len = len;
    s->room = 0;
    b->out++;
    return s;
}

unsigned cs_bufring_free(const struct cs_bufring *b)
{
    return b->count - b->out;
}

unsigned cs_bufring_size(const struct cs_bufring *b)
{
    return b->size;
}

const struct cs_bufring *cs_bufring_of(const struct cs_slice *s)
{
    return cs_container_of(s, struct lent, slice)->owner;
}

bool cs_bufring_may_keep(const struct cs_bufring *b)
{
    return b->out * 2 <= b->count;
}

void cs_bufring_trim(struct cs_bufring *b)
{
    if (b->out == 0) {
        cs_mem_discard(b->memory, b->memory_bytes); /* the kernel may write there at any time */
    }
}
