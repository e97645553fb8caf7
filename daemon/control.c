/*
 * control - see control.h.
 *
 *   client: READING ──line──▶ WAITING ──answer──▶ WRITING ──sent──▶ closed
 */
#include "daemon/control.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

#define REQUEST_MS 5000 /* to send the line */
#define WORK_MS 10000   /* for us to find the answer */
#define ANSWER_MS 10000 /* to read it */
#define ACCEPT_PAUSE_MS 1000
#define HEAD_MAX 32

enum client_state { CLIENT_FREE, CLIENT_READING, CLIENT_WAITING, CLIENT_WRITING };

struct client {
    enum client_state state;
    unsigned serial; /* counts the clients of this slot: makes references go stale */
    int fd;
    bool half_closed; /* it will send nothing more; that is no reason not to answer */
    uint64_t deadline;
    char line[CSD_CONTROL_LINE_MAX];
    size_t line_len;
    char *answer;
    size_t answer_len, sent;
};

struct csd_control {
    int fd;
    char path[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    dev_t dev; /* of the socket file we made: only that one is removed */
    ino_t ino;
    uint64_t accept_after;
    csd_control_fn *handle;
    void *user;
    struct client clients[CSD_CONTROL_CLIENTS];
};

/* ---- requests ---- */

enum csd_request csd_request_parse(const char *line, size_t len)
{
    static const struct {
        const char *text;
        enum csd_request request;
    } requests[] = {{"status", CSD_REQUEST_STATUS}, {"status json", CSD_REQUEST_STATUS_JSON},
                    {"reload", CSD_REQUEST_RELOAD}, {"reload wait", CSD_REQUEST_RELOAD_WAIT},
                    {"stop", CSD_REQUEST_STOP},     {"quit", CSD_REQUEST_QUIT},
                    {"reopen", CSD_REQUEST_REOPEN}};
    char words[CSD_CONTROL_LINE_MAX];
    size_t n = 0;

    /* Blanks at the ends go, those between words become one. */
    for (size_t i = 0; i < len && n < sizeof(words) - 1; i++) {
        bool blank = line[i] == ' ' || line[i] == '\t' || line[i] == '\r';

        if (!blank) {
            words[n++] = line[i];
        } else if (n > 0 && words[n - 1] != ' ') {
            words[n++] = ' ';
        }
    }
    while (n > 0 && words[n - 1] == ' ') {
        n--;
    }
    words[n] = '\0';
    for (size_t i = 0; i < CS_ARRAY_LEN(requests); i++) {
        if (strlen(requests[i].text) == n && memcmp(requests[i].text, words, n) == 0) {
            return requests[i].request;
        }
    }
    return CSD_REQUEST_BAD;
}

/* ---- clients ---- */

static void client_close(struct client *cl)
{
    (void)close(cl->fd);
    cs_free(cl->answer);
    *cl = (struct client){.state = CLIENT_FREE, .serial = cl->serial + 1, .fd = -1};
}

static struct csd_client_ref client_ref(const struct csd_control *c, const struct client *cl)
{
    return (struct csd_client_ref){(unsigned)(cl - c->clients), cl->serial};
}

/* NULL: it is gone. */
static struct client *client_of(struct csd_control *c, struct csd_client_ref ref)
{
    struct client *cl = ref.slot < CSD_CONTROL_CLIENTS ? &c->clients[ref.slot] : NULL;

    return cl && cl->state != CLIENT_FREE && cl->serial == ref.serial ? cl : NULL;
}

static void client_send(struct client *cl)
{
    while (cl->sent < cl->answer_len) {
        ssize_t n = send(cl->fd, cl->answer + cl->sent, cl->answer_len - cl->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return;
        }
        if (n < 0) {
            break;
        }
        cl->sent += (size_t)n;
    }
    client_close(cl);
}

void csd_control_answer(struct csd_control *c, struct csd_client_ref ref, bool ok, const char *text,
                        size_t len)
{
    struct client *cl = client_of(c, ref);
    char head[HEAD_MAX];
    int head_len;

    if (!cl || cl->state != CLIENT_WAITING) {
        return;
    }
    head_len = snprintf(head, sizeof(head), "%s %zu\n", ok ? "ok" : "error", len);
    cl->answer = cs_alloc((size_t)head_len + len);
    if (!cl->answer) {
        client_close(cl); /* an answer that ends early is an error to the client */
        return;
    }
    memcpy(cl->answer, head, (size_t)head_len);
    memcpy(cl->answer + head_len, text, len);
    cl->answer_len = (size_t)head_len + len;
    cl->state = CLIENT_WRITING;
    cl->deadline = cs_clock_ms() + ANSWER_MS;
    client_send(cl);
}

void csd_control_patient(struct csd_control *c, struct csd_client_ref ref)
{
    struct client *cl = client_of(c, ref);

    if (cl && cl->state == CLIENT_WAITING) {
        cl->deadline = UINT64_MAX;
    }
}

static void refuse(struct csd_control *c, struct client *cl, const char *text)
{
    cl->state = CLIENT_WAITING;
    csd_control_answer(c, client_ref(c, cl), false, text, strlen(text));
}

static void client_request(struct csd_control *c, struct client *cl, size_t len)
{
    enum csd_request request = csd_request_parse(cl->line, len);

    if (request == CSD_REQUEST_BAD) {
        refuse(c, cl,
               "unknown request: expected status, status json, reload, reload wait, stop, quit "
               "or reopen\n");
        return;
    }
    cl->state = CLIENT_WAITING;
    cl->deadline = cs_clock_ms() + WORK_MS;
    c->handle(c->user, request, client_ref(c, cl));
}

static void client_read(struct csd_control *c, struct client *cl)
{
    ssize_t n =
        recv(cl->fd, cl->line + cl->line_len, sizeof(cl->line) - cl->line_len, MSG_DONTWAIT);
    const char *end;

    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            client_close(cl);
        }
        return;
    }
    cl->line_len += (size_t)n;
    cl->half_closed = n == 0;
    end = memchr(cl->line, '\n', cl->line_len);
    if (end) {
        client_request(c, cl, (size_t)(end - cl->line));
    } else if (cl->line_len == sizeof(cl->line)) {
        refuse(c, cl, "the request is too long\n");
    } else if (n == 0) {
        client_close(cl);
    }
}

