/* ring_set - several rings, one sleep. */
#include "ring/ring_set.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"

struct cs_ring_set {
    int wake_fd;
    unsigned count;
    struct cs_ring *rings[CS_RING_SET_MAX];
};

int cs_ring_set_create(struct cs_ring_set **out)
{
    struct cs_ring_set *s = cs_zalloc(sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->wake_fd < 0) {
        int err = -errno;
        cs_free(s);
        return err;
    }
    *out = s;
    return 0;
}

void cs_ring_set_destroy(struct cs_ring_set *s)
{
    if (s) {
        CS_ASSERT(s->count == 0);
        close(s->wake_fd);
        cs_free(s);
    }
}

int cs_ring_set_add(struct cs_ring_set *s, struct cs_ring *r)
{
    struct io_uring *u = cs_ring_uring(r);
    CS_ASSERT(u->flags & IORING_SETUP_TASKRUN_FLAG);
    if (s->count == CS_RING_SET_MAX) {
        return -ENOSPC;
    }
    int err = io_uring_register_eventfd(u, s->wake_fd);
    if (err < 0) {
        return err;
    }
    io_uring_cq_eventfd_toggle(u, false);
    s->rings[s->count++] = r;
    return 0;
}

void cs_ring_set_remove(struct cs_ring_set *s, struct cs_ring *r)
{
    unsigned i = 0;
    while (i < s->count && s->rings[i] != r) {
        i++;
    }
    CS_ASSERT(i < s->count);
    s->rings[i] = s->rings[--s->count];
    io_uring_unregister_eventfd(cs_ring_uring(r));
}

static void wake_on(const struct cs_ring_set *s, bool on)
{
    for (unsigned i = 0; i < s->count; i++) {
        io_uring_cq_eventfd_toggle(cs_ring_uring(s->rings[i]), on);
    }
}

static bool has_work(const struct cs_ring_set *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        if (cs_ring_has_work(s->rings[i])) {
            return true;
        }
    }
    return false;
}

void cs_ring_set_sleep(struct cs_ring_set *s, int64_t timeout_ms)
{
    struct pollfd p = {.fd = s->wake_fd, .events = POLLIN};
    struct timespec ts = {.tv_sec = timeout_ms / 1000, .tv_nsec = timeout_ms % 1000 * 1000000};
    uint64_t count;
    wake_on(s, true);
    /* What came before a ring could see that it has to tell must be seen here. */
    atomic_thread_fence(memory_order_seq_cst);
    if (!has_work(s) && ppoll(&p, 1, timeout_ms < 0 ? NULL : &ts, NULL) > 0 &&
        read(s->wake_fd, &count, sizeof(count)) < 0) {
        CS_ASSERT(errno == EAGAIN); /* an eventfd of our own cannot fail otherwise */
    }
    wake_on(s, false);
}
