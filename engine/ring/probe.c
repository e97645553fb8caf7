/* probe - what this kernel offers. */
#include "ring/probe.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/err.h"
#include "ring/ring.h"
#include "ring/sys.h"

/* True when the comma-separated list in COSOCKD_WITHOUT names the feature. */
static bool masked(const char *name)
{
    const char *list = getenv("COSOCKD_WITHOUT");
    size_t len = strlen(name);
    while (list && *list) {
        size_t n = strcspn(list, ",");
        if (n == len && strncmp(list, name, n) == 0) {
            return true;
        }
        list += n + (list[n] == ',');
    }
    return false;
}

/* Puts sockets[0] of a new pair into the table; the other end stays real. */
static int put_pair(struct io_uring *u, unsigned slot, int *far)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        return -errno;
    }
    int n = io_uring_register_files_update(u, slot, &pair[0], 1);
    close(pair[0]);
    *far = pair[1];
    return n < 0 ? n : 0;
}

/* 1, 0, or -1: it could not be tried. */
static int close_shows(struct io_uring *u, int *far)
{
    char c;
    if (io_uring_register_files_sparse(u, 2) < 0 || put_pair(u, 0, &far[0]) < 0 ||
        put_pair(u, 1, &far[1]) < 0) {
        return -1;
    }
    struct io_uring_sqe *sqe = io_uring_get_sqe(u);
    io_uring_prep_poll_add(sqe, 0, POLLIN);
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_submit(u);
    io_uring_prep_close_direct(io_uring_get_sqe(u), 1);
    io_uring_submit(u);
    io_uring_get_events(u);
    return read(far[1], &c, 1) == 0;
}

/* Before Linux 6.13 a slot that is emptied keeps its file until every request that was under way on
 * any other slot has ended: with receives that stay armed for hours, sockets would never close. */
static bool closes_at_once(void)
{
    static atomic_int known = -1; /* the kernel stays the same: rings are also opened under load */
    struct io_uring u;
    int far[2] = {-1, -1};
    if (known >= 0) {
        return known;
    }
    if (io_uring_queue_init(8, &u, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN) < 0) {
        return false;
    }
    int shows = close_shows(&u, far);
    if (shows >= 0) {
        known = shows;
    }
    io_uring_queue_exit(&u);
    for (unsigned i = 0; i < 2; i++) {
        if (far[i] >= 0) {
            close(far[i]);
        }
    }
    return shows > 0;
}

unsigned cs_probe_features(struct io_uring *ring)
{
    struct io_uring_probe *p = io_uring_get_probe_ring(ring);
    unsigned features = 0;
    /* FIXED_FD_INSTALL (6.8) came after the socket options by URING_CMD (6.7): it stands for both.
     */
    if (p && io_uring_opcode_supported(p, CS_URING_OP_FIXED_FD_INSTALL) && !masked("direct") &&
        closes_at_once()) {
        features |= CS_RING_DIRECT;
    }
    if (!masked("splice")) {
        features |= CS_RING_SPLICE;
    }
    io_uring_free_probe(p);
    return features;
}

static bool read_disabled(void)
{
    FILE *f = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    int value = 0;
    if (f) {
        if (fscanf(f, "%d", &value) != 1) {
            value = 0;
        }
        fclose(f);
    }
    return value != 0;
}

void cs_probe_explain(int err, char *why, size_t size)
{
    struct utsname u;
    const char *release = uname(&u) == 0 ? u.release : "unknown";
    switch (err) {
    case -ENOSYS:
        snprintf(why, size, "this kernel (%s) has no io_uring: Linux 6.1 or newer is needed",
                 release);
        break;
    case -EINVAL:
        snprintf(why, size,
                 "this kernel (%s) is too old for cosockd's use of io_uring: Linux 6.1 or newer is "
                 "needed",
                 release);
        break;
    case -EPERM:
    case -EACCES:
        if (read_disabled()) {
            snprintf(why, size,
                     "io_uring is switched off: set kernel.io_uring_disabled=0 with sysctl");
        } else {
            snprintf(why, size,
                     "io_uring is not permitted here, probably by the container's seccomp profile: "
                     "allow io_uring_setup, io_uring_enter and io_uring_register");
        }
        break;
    default:
        snprintf(why, size, "io_uring could not be set up: %s", cs_err_text(err));
        break;
    }
}

void cs_ring_describe(char *buf, size_t size)
{
    struct io_uring ring;
    int err =
        io_uring_queue_init(8, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    if (err < 0) {
        cs_probe_explain(err, buf, size);
        return;
    }
    unsigned features = cs_probe_features(&ring);
    io_uring_queue_exit(&ring);
    snprintf(buf, size,
             "io_uring: yes (deferred task work, multishot accept and receive, buffer rings)\n"
             "direct descriptors: %s",
             features & CS_RING_DIRECT
                 ? "yes"
                 : "no (Linux 6.13 is needed; connections are bounded by RLIMIT_NOFILE)");
}
