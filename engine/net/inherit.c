/* inherit - sockets that come from before this process, and that go on after it. */
#include "net/inherit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"
#include "ring/ring.h"

/* With the number behind it: the name of a kept socket. */
#define KEPT_NAME "cosockd-listener-"
#define KEPT_NAME_MAX 40

struct socket {
    struct cs_list node;
    int fd;
    struct cs_addr addr;
    unsigned kept; /* 0: given */
    bool used;
    char *name;
};

struct cs_inherit {
    pthread_mutex_t lock;
    struct cs_list sockets; /* in the order they came */
    struct cs_keeper keeper;
    unsigned numbers; /* the highest one given to a kept socket */
};

/* 0: not a name of ours. */
static unsigned number_of(const char *name)
{
    size_t len = strlen(KEPT_NAME);
    return strncmp(name, KEPT_NAME, len) == 0 ? (unsigned)strtoul(name + len, NULL, 10) : 0;
}

static const char *name_of(unsigned number, char *buf)
{
    snprintf(buf, KEPT_NAME_MAX, KEPT_NAME "%u", number);
    return buf;
}

int cs_inherit_create(struct cs_inherit **out, const struct cs_keeper *keeper)
{
    struct cs_inherit *in = cs_zalloc(sizeof(*in));
    if (!in) {
        return -ENOMEM;
    }
    if (pthread_mutex_init(&in->lock, NULL) != 0) {
        cs_free(in);
        return -ENOMEM;
    }
    cs_list_init(&in->sockets);
    if (keeper) {
        in->keeper = *keeper;
    }
    *out = in;
    return 0;
}

static void forget(struct socket *s)
{
    cs_list_remove(&s->node);
    cs_free(s->name);
    cs_free(s);
}

void cs_inherit_destroy(struct cs_inherit *in)
{
    if (!in) {
        return;
    }
    cs_list_each(l, next, &in->sockets) {
        struct socket *s = cs_container_of(l, struct socket, node);
        close(s->fd);
        forget(s);
    }
    pthread_mutex_destroy(&in->lock);
    cs_free(in);
}

static int add(struct cs_inherit *in, int fd, const char *name)
{
    struct cs_addr addr;
    int err = cs_listen_adopt(fd, &addr);
    if (err < 0) {
        return err;
    }
    struct socket *s = cs_zalloc(sizeof(*s));
    if (!s) {
        return -ENOMEM;
    }
    s->name = cs_strdup(name);
    if (!s->name) {
        cs_free(s);
        return -ENOMEM;
    }
    s->fd = fd;
    s->addr = addr;
    s->kept = number_of(name);
    pthread_mutex_lock(&in->lock);
    in->numbers = CS_MAX(in->numbers, s->kept);
    cs_list_append(&in->sockets, &s->node);
    pthread_mutex_unlock(&in->lock);
    return 0;
}

int cs_inherit_add(struct cs_inherit *in, int fd, const char *name)
{
    int err = add(in, fd, name);
    if (err < 0) {
        close(fd);
    }
    return err;
}

bool cs_inherit_named(struct cs_inherit *in, const char *name, unsigned nth, struct cs_addr *out)
{
    bool found = false;
    pthread_mutex_lock(&in->lock);
    cs_list_each(l, next, &in->sockets) {
        const struct socket *s = cs_container_of(l, struct socket, node);
        if (!found && !s->kept && strcmp(s->name, name) == 0 && nth-- == 0) {
            *out = s->addr;
            found = true;
        }
    }
    pthread_mutex_unlock(&in->lock);
    return found;
}

/* Clients find a Unix socket by its file: one that is gone leaves nothing worth having. */
static bool reachable(const struct cs_addr *addr)
{
    bool file = cs_addr_family(addr) == AF_UNIX && addr->un.sun_path[0] != '\0';
    return !file || access(addr->un.sun_path, F_OK) == 0;
}

static int hand_out(struct socket *s, struct cs_heir *out)
{
    *out = (struct cs_heir){.fd = s->fd, .kept = s->kept, .lent = !s->kept};
    if (s->kept) {
        forget(s);
        return 0;
    }
    out->fd = fcntl(s->fd, F_DUPFD_CLOEXEC, 3);
    s->used = true;
    return out->fd < 0 ? -errno : 0;
}

int cs_inherit_take(struct cs_inherit *in, const struct cs_addr *addr, struct cs_heir *out)
{
    int err = -ENOENT;
    pthread_mutex_lock(&in->lock);
    cs_list_each(l, next, &in->sockets) {
        struct socket *s = cs_container_of(l, struct socket, node);
        if (err == -ENOENT && cs_addr_equal(&s->addr, addr) && reachable(addr)) {
            err = hand_out(s, out);
        }
    }
    pthread_mutex_unlock(&in->lock);
    return err;
}

void cs_inherit_keep(struct cs_inherit *in, struct cs_heir *h)
{
    char name[KEPT_NAME_MAX];
    if (h->lent || h->kept || !in->keeper.keep) {
        return;
    }
    pthread_mutex_lock(&in->lock);
    h->kept = ++in->numbers;
    pthread_mutex_unlock(&in->lock);
    in->keeper.keep(in->keeper.user, h->fd, name_of(h->kept, name));
}

static void drop(struct cs_inherit *in, unsigned number)
{
    char name[KEPT_NAME_MAX];
    if (in->keeper.drop) {
        in->keeper.drop(in->keeper.user, name_of(number, name));
    }
}

void cs_inherit_drop(struct cs_inherit *in, struct cs_heir *h)
{
    if (h->kept) {
        drop(in, h->kept);
        h->kept = 0;
    }
}

void cs_inherit_settle(struct cs_inherit *in)
{
    char text[CS_ADDR_TEXT_MAX];
    pthread_mutex_lock(&in->lock);
    cs_list_each(l, next, &in->sockets) {
        struct socket *s = cs_container_of(l, struct socket, node);
        if (s->kept) {
            cs_log(CS_LOG_NOTICE, "nobody binds it any more: closed addr=%s",
                   cs_addr_text(&s->addr, text));
            drop(in, s->kept);
            cs_listen_close(s->fd, &s->addr);
            forget(s);
        } else if (!s->used) {
            cs_log(CS_LOG_WARN,
                   "a socket of the service manager is bound by no service name=%s addr=%s",
                   s->name, cs_addr_text(&s->addr, text));
            s->used = true;
        }
    }
    pthread_mutex_unlock(&in->lock);
}
