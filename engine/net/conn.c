/*
 * conn - the bottom stream. Each section below is one concern: reading, writing, closing in three
 * steps, connecting, the loop's phases. State changes happen in set_state only.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/uio.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/conn_impl.h"

#define DISCARD_MAX (256 * 1024) /* bytes a closing connection reads to throw away */
/* So many full reads in a row move a connection to the large buffers, so many others back. */
#define BULK_AFTER 2
#define SMALL_AFTER 4
#define OFFER_MIN 4096     /* bytes of small offers of one turn are joined up to here */
#define NOT_SENT_MAX 16384 /* bytes */
/* In one turn: each takes the kernel some 10 us, and many tunnels may end at once. It also wakes
 * the peer, who may take this CPU for a while: so fewer in a turn that is late. */
#define ENDS_MAX 96
#define ENDS_AT_ONCE 8

static const struct cs_stream_ops conn_ops;

/* ---- small things ---- */

struct cs_stream *cs_conn_stream(struct cs_conn *c)
{
    return &c->stream;
}

struct cs_conn *cs_conn_of(struct cs_stream *bottom)
{
    CS_ASSERT(bottom->ops == &conn_ops);
    return cs_container_of(bottom, struct cs_conn, stream);
}

static struct cs_conn *of(const struct cs_stream *s)
{
    return cs_container_of(s, struct cs_conn, stream);
}

/* ---- what few need ---- */

static void stop(struct cs_conn *c);
static void deadline_passed(struct cs_timer *t);

/* Makes sure that it is there. 0 or -ENOMEM. */
static CS_MUST_CHECK int rare_get(struct cs_conn *c)
{
    if (!c->rare) {
        c->rare = cs_zalloc(sizeof(*c->rare));
        if (!c->rare) {
            return -ENOMEM;
        }
        c->rare->conn = c;
        cs_timer_init(&c->rare->deadline, deadline_passed);
        cs_list_init(&c->rare->node);
    }
    return 0;
}

static void unstarve(struct cs_conn *c)
{
    if (c->starved) {
        c->starved = false;
        cs_list_remove(&c->rare->node);
    }
}

static void rare_drop(struct cs_conn *c)
{
    if (c->rare) {
        unstarve(c);
        cs_timer_stop(cs_loop_wheel(cs_conn_net(c)->loop), &c->rare->deadline);
        cs_free(c->rare);
        c->rare = NULL;
    }
}

/* ---- deadlines ---- */

static void deadline_passed(struct cs_timer *t)
{
    struct cs_conn *c = cs_container_of(t, struct rare, deadline)->conn;
    /* What could not be delivered in time is dropped; a silent peer after our end is an ordinary
     * close. */
    c->reset = c->state == FLUSHING;
    if (c->state == FLUSHING && c->why == 0) {
        c->why = CS_ETIMEOUT;
    }
    stop(c);
}

static CS_MUST_CHECK int deadline_set(struct cs_conn *c, uint32_t ms)
{
    struct cs_loop *loop = cs_conn_net(c)->loop;
    int err = rare_get(c);
    if (err == 0) {
        cs_timer_set(cs_loop_wheel(loop), &c->rare->deadline, cs_loop_now(loop) + ms);
    }
    return err;
}

/* ---- events up ---- */

/* The connection broke: nothing more comes in or goes out; the user still has to close. */
static void broken(struct cs_conn *c, int err)
{
    if (c->state > OPEN) {
        c->stream.err = c->stream.err ? c->stream.err : err; /* for the log line */
        stop(c);
        return;
    }
    if (!c->send.armed) {
        cs_chain_clear(&c->out);
    }
    if (c->stream.err) {
        return; /* told already: the other direction found out too */
    }
    c->stream.err = err;
    c->stream.eof = true;
    c->full = false;
    if (c->stream.user_ops) {
        c->stream.user_ops->on_eof(c->stream.user, &c->stream, c->stream.err);
    }
}

static void room_again(struct cs_conn *c)
{
    if (c->full && cs_chain_len(&c->out) < cs_conn_net(c)->config.out_low) {
        c->full = false;
        if (c->state == OPEN && c->stream.user_ops) {
            c->stream.user_ops->on_room(c->stream.user, &c->stream);
        }
    }
}

