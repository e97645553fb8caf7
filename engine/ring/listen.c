/* listen - listening sockets by plain system calls: process-wide, not bound to a ring. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ring/ring.h"

/* A name in the abstract namespace has no file. */
static const char *unix_path(const struct cs_addr *addr)
{
    bool file = cs_addr_family(addr) == AF_UNIX && addr->un.sun_path[0] != '\0';
    return file ? addr->un.sun_path : NULL;
}

/* A socket file nobody listens on is left over from a crash: bind would fail for ever. */
static void remove_stale(const struct cs_addr *addr)
{
    struct stat st;
    if (stat(addr->un.sun_path, &st) < 0 || !S_ISSOCK(st.st_mode)) {
        return;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return;
    }
    if (connect(fd, &addr->sa, addr->len) < 0 && errno == ECONNREFUSED) {
        unlink(addr->un.sun_path);
    }
    close(fd);
}

static int set_one(int fd, int level, int name)
{
    const int one = 1;
    return setsockopt(fd, level, name, &one, sizeof(one)) < 0 ? -errno : 0;
}

static int set_options(int fd, int family, const struct cs_listen_options *o)
{
    if (family == AF_UNIX) {
        return 0;
    }
    int err = set_one(fd, SOL_SOCKET, SO_REUSEADDR);
    if (err == 0) {
        err = set_one(fd, IPPROTO_TCP, TCP_NODELAY);
    }
    if (err == 0 && family == AF_INET6) {
        err = set_one(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    }
    if (err == 0 && o->reuseport && !o->first) {
        err = set_one(fd, SOL_SOCKET, SO_REUSEPORT);
    }
    return err;
}

/* A first one binds without SO_REUSEPORT, because with it a port that another process of this user
 * has shared would not be found in use. */
static int bind_socket(int fd, const struct cs_addr *addr, const struct cs_listen_options *o)
{
    if (bind(fd, &addr->sa, addr->len) < 0) {
        return -errno;
    }
    bool later = o->reuseport && o->first && cs_addr_family(addr) != AF_UNIX;
    return later ? set_one(fd, SOL_SOCKET, SO_REUSEPORT) : 0;
}

static int bind_and_listen(int fd, struct cs_addr *addr, const struct cs_listen_options *o)
{
    const char *path = unix_path(addr);
    if (path) {
        remove_stale(addr);
    }
    int err = bind_socket(fd, addr, o);
    if (err < 0) {
        return err;
    }
    if ((path && o->unix_mode && chmod(path, (mode_t)o->unix_mode) < 0) ||
        listen(fd, o->backlog > 0 ? o->backlog : CS_LISTEN_BACKLOG) < 0) {
        err = -errno;
        if (path) {
            unlink(path);
        }
        return err;
    }
    if (!path && cs_addr_family(addr) != AF_UNIX) {
        addr->len = sizeof(addr->v6);
        if (getsockname(fd, &addr->sa, &addr->len) < 0) {
            return -errno;
        }
    }
    return 0;
}

int cs_listen_open(int *out, struct cs_addr *addr, const struct cs_listen_options *o)
{
    int family = cs_addr_family(addr);
    /* Non-blocking for cs_listen_accept_now; an accept op waits by polling either way. */
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    int err = set_options(fd, family, o);
    if (err == 0) {
        err = bind_and_listen(fd, addr, o);
    }
    if (err < 0) {
        close(fd);
        return err;
    }
    *out = fd;
    return 0;
}

static int option_of(int fd, int name)
{
    int value = -1;
    socklen_t len = sizeof(value);
    return getsockopt(fd, SOL_SOCKET, name, &value, &len) < 0 ? -1 : value;
}

int cs_listen_adopt(int fd, struct cs_addr *addr)
{
    const int one = 1;
    int family = option_of(fd, SO_DOMAIN);
    bool inet = family == AF_INET || family == AF_INET6;
    if ((!inet && family != AF_UNIX) || option_of(fd, SO_TYPE) != SOCK_STREAM ||
        option_of(fd, SO_ACCEPTCONN) != 1) {
        return -EINVAL;
    }
    struct sockaddr_storage name;
    socklen_t len = sizeof(name);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 || fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
        (inet && setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0) ||
        getsockname(fd, (struct sockaddr *)&name, &len) < 0) {
        return -errno;
    }
    cs_addr_from_sockaddr(addr, (const struct sockaddr *)&name, len);
    return 0;
}

void cs_listen_close(int fd, const struct cs_addr *addr)
{
    /* Somebody who holds the socket too (systemd's fd store) must not keep clients waiting in it.
     */
    shutdown(fd, SHUT_RDWR);
    close(fd);
    if (unix_path(addr)) {
        remove_stale(addr); /* unless somebody else has put a socket of his own there */
    }
}

int cs_listen_accept_now(int fd)
{
    int conn;
    do {
        conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    } while (conn < 0 && errno == EINTR);
    return conn < 0 ? -errno : conn;
}
