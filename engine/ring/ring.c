/*
 * ring - io_uring behind the face of ring.h: calls to SQEs, CQEs to events, sockets to slots.
 *
 * user_data is the op's address with a tag in its three low bits that says what kind of completion
 * it is; 0 is a completion nobody waits for.
 */
#include "ring/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"
#include "ring/bufring.h"
#include "ring/plain.h"
#include "ring/probe.h"
#include "ring/ring_set.h"
#include "ring/slots.h"
#include "ring/sys.h"

#define SQ_ENTRIES 4096
#define CQ_ENTRIES 16384
/* Of a ring in a set. There may be many; what does not fit waits in the kernel. */
#define SET_SQ_ENTRIES 512
#define SET_CQ_ENTRIES 2048
#define SCRATCH_BYTES (256 * 1024)

enum tag {
    TAG_PLAIN = 0,   /* res is the op's result */
    TAG_ACCEPT = 1,  /* res is a new descriptor */
    TAG_OPTION = 2,  /* res is a length: 0 means success to the op */
    TAG_PART = 3,    /* an earlier link of the op's chain, which posts only when it failed */
    TAG_FAULT = 4,   /* the op could not even be started: its error is in op->err */
    TAG_SYNC = 5,    /* a call that waits for its own completion */
    TAG_CONNECT = 6, /* the last link of a chain; see cs_ring_cancel */
    TAG_MASK = 7,
};

struct cs_ring {
    struct io_uring uring;
    unsigned features;
    struct cs_bufring *groups[CS_RING_GROUPS];
    struct cs_slots slots;
    struct cs_plain plain;
    struct io_uring_cqe *stash; /* taken out of a full queue by run_now, oldest first */
    unsigned stash_at, stash_count, stash_size;
    size_t scratch_used; /* operands that must stay until they are submitted */
    uint8_t *scratch;
};

/* ---- set-up ---- */

void cs_ring_config_default(struct cs_ring_config *config)
{
    *config = (struct cs_ring_config){
        .small_buffers = 256,
        .small_size = 2048,
        .bulk_buffers = 8,      /* together a quarter of a processor's L2 cache */
        .bulk_size = 15 * 4096, /* what a script reads at once fits one WebSocket frame */
        /* A small datagram touches the first page of a buffer only. */
        .datagram_buffers = 256,
        .datagram_size = 17 * 4096,
    };
}

/* The flag in memory that says "enter me" is for those who do not enter anyway. */
static int open_uring(struct io_uring *u, bool in_set)
{
    struct io_uring_params p = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE | (in_set ? IORING_SETUP_TASKRUN_FLAG : 0),
        .cq_entries = in_set ? SET_CQ_ENTRIES : CQ_ENTRIES,
    };
    return io_uring_queue_init_params(in_set ? SET_SQ_ENTRIES : SQ_ENTRIES, u, &p);
}

static unsigned slots_wanted(const struct cs_ring_config *config)
{
    unsigned n = cs_plain_limit();
    return config->slots_max ? CS_MIN(n, config->slots_max) : n;
}

static int open_slots(struct cs_ring *r, const struct cs_ring_config *config)
{
    struct cs_slots *s = &r->slots;
    s->total = slots_wanted(config);
    s->split = s->total / 2;
    s->fresh = s->split;
    if (s->split == 0) {
        return -ENFILE;
    }
    s->free = cs_alloc((s->total - s->split) * sizeof(*s->free));
    if (!s->free) {
        return -ENOMEM;
    }
    int err = io_uring_register_files_sparse(&r->uring, s->total);
    if (err == 0) {
        err = io_uring_register_file_alloc_range(&r->uring, 0, s->split);
    }
    return err;
}