/* ---- reading ---- */

static void starve(struct cs_conn *c)
{
    struct cs_net *n = cs_conn_net(c);
    n->count.enobufs++;
    if (rare_get(c) < 0) {
        broken(c, -ENOMEM);
    } else if (!c->starved) {
        c->starved = true;
        cs_list_append(&n->starved, &c->rare->node);
    }
}

/* Whether the socket should be read now. While closing, input is read to be thrown away. */
static bool hungry(const struct cs_conn *c)
{
    if (c->stream.eof || c->starved) {
        return false;
    }
    if (c->state == OPEN) {
        return c->want && cs_chain_len(&c->stream.in) < cs_conn_net(c)->config.in_high;
    }
    return (c->state == FLUSHING || c->state == DRAINING) && c->rare->discarded < DISCARD_MAX;
}

static void recv_done(struct cs_op *op, const struct cs_event *ev);
static void send_done(struct cs_op *op, const struct cs_event *ev);
static void readable(struct cs_op *op, const struct cs_event *ev);
static void watch_done(struct cs_op *op, const struct cs_event *ev);

static void poll_input(struct cs_conn *c, cs_op_fn *done, unsigned events)
{
    cs_op_set_handler(&c->recv, done);
    cs_ring_poll(cs_conn_net(c)->ring, &c->recv, c->fd, events);
}

static void receive(struct cs_conn *c)
{
    cs_op_set_handler(&c->recv, recv_done);
    cs_ring_recv(cs_conn_net(c)->ring, &c->recv, c->fd, c->bulk ? CS_RING_BULK : CS_RING_SMALL);
}

void cs_conn_read_on(struct cs_conn *c)
{
    if (c->recv.armed) {
        return;
    }
    if (hungry(c) && c->directs) { /* a receive on a non-blocking socket would not wait */
        poll_input(c, readable, POLLIN);
    } else if (hungry(c)) {
        receive(c);
    } else if (c->watching && c->state == OPEN && !c->stream.eof) {
        poll_input(c, watch_done, 0);
    }
}

void cs_conn_read_off(struct cs_conn *c)
{
    if (c->recv.armed && !c->recv.cancelling) {
        cs_conn_net(c)->count.cancels++;
        cs_ring_cancel(cs_conn_net(c)->ring, &c->recv);
    }
}

/* Many full reads move to the large buffers, many small ones back. */
static void choose_group(struct cs_conn *c, size_t len, size_t full)
{
    bool other = c->bulk ? len < full : len >= full;
    c->streak = other ? (c->streak + 1u) & 7u : 0;
    if (c->streak >= (c->bulk ? SMALL_AFTER : BULK_AFTER)) {
        c->bulk = !c->bulk;
        c->streak = 0;
        cs_conn_read_off(c); /* armed again, for the other group, by the final event */
    }
}

/* A peer that goes on sending to a socket being closed is cut off in the end. */
static void discard(struct cs_conn *c, size_t len)
{
    if (c->state != FLUSHING && c->state != DRAINING) { /* broken */
        cs_conn_read_off(c);
        return;
    }
    c->rare->discarded += (uint32_t)CS_MIN(len, (size_t)DISCARD_MAX);
    if (c->rare->discarded < DISCARD_MAX) {
        return;
    }
    cs_conn_read_off(c);
    if (c->state == DRAINING) {
        c->reset = true;
        stop(c);
    }
}

static void input(struct cs_conn *c, struct cs_slice *slice)
{
    size_t len = slice->len;
    c->bytes_in += len;
    cs_conn_net(c)->count.bytes_in += len;
    if (c->state != OPEN || c->stream.err) {
        cs_slice_release(slice);
        discard(c, len);
        return;
    }
    cs_chain_push(&c->stream.in, slice);
    if (!c->lent) {
        c->lent = true;
        CS_ASSERT(cs_conn_net(c)->lent_count < CS_NET_LENT_MAX);
        cs_conn_net(c)->lent[cs_conn_net(c)->lent_count++] = c;
    }
    choose_group(c, len, cs_conn_net(c)->small_size);
    if (c->stream.user_ops) {
        c->stream.user_ops->on_input(c->stream.user, &c->stream);
    }
    if (c->state == OPEN && cs_chain_len(&c->stream.in) >= cs_conn_net(c)->config.in_high) {
        cs_conn_read_off(c);
    }
}

