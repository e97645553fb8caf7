/* conn_direct - lends a connection's socket out, to be read and written past the stream. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/assert.h"
#include "net/conn_impl.h"

static int set_blocking(int fd, bool blocking)
{
    return fcntl(fd, F_SETFL, blocking ? 0 : O_NONBLOCK) < 0 ? -errno : 0;
}

int cs_conn_direct(struct cs_conn *c)
{
    if (c->state != OPEN) {
        return CS_ECLOSED;
    }
    int fd = cs_ring_dup(cs_conn_net(c)->ring, c->fd);
    int err = fd < 0 ? fd : c->directs == 0 ? set_blocking(fd, false) : 0;
    if (err < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return err;
    }
    c->directs++;
    CS_ASSERT(c->directs <= 2);
    return fd;
}

void cs_conn_direct_end(struct cs_conn *c, int fd)
{
    CS_ASSERT(c->directs > 0);
    if (--c->directs == 0) {
        int err = set_blocking(fd, true); /* cannot fail on a descriptor that took O_NONBLOCK */
        (void)err;
    }
    close(fd);
}

void cs_conn_read_direct(struct cs_conn *c, bool on)
{
    c->direct = on;
    if (c->state == OPEN) {
        cs_conn_read_off(c); /* the final event goes on the other way */
        cs_conn_read_on(c);
    }
}

void cs_conn_wait_input(struct cs_conn *c)
{
    cs_conn_read_on(c);
}

/* Where the peer has ended, a poll is over at once with that: then only changes tell of room. */
static void writable_now(struct cs_op *op, const struct cs_event *ev)
{
    struct cs_conn *c = cs_container_of(op, struct cs_conn, send);
    struct cs_ring *ring = cs_conn_net(c)->ring;
    if (ev->more) {
        if (ev->res != POLLRDHUP) {
            cs_ring_cancel(ring, op);
        }
        return;
    }
    bool waits = c->state == OPEN || (c->state == FLUSHING && cs_chain_len(&c->out) > 0);
    if (ev->res == POLLRDHUP && waits) {
        cs_ring_poll_changes(ring, op, c->fd, POLLOUT);
        return;
    }
    if (c->state < DRAINING) {
        cs_conn_mark_dirty(c);
    }
    if (c->state == OPEN && c->wants_room && cs_chain_len(&c->out) == 0) {
        c->wants_room = false;
        if (c->stream.user_ops) {
            c->stream.user_ops->on_room(c->stream.user, &c->stream);
        }
    }
    cs_conn_join(c);
}

void cs_conn_poll_writable(struct cs_conn *c)
{
    cs_op_set_handler(&c->send, writable_now);
    cs_ring_poll(cs_conn_net(c)->ring, &c->send, c->fd, POLLOUT);
}

void cs_conn_wait_writable(struct cs_conn *c)
{
    c->wants_room = true;
    cs_conn_mark_dirty(c);
}

void cs_conn_count(struct cs_conn *c, size_t in, size_t out)
{
    c->bytes_in += in;
    cs_conn_net(c)->count.bytes_in += in;
    cs_conn_count_sent(c, out);
}