static int open_groups(struct cs_ring *r, const struct cs_ring_config *config)
{
    int err = cs_bufring_create(&r->groups[CS_RING_SMALL], &r->uring, CS_RING_SMALL,
                                config->small_buffers, config->small_size);
    if (err == 0) {
        err = cs_bufring_create(&r->groups[CS_RING_BULK], &r->uring, CS_RING_BULK,
                                config->bulk_buffers, config->bulk_size);
    }
    if (err == 0) {
        err = cs_bufring_create(&r->groups[CS_RING_DATAGRAM], &r->uring, CS_RING_DATAGRAM,
                                config->datagram_buffers, config->datagram_size);
    }
    return err;
}

static void destroy_groups(struct cs_ring *r)
{
    for (unsigned i = 0; i < CS_RING_GROUPS; i++) {
        cs_bufring_destroy(r->groups[i]);
    }
}

int cs_ring_create(struct cs_ring **out, const struct cs_ring_config *config, char *why,
                   size_t why_size)
{
    struct cs_ring *r = cs_zalloc(sizeof(*r));
    if (!r) {
        return -ENOMEM;
    }
    r->scratch = cs_alloc(SCRATCH_BYTES);
    int err = r->scratch ? open_uring(&r->uring, config->in_set) : -ENOMEM;
    if (err < 0) {
        goto fail_free;
    }
    r->features = cs_probe_features(&r->uring);
    cs_plain_init(&r->plain, slots_wanted(config));
    err = r->features & CS_RING_DIRECT ? open_slots(r, config) : 0;
    if (err == 0) {
        err = open_groups(r, config);
    }
    if (err < 0) {
        goto fail_ring;
    }
    io_uring_register_ring_fd(&r->uring); /* saves a lookup per call; without it all works too */
    *out = r;
    return 0;
fail_ring:
    destroy_groups(r);
    io_uring_queue_exit(&r->uring);
    cs_free(r->slots.free);
fail_free:
    cs_free(r->scratch);
    cs_free(r);
    if (err == -ENOMEM) {
        return err;
    }
    cs_probe_explain(err, why, why_size);
    return CS_ENOTSUP;
}

void cs_ring_destroy(struct cs_ring *r)
{
    if (!r) {
        return;
    }
    cs_plain_count(&r->plain, -(int)r->plain.open);
    destroy_groups(r);
    io_uring_queue_exit(&r->uring);
    cs_free(r->slots.free);
    cs_free(r->stash);
    cs_free(r->scratch);
    cs_free(r);
}

unsigned cs_ring_features(const struct cs_ring *r)
{
    return r->features;
}

struct io_uring *cs_ring_uring(struct cs_ring *r)
{
    return &r->uring;
}

/* ---- submission ---- */

/* The kernel refuses a submission only for want of memory, or while completions that did not fit
 * are waiting; both pass. A kernel that keeps refusing for seconds leaves nothing to do but end. */
static void submit(struct cs_ring *r)
{
    for (unsigned attempt = 0; io_uring_sq_ready(&r->uring) > 0; attempt++) {
        int n = io_uring_submit(&r->uring);
        if (n < 0 && n != -EINTR) {
            CS_ASSERT((n == -EAGAIN || n == -EBUSY) && attempt < 1000000);
            io_uring_get_events(&r->uring);
            sched_yield();
        }
    }
    r->scratch_used = 0;
}

/* Room for `n` SQEs in one batch: a chain of links does not survive a flush. */
static void need_sqes(struct cs_ring *r, unsigned n)
{
    if (io_uring_sq_space_left(&r->uring) < n) {
        submit(r);
    }
}

/* Memory that stays as it is until the queued SQEs are submitted. */
static void *scratch(struct cs_ring *r, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    CS_ASSERT(size <= SCRATCH_BYTES);
    if (SCRATCH_BYTES - r->scratch_used < size) {
        submit(r);
    }
    void *p = r->scratch + r->scratch_used;
    r->scratch_used += size;
    return p;
}

static struct io_uring_sqe *next_sqe(struct cs_ring *r)
{
    need_sqes(r, 1);
    return io_uring_get_sqe(&r->uring);
}