static void end_of_input(struct cs_conn *c)
{
    if (c->stream.eof) {
        return;
    }
    c->stream.eof = true;
    if (cs_op_handler(&c->send) == send_done) {
        cs_ring_cancel(cs_conn_net(c)->ring, &c->send); /* see send_to_ended */
    }
    if (c->state == DRAINING) {
        stop(c);
    } else if (c->state == OPEN && c->stream.user_ops) {
        c->stream.user_ops->on_eof(c->stream.user, &c->stream, 0);
    }
}

static void recv_done(struct cs_op *op, const struct cs_event *ev)
{
    struct cs_conn *c = cs_container_of(op, struct cs_conn, recv);
    if (ev->slice) {
        input(c, ev->slice);
    } else if (ev->res == 0) {
        end_of_input(c);
    } else if (ev->res == -ENOBUFS) {
        if (c->state < STOPPING) {
            starve(c);
        }
    } else if (ev->res != -ECANCELED && ev->res != -EINTR && ev->res != -EAGAIN) {
        broken(c, ev->res);
    }
    if (!ev->more) {
        cs_conn_read_on(c);
        cs_conn_join(c);
    }
}

static void readable(struct cs_op *op, const struct cs_event *ev)
{
    struct cs_conn *c = cs_container_of(op, struct cs_conn, recv);
    if (c->direct && c->state == OPEN && c->want && ev->res > 0) {
        if (c->stream.user_ops) {
            c->stream.user_ops->on_input(c->stream.user, &c->stream);
        }
    } else if (ev->res > 0 && hungry(c)) {
        receive(c);
    } else {
        cs_conn_read_on(c);
    }
    cs_conn_join(c);
}

static void conn_consumed(struct cs_stream *s)
{
    struct cs_conn *c = of(s);
    if (cs_chain_len(&s->in) < cs_conn_net(c)->config.in_low) {
        cs_conn_read_on(c);
    }
}

static void conn_pause(struct cs_stream *s)
{
    struct cs_conn *c = of(s);
    c->want = false;
    if (c->state == OPEN && !c->watching) {
        cs_conn_read_off(c);
    }
}

/* The final event goes on with what is wanted then. */
static void watch_off(struct cs_conn *c)
{
    c->watching = false;
    if (cs_op_handler(&c->recv) == watch_done) {
        cs_conn_read_off(c);
    }
}

static void conn_resume(struct cs_stream *s)
{
    struct cs_conn *c = of(s);
    c->want = true;
    if (c->state == OPEN) {
        watch_off(c);
        cs_conn_read_on(c);
    }
}

/* ---- watching for a hang-up while paused ---- */

static void watch_done(struct cs_op *op, const struct cs_event *ev)
{
    struct cs_conn *c = cs_container_of(op, struct cs_conn, recv);
    /* POLLHUP alone means that both sides have ended: what was sent before can still be read. */
    if (ev->res > 0) {
        c->watching = false;
        if (c->state == OPEN && (ev->res & POLLERR)) {
            broken(c, -ECONNRESET);
        }
    }
    cs_conn_read_on(c);
    cs_conn_join(c);
}

void cs_conn_watch(struct cs_conn *c)
{
    c->watching = true;
    cs_conn_read_on(c);
}

/* ---- writing ---- */

void cs_conn_mark_dirty(struct cs_conn *c)
{
    if (!c->dirty) {
        c->dirty = true;
        cs_queue_add(&cs_conn_net(c)->dirty, &c->dirty_link);
    }
}

/* A slice of the ring's may stay in the output only while the ring can spare it. */
static bool is_scarce(const struct cs_chain *data)
{
    for (struct cs_slice *s = cs_chain_first(data); s; s = cs_chain_next(data, s)) {
        if (cs_slice_is_lent(s) && !cs_ring_may_keep(s)) {
            return true;
        }
    }
    return false;
}

/* Sends now, while no send is armed: the output, then of these bytes what TCP takes. How many of
 * them; an error is told from the write phase too, because there is no event inside a call. */
