/*
 * chain - byte slices in a queue. No slice in a chain is empty.
 */
#include "base/chain.h"

#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/assert.h"
#include "base/mem.h"

/* Header and data together: sizes that the allocator has a class for. */
#define SLICE_TOTAL_MIN 512U
#define SLICE_TOTAL_POW2_MAX 4096U
#define SLICE_TOTAL_MAX 65536U

_Static_assert(sizeof(struct cs_slice) == 32, "the size classes are chosen for a 32-byte header");

struct cs_slice *cs_slice_create(size_t room)
{
    struct cs_slice *s;

    if (room > UINT32_MAX) {
        return NULL;
    }
    if (sizeof(*s) + room >= CS_BLOCK_MIN && sizeof(*s) + room <= CS_BLOCK_SIZE) {
        room = CS_BLOCK_SIZE - sizeof(*s);
        s = cs_block_alloc();
    } else {
        s = cs_alloc(sizeof(*s) + room);
    }
    if (s == NULL) {
        return NULL;
    }
    s->next = NULL;
    s->data = (uint8_t *)(s + 1);
    s->len = 0;
    s->room = (uint32_t)room;
    s->release = NULL;
    return s;
}

void cs_slice_release(struct cs_slice *s)
{
    if (s == NULL) {
        return;
    }
    if (s->release != NULL) {
        s->release(s);
    } else if (s->data + s->len + s->room == (uint8_t *)s + CS_BLOCK_SIZE) {
        cs_block_free(s);
    } else {
        cs_free(s);
    }
}

/* Puts a slice at the end; its bytes are counted, empty ones are the caller's to fill at once. */
static void chain_link(struct cs_chain *c, struct cs_slice *s)
{
    s->next = NULL;
    if (c->tail != NULL) {
        c->tail->next = s;
    } else {
        c->head = s;
    }
    c->tail = s;
    c->len += s->len;
}

/* Takes the first slice out of the chain. */
static struct cs_slice *chain_unlink(struct cs_chain *c)
{
    struct cs_slice *s = c->head;

    c->head = s->next;
    if (c->head == NULL) {
        c->tail = NULL;
    }
    c->len -= s->len;
    s->next = NULL;
    return s;
}

void cs_chain_push(struct cs_chain *c, struct cs_slice *s)
{
    CS_ASSERT(s->release == NULL || s->room == 0);
    if (s->len == 0) {
        /* Nothing to queue, and a lent one goes back to its ring without delay. */
        cs_slice_release(s);
        return;
    }
    chain_link(c, s);
}

/* Room of the slice that should take `len` bytes: up to a page the next power of two, so that small
 * writes that follow find room; beyond it just enough. */
static size_t slice_room_for(size_t len)
{
    size_t total = SLICE_TOTAL_MIN;

    if (len + sizeof(struct cs_slice) > SLICE_TOTAL_POW2_MAX) {
        return CS_MIN(len, SLICE_TOTAL_MAX - sizeof(struct cs_slice));
    }
    while (total < len + sizeof(struct cs_slice)) {
        total *= 2;
    }
    return total - sizeof(struct cs_slice);
}

static void slices_release(struct cs_slice *list)
{
    while (list != NULL) {
        struct cs_slice *next = list->next;

        cs_slice_release(list);
        list = next;
    }
}

/* A list of empty slices with room for len bytes together. All are made before a byte moves, so
 * that a failure changes nothing. */
static int slices_reserve(struct cs_slice **list, size_t len)
{
    struct cs_slice **end = list;

    *list = NULL;
    while (len > 0) {
        struct cs_slice *s = cs_slice_create(slice_room_for(len));

        if (s == NULL) {
            slices_release(*list);
            *list = NULL;
            return -ENOMEM;
        }
        *end = s;
        end = &s->next;
        len -= CS_MIN(len, s->room);
    }
    return 0;
}

/* A lent slice has none. */
static size_t chain_tail_room(const struct cs_chain *c)
{
    return c->tail != NULL ? c->tail->room : 0;
}

/* Copies to the end of the chain: into the tail's room, then into slices taken from `spare`. */
static void chain_fill(struct cs_chain *c, struct cs_slice **spare, const uint8_t *data, size_t len)
{
    while (len > 0) {
        struct cs_slice *s = c->tail;
        uint32_t part;

        if (chain_tail_room(c) == 0) {
            s = *spare;
            CS_ASSERT(s != NULL);
            *spare = s->next;
            chain_link(c, s);
        }
        part = (uint32_t)CS_MIN(len, s->room);
        memcpy(s->data + s->len, data, part);
        s->len += part;
        s->room -= part;
        c->len += part;
        data += part;
        len -= part;
    }
}