static void tag_sqe(struct io_uring_sqe *sqe, struct cs_op *op, enum tag tag)
{
    io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)op | tag);
}

/* The last step of starting an op. */
static void arm(struct io_uring_sqe *sqe, struct cs_op *op, enum tag tag)
{
    CS_ASSERT(!op->armed);
    op->armed = true;
    op->cancelling = false;
    op->err = 0;
    op->tag = tag & TAG_MASK;
    tag_sqe(sqe, op, tag);
}

/* A completion that is posted only when it is an error, and then ignored. */
static void ignore(struct io_uring_sqe *sqe)
{
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, 0);
}

static bool is_direct(cs_fd fd)
{
    return fd & CS_FD_DIRECT;
}

static unsigned slot_of(cs_fd fd)
{
    return (unsigned)(fd & ~CS_FD_DIRECT);
}

/* Points an SQE (whose prep was given any fd) at the descriptor. */
static void set_fd(struct io_uring_sqe *sqe, cs_fd fd)
{
    if (is_direct(fd)) {
        sqe->fd = (int)slot_of(fd);
        sqe->flags |= IOSQE_FIXED_FILE;
    } else {
        sqe->fd = fd;
    }
}

/* The op fails with err, but by an event as every op does. */
static void fault(struct cs_ring *r, struct cs_op *op, int err)
{
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_nop(sqe);
    arm(sqe, op, TAG_FAULT);
    op->err = (int16_t)err;
}

/* ---- room ---- */

unsigned cs_ring_accept_room(const struct cs_ring *r)
{
    if (r->features & CS_RING_DIRECT) {
        return r->slots.split - r->slots.accepted;
    }
    return cs_plain_room(&r->plain) / 2;
}

unsigned cs_ring_accept_max(const struct cs_ring *r)
{
    return r->features & CS_RING_DIRECT ? r->slots.split : r->plain.max / 2;
}

/* ---- events ---- */

static int accepted(struct cs_ring *r, int res)
{
    if (res < 0) {
        return res;
    }
    if (r->features & CS_RING_DIRECT) {
        r->slots.accepted++;
        return res | CS_FD_DIRECT;
    }
    cs_plain_count(&r->plain, 1);
    return res;
}

/* What stands before the bytes of a datagram in its buffer. */
struct datagram_head {
    struct io_uring_recvmsg_out out;
    struct sockaddr_in6 sender; /* or a sockaddr_in */
};

/* The slice's bytes are those of the datagram from now on; returns how many. */
static int strip_head(struct cs_slice *s)
{
    struct io_uring_recvmsg_out out;
    CS_ASSERT(s->len >= sizeof(struct datagram_head));
    memcpy(&out, s->data, sizeof(out));
    s->data += sizeof(struct datagram_head);
    s->len -= (uint32_t)sizeof(struct datagram_head);
    s->len = CS_MIN(s->len, out.payloadlen);
    return (int)s->len;
}

/* The slice of a receive's buffer; NULL for an end of stream, which can come with one. */
static struct cs_slice *take_buffer(struct cs_ring *r, const struct cs_op *op,
                                    const struct io_uring_cqe *cqe)
{
    unsigned id = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
    unsigned len = cqe->res > 0 ? (unsigned)cqe->res : 0;
    struct cs_slice *s = cs_bufring_lend(r->groups[op->group], id, len);
    if (len == 0) {
        cs_slice_release(s);
        return NULL;
    }
    return s;
}