static ssize_t push(struct cs_conn *c, const void *data, size_t len)
{
    struct iovec iov[CS_RING_IOV_MAX];
    for (;;) {
        unsigned n = cs_chain_iov(&c->out, iov, CS_RING_IOV_MAX - 1);
        bool last = n < CS_RING_IOV_MAX - 1;
        if (last && len > 0) {
            iov[n++] = (struct iovec){(void *)(uintptr_t)data, len};
        }
        ssize_t taken = n > 0 ? cs_ring_send_now(cs_conn_net(c)->ring, c->fd, iov, n) : 0;
        if (taken <= 0) {
            c->found = (int16_t)taken;
            return taken;
        }
        cs_conn_count_sent(c, (size_t)taken);
        ssize_t before = CS_MIN(taken, (ssize_t)cs_chain_len(&c->out));
        cs_chain_drop(&c->out, (size_t)before);
        if (last) {
            return taken - before;
        }
    }
}

/* What TCP takes at once gives its buffers back without a copy, the rest is copied. */
static void give_back(struct cs_conn *c)
{
    ssize_t n = push(c, NULL, 0);
    int err = n < 0 ? 0 : cs_chain_own(&c->out);
    (void)err; /* without memory the ring has to wait for them */
}

/* Many small writes in one turn share a slice, so that one send takes them all. Bytes behind those
 * a send in flight has been given are free to fill. */
static void join_small(struct cs_chain *out, struct cs_chain *data)
{
    const struct cs_slice *first = cs_chain_first(data);
    if (first && first == data->last && out->last && first->len <= out->last->room &&
        cs_chain_append(out, first->data, first->len) == 0) {
        cs_chain_clear(data);
    }
}

/* 0, or why nothing can be written. */
static int writable(const struct cs_conn *c)
{
    int err = c->stream.err ? c->stream.err : c->found;
    if (err == 0 && (c->state != OPEN || c->shut)) {
        err = c->state == CONNECTING ? CS_ESTATE : CS_ECLOSED;
    }
    return err;
}

/* Whoever sees no room now hears when there is some. */
static void out_grew(struct cs_conn *c)
{
    c->full = c->full || cs_chain_len(&c->out) >= cs_conn_net(c)->config.out_high;
    cs_conn_mark_dirty(c);
}

static int conn_write(struct cs_stream *s, struct cs_chain *data)
{
    struct cs_conn *c = of(s);
    int err = writable(c);
    bool scarce = err == 0 && is_scarce(data);
    if (scarce && c->send.armed) {
        err = cs_chain_own(data);
    }
    if (err < 0) {
        cs_chain_clear(data);
        return err;
    }
    join_small(&c->out, data);
    cs_chain_move_all(&c->out, data);
    if (scarce && !c->send.armed) {
        give_back(c);
    }
    out_grew(c);
    return 0;
}

int cs_conn_write_long(struct cs_conn *c, const void *data, size_t len)
{
    ssize_t taken = writable(c);
    taken = taken == 0 && !c->send.armed ? push(c, data, len) : taken;
    int err = taken < 0 ? (int)taken : 0;
    if (err == 0 && (size_t)taken < len) {
        err = cs_chain_append(&c->out, (const char *)data + taken, len - (size_t)taken);
        c->found = taken > 0 ? (int16_t)err : c->found; /* a message that was cut */
    }
    out_grew(c);
    return err;
}

/* Who offers wants to hear soon that the peer does not keep up, not after megabytes. */
static void keep_little_unsent(struct cs_conn *c)
{
    static const int bytes = NOT_SENT_MAX;
    if (!c->lean) {
        c->lean = true;
        int err = cs_conn_setsockopt(c, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &bytes, sizeof(bytes));
        (void)err; /* Unix sockets have none, and need none */
    }
}

/* In one send with the output before it. What is left of that, who waits for room, and an error are
 * the write phase's: no event from inside a call. */
