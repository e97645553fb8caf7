/* listen_table - the listening sockets of all workers. */
#include "net/listen_table.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/list.h"
#include "base/mem.h"

struct held {
    struct cs_list node;
    struct cs_addr addr;
    unsigned worker;
    struct cs_heir heir; /* its descriptor, and who has the socket besides */
};

struct cs_listen_table {
    unsigned workers;
    struct cs_inherit *inherit; /* may be NULL */
    bool settled, leaving;
    pthread_mutex_t lock; /* of held; also held while binding: two workers may be first */
    struct cs_list held;
};

struct cs_listen_table *cs_listen_table_create(unsigned workers, struct cs_inherit *inherit)
{
    struct cs_listen_table *t = cs_zalloc(sizeof(*t));
    if (t) {
        t->workers = workers;
        t->inherit = inherit;
        pthread_mutex_init(&t->lock, NULL);
        cs_list_init(&t->held);
    }
    return t;
}

void cs_listen_table_destroy(struct cs_listen_table *t)
{
    if (t) {
        CS_ASSERT(cs_list_empty(&t->held));
        pthread_mutex_destroy(&t->lock);
        cs_free(t);
    }
}

/* Another worker's socket of this address; NULL when there is none or this worker has one too. */
static const struct held *find_other(struct cs_listen_table *t, unsigned worker,
                                     const struct cs_addr *addr)
{
    const struct held *other = NULL;
    cs_list_each(l, next, &t->held) {
        const struct held *h = cs_container_of(l, struct held, node);
        if (cs_addr_equal(&h->addr, addr)) {
            if (h->worker == worker) {
                return NULL;
            }
            other = h;
        }
    }
    return other;
}

/* -ENOENT: none came with the process. */
static int inherited(struct cs_listen_table *t, struct held *h)
{
    const int one = 1;
    int err = t->inherit ? cs_inherit_take(t->inherit, &h->addr, &h->heir) : -ENOENT;
    if (err == 0 && t->workers > 1 && !h->heir.lent && cs_addr_family(&h->addr) != AF_UNIX) {
        /* Other workers bind beside it. The process before may have had one worker only. */
        (void)setsockopt(h->heir.fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one));
    }
    return err;
}

static int open_socket(struct cs_listen_table *t, struct held *h, const struct cs_listen_options *o)
{
    struct cs_listen_options own = *o;
    bool ephemeral = cs_addr_family(&h->addr) != AF_UNIX && cs_addr_port(&h->addr) == 0;
    const struct held *other = ephemeral ? NULL : find_other(t, h->worker, &h->addr);
    if (other && cs_addr_family(&h->addr) == AF_UNIX) {
        h->heir = (struct cs_heir){.fd = fcntl(other->heir.fd, F_DUPFD_CLOEXEC, 0),
                                   .lent = other->heir.lent};
        return h->heir.fd < 0 ? -errno : 0;
    }
    int err = inherited(t, h);
    if (err != -ENOENT) {
        return err;
    }
    if (t->workers > 1 && !o->reuseport) {
        own.reuseport = true;
        own.first = !other;
    }
    return cs_listen_open(&h->heir.fd, &h->addr, &own);
}

/* Workers with the same Unix socket keep it once. */
static void keep(struct cs_listen_table *t, struct held *h)
{
    cs_list_each(l, next, &t->held) {
        const struct held *other = cs_container_of(l, struct held, node);
        if (other != h && other->heir.kept && cs_addr_family(&h->addr) == AF_UNIX &&
            cs_addr_equal(&other->addr, &h->addr)) {
            return;
        }
    }
    cs_inherit_keep(t->inherit, &h->heir);
}

int cs_listen_table_open(struct cs_listen_table *t, unsigned worker, int *fd, struct cs_addr *addr,
                         const struct cs_listen_options *o)
{
    struct held *h = cs_zalloc(sizeof(*h));
    if (!h) {
        return -ENOMEM;
    }
    h->addr = *addr;
    h->worker = worker;
    pthread_mutex_lock(&t->lock);
    int err = open_socket(t, h, o);
    if (err == 0) {
        *addr = h->addr;
        *fd = h->heir.fd;
        cs_list_append(&t->held, &h->node);
        if (t->inherit && t->settled) {
            keep(t, h);
        }
    }
    pthread_mutex_unlock(&t->lock);
    if (err < 0) {
        cs_free(h);
    }
    return err;
}

static struct held *find_fd(struct cs_listen_table *t, int fd)
{
    cs_list_each(l, next, &t->held) {
        struct held *h = cs_container_of(l, struct held, node);
        if (h->heir.fd == fd) {
            return h;
        }
    }
    return NULL;
}

/* Another worker's descriptor of the same socket; NULL: there is none. */
static struct held *find_twin(struct cs_listen_table *t, const struct held *h)
{
    cs_list_each(l, next, &t->held) {
        struct held *other = cs_container_of(l, struct held, node);
        if (cs_addr_family(&h->addr) == AF_UNIX && cs_addr_equal(&other->addr, &h->addr)) {
            return other;
        }
    }
    return NULL;
}

/* A start that fails leaves to the keeper what it had from it. */
static void close_socket(struct cs_listen_table *t, struct held *h)
{
    struct held *twin = find_twin(t, h);
    if (twin) { /* the file stays, and the keeper's copy */
        twin->heir.kept = twin->heir.kept ? twin->heir.kept : h->heir.kept;
        close(h->heir.fd);
    } else if (h->heir.lent || (h->heir.kept && (t->leaving || !t->settled))) {
        close(h->heir.fd);
    } else {
        if (h->heir.kept) {
            cs_inherit_drop(t->inherit, &h->heir);
        }
        cs_listen_close(h->heir.fd, &h->addr);
    }
}

void cs_listen_table_close(struct cs_listen_table *t, int fd)
{
    pthread_mutex_lock(&t->lock);
    struct held *h = find_fd(t, fd);
    CS_ASSERT(h);
    cs_list_remove(&h->node);
    close_socket(t, h);
    pthread_mutex_unlock(&t->lock);
    cs_free(h);
}

bool cs_listen_table_named(struct cs_listen_table *t, const char *name, unsigned nth,
                           struct cs_addr *out)
{
    return t->inherit && cs_inherit_named(t->inherit, name, nth, out);
}

void cs_listen_table_settle(struct cs_listen_table *t)
{
    pthread_mutex_lock(&t->lock);
    if (t->inherit && !t->settled) {
        cs_list_each(l, next, &t->held) {
            keep(t, cs_container_of(l, struct held, node));
        }
        cs_inherit_settle(t->inherit);
    }
    t->settled = true;
    pthread_mutex_unlock(&t->lock);
}

void cs_listen_table_leave(struct cs_listen_table *t)
{
    pthread_mutex_lock(&t->lock);
    t->leaving = true;
    pthread_mutex_unlock(&t->lock);
}
