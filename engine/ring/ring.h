/*
 * ring - the narrow face of the event engine. What stands behind it is chosen at link time:
 * io_uring (ring.c), or the seeded simulator of tests/sim. Nothing above knows which.
 *
 * Starting an op never fails at the call: whatever goes wrong (a full queue, no memory, no
 * descriptor) arrives as the op's event. Handlers run in cs_loop's phase for them, never inside a
 * call of this face.
 *
 * Thread: a ring belongs to the thread that created it.
 */
#ifndef CS_RING_RING_H
#define CS_RING_RING_H

#include <sys/socket.h>
#include <sys/types.h>

#include "base/addr.h"
#include "ring/op.h"

struct cs_ring;
struct iovec;

/* Features that were looked for. COSOCKD_WITHOUT=name,name switches them off for tests. */
enum cs_ring_feature {
    CS_RING_DIRECT = 1 << 0, /* "direct": sockets live in the ring's table (Linux 6.13) */
    CS_RING_SPLICE = 1 << 1, /* "splice": sockets can be spliced through a real descriptor */
};

struct cs_ring_config {
    unsigned slots_max; /* sockets this ring may hold; 0: as many as RLIMIT_NOFILE allows */
    unsigned small_buffers,
        small_size; /* receive group 0: count (a power of two) and bytes of each */
    unsigned bulk_buffers, bulk_size;         /* receive group 1 */
    unsigned datagram_buffers, datagram_size; /* receive group 2: each holds the largest datagram,
                                                 its sender and 16 bytes */
    bool in_set;                              /* may join a cs_ring_set (ring_set.h) */
};

/* The defaults, measured: see docs/benchmarks.md. */
void cs_ring_config_default(struct cs_ring_config *config);

/* 0; -ENOMEM; CS_ENOTSUP when this kernel or its settings do not allow it: `why` (a buffer of
 * why_size bytes) then holds one sentence that names the cause and the cure. */
CS_MUST_CHECK int cs_ring_create(struct cs_ring **out, const struct cs_ring_config *config,
                                 char *why, size_t why_size);

/* No op may be armed any more, and no slice lent. Accepts NULL. */
void cs_ring_destroy(struct cs_ring *r);

/* Bits of enum cs_ring_feature. */
unsigned cs_ring_features(const struct cs_ring *r);

/* Text for `cosockd -V`: what this kernel offers, one feature a line. Works without a ring. */
void cs_ring_describe(char *buf, size_t size);

/* ---- waiting ---- */

/* Submits what is queued, waits at most timeout_ms (0: not at all, -1: without limit) for at least
 * one event, and copies at most max events to ev. Returns their number (0 after a time-out or an
 * interrupting signal). */
unsigned cs_ring_wait(struct cs_ring *r, int64_t timeout_ms, struct cs_event *ev, unsigned max);

/* Whether a wait that does not sleep would find something to do: looks at memory only. For rings
 * made with in_set. */
bool cs_ring_has_work(const struct cs_ring *r);

/* Takes note that the event is being handled: clears op->armed when it is the final one. Called by
 * the loop just before the op's handler. */
static inline void cs_ring_event_begin(const struct cs_event *ev)
{
    if (!ev->more) {
        ev->op->armed = false;
        ev->op->cancelling = false;
    }
}

/* ---- listening: process-wide, not bound to a ring ---- */

/* Connections that may wait in the kernel's queue of a listening socket, unless the system allows
 * fewer. */
#define CS_LISTEN_BACKLOG 8192

struct cs_listen_options {
    int backlog;        /* 0: CS_LISTEN_BACKLOG */
    bool reuseport;     /* several sockets may share the address (not of a Unix socket) */
    bool first;         /* with reuseport: nobody may have the address yet, others may join later */
    unsigned unix_mode; /* permissions of a Unix socket's file, e.g. 0660; 0: as umask says */
};