static ssize_t conn_offer(struct cs_stream *s, const void *data, size_t len)
{
    struct cs_conn *c = of(s);
    ssize_t taken = writable(c);
    if (taken < 0 || c->send.armed) { /* armed: TCP was full, and that send comes first */
        return taken;
    }
    cs_conn_mark_dirty(c);
    if (c->offered && cs_chain_len(&c->out) + len <= OFFER_MIN) {
        taken = cs_chain_append(&c->out, data, len);
        out_grew(c);
        return taken < 0 ? taken : (ssize_t)len;
    }
    keep_little_unsent(c);
    c->offered = false;
    taken = push(c, data, len);
    c->offered = taken == (ssize_t)len && cs_chain_len(&c->out) == 0;
    return taken;
}

static size_t conn_room(const struct cs_stream *s)
{
    const struct cs_conn *c = of(s);
    size_t high = cs_conn_net(c)->config.out_high;
    return c->state == OPEN && cs_chain_len(&c->out) < high ? high - cs_chain_len(&c->out) : 0;
}

static size_t conn_queued(const struct cs_stream *s)
{
    const struct cs_conn *c = of(s);
    return c->offered ? 0 : cs_chain_len(&c->out);
}

static void end_write_side(struct cs_conn *c)
{
    if (c->shut_done) {
        return;
    }
    c->shut_done = true;
    cs_conn_net(c)->ends++;
    int err = cs_ring_shutdown(cs_conn_net(c)->ring, c->fd);
    if (err < 0) {
        broken(c, err);
    }
}

static bool may_end(const struct cs_net *n)
{
    bool look = n->ends > 0 && n->ends % ENDS_AT_ONCE == 0;
    return n->ends < ENDS_MAX && !(look && cs_loop_late(n->loop));
}

/* Whether `flushed` will end its write side. */
static bool ends_here(const struct cs_conn *c)
{
    bool closing = c->state == FLUSHING && !c->stream.eof;
    return (closing || c->shut) && !c->shut_done;
}

/* All output is with the kernel: what waited for that goes on. */
static void flushed(struct cs_conn *c)
{
    if (c->state == OPEN && c->shut) {
        end_write_side(c);
    } else if (c->state == FLUSHING && c->stream.eof) {
        stop(c); /* closing ends our side; the peer's is over already */
    } else if (c->state == FLUSHING) {
        cs_conn_set_state(c, DRAINING);
        if (c->rare->discarded >= DISCARD_MAX) {
            c->reset = true;
            stop(c);
            return;
        }
        if (deadline_set(c, cs_conn_net(c)->config.drain_ms) < 0) {
            stop(c);
            return;
        }
        end_write_side(c);
    }
}

static void flush_goes_on(struct cs_conn *c)
{
    if (c->state == FLUSHING) {
        cs_timer_touch(&c->rare->deadline,
                       cs_loop_now(cs_conn_net(c)->loop) + cs_conn_net(c)->config.flush_ms);
    }
}

static void send_done(struct cs_op *op, const struct cs_event *ev)
{
    struct cs_conn *c = cs_container_of(op, struct cs_conn, send);
    if (ev->res == -EAGAIN && c->state < STOPPING) { /* non-blocking, and TCP is full */
        cs_conn_poll_writable(c);
        return;
    }
    if (ev->res > 0) {
        cs_conn_count_sent(c, (unsigned)ev->res);
        cs_chain_drop(&c->out, (size_t)ev->res);
        flush_goes_on(c);
    } else if (ev->res != -ECANCELED && ev->res != -EINTR && ev->res != -EAGAIN) {
        broken(c, ev->res);
    }
    if (c->stream.err) {
        cs_chain_clear(&c->out);
    }
    if (c->state < DRAINING) {
        cs_conn_mark_dirty(c);
        room_again(c);
    }
    cs_conn_join(c);
}

static void conn_shutdown(struct cs_stream *s)
{
    struct cs_conn *c = of(s);
    if (c->state == OPEN && !c->shut && s->err == 0) {
        c->shut = true;
        cs_conn_mark_dirty(c); /* the write phase sees that there is nothing left to send */
    }
}

/* A send to a peer that has ended and does not read would wait in a thread of the kernel's: its
 * polls are over at once with POLLRDHUP, and after some of them io_uring blocks. */
static void send_to_ended(struct cs_conn *c)
{
    size_t before = cs_chain_len(&c->out);
    bool failed = push(c, NULL, 0) < 0;
    if (cs_chain_len(&c->out) < before) {
        flush_goes_on(c);
    }
    if (failed || cs_chain_len(&c->out) == 0) {
        cs_conn_mark_dirty(c);
    } else {
        cs_conn_poll_writable(c);
    }
}

