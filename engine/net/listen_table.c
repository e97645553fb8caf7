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
    int fd;
};

struct cs_listen_table {
    unsigned workers;
    pthread_mutex_t lock; /* of held; also held while binding: two workers may be first */
    struct cs_list held;
};

struct cs_listen_table *cs_listen_table_create(unsigned workers)
{
    struct cs_listen_table *t = cs_zalloc(sizeof(*t));
    if (t) {
        t->workers = workers;
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

static int open_socket(struct cs_listen_table *t, struct held *h, const struct cs_listen_options *o)
{
    struct cs_listen_options own = *o;
    bool ephemeral = cs_addr_family(&h->addr) != AF_UNIX && cs_addr_port(&h->addr) == 0;
    const struct held *other = ephemeral ? NULL : find_other(t, h->worker, &h->addr);
    if (other && cs_addr_family(&h->addr) == AF_UNIX) {
        h->fd = fcntl(other->fd, F_DUPFD_CLOEXEC, 0);
        return h->fd < 0 ? -errno : 0;
    }
    if (t->workers > 1 && !o->reuseport) {
        own.reuseport = true;
        own.first = !other;
    }
    return cs_listen_open(&h->fd, &h->addr, &own);
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
        *fd = h->fd;
        cs_list_append(&t->held, &h->node);
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
        if (h->fd == fd) {
            return h;
        }
    }
    return NULL;
}

void cs_listen_table_close(struct cs_listen_table *t, int fd)
{
    pthread_mutex_lock(&t->lock);
    struct held *h = find_fd(t, fd);
    CS_ASSERT(h);
    cs_list_remove(&h->node);
    if (cs_addr_family(&h->addr) == AF_UNIX && find_other(t, h->worker, &h->addr)) {
        close(fd); /* the file stays for the others */
    } else {
        cs_listen_close(fd, &h->addr);
    }
    pthread_mutex_unlock(&t->lock);
    cs_free(h);
}