int cs_chain_append(struct cs_chain *c, const void *data, size_t len)
{
    struct cs_slice *spare = NULL;
    size_t room = chain_tail_room(c);

    if (len > room && slices_reserve(&spare, len - room) != 0) {
        return -ENOMEM;
    }
    chain_fill(c, &spare, data, len);
    CS_ASSERT(spare == NULL);
    return 0;
}

int cs_chain_move(struct cs_chain *to, struct cs_chain *from, size_t n)
{
    CS_ASSERT(to != from);
    if (n >= from->len) {
        cs_chain_move_all(to, from);
        return 0;
    }
    while (n > 0 && n >= from->head->len) {
        struct cs_slice *s = chain_unlink(from);

        n -= s->len;
        chain_link(to, s);
    }
    if (n == 0) {
        return 0;
    }
    if (cs_chain_append(to, from->head->data, n) != 0) {
        return -ENOMEM;
    }
    cs_chain_drop(from, n);
    return 0;
}

void cs_chain_move_all(struct cs_chain *to, struct cs_chain *from)
{
    CS_ASSERT(to != from);
    if (from->head == NULL) {
        return;
    }
    if (to->tail != NULL) {
        to->tail->next = from->head;
    } else {
        to->head = from->head;
    }
    to->tail = from->tail;
    to->len += from->len;
    cs_chain_init(from);
}

void cs_chain_drop(struct cs_chain *c, size_t n)
{
    n = CS_MIN(n, c->len);
    while (n > 0) {
        struct cs_slice *s = c->head;

        if (n < s->len) {
            s->data += n;
            s->len -= (uint32_t)n;
            c->len -= n;
            return;
        }
        n -= s->len;
        cs_slice_release(chain_unlink(c));
    }
}

void cs_chain_clear(struct cs_chain *c)
{
    cs_chain_drop(c, c->len);
    CS_ASSERT(c->head == NULL);
    CS_ASSERT(c->tail == NULL);
}

size_t cs_chain_peek(const struct cs_chain *c, void *to, size_t n)
{
    uint8_t *out = to;
    size_t left = CS_MIN(n, c->len);

    for (const struct cs_slice *s = c->head; left > 0; s = s->next) {
        size_t part = CS_MIN(left, s->len);

        memcpy(out, s->data, part);
        out += part;
        left -= part;
    }
    return CS_MIN(n, c->len);
}

unsigned cs_chain_iov(const struct cs_chain *c, struct iovec *iov, unsigned max)
{
    unsigned count = 0;

    for (const struct cs_slice *s = c->head; s != NULL && count < max; s = s->next) {
        iov[count].iov_base = s->data;
        iov[count].iov_len = s->len;
        count++;
    }
    return count;
}

/* Bytes of the lent slices that stand together at the front. */
static size_t chain_lent_run(const struct cs_chain *c)
{
    size_t len = 0;

    for (const struct cs_slice *s = c->head; s != NULL && cs_slice_is_lent(s); s = s->next) {
        len += s->len;
    }
    return len;
}

/* Moves the lent run at the front of `from` into owned memory at the end of `to`. */
static int chain_own_run(struct cs_chain *to, struct cs_chain *from, size_t len)
{
    struct cs_slice *spare = NULL;
    size_t room = chain_tail_room(to);

    if (len > room && slices_reserve(&spare, len - room) != 0) {
        return -ENOMEM;
    }
    while (len > 0) {
        struct cs_slice *s = chain_unlink(from);

        chain_fill(to, &spare, s->data, s->len);
        len -= s->len;
        cs_slice_release(s);
    }
    CS_ASSERT(spare == NULL);
    return 0;
}

int cs_chain_own(struct cs_chain *c)
{
    struct cs_chain done;
    int err = 0;

    cs_chain_init(&done);
    while (c->head != NULL && err == 0) {
        size_t run = chain_lent_run(c);

        if (run == 0) {
            chain_link(&done, chain_unlink(c));
        } else {
            err = chain_own_run(&done, c, run);
        }
    }
    cs_chain_move_all(&done, c);
    *c = done;
    return err;
}