/* False when the completion is nobody's event. */
static bool to_event(struct cs_ring *r, const struct io_uring_cqe *cqe, struct cs_event *ev)
{
    enum tag tag = cqe->user_data & TAG_MASK;
    struct cs_op *op = (struct cs_op *)(uintptr_t)(cqe->user_data & ~(uint64_t)TAG_MASK);
    if (!op) {
        return false;
    }
    if (tag == TAG_PART) {
        if (cqe->res != -ECANCELED) { /* as all that follows in the chain will say */
            op->err = (int16_t)cqe->res;
        }
        return false;
    }
    *ev = (struct cs_event){.op = op, .res = cqe->res, .more = cqe->flags & IORING_CQE_F_MORE};
    if (cqe->flags & IORING_CQE_F_BUFFER) {
        ev->slice = take_buffer(r, op, cqe);
        if (ev->slice && op->group == CS_RING_DATAGRAM) {
            ev->res = strip_head(ev->slice);
        }
    } else if (tag == TAG_ACCEPT) {
        ev->res = accepted(r, cqe->res);
    } else if (tag == TAG_OPTION && cqe->res > 0) {
        ev->res = 0;
    } else if (tag == TAG_FAULT || (tag == TAG_CONNECT && cqe->res == -ECANCELED && op->err)) {
        ev->res = op->err;
    }
    return true;
}

static void enter(struct cs_ring *r, int64_t timeout_ms)
{
    if (timeout_ms == 0 || r->stash_count || io_uring_cq_ready(&r->uring)) {
        io_uring_submit_and_get_events(&r->uring);
        submit(r); /* what was not taken */
    } else if (timeout_ms < 0) {
        io_uring_submit_and_wait(&r->uring, 1);
    } else {
        struct __kernel_timespec ts = {.tv_sec = timeout_ms / 1000,
                                       .tv_nsec = timeout_ms % 1000 * 1000000};
        struct io_uring_cqe *cqe;
        io_uring_submit_and_wait_timeout(&r->uring, &cqe, 1, &ts, NULL);
    }
    if (io_uring_sq_ready(&r->uring) == 0) {
        r->scratch_used = 0;
    }
}

bool cs_ring_has_work(const struct cs_ring *r)
{
    return io_uring_sq_ready(&r->uring) || r->stash_count || io_uring_cq_ready(&r->uring) ||
           (IO_URING_READ_ONCE(*r->uring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW));
}

unsigned cs_ring_wait(struct cs_ring *r, int64_t timeout_ms, struct cs_event *ev, unsigned max)
{
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0, n = 0;
    enter(r, timeout_ms);
    while (r->stash_at < r->stash_count && n < max) {
        n += to_event(r, &r->stash[r->stash_at++], &ev[n]);
    }
    if (r->stash_at < r->stash_count) {
        return n;
    }
    r->stash_at = r->stash_count = 0;
    io_uring_for_each_cqe(&r->uring, head, cqe)
    {
        if (n == max) {
            break;
        }
        seen++;
        n += to_event(r, cqe, &ev[n]);
    }
    io_uring_cq_advance(&r->uring, seen);
    return n;
}

/* ---- ops ---- */

void cs_ring_accept(struct cs_ring *r, struct cs_op *op, int listen_fd, bool once)
{
    struct io_uring_sqe *sqe = next_sqe(r);
    if (r->features & CS_RING_DIRECT) {
        io_uring_prep_multishot_accept_direct(sqe, listen_fd, NULL, NULL, 0);
    } else {
        io_uring_prep_multishot_accept(sqe, listen_fd, NULL, NULL, SOCK_CLOEXEC);
    }
    if (once) { /* prep_accept_direct of liburing 2.3 does not know FILE_INDEX_ALLOC */
        sqe->ioprio &= (__u16)~IORING_ACCEPT_MULTISHOT;
    }
    arm(sqe, op, TAG_ACCEPT);
}

static void connect_sqe(struct cs_ring *r, struct cs_op *op, cs_fd fd, const struct cs_addr *remote)
{
    need_sqes(r, 1); /* first: a flush ends the life of what stands in scratch */
    struct cs_addr *copy = scratch(r, sizeof(*copy));
    *copy = *remote;
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_connect(sqe, -1, &copy->sa, copy->len);
    set_fd(sqe, fd);
    arm(sqe, op, TAG_CONNECT);
}

