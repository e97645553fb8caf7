/* registry - listening addresses and the generations they belong to. */
#include "net/registry.h"

#include <errno.h>

#include "base/assert.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

/* One socket. A live entry has a `live` bound; while a newer generation that wants the address
 * loads, it has a `staged` one too. */
struct entry {
    struct cs_list node;
    struct cs_registry *registry;
    struct cs_listener *listener;
    struct cs_bound *live, *staged;
    struct cs_net *net;
    bool started, closing;
};

/* One owner's view of an entry. */
struct cs_bound {
    struct cs_list node; /* in registry->bounds */
    struct cs_registry *registry;
    struct entry *entry; /* NULL: a dry one */
    struct cs_addr addr;
    unsigned gen;
    bool shared; /* bound with reuseport: others may have the address too */
    char *service;
    const struct cs_bound_user *ops;
    void *user;
};

struct cs_registry {
    struct cs_list entries, bounds;
    bool stopped; /* no address is bound any more */
};

int cs_registry_create(struct cs_registry **out)
{
    struct cs_registry *r = cs_alloc(sizeof(*r));
    if (!r) {
        return -ENOMEM;
    }
    r->stopped = false;
    cs_list_init(&r->entries);
    cs_list_init(&r->bounds);
    *out = r;
    return 0;
}

void cs_registry_destroy(struct cs_registry *r)
{
    if (r) {
        CS_ASSERT(cs_registry_idle(r) && cs_list_empty(&r->bounds));
        cs_free(r);
    }
}

bool cs_registry_idle(const struct cs_registry *r)
{
    return cs_list_empty(&r->entries);
}

/* ---- entries ---- */

/* The entry of an address; one that is being closed only if it need not be after all. */
static struct entry *find(struct cs_registry *r, const struct cs_addr *addr, bool closing)
{
    cs_list_each(l, next, &r->entries) {
        struct entry *e = cs_container_of(l, struct entry, node);
        if (e->closing != closing || e->staged ||
            !cs_addr_equal(cs_listener_addr(e->listener), addr)) {
            continue;
        }
        if (!closing || cs_listener_reopen(e->listener)) {
            e->closing = false;
            return e;
        }
    }
    return NULL;
}

static void bound_lose(struct cs_bound *b);

static void entry_closed(void *user)
{
    struct entry *e = user;
    struct cs_bound *owner = e->live;
    cs_list_remove(&e->node);
    cs_free(e);
    if (owner) {
        owner->entry = NULL;
        bound_lose(owner);
    }
}

/* What is in its queues goes to the owner it still has, or is closed. */
static void entry_close(struct entry *e)
{
    e->closing = true;
    if (e->staged) { /* its owner hears of it by rollback */
        e->staged->entry = NULL;
        e->staged = NULL;
    }
    if (!e->live) {
        cs_listener_attach(e->listener, NULL, NULL);
    }
    cs_listener_close(e->listener, entry_closed, e);
}

static int entry_open(struct entry **out, struct cs_registry *r, struct cs_net *n,
                      struct cs_addr *addr, const struct cs_listen_options *o, const char *service)
{
    struct entry *e = cs_zalloc(sizeof(*e));
    if (!e) {
        return -ENOMEM;
    }
    int err = cs_listener_open(&e->listener, addr, o, service);
    if (err < 0) {
        cs_free(e);
        return err;
    }
    e->registry = r;
    e->net = n;
    cs_list_append(&r->entries, &e->node);
    *out = e;
    return 0;
}

static void entry_ready(void *user)
{
    struct cs_bound *b = user;
    b->ops->on_ready(b->user);
}

static void entry_take_over(struct entry *e, struct cs_bound *b)
{
    e->live = b;
    if (cs_listener_rename(e->listener, b->service) < 0) {
        cs_log(CS_LOG_WARN, "no memory to rename a listener: logs go on naming its old service");
    }
    cs_listener_attach(e->listener, entry_ready, b);
    if (!e->started) {
        e->started = true;
        cs_listener_start(e->listener, e->net);
    }
}

/* ---- bounds ---- */

static void bound_free(struct cs_bound *b)
{
    cs_list_remove(&b->node);
    cs_free(b->service);
    cs_free(b);
}

/* The owner hears that it is over. */
static void bound_lose(struct cs_bound *b)
{
    b->ops->on_lost(b->user);
    bound_free(b);
}