/* A listening socket, TCP with NODELAY set (accepted sockets inherit it) and IPV6_V6ONLY. On return
 * addr has the real port. A stale Unix socket file nobody listens on is replaced. *fd is ordinary
 * and the caller's, closed with cs_listen_close. 0 or -errno (-EADDRINUSE ...). Any thread. */
CS_MUST_CHECK int cs_listen_open(int *fd, struct cs_addr *addr, const struct cs_listen_options *o);

/* Ends the socket for everybody who has it, and removes a Unix socket's file. */
void cs_listen_close(int fd, const struct cs_addr *addr);

/* Makes a socket that came from outside usable like one of cs_listen_open; addr gets its address.
 * 0; -EINVAL: it is no listening stream socket of a known family; -errno. fd stays the caller's. */
CS_MUST_CHECK int cs_listen_adopt(int fd, struct cs_addr *addr);

/* Takes one connection without waiting: a real descriptor, or -EAGAIN when the queue is empty. Used
 * to empty a listener before it is closed. Not while an accept is armed on it. */
int cs_listen_accept_now(int fd);

/* ---- ops ---- */

/* Accepts connections until cancelled or failed, or (with once) one: an event each, res = the new
 * cs_fd. A final event with -ENFILE/-EMFILE means the table was full and that one connection may be
 * lost: a burst can overrun a table that is nearly full unless it is taken one at a time. */
void cs_ring_accept(struct cs_ring *r, struct cs_op *op, int listen_fd, bool once);

/* Makes a stream socket, binds it to `local` (NULL: not), connects it. The final event has res 0 or
 * -errno; *fd is set before this returns and is the caller's to close in any case (unless it is
 * CS_FD_NONE, when the event brings the error). Addresses are copied. */
void cs_ring_connect(struct cs_ring *r, struct cs_op *op, cs_fd *fd, const struct cs_addr *remote,
                     const struct cs_addr *local);

enum cs_ring_group { CS_RING_SMALL = 0, CS_RING_BULK = 1, CS_RING_DATAGRAM = 2 };
#define CS_RING_GROUPS 3

/* Receives until end of stream, error or cancel. Each event with res > 0 lends a slice; res 0 is
 * end of stream; -ENOBUFS: no buffer was free, arm again when cs_ring_buffers_free says so.
 * With CS_RING_DATAGRAM, for sockets of cs_ring_udp_open and no others: each event with a slice is
 * one datagram, possibly empty (res 0), and cs_ring_sender tells whose. It can be the final one. */
void cs_ring_recv(struct cs_ring *r, struct cs_op *op, cs_fd fd, enum cs_ring_group group);

/* Buffers of the group that are with the kernel now. */
unsigned cs_ring_buffers_free(const struct cs_ring *r, enum cs_ring_group group);

/* Bytes of one buffer of the group: a receive of that many is a full one. */
unsigned cs_ring_buffer_size(const struct cs_ring *r, enum cs_ring_group group);

/* Gives the memory of receive buffers that nobody uses back to the system: for quiet moments. */
void cs_ring_trim(struct cs_ring *r);

/* Whether a lent slice may be kept beyond its turn (a relay's, until it is sent): false when too
 * many of its group are out already; then copy it (cs_chain_own). */
bool cs_ring_may_keep(const struct cs_slice *s);

/* Sends; the bytes must stay until the final event, the iov array need not. n
 * is 1..CS_RING_IOV_MAX. res = bytes taken, possibly fewer than given. */
#define CS_RING_IOV_MAX 16
void cs_ring_send(struct cs_ring *r, struct cs_op *op, cs_fd fd, const struct iovec *iov,
                  unsigned n);

/* One event when the socket (or, with a real descriptor, any pollable file) reports one of `events`
 * (poll(2) bits; POLLERR, POLLHUP and POLLRDHUP always count). res = the bits. */
void cs_ring_poll(struct cs_ring *r, struct cs_op *op, cs_fd fd, unsigned events);

/* The same until cancelled: an event for what holds now, if anything does, then one each time that
 * something of `events` comes true. For sockets whose peer has ended: POLLRDHUP holds for ever. */