/* While the client waits its input does not matter, but its end does. */
static void client_watch(struct client *cl)
{
    char ignored[256];
    ssize_t n = recv(cl->fd, ignored, sizeof(ignored), MSG_DONTWAIT);

    if (n == 0) {
        cl->half_closed = true;
    } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
        client_close(cl);
    }
}

static void client_event(struct csd_control *c, struct client *cl, short events)
{
    if (cl->state == CLIENT_READING) {
        client_read(c, cl);
    } else if (events & (POLLERR | POLLHUP)) {
        client_close(cl); /* both directions are over: nobody is left to read an answer */
    } else if (cl->state == CLIENT_WRITING) {
        client_send(cl);
    } else {
        client_watch(cl);
    }
}

/* ---- the socket ---- */

static void accept_one(struct csd_control *c, uint64_t now_ms)
{
    struct client *cl = c->clients;
    int fd;

    while (cl < c->clients + CSD_CONTROL_CLIENTS && cl->state != CLIENT_FREE) {
        cl++;
    }
    if (cl == c->clients + CSD_CONTROL_CLIENTS) {
        return;
    }
    fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
        /* Out of descriptors, say: the client stays in the queue, and polling would spin. */
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
            cs_log(CS_LOG_WARN, "control socket: accept: %s", strerror(errno));
            c->accept_after = now_ms + ACCEPT_PAUSE_MS;
        }
        return;
    }
    cl->fd = fd;
    cl->state = CLIENT_READING;
    cl->deadline = now_ms + REQUEST_MS;
}

static bool has_room(const struct csd_control *c)
{
    for (size_t i = 0; i < CSD_CONTROL_CLIENTS; i++) {
        if (c->clients[i].state == CLIENT_FREE) {
            return true;
        }
    }
    return false;
}

size_t csd_control_pollfds(struct csd_control *c, struct pollfd *fds)
{
    size_t n = 0;

    if (has_room(c) && cs_clock_ms() >= c->accept_after) {
        fds[n++] = (struct pollfd){.fd = c->fd, .events = POLLIN};
    }
    for (size_t i = 0; i < CSD_CONTROL_CLIENTS; i++) {
        const struct client *cl = &c->clients[i];
        short events = cl->state == CLIENT_WRITING ? POLLOUT : cl->half_closed ? 0 : POLLIN;

        if (cl->state != CLIENT_FREE) {
            fds[n++] = (struct pollfd){.fd = cl->fd, .events = events};
        }
    }
    return n;
}

static void expire(struct csd_control *c, struct client *cl)
{
    static const char text[] = "the daemon did not find the answer in time\n";

    if (cl->state == CLIENT_WAITING) {
        csd_control_answer(c, client_ref(c, cl), false, text, sizeof(text) - 1);
    } else {
        client_close(cl);
    }
}

void csd_control_handle(struct csd_control *c, const struct pollfd *fds, size_t count,
                        uint64_t now_ms)
{
    bool incoming = false;

    /* New clients last: theirs could be a descriptor number that an older event speaks of. */
    for (size_t i = 0; i < count; i++) {
        incoming = incoming || (fds[i].fd == c->fd && fds[i].revents);
        for (size_t k = 0; fds[i].revents && k < CSD_CONTROL_CLIENTS; k++) {
            struct client *cl = &c->clients[k];

            if (cl->state != CLIENT_FREE && cl->fd == fds[i].fd) {
                client_event(c, cl, fds[i].revents);
            }
        }
    }
    for (size_t k = 0; k < CSD_CONTROL_CLIENTS; k++) {
        if (c->clients[k].state != CLIENT_FREE && now_ms >= c->clients[k].deadline) {
            expire(c, &c->clients[k]);
        }
    }
    if (incoming) {
        accept_one(c, now_ms);
    }
}