/* socket ─link▶ NODELAY ─link▶ connect, in one submission. */
static void connect_direct(struct cs_ring *r, struct cs_op *op, cs_fd *fd,
                           const struct cs_addr *remote)
{
    static const int one = 1;
    int slot = cs_slots_take(&r->slots);
    if (slot < 0) {
        *fd = CS_FD_NONE;
        fault(r, op, slot);
        return;
    }
    *fd = slot | CS_FD_DIRECT;
    int family = cs_addr_family(remote);
    if (SCRATCH_BYTES - r->scratch_used < 2 * sizeof(struct cs_addr)) {
        submit(r); /* now, because scratch must not flush in the middle of the chain */
    }
    need_sqes(r, 3);
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_socket_direct(sqe, family, SOCK_STREAM, 0, (unsigned)slot, 0);
    sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
    tag_sqe(sqe, op, TAG_PART);
    if (family != AF_UNIX) {
        sqe = next_sqe(r);
        cs_sqe_sockopt(sqe, slot, CS_URING_SOCKET_SETSOCKOPT, IPPROTO_TCP, TCP_NODELAY, &one,
                       sizeof(one));
        sqe->flags |= IOSQE_FIXED_FILE | IOSQE_IO_HARDLINK | IOSQE_CQE_SKIP_SUCCESS;
        tag_sqe(sqe, op, TAG_PART);
    }
    connect_sqe(r, op, *fd, remote);
}