static struct cs_bound *bound_create(struct cs_registry *r, const char *service, unsigned gen,
                                     const struct cs_bound_user *ops, void *user)
{
    struct cs_bound *b = cs_zalloc(sizeof(*b));
    if (!b) {
        return NULL;
    }
    b->service = cs_strdup(service);
    if (!b->service) {
        cs_free(b);
        return NULL;
    }
    b->registry = r;
    b->gen = gen;
    b->ops = ops;
    b->user = user;
    cs_list_append(&r->bounds, &b->node);
    return b;
}

static bool bound_here(struct cs_registry *r, const struct cs_addr *addr, unsigned gen, bool share)
{
    cs_list_each(l, next, &r->bounds) {
        const struct cs_bound *b = cs_container_of(l, struct cs_bound, node);
        if (b->gen == gen && !(b->shared && share) && cs_addr_equal(&b->addr, addr)) {
            return true;
        }
    }
    return false;
}

/* The staged owner becomes the live one. */
static void hand_over(struct entry *e)
{
    struct cs_bound *old = e->live, *new = e->staged;
    e->staged = NULL;
    entry_take_over(e, new);
    if (old) {
        old->entry = NULL;
        bound_lose(old);
    }
}

/* Joins an address that another generation has, or opens it. */
static int bound_open(struct cs_bound *b, struct cs_net *n, struct cs_addr *addr,
                      const struct cs_listen_options *o, bool live)
{
    struct entry *e = live ? NULL : find(b->registry, addr, false);
    if (!e) {
        e = find(b->registry, addr, true);
    }
    if (!e) {
        int err = entry_open(&e, b->registry, n, addr, o, b->service);
        if (err < 0) {
            return err;
        }
    }
    b->entry = e;
    e->staged = b;
    if (live) {
        hand_over(e);
    }
    return 0;
}

int cs_registry_bind(struct cs_registry *r, struct cs_bound **out, struct cs_net *n,
                     struct cs_addr *addr, const struct cs_listen_options *o, const char *service,
                     unsigned gen, bool live, bool dry, const struct cs_bound_user *ops, void *user)
{
    if (r->stopped && !dry) {
        return CS_ESHUTDOWN;
    }
    bool fixed = cs_addr_family(addr) == AF_UNIX || cs_addr_port(addr) != 0;
    if (fixed && bound_here(r, addr, gen, o->reuseport)) {
        return -EADDRINUSE;
    }
    struct cs_bound *b = bound_create(r, service, gen, ops, user);
    if (!b) {
        return -ENOMEM;
    }
    b->shared = o->reuseport;
    int err = dry ? 0 : bound_open(b, n, addr, o, live);
    if (err < 0) {
        bound_free(b);
        return err;
    }
    b->addr = *addr;
    *out = b;
    return 0;
}

void cs_bound_close(struct cs_bound *b)
{
    struct entry *e = b->entry;
    if (e && e->staged == b) {
        e->staged = NULL;
    } else if (e && e->live == b) {
        e->live = NULL;
        cs_listener_attach(e->listener, NULL, NULL);
    }
    if (e && !e->closing && !e->live && !e->staged) {
        entry_close(e);
    }
    bound_free(b);
}

struct cs_conn *cs_bound_take(struct cs_bound *b)
{
    bool live = b->entry && b->entry->live == b;
    return live ? cs_listener_take(b->entry->listener) : NULL;
}

const struct cs_addr *cs_bound_addr(const struct cs_bound *b)
{
    return &b->addr;
}

/* ---- generations ---- */

void cs_registry_commit(struct cs_registry *r, unsigned gen)
{
    cs_list_each(l, next, &r->entries) {
        struct entry *e = cs_container_of(l, struct entry, node);
        if (e->closing) {
            continue;
        }
        if (e->staged && e->staged->gen == gen) {
            hand_over(e);
        } else if (e->live && e->live->gen != gen) {
            entry_close(e); /* its owner takes what is left, then loses it */
        }
    }
}

void cs_registry_rollback(struct cs_registry *r, unsigned gen)
{
    cs_list_each(l, next, &r->bounds) {
        struct cs_bound *b = cs_container_of(l, struct cs_bound, node);
        if (b->gen == gen) {
            struct entry *e = b->entry;
            if (e && e->staged == b) {
                e->staged = NULL;
            }
            bound_lose(b);
            if (e && !e->closing && !e->live && !e->staged) {
                entry_close(e);
            }
        }
    }
}

void cs_registry_stop(struct cs_registry *r)
{
    r->stopped = true;
    cs_list_each(l, next, &r->entries) {
        struct entry *e = cs_container_of(l, struct entry, node);
        if (!e->closing) {
            entry_close(e);
        }
    }
}