/* False: when its turn comes again. */
static bool write_some(struct cs_conn *c)
{
    c->offered = false;
    if (c->state != OPEN && c->state != FLUSHING) {
        return true;
    }
    if (c->found && !c->stream.err) {
        broken(c, c->found);
    }
    if (c->send.armed || c->stream.err) {
        return true;
    }
    room_again(c); /* what was sent inside a call may have made some */
    if (c->state > FLUSHING) {
        return true; /* closed by its user, from there */
    }
    if (cs_chain_len(&c->out) == 0) {
        if (ends_here(c) && !may_end(cs_conn_net(c))) {
            return false;
        }
        flushed(c);
        if (c->wants_room && c->state == OPEN && !c->stream.err) {
            cs_conn_poll_writable(c);
        }
        return true;
    }
    if (c->stream.eof) {
        send_to_ended(c);
        return true;
    }
    struct iovec iov[CS_RING_IOV_MAX];
    unsigned n = cs_chain_iov(&c->out, iov, CS_RING_IOV_MAX);
    cs_op_set_handler(&c->send, send_done);
    cs_ring_send(cs_conn_net(c)->ring, &c->send, c->fd, iov, n);
    return true;
}

static void write_first(struct cs_net *n, struct cs_queue *line)
{
    struct cs_queue_link *l = cs_queue_take(line);
    struct cs_conn *c = cs_container_of(l, struct cs_conn, dirty_link);
    c->dirty = false;
    if (!write_some(c)) {
        c->dirty = true;
        cs_queue_add(&n->ending, l);
    }
}

static void close_joined(struct cs_net *n);

static bool more_to_write(const struct cs_net *n)
{
    return n->dirty.first || n->ending.first || n->joined.first;
}

bool cs_conn_phase_write(void *arg)
{
    struct cs_net *n = arg;
    n->ends = 0;
    while (n->ending.first && may_end(n)) {
        write_first(n, &n->ending);
    }
    while (n->dirty.first) {
        write_first(n, &n->dirty);
    }
    close_joined(n);
    return more_to_write(n);
}

/* ---- closing in three steps ---- */

/* Step 1: nothing new is started and everything armed is cancelled. */
static void stop(struct cs_conn *c)
{
    if (c->state >= STOPPING) {
        return;
    }
    cs_conn_set_state(c, STOPPING);
    rare_drop(c);
    cs_ring_cancel(cs_conn_net(c)->ring, &c->recv);
    cs_ring_cancel(cs_conn_net(c)->ring, &c->send);
    cs_conn_join(c);
}

/* Step 2: once no op is armed it stands in line to be closed. */
void cs_conn_join(struct cs_conn *c)
{
    if (c->state == STOPPING && !c->recv.armed && !c->send.armed) {
        cs_conn_set_state(c, JOINED);
        cs_queue_add(&cs_conn_net(c)->joined, &c->end_link);
    }
}

/* Step 3: the descriptor is closed; the bury phase tells the user. */
static void close_now(struct cs_conn *c)
{
    if (c->fd != CS_FD_NONE) {
        cs_ring_close(cs_conn_net(c)->ring, c->fd, c->reset);
    }
    cs_conn_set_state(c, CLOSED);
    cs_chain_clear(&c->out);
    cs_chain_clear(&c->stream.in);
    cs_conn_net(c)->count.closed++;
    cs_conn_leave_origin(c);
    cs_addr_packed_free(&c->peer);
    cs_queue_add(&cs_conn_net(c)->buried, &c->end_link);
}

/* One that also stands in the write phase's line has to leave that first. */
static void close_joined(struct cs_net *n)
{
    struct cs_queue_link *l;
    for (unsigned i = 0; i < ENDS_MAX && (l = cs_queue_take(&n->joined)); i++) {
        struct cs_conn *c = cs_container_of(l, struct cs_conn, end_link);
        if (c->dirty) {
            cs_queue_add(&n->joined, l);
        } else {
            close_now(c);
        }
    }
}