/* An ordinary socket, bound to local where that is given; -errno on failure. */
static int plain_socket(const struct cs_addr *remote, const struct cs_addr *local)
{
    static const int one = 1;
    int fd = socket(cs_addr_family(remote), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (cs_addr_family(remote) != AF_UNIX) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    if (local) {
        /* Leaves the choice of a port to connect, so that two connections may share one. */
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
        if (bind(fd, &local->sa, local->len) < 0) {
            int err = -errno;
            close(fd);
            return err;
        }
    }
    return fd;
}

void cs_ring_connect(struct cs_ring *r, struct cs_op *op, cs_fd *fd, const struct cs_addr *remote,
                     const struct cs_addr *local)
{
    if (!local && (r->features & CS_RING_DIRECT)) {
        connect_direct(r, op, fd, remote);
        return;
    }
    int plain = plain_socket(remote, local);
    cs_fd adopted = plain < 0 ? plain : cs_ring_adopt(r, plain);
    if (adopted < 0) {
        *fd = CS_FD_NONE;
        fault(r, op, adopted);
        return;
    }
    *fd = adopted;
    connect_sqe(r, op, adopted, remote);
}

void cs_ring_recv(struct cs_ring *r, struct cs_op *op, cs_fd fd, enum cs_ring_group group)
{
    static struct msghdr with_sender = {.msg_namelen = sizeof(struct sockaddr_in6)};
    struct io_uring_sqe *sqe = next_sqe(r);
    if (group == CS_RING_DATAGRAM) {
        io_uring_prep_recvmsg_multishot(sqe, -1, &with_sender, 0);
    } else {
        io_uring_prep_recv_multishot(sqe, -1, NULL, 0, 0);
    }
    set_fd(sqe, fd);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = (__u16)group;
    op->group = group & 3u;
    arm(sqe, op, TAG_PLAIN);
}

unsigned cs_ring_buffers_free(const struct cs_ring *r, enum cs_ring_group group)
{
    return cs_bufring_free(r->groups[group]);
}

unsigned cs_ring_buffer_size(const struct cs_ring *r, enum cs_ring_group group)
{
    return cs_bufring_size(r->groups[group]);
}

void cs_ring_trim(struct cs_ring *r)
{
    for (unsigned i = 0; i < CS_RING_GROUPS; i++) {
        cs_bufring_trim(r->groups[i]);
    }
    cs_mem_discard(r->scratch + r->scratch_used, SCRATCH_BYTES - r->scratch_used);
}

bool cs_ring_may_keep(const struct cs_slice *s)
{
    return cs_bufring_may_keep(cs_bufring_of(s));
}

void cs_ring_send(struct cs_ring *r, struct cs_op *op, cs_fd fd, const struct iovec *iov,
                  unsigned n)
{
    CS_ASSERT(n >= 1 && n <= CS_RING_IOV_MAX);
    struct msghdr *msg = NULL;
    need_sqes(r, 1);
    if (n > 1) {
        struct {
            struct msghdr msg;
            struct iovec iov[CS_RING_IOV_MAX];
        } *m = scratch(r, sizeof(m->msg) + n * sizeof(*iov));
        m->msg = (struct msghdr){.msg_iov = m->iov, .msg_iovlen = n};
        memcpy(m->iov, iov, n * sizeof(*iov));
        msg = &m->msg;
    }
    struct io_uring_sqe *sqe = next_sqe(r);
    if (msg) {
        io_uring_prep_sendmsg(sqe, -1, msg, MSG_NOSIGNAL);
    } else {
        io_uring_prep_send(sqe, -1, iov->iov_base, iov->iov_len, MSG_NOSIGNAL);
    }
    set_fd(sqe, fd);
    arm(sqe, op, TAG_PLAIN);
}

void cs_ring_poll(struct cs_ring *r, struct cs_op *op, cs_fd fd, unsigned events)
{
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_poll_add(sqe, -1, events);
    set_fd(sqe, fd);
    arm(sqe, op, TAG_PLAIN);
}

void cs_ring_poll_changes(struct cs_ring *r, struct cs_op *op, cs_fd fd, unsigned events)
{
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_poll_multishot(sqe, -1, events);
    set_fd(sqe, fd);
    arm(sqe, op, TAG_PLAIN);
}

void cs_ring_peername(struct cs_ring *r, struct cs_op *op, cs_fd fd, int family,
                      struct sockaddr_in6 *out)
{
    socklen_t len = family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    struct io_uring_sqe *sqe;
    if (is_direct(fd)) {
        sqe = next_sqe(r);
        cs_sqe_sockopt(sqe, -1, CS_URING_SOCKET_GETSOCKOPT, SOL_SOCKET, SO_PEERNAME, out, len);
        set_fd(sqe, fd);
        arm(sqe, op, TAG_OPTION);
    } else if (getpeername(fd, (struct sockaddr *)out, &len) < 0) {
        fault(r, op, -errno);
    } else {
        sqe = next_sqe(r);
        io_uring_prep_nop(sqe);
        arm(sqe, op, TAG_OPTION);
    }
}

void cs_ring_cancel(struct cs_ring *r, struct cs_op *op)
{
    if (!op->armed || op->cancelling) {
        return;
    }
    op->cancelling = true;
    if (op->tag == TAG_CONNECT) {
        /* While an earlier link runs the connect cannot be found, and it would start after the
         * cancel has failed: let the chain get that far. */
        submit(r);
        for (unsigned link = 0; link < 3; link++) {
            io_uring_get_events(&r->uring);
        }
    }
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_cancel64(sqe, (uint64_t)(uintptr_t)op | op->tag, 0);
    ignore(sqe);
}

/* ---- calls that are over when they return ---- */

/* Takes the completion of run_now out of the queue, also from between others. It is among the
 * newest, and there may be thousands. */
static bool find_sync(struct cs_ring *r, int *res)
{
    struct io_uring_cq *q = &r->uring.cq;
    unsigned head = *q->khead;
    for (unsigned at = io_uring_smp_load_acquire(q->ktail); at != head;) {
        struct io_uring_cqe *cqe = &q->cqes[--at & q->ring_mask];
        if (cqe->user_data == TAG_SYNC) {
            *res = cqe->res;
            cqe->user_data = 0;
            io_uring_cq_advance(&r->uring, at == head);
            return true;
        }
    }
    return false;
}

/* The completion queue is full: keeps its content for cs_ring_wait and lets the kernel fill it
 * again. */
static bool stash_queue(struct cs_ring *r)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = io_uring_cq_ready(&r->uring);
    if (r->stash_size - r->stash_count < n) {
        unsigned size = r->stash_count + CS_MAX(n, CQ_ENTRIES);
        struct io_uring_cqe *p = cs_realloc(r->stash, size * sizeof(*p));
        if (!p) {
            return false;
        }
        r->stash = p;
        r->stash_size = size;
    }
    io_uring_for_each_cqe(&r->uring, head, cqe)
    {
        r->stash[r->stash_count++] = *cqe;
    }
    io_uring_cq_advance(&r->uring, n);
    io_uring_get_events(&r->uring);
    return n > 0;
}