void cs_ring_poll_changes(struct cs_ring *r, struct cs_op *op, cs_fd fd, unsigned events);

/* The peer's address of a just accepted socket: res 0 and *out filled (it must stay until the
 * event), or -errno. family: that of the listener. */
void cs_ring_peername(struct cs_ring *r, struct cs_op *op, cs_fd fd, int family,
                      struct sockaddr_in6 *out);

/* Asks for an armed op to end soon: with its own result if that was faster, else -ECANCELED.
 * Harmless when it is not armed. */
void cs_ring_cancel(struct cs_ring *r, struct cs_op *op);

/* ---- calls that are over when they return ---- */

/* No op of fd may be armed. With reset the peer sees RST instead of FIN. */
void cs_ring_close(struct cs_ring *r, cs_fd fd, bool reset);

/* Ends the write side (FIN). 0 or -errno (-ENOTCONN when the peer is gone; -EMFILE when the process
 * has no descriptor left for it). */
CS_MUST_CHECK int cs_ring_shutdown(struct cs_ring *r, cs_fd fd);

/* 0 or -errno. */
CS_MUST_CHECK int cs_ring_setsockopt(struct cs_ring *r, cs_fd fd, int level, int name,
                                     const void *value, socklen_t len);

/* Sends what the socket's buffer takes at once of 1..CS_RING_IOV_MAX parts. The bytes taken, 0 when
 * it is full, or -errno. No send may be armed on fd: their order would be open. */
CS_MUST_CHECK ssize_t cs_ring_send_now(struct cs_ring *r, cs_fd fd, const struct iovec *iov,
                                       unsigned n);

/* A real descriptor for the same socket besides the ring's, the caller's to close; or -errno
 * (-EMFILE, -ENOSYS without CS_RING_SPLICE). What fcntl sets on it holds for fd too. */
CS_MUST_CHECK int cs_ring_dup(struct cs_ring *r, cs_fd fd);

/* The socket's own address, or the peer's. 0 or -errno. */
CS_MUST_CHECK int cs_ring_name(struct cs_ring *r, cs_fd fd, bool peer, struct cs_addr *out);

/* Makes a real descriptor the ring's own (a slot where the ring works with slots). The real one is
 * closed in any case. The new descriptor, or -ENFILE and others. */
CS_MUST_CHECK cs_fd cs_ring_adopt(struct cs_ring *r, int fd);

/* ---- datagrams ---- */

/* A UDP socket of the family, bound to `local` and connected to `remote` (either may be NULL). An
 * IPv6 one is for IPv6 only. join: this process has sockets at `local` already, perhaps those of
 * other rings; the kernel spreads clients over them. Without it the address must be free. The
 * descriptor (close it with cs_ring_udp_close), or -EADDRINUSE, -ENETUNREACH, -ENFILE ... */
CS_MUST_CHECK cs_fd cs_ring_udp_open(struct cs_ring *r, int family, const struct cs_addr *local,
                                     const struct cs_addr *remote, bool join);

/* No op of fd may be armed. A bound one's address is free when this returns, for other rings too.
 */
void cs_ring_udp_close(struct cs_ring *r, cs_fd fd);

/* Sends one datagram, now: to an address, or (NULL) to the peer of a connected socket. 0; -EAGAIN:
 * the send buffer is full (POLLOUT tells when not); -EMSGSIZE, -EACCES, -ECONNREFUSED (of an
 * earlier datagram) ... */
CS_MUST_CHECK int cs_ring_sendto(struct cs_ring *r, cs_fd fd, const void *data, size_t len,
                                 const struct cs_addr *to);

/* The sender of a received datagram: while its slice is as it was lent. */
void cs_ring_sender(const struct cs_slice *s, struct cs_addr *out);

/* How many more connections accept may take (as many are left for connects), and how many it may
 * take in all. */
unsigned cs_ring_accept_room(const struct cs_ring *r);
unsigned cs_ring_accept_max(const struct cs_ring *r);

#endif
