/* splice - see splice.h. */
#include "net/splice.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"

#define PIPE_SIZE (256 * 1024) /* bytes; measured: 64 KiB and 1 MiB are no better */
#define SMALL (16 * 1024)      /* a move of less does not pay */
#define SMALL_MAX 16           /* so many of them in a row end it */
#define IDLE_MS 1000
#define DESCRIPTORS 4     /* of one splice */
#define DESCRIPTOR_PART 4 /* of RLIMIT_NOFILE that all splices may have: a quarter */

struct cs_splice {
    struct cs_net *net;
    struct cs_conn *from, *to;
    int pipe[2];
    int from_fd, to_fd;
    uint32_t held; /* bytes in the pipe */
    uint32_t size; /* of the pipe */
    unsigned small;
    bool moved; /* since the timer looked */
    struct cs_timer idle;
    cs_splice_idle_fn *on_idle;
    void *user;
};

static atomic_uint splices; /* of the process: descriptors are its resource */

static unsigned splices_max(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return 0;
    }
    return (unsigned)CS_MIN(limit.rlim_cur, 1u << 20) / DESCRIPTOR_PART / DESCRIPTORS;
}

/* ---- life ---- */

static void look(struct cs_timer *t)
{
    struct cs_splice *s = cs_container_of(t, struct cs_splice, idle);
    if (s->moved || s->held > 0) {
        s->moved = false;
        cs_timer_set(cs_loop_wheel(s->net->loop), t, cs_loop_now(s->net->loop) + IDLE_MS);
    } else {
        s->on_idle(s->user, s);
    }
}

static int open_pipe(struct cs_splice *s)
{
    if (pipe2(s->pipe, O_CLOEXEC | O_NONBLOCK) < 0) {
        s->pipe[0] = s->pipe[1] = -1;
        return -errno;
    }
    int size = fcntl(s->pipe[1], F_SETPIPE_SZ, PIPE_SIZE);
    if (size < 0) { /* over the user's limit (pipe-user-pages-soft): what it has now will do */
        size = fcntl(s->pipe[1], F_GETPIPE_SZ);
    }
    s->size = size < 0 ? 0 : (uint32_t)size;
    return size < 0 ? -errno : 0;
}

static void destroy(struct cs_splice *s)
{
    cs_timer_stop(cs_loop_wheel(s->net->loop), &s->idle);
    for (unsigned i = 0; i < 2; i++) {
        if (s->pipe[i] >= 0) {
            close(s->pipe[i]);
        }
    }
    if (s->from_fd >= 0) {
        cs_conn_direct_end(s->from, s->from_fd);
    }
    if (s->to_fd >= 0) {
        cs_conn_direct_end(s->to, s->to_fd);
    }
    cs_free(s);
    splices--;
}

struct cs_splice *cs_splice_start(struct cs_net *n, struct cs_conn *from, struct cs_conn *to,
                                  cs_splice_idle_fn *idle, void *user)
{
    if (++splices > splices_max()) {
        splices--;
        return NULL;
    }
    struct cs_splice *s = cs_alloc(sizeof(*s));
    if (!s) {
        splices--;
        return NULL;
    }
    *s = (struct cs_splice){.net = n,
                            .from = from,
                            .to = to,
                            .pipe = {-1, -1},
                            .from_fd = -1,
                            .to_fd = -1,
                            .on_idle = idle,
                            .user = user};
    cs_timer_init(&s->idle, look);
    if ((s->from_fd = cs_conn_direct(from)) < 0 || (s->to_fd = cs_conn_direct(to)) < 0 ||
        open_pipe(s) < 0) {
        destroy(s);
        return NULL;
    }
    cs_timer_set(cs_loop_wheel(n->loop), &s->idle, cs_loop_now(n->loop) + IDLE_MS);
    cs_conn_read_direct(from, true);
    return s;
}

void cs_splice_drop(struct cs_splice *s)
{
    destroy(s);
}

/* Reads what is left in the pipe and writes it to `to`. */
static ssize_t empty(struct cs_splice *s)
{
    struct cs_chain rest = {0};
    ssize_t total = s->held;
    while (s->held > 0) {
        struct cs_slice *slice = cs_slice_create(s->held);
        if (!slice) {
            cs_chain_clear(&rest);
            return -ENOMEM;
        }
        ssize_t n = read(s->pipe[0], slice->data, s->held);
        if (n <= 0) {
            cs_slice_release(slice);
            cs_chain_clear(&rest);
            return n < 0 ? -errno : -EIO;
        }
        slice->len = (uint32_t)n;
        slice->room -= (uint32_t)n;
        s->held -= (uint32_t)n;
        cs_chain_push(&rest, slice);
    }
    int err = cs_chain_len(&rest) > 0 ? cs_stream_write(cs_conn_stream(s->to), &rest) : 0;
    return err < 0 ? err : total;
}

ssize_t cs_splice_end(struct cs_splice *s)
{
    struct cs_conn *from = s->from;
    ssize_t n = empty(s);
    destroy(s);
    cs_conn_read_direct(from, false);
    return n;
}

/* ---- moving ---- */

static ssize_t move(int from, int to, size_t n)
{
    ssize_t moved;
    do {
        moved = splice(from, NULL, to, NULL, n, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
    } while (moved < 0 && errno == EINTR);
    return moved < 0 ? -errno : moved;
}

/* The pipe to `to`. */
static int drain(struct cs_splice *s, struct cs_splice_result *result)
{
    while (s->held > 0) {
        ssize_t n = move(s->pipe[0], s->to_fd, s->held);
        if (n <= 0) {
            return n == -EAGAIN ? 0 : n < 0 ? (int)n : -EPIPE;
        }
        s->held -= (uint32_t)n;
        result->moved += (size_t)n;
        s->moved = true;
        cs_conn_count(s->to, 0, (size_t)n);
        s->net->count.bytes_spliced += (size_t)n;
    }
    return 0;
}

static bool pays(struct cs_splice *s, size_t n)
{
    s->small = n < SMALL ? s->small + 1 : 0;
    return s->small < SMALL_MAX;
}

enum cs_splice_state cs_splice_run(struct cs_splice *s, struct cs_splice_result *result)
{
    *result = (struct cs_splice_result){0};
    if (cs_stream_queued(cs_conn_stream(s->to)) > 0) { /* written before, and so sent before */
        cs_conn_wait_writable(s->to);
        return CS_SPLICE_GOES_ON;
    }
    ssize_t n = 0;
    result->err = drain(s, result);
    if (result->err == 0 && s->held == 0) {
        n = move(s->from_fd, s->pipe[1], s->size);
        if (n == 0) {
            return CS_SPLICE_OVER;
        }
        if (n < 0 && n != -EAGAIN) {
            result->err = (int)n;
            return CS_SPLICE_FROM_BROKE;
        }
        if (n == -EAGAIN && result->moved == 0) { /* readable, but not this way (urgent data) */
            return CS_SPLICE_OVER;
        }
        if (n > 0) {
            s->held = (uint32_t)n;
            s->moved = true;
            cs_conn_count(s->from, (size_t)n, 0);
            result->err = drain(s, result);
        }
    }
    if (result->err < 0) {
        return CS_SPLICE_TO_BROKE;
    }
    if (s->held > 0) {
        cs_conn_wait_writable(s->to);
        return CS_SPLICE_GOES_ON;
    }
    if (n > 0 && !pays(s, (size_t)n)) {
        return CS_SPLICE_OVER;
    }
    cs_conn_wait_input(s->from);
    return CS_SPLICE_GOES_ON;
}