static void close_open(struct cs_conn *c, enum cs_close_how how)
{
    cs_chain_clear(&c->stream.in);
    if (how == CS_CLOSE_ABORT || c->stream.err) {
        c->reset = true;
        stop(c);
        return;
    }
    cs_conn_set_state(c, FLUSHING);
    c->direct = false;
    watch_off(c);
    if (cs_op_handler(&c->send) != send_done) {
        cs_ring_cancel(cs_conn_net(c)->ring, &c->send); /* only a wait for room */
    }
    if (cs_chain_len(&c->out) == 0 && !c->send.armed && c->stream.eof) {
        stop(c);
    } else if (deadline_set(c, cs_conn_net(c)->config.flush_ms) < 0) {
        stop(c);
    } else {
        cs_conn_mark_dirty(c);
        cs_conn_read_on(c);
    }
}

static void conn_close(struct cs_stream *s, enum cs_close_how how, int why)
{
    struct cs_conn *c = of(s);
    if (c->state >= STOPPING) {
        return;
    }
    if (c->state <= OPEN) {
        c->why = (int16_t)why;
    }
    if (c->state == OPEN) {
        close_open(c, how);
    } else if (c->state == CONNECTING) {
        stop(c);
    } else if (how == CS_CLOSE_ABORT) {
        c->reset = true;
        stop(c);
    }
}

static struct cs_stream *conn_lower(const struct cs_stream *s)
{
    (void)s;
    return NULL;
}

static const struct cs_stream_ops conn_ops = {
    .kind = "tcp",
    .write = conn_write,
    .offer = conn_offer,
    .consumed = conn_consumed,
    .pause = conn_pause,
    .resume = conn_resume,
    .shutdown = conn_shutdown,
    .close = conn_close,
    .room = conn_room,
    .queued = conn_queued,
    .lower = conn_lower,
};

/* ---- the bury phase ---- */

/* Whatever nobody consumed this turn is copied, so that the ring has its buffers back. */
static void return_lent(struct cs_net *n)
{
    while (n->lent_count > 0) {
        struct cs_conn *c = n->lent[--n->lent_count];
        c->lent = false;
        if (cs_chain_len(&c->stream.in) > 0 && cs_chain_own(&c->stream.in) < 0) {
            broken(c, -ENOMEM);
            cs_chain_clear(&c->stream.in);
        }
    }
}

static bool bury(struct cs_net *n)
{
    bool told = false;
    struct cs_queue_link *l;
    while ((l = cs_queue_take(&n->buried))) {
        struct cs_conn *c = cs_container_of(l, struct cs_conn, end_link);
        if (c->stream.user_ops) {
            told = true;
            c->stream.user_ops->on_closed(c->stream.user, &c->stream);
        }
        cs_pool_free(n->conns, c);
    }
    return told;
}

static void feed_starved(struct cs_net *n)
{
    unsigned free = cs_ring_buffers_free(n->ring, CS_RING_SMALL);
    struct cs_list *l;
    while (free > 0 && (l = cs_list_first(&n->starved))) {
        struct cs_conn *c = cs_container_of(l, struct rare, node)->conn;
        if (c->state == OPEN) {
            rare_drop(c);
        } else {
            unstarve(c); /* its deadline goes on */
        }
        if (c->bulk && cs_ring_buffers_free(n->ring, CS_RING_BULK) == 0) {
            c->bulk = false; /* slow receivers have them all: the small group has more */
            c->streak = 0;
        }
        cs_conn_read_on(c);
        free--;
    }
}

bool cs_conn_phase_bury(void *arg)
{
    struct cs_net *n = arg;
    return_lent(n);
    bool told = bury(n);
    feed_starved(n);
    return told || more_to_write(n);
}

/* ---- the beginning ---- */

struct cs_conn *cs_conn_new(struct cs_net *n, enum state state)
{
    struct cs_conn *c = cs_pool_alloc(n->conns);
    if (!c) {
        return NULL;
    }
    c->stream.ops = &conn_ops;
    c->fd = CS_FD_NONE;
    c->state = state;
    c->start_s = (uint32_t)(cs_loop_now(n->loop) / 1000);
    cs_op_init(&c->recv, recv_done);
    cs_op_init(&c->send, send_done);
    return c;
}