/* Submits `sqe` (already prepared, the newest) and returns its result. All commands used so
 * complete within the submission, but more sends of one turn than the queue holds may have filled
 * it. */
static int run_now(struct cs_ring *r, struct io_uring_sqe *sqe)
{
    int res;
    io_uring_sqe_set_data64(sqe, TAG_SYNC);
    submit(r);
    while (!find_sync(r, &res)) {
        if (!stash_queue(r)) {
            return -ENOMEM;
        }
    }
    return res;
}

/* A real descriptor for a slot, for the calls the ring has no op for. The caller closes it. */
static int install(struct cs_ring *r, cs_fd fd)
{
    struct io_uring_sqe *sqe = next_sqe(r);
    cs_sqe_install(sqe, slot_of(fd));
    return run_now(r, sqe);
}

int cs_ring_setsockopt(struct cs_ring *r, cs_fd fd, int level, int name, const void *value,
                       socklen_t len)
{
    if (!is_direct(fd)) {
        return setsockopt(fd, level, name, value, len) < 0 ? -errno : 0;
    }
    struct io_uring_sqe *sqe = next_sqe(r);
    cs_sqe_sockopt(sqe, -1, CS_URING_SOCKET_SETSOCKOPT, level, name, value, len);
    set_fd(sqe, fd);
    return run_now(r, sqe);
}

ssize_t cs_ring_send_now(struct cs_ring *r, cs_fd fd, const struct iovec *iov, unsigned n)
{
    struct msghdr msg = {.msg_iov = (struct iovec *)(uintptr_t)iov, .msg_iovlen = n};
    ssize_t res;
    if (is_direct(fd)) {
        struct io_uring_sqe *sqe = next_sqe(r);
        io_uring_prep_sendmsg(sqe, -1, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        set_fd(sqe, fd);
        res = run_now(r, sqe);
    } else {
        res = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);
        res = res < 0 ? -errno : res;
    }
    return res == -EAGAIN || res == -EINTR ? 0 : res;
}

void cs_ring_close(struct cs_ring *r, cs_fd fd, bool reset)
{
    static const struct linger at_once = {.l_onoff = 1};
    need_sqes(r, 2);
    struct io_uring_sqe *sqe;
    if (reset && is_direct(fd)) {
        sqe = next_sqe(r);
        cs_sqe_sockopt(sqe, -1, CS_URING_SOCKET_SETSOCKOPT, SOL_SOCKET, SO_LINGER, &at_once,
                       sizeof(at_once));
        set_fd(sqe, fd);
        ignore(sqe);
    } else if (reset) {
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    }
    sqe = next_sqe(r);
    if (is_direct(fd)) {
        /* Both run as they are submitted, in order, so a later connect may already be given the
         * slot. (A link would make the close run later than that.) */
        io_uring_prep_close_direct(sqe, slot_of(fd));
        cs_slots_return(&r->slots, slot_of(fd));
    } else {
        io_uring_prep_close(sqe, fd);
        cs_plain_count(&r->plain, -1);
    }
    ignore(sqe);
}

int cs_ring_dup(struct cs_ring *r, cs_fd fd)
{
    if (!(r->features & CS_RING_SPLICE)) {
        return -ENOSYS;
    }
    if (is_direct(fd)) {
        return install(r, fd);
    }
    int real = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    return real < 0 ? -errno : real;
}

