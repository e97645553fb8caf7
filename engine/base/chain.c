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

_Static_assert(sizeof(struct cs_slice) == 40, "the size classes are chosen for a 40-byte header");

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
    s->total = cs_chain_len(c) + s->len;
    if (c->last != NULL) {
        s->next = c->last->next;
        c->last->next = s;
    } else {
        s->next = s;
    }
    c->last = s;
}

/* Takes the first slice out of the chain. */
static struct cs_slice *chain_unlink(struct cs_chain *c)
{
    struct cs_slice *s = c->last->next;

    c->last->total -= s->len;
    c->last->next = s->next;
    if (c->last == s) {
        c->last = NULL;
    }
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
    return c->last != NULL ? c->last->room : 0;
}

/* Copies to the end of the chain: into the tail's room, then into slices taken from `spare`. */
static void chain_fill(struct cs_chain *c, struct cs_slice **spare, const uint8_t *data, size_t len)
{
    while (len > 0) {
        struct cs_slice *s = c->last;
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
        s->total += part;
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
    if (n >= cs_chain_len(from)) {
        cs_chain_move_all(to, from);
        return 0;
    }
    while (n > 0 && n >= cs_chain_first(from)->len) {
        struct cs_slice *s = chain_unlink(from);

        n -= s->len;
        chain_link(to, s);
    }
    if (n == 0) {
        return 0;
    }
    if (cs_chain_append(to, cs_chain_first(from)->data, n) != 0) {
        return -ENOMEM;
    }
    cs_chain_drop(from, n);
    return 0;
}

void cs_chain_move_all(struct cs_chain *to, struct cs_chain *from)
{
    CS_ASSERT(to != from);
    if (from->last == NULL) {
        return;
    }
    if (to->last != NULL) {
        struct cs_slice *first = to->last->next;

        from->last->total += to->last->total;
        to->last->next = from->last->next;
        from->last->next = first;
    }
    to->last = from->last;
    cs_chain_init(from);
}

void cs_chain_drop(struct cs_chain *c, size_t n)
{
    n = CS_MIN(n, cs_chain_len(c));
    while (n > 0) {
        struct cs_slice *s = cs_chain_first(c);

        if (n < s->len) {
            s->data += n;
            s->len -= (uint32_t)n;
            c->last->total -= n;
            return;
        }
        n -= s->len;
        cs_slice_release(chain_unlink(c));
    }
}

void cs_chain_clear(struct cs_chain *c)
{
    cs_chain_drop(c, cs_chain_len(c));
    CS_ASSERT(c->last == NULL);
}

size_t cs_chain_peek(const struct cs_chain *c, void *to, size_t n)
{
    uint8_t *out = to;
    size_t peeked = CS_MIN(n, cs_chain_len(c)), left = peeked;

    for (const struct cs_slice *s = cs_chain_first(c); left > 0; s = s->next) {
        size_t part = CS_MIN(left, s->len);

        memcpy(out, s->data, part);
        out += part;
        left -= part;
    }
    return peeked;
}

unsigned cs_chain_iov(const struct cs_chain *c, struct iovec *iov, unsigned max)
{
    unsigned count = 0;

    for (const struct cs_slice *s = cs_chain_first(c); s != NULL && count < max;
         s = cs_chain_next(c, s)) {
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

    for (const struct cs_slice *s = cs_chain_first(c); s != NULL && cs_slice_is_lent(s);
         s = cs_chain_next(c, s)) {
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
    while (c->last != NULL && err == 0) {
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