uint64_t csd_control_deadline(const struct csd_control *c)
{
    uint64_t first = c->accept_after > cs_clock_ms() ? c->accept_after : UINT64_MAX;

    for (size_t i = 0; i < CSD_CONTROL_CLIENTS; i++) {
        if (c->clients[i].state != CLIENT_FREE) {
            first = CS_MIN(first, c->clients[i].deadline);
        }
    }
    return first;
}

/* ---- opening ---- */

static bool explain(const struct csd_control *c, const char *what, char *why, size_t why_size)
{
    (void)snprintf(why, why_size, "control_socket %s: %s", c->path, what);
    return false;
}

/* Removes a socket file that nobody listens on any more. */
static bool clear_path(const struct csd_control *c, const struct sockaddr_un *addr, char *why,
                       size_t why_size)
{
    struct stat st;
    int fd, err;

    if (lstat(c->path, &st) != 0) {
        return errno == ENOENT || explain(c, strerror(errno), why, why_size);
    }
    if (!S_ISSOCK(st.st_mode)) {
        return explain(c, "exists and is no socket", why, why_size);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return explain(c, strerror(errno), why, why_size);
    }
    err = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ? 0 : errno;
    (void)close(fd);
    if (err == 0 || err == EAGAIN) {
        return explain(c, "another cosockd is already running on it", why, why_size);
    }
    if (err != ECONNREFUSED && err != ENOENT) {
        return explain(c, strerror(err), why, why_size);
    }
    if (unlink(c->path) != 0 && errno != ENOENT) {
        return explain(c, strerror(errno), why, why_size);
    }
    return true;
}

/* The call itself is what a filter of system calls may deny: none is made without need. */
static int give_to(const char *path, uid_t uid, gid_t gid)
{
    return uid == (uid_t)-1 && gid == (gid_t)-1 ? 0 : chown(path, uid, gid);
}

/* /run is empty after every boot. */
static void make_folder(const struct csd_control *c, uid_t uid, gid_t gid)
{
    char folder[sizeof(c->path)];
    char *slash;

    memcpy(folder, c->path, sizeof(folder));
    slash = strrchr(folder, '/');
    if (!slash || slash == folder) {
        return;
    }
    *slash = '\0';
    if (mkdir(folder, 0755) == 0 && give_to(folder, uid, gid) != 0) {
        cs_log(CS_LOG_WARN, "%s: its owner cannot be changed: %s", folder, strerror(errno));
    }
}

static bool bind_path(struct csd_control *c, const struct sockaddr_un *addr, uid_t uid, gid_t gid,
                      char *why, size_t why_size)
{
    mode_t mode = gid == (gid_t)-1 ? 0600 : 0660;
    mode_t before = umask(0777 & ~mode);
    int err = bind(c->fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ? 0 : errno;
    struct stat st;

    (void)umask(before);
    if (err != 0) {
        return explain(c, strerror(err), why, why_size);
    }
    if (lstat(c->path, &st) == 0) {
        c->dev = st.st_dev;
        c->ino = st.st_ino;
    }
    if (give_to(c->path, uid, gid) != 0) {
        return explain(c, strerror(errno), why, why_size);
    }
    if (listen(c->fd, CSD_CONTROL_CLIENTS) != 0) {
        return explain(c, strerror(errno), why, why_size);
    }
    return true;
}

bool csd_control_open(struct csd_control **out, const char *path, uid_t uid, gid_t gid,
                      csd_control_fn *handle, void *user, char *why, size_t why_size)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct csd_control *c = cs_zalloc(sizeof(*c));

    *out = NULL;
    if (!c) {
        (void)snprintf(why, why_size, "control_socket: out of memory");
        return false;
    }
    CS_ASSERT(strlen(path) < sizeof(addr.sun_path)); /* settings.c has seen to it */
    memcpy(c->path, path, strlen(path) + 1);
    memcpy(addr.sun_path, path, strlen(path) + 1);
    c->handle = handle;
    c->user = user;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (c->fd < 0) {
        (void)explain(c, strerror(errno), why, why_size);
        cs_free(c);
        return false;
    }
    make_folder(c, uid, gid);
    if (!clear_path(c, &addr, why, why_size) || !bind_path(c, &addr, uid, gid, why, why_size)) {
        csd_control_close(c);
        return false;
    }
    *out = c;
    return true;
}

void csd_control_close(struct csd_control *c)
{
    struct stat st;

    if (!c) {
        return;
    }
    for (size_t i = 0; i < CSD_CONTROL_CLIENTS; i++) {
        if (c->clients[i].state != CLIENT_FREE) {
            client_close(&c->clients[i]);
        }
    }
    (void)close(c->fd);
    if (c->ino != 0 && lstat(c->path, &st) == 0 && st.st_dev == c->dev && st.st_ino == c->ino) {
        (void)unlink(c->path);
    }
    cs_free(c);
}