int cs_ring_shutdown(struct cs_ring *r, cs_fd fd)
{
    /* IORING_OP_SHUTDOWN always goes to a kernel thread; a descriptor for a moment is cheaper. */
    int real = is_direct(fd) ? install(r, fd) : fd;
    if (real < 0) {
        return real;
    }
    int err = shutdown(real, SHUT_WR) < 0 ? -errno : 0;
    if (real != fd) {
        close(real);
    }
    return err;
}

int cs_ring_name(struct cs_ring *r, cs_fd fd, bool peer, struct cs_addr *out)
{
    struct cs_addr a = {.len = sizeof(a.un)};
    int real = is_direct(fd) ? install(r, fd) : fd;
    if (real < 0) {
        return real;
    }
    int err = (peer ? getpeername : getsockname)(real, &a.sa, &a.len) < 0 ? -errno : 0;
    if (real != fd) {
        close(real);
    }
    if (err == 0) {
        cs_addr_from_sockaddr(out, &a.sa, a.len);
    }
    return err;
}

cs_fd cs_ring_adopt(struct cs_ring *r, int fd)
{
    if (!(r->features & CS_RING_DIRECT)) {
        cs_plain_count(&r->plain, 1);
        return fd;
    }
    int slot = cs_slots_take(&r->slots);
    if (slot >= 0) {
        submit(r); /* a queued close of this slot must run before it is filled again */
        int n = io_uring_register_files_update(&r->uring, (unsigned)slot, &fd, 1);
        if (n != 1) {
            cs_slots_return(&r->slots, (unsigned)slot);
            slot = n < 0 ? n : -EBUSY;
        }
    }
    close(fd);
    return slot < 0 ? slot : slot | CS_FD_DIRECT;
}

/* ---- datagrams ---- */

cs_fd cs_ring_udp_open(struct cs_ring *r, int family, const struct cs_addr *local,
                       const struct cs_addr *remote, bool join)
{
    static const int one = 1, many = 4 << 20; /* the system cuts it to what it allows */
    int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if (family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
    }
    if (!remote) { /* many may send to it at once */
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &many, sizeof(many));
    }
    if (join) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    }
    if ((local && bind(fd, &local->sa, local->len) < 0) ||
        (remote && connect(fd, &remote->sa, remote->len) < 0)) {
        int err = -errno;
        close(fd);
        return err;
    }
    if (local) { /* ordinary, as listeners are: few, and closed at once when they are closed */
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)); /* others may join it now */
        cs_plain_count(&r->plain, 1);
        return fd;
    }
    return cs_ring_adopt(r, fd);
}

void cs_ring_udp_close(struct cs_ring *r, cs_fd fd)
{
    cs_ring_close(r, fd, false);
    submit(r);
}

int cs_ring_sendto(struct cs_ring *r, cs_fd fd, const void *data, size_t len,
                   const struct cs_addr *to)
{
    const int flags = MSG_NOSIGNAL | MSG_DONTWAIT; /* so the kernel needs nothing beyond the call */
    struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (to) {
        msg.msg_name = (void *)(uintptr_t)&to->sa;
        msg.msg_namelen = to->len;
    }
    if (!is_direct(fd)) {
        return sendmsg(fd, &msg, flags) < 0 ? -errno : 0;
    }
    struct io_uring_sqe *sqe = next_sqe(r);
    io_uring_prep_sendmsg(sqe, -1, &msg, (unsigned)flags);
    set_fd(sqe, fd);
    int res = run_now(r, sqe);
    return res < 0 ? res : 0;
}

void cs_ring_sender(const struct cs_slice *s, struct cs_addr *out)
{
    struct sockaddr_in6 sender;
    memcpy(&sender, s->data - sizeof(sender), sizeof(sender));
    cs_addr_from_sockaddr(out, (const struct sockaddr *)&sender,
                          sender.sin6_family == AF_INET ? sizeof(struct sockaddr_in)
                                                        : sizeof(sender));
}
