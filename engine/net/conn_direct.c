/* conn_direct - lends a connection's socket out, to be read and written past the stream. */
#include <errno.h>
#include <fcntl.h>
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
