/*
 * client - see client.h.
 */
#include "daemon/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

#define HEAD_MAX 32
#define ANSWER_MAX (16u << 20)

struct answer {
    char head[HEAD_MAX];
    char *text;
    size_t len;
    bool ok;
};

bool csd_answer_head(const char *line, bool *ok, size_t *len)
{
    const char *number;
    char *end;
    unsigned long long n;

    if (strncmp(line, "ok ", 3) == 0) {
        *ok = true;
        number = line + 3;
    } else if (strncmp(line, "error ", 6) == 0) {
        *ok = false;
        number = line + 6;
    } else {
        return false;
    }
    if (*number < '0' || *number > '9') {
        return false;
    }
    errno = 0;
    n = strtoull(number, &end, 10);
    if (errno != 0 || *end != '\n' || n > ANSWER_MAX) {
        return false;
    }
    *len = (size_t)n;
    return true;
}

/* timeout_ms < 0: none. A daemon that is stuck has a full queue at some time. */
static int connect_to(const char *path, int timeout_ms, int *out)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct timeval limit = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
    int fd;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(addr.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    if ((timeout_ms >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0) ||
        connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) != 0) {
        int err = -errno;

        (void)close(fd);
        return err;
    }
    *out = fd;
    return 0;
}

/* At most `size` bytes; 0 at the end, -errno. until: of cs_clock_ms, UINT64_MAX: no limit. */
static ssize_t receive(int fd, char *buf, size_t size, uint64_t until)
{
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        uint64_t now = cs_clock_ms();
        int wait = until == UINT64_MAX ? -1 : until > now ? (int)(until - now) : 0;
        int n = poll(&p, 1, wait);

        if (n == 0) {
            return -ETIMEDOUT;
        }
        if (n > 0) {
            ssize_t got = recv(fd, buf, size, 0);

            if (got >= 0) {
                return got;
            }
        }
        if (errno != EINTR) {
            return -errno;
        }
    }
}

/* Byte by byte: what follows the line feed is the text's. */
static int read_head(int fd, struct answer *a, uint64_t until)
{
    for (size_t n = 0; n < sizeof(a->head) - 1; n++) {
        ssize_t got = receive(fd, a->head + n, 1, until);

        if (got <= 0) {
            return got == 0 ? -ECONNRESET : (int)got;
        }
        if (a->head[n] == '\n') {
            a->head[n + 1] = '\0';
            return csd_answer_head(a->head, &a->ok, &a->len) ? 0 : -EPROTO;
        }
    }
    return -EPROTO;
}

static int read_answer(int fd, struct answer *a, uint64_t until)
{
    int err = read_head(fd, a, until);

    if (err != 0) {
        return err;
    }
    a->text = cs_alloc(a->len + 1);
    if (!a->text) {
        return -ENOMEM;
    }
    for (size_t n = 0; n < a->len;) {
        ssize_t got = receive(fd, a->text + n, a->len - n, until);

        if (got <= 0) {
            return got == 0 ? -ECONNRESET : (int)got;
        }
        n += (size_t)got;
    }
    return 0;
}

static int ask(int fd, const char *request, struct answer *a, uint64_t until)
{
    char line[128];
    int len = snprintf(line, sizeof(line), "%s\n", request);
    ssize_t sent = send(fd, line, (size_t)len, MSG_NOSIGNAL);

    if (sent != len) {
        return sent < 0 ? -errno : -EIO;
    }
    return read_answer(fd, a, until);
}

static const char *connect_error(int err)
{
    switch (err) {
    case -ENOENT:
        return "no such socket: cosockd is not running, or has another control_socket";
    case -ECONNREFUSED:
        return "nobody answers: cosockd is not running";
    case -EACCES:
        return "permission denied: run this as root or as the daemon's user";
    case -EAGAIN:
        return "the daemon does not answer";
    default:
        return strerror(-err);
    }
}

static const char *answer_error(int err)
{
    switch (err) {
    case -ETIMEDOUT:
        return "the daemon does not answer";
    case -ECONNRESET:
    case -EPIPE:
        return "the daemon ended before it had answered";
    case -EPROTO:
        return "the answer makes no sense: is this a cosockd of another version?";
    default:
        return strerror(-err);
    }
}

enum csd_exit csd_client_run(const char *program, const char *path, const char *request,
                             int timeout_ms)
{
    struct answer a = {.text = NULL};
    int fd = -1, err;

    if (path[0] == '\0') {
        (void)fprintf(stderr, "%s: control_socket is \"\": the daemon has none\n", program);
        return CSD_EXIT_UNAVAILABLE;
    }
    err = connect_to(path, timeout_ms, &fd);
    if (err != 0) {
        (void)fprintf(stderr, "%s: %s: %s\n", program, path, connect_error(err));
        return err == -EAGAIN ? CSD_EXIT_FAILURE : CSD_EXIT_UNAVAILABLE;
    }
    err = ask(fd, request, &a, timeout_ms < 0 ? UINT64_MAX : cs_clock_ms() + (unsigned)timeout_ms);
    (void)close(fd);
    if (err != 0) {
        (void)fprintf(stderr, "%s: %s: %s\n", program, path, answer_error(err));
        cs_free(a.text);
        return CSD_EXIT_FAILURE;
    }
    (void)fwrite(a.text, 1, a.len, a.ok ? stdout : stderr);
    cs_free(a.text);
    if (fflush(stdout) != 0) {
        return CSD_EXIT_FAILURE;
    }
    return a.ok ? CSD_EXIT_OK : CSD_EXIT_FAILURE;
}
