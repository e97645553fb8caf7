/* registry - listening addresses, the cells that accept on them, the generations they belong to. */
#include "net/registry.h"

#include <errno.h>

#include "base/assert.h"
#include "base/list.h"
#include "base/log.h"
#include "base/mem.h"

/* Slots that make a cell worth moving to, where an eighth of its table is more. */
#define USABLE_MAX 512

/* One socket. */
struct entry {
    struct cs_list node;
    struct cs_addr addr;
    struct cs_list seats; /* one per cell (a second one while the first is being emptied) */
    struct seat *at;      /* accepts, or is about to stop doing so; NULL: none */
    bool parking;         /* `at` is about to stop */
};

/* A cell's part in an entry. It has a `live` bound; while a newer generation that wants the address
 * loads, it has a `staged` one too. */
struct seat {
    struct cs_list node;
    struct entry *entry;
    struct cs_net *net;
    struct cs_listener *listener;
    struct cs_bound *live, *staged;
    bool closing;
};

/* One owner's view of a seat. */
struct cs_bound {
    struct cs_list node; /* in registry->bounds */
    struct cs_registry *registry;
    const struct cs_net *net;
    struct seat *seat; /* NULL: a dry one, or the seat is lost */
    struct cs_addr addr;
    unsigned gen;
    bool shared; /* bound with reuseport: others may have the address too */
    char *service;
    const struct cs_bound_user *ops;
    void *user;
};

struct cs_registry {
    struct cs_listen_table *table;
    unsigned worker;
    struct cs_list entries, bounds;
    bool stopped; /* no address is bound any more */
};

int cs_registry_create(struct cs_registry **out, struct cs_listen_table *table, unsigned worker)
{
    struct cs_registry *r = cs_zalloc(sizeof(*r));
    if (!r) {
        return -ENOMEM;
    }
    r->table = table;
    r->worker = worker;
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

/* ---- which cell accepts ---- */

/* More than a listener's head-room is free, so that starting there is worth it. */
static bool seat_usable(const struct seat *s)
{
    unsigned max = cs_ring_accept_max(s->net->ring);
    return cs_ring_accept_room(s->net->ring) > CS_MAX(CS_MIN(max / 8, (unsigned)USABLE_MAX), 1u);
}

static bool seat_roomy(const struct seat *s)
{
    return cs_ring_accept_room(s->net->ring) > cs_ring_accept_max(s->net->ring) / 2;
}

static bool seat_open(const struct seat *s)
{
    return s->live && !s->closing;
}

/* For an entry that accepts nowhere. NULL: no cell may. */
static struct seat *choose(struct entry *e)
{
    struct seat *usable = NULL, *any = NULL;
    cs_list_each(l, next, &e->seats) {
        struct seat *s = cs_container_of(l, struct seat, node);
        if (!seat_open(s)) {
            continue;
        }
        if (seat_roomy(s)) {
            return s;
        }
        usable = usable || !seat_usable(s) ? usable : s;
        any = any ? any : s;
    }
    return usable ? usable : any;
}

static void entry_start(struct entry *e)
{
    struct seat *s = choose(e);
    if (s && !e->at) {
        e->at = s;
        cs_listener_start(s->listener, s->net);
    }
}

/* Back to an earlier cell where connections have ended. */
static void entry_look_back(struct entry *e)
{
    if (!e->at || !seat_open(e->at) || e->parking) {
        return;
    }
    cs_list_each(l, next, &e->seats) {
        struct seat *s = cs_container_of(l, struct seat, node);
        if (s == e->at) {
            return;
        }
        if (seat_open(s) && seat_roomy(s)) {
            e->parking = true;
            cs_listener_park(e->at->listener);
            return;
        }
    }
}

static bool seat_full(void *user)
{
    struct seat *at = user;
    struct entry *e = at->entry;
    cs_list_each(l, next, &e->seats) {
        struct seat *s = cs_container_of(l, struct seat, node);
        if (s != at && seat_open(s) && seat_usable(s)) {
            e->parking = true;
            cs_listener_park(at->listener);
            return true;
        }
    }
    return false;
}

static void seat_parked(void *user)
{
    struct seat *s = user;
    struct entry *e = s->entry;
    if (e->at == s) {
        e->at = NULL;
        e->parking = false;
        entry_start(e);
    }
}

static const struct cs_listener_watch seat_watch = {.full = seat_full, .parked = seat_parked};

/* ---- seats ---- */

static void bound_lose(struct cs_bound *b);

static void seat_closed(void *user)
{
    struct seat *s = user;
    struct entry *e = s->entry;
    struct cs_bound *owner = s->live;
    cs_list_remove(&s->node);
    cs_free(s);
    if (cs_list_empty(&e->seats)) {
        cs_list_remove(&e->node);
        cs_free(e);
    }
    if (owner) {
        owner->seat = NULL;
        bound_lose(owner);
    }
}

/* What is in its queues goes to the owner it still has, or is closed. Seat and entry may be gone
 * when this returns. */
static void seat_close(struct seat *s)
{
    s->closing = true;
    if (s->staged) { /* its owner hears of it by rollback */
        s->staged->seat = NULL;
        s->staged = NULL;
    }
    if (!s->live) {
        cs_listener_attach(s->listener, NULL, NULL);
    }
    cs_listener_close(s->listener, seat_closed, s);
}

static void seat_close_unowned(struct seat *s)
{
    if (!s->closing && !s->live && !s->staged) {
        seat_close(s);
    }
}

static void seat_ready(void *user)
{
    struct cs_bound *b = user;
    entry_look_back(b->seat->entry);
    b->ops->on_ready(b->user);
}

static void seat_take_over(struct seat *s, struct cs_bound *b)
{
    s->live = b;
    if (cs_listener_rename(s->listener, b->service) < 0) {
        cs_log(CS_LOG_WARN, "no memory to rename a listener: logs go on naming its old service");
    }
    cs_listener_attach(s->listener, seat_ready, b);
    entry_start(s->entry);
}

/* Takes the listener over. NULL when out of memory. */
static struct seat *seat_add(struct entry *e, struct cs_net *n, struct cs_listener *listener)
{
    struct seat *s = cs_zalloc(sizeof(*s));
    if (!s) {
        cs_listener_close(listener, NULL, NULL);
        return NULL;
    }
    s->entry = e;
    s->net = n;
    s->listener = listener;
    cs_listener_watch(listener, &seat_watch, s);
    cs_list_append(&e->seats, &s->node);
    return s;
}

static int entry_open(struct seat **out, struct cs_registry *r, struct cs_net *n,
                      struct cs_addr *addr, const struct cs_listen_options *o, const char *service)
{
    struct cs_listener *listener;
    struct entry *e = cs_zalloc(sizeof(*e));
    if (!e) {
        return -ENOMEM;
    }
    cs_list_init(&e->seats);
    int err = cs_listener_open(&listener, r->table, r->worker, addr, o, service);
    if (err == 0) {
        *out = seat_add(e, n, listener);
        err = *out ? 0 : -ENOMEM;
    }
    if (err < 0) {
        cs_free(e);
        return err;
    }
    e->addr = *addr;
    cs_list_append(&r->entries, &e->node);
    return 0;
}

/* ---- where a bind finds its seat ---- */

/* This cell's own seat in an entry; one that is being closed only if it need not be after all. */
static struct seat *own_seat(struct entry *e, const struct cs_net *n)
{
    cs_list_each(l, next, &e->seats) {
        struct seat *s = cs_container_of(l, struct seat, node);
        if (s->net == n && (!s->closing || cs_listener_reopen(s->listener))) {
            return s;
        }
    }
    return NULL;
}

/* A seat beside those of other cells, while the socket is open. */
static int join(struct seat **out, struct entry *e, struct cs_net *n, const char *service)
{
    struct cs_listener *listener;
    int err = -EBADF;
    cs_list_each(l, next, &e->seats) {
        const struct seat *s = cs_container_of(l, struct seat, node);
        err = cs_listener_share(&listener, s->listener, service);
        if (err == 0) {
            *out = seat_add(e, n, listener);
            return *out ? 0 : -ENOMEM;
        }
        if (err != -EBADF) {
            break;
        }
    }
    return err;
}

/* In an entry of this address that has a place for the bind; -EBADF when there is none. A live bind
 * takes no address that this cell has already. */
static int find(struct seat **out, struct cs_registry *r, struct cs_net *n,
                const struct cs_addr *addr, const char *service, bool live)
{
    cs_list_each(l, next, &r->entries) {
        struct entry *e = cs_container_of(l, struct entry, node);
        if (!cs_addr_equal(&e->addr, addr)) {
            continue;
        }
        struct seat *s = own_seat(e, n);
        if (s && (s->staged || (live && !s->closing))) {
            continue;
        }
        if (s) {
            if (s->closing) { /* reopened: it goes on accepting, whatever it was about to do */
                s->closing = e->parking = false;
            }
            *out = s;
            return 0;
        }
        int err = join(out, e, n, service);
        if (err != -EBADF) {
            return err;
        }
    }
    return -EBADF;
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

static struct cs_bound *bound_create(struct cs_registry *r, const struct cs_net *n,
                                     const char *service, unsigned gen,
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
    b->net = n;
    b->gen = gen;
    b->ops = ops;
    b->user = user;
    cs_list_append(&r->bounds, &b->node);
    return b;
}

static bool bound_here(struct cs_registry *r, const struct cs_net *n, const struct cs_addr *addr,
                       unsigned gen, bool share)
{
    cs_list_each(l, next, &r->bounds) {
        const struct cs_bound *b = cs_container_of(l, struct cs_bound, node);
        if (b->net == n && b->gen == gen && !(b->shared && share) &&
            cs_addr_equal(&b->addr, addr)) {
            return true;
        }
    }
    return false;
}

/* The staged owner becomes the live one. */
static void hand_over(struct seat *s)
{
    struct cs_bound *old = s->live, *new = s->staged;
    s->staged = NULL;
    seat_take_over(s, new);
    if (old) {
        old->seat = NULL;
        bound_lose(old);
    }
}

/* Joins an address that another generation or cell has, or opens it. */
static int bound_open(struct cs_bound *b, struct cs_net *n, struct cs_addr *addr,
                      const struct cs_listen_options *o, bool live)
{
    struct seat *s = NULL;
    int err = find(&s, b->registry, n, addr, b->service, live);
    if (err == -EBADF) {
        err = entry_open(&s, b->registry, n, addr, o, b->service);
    }
    if (err < 0) {
        return err;
    }
    b->seat = s;
    s->staged = b;
    if (live) {
        hand_over(s);
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
    if (fixed && bound_here(r, n, addr, gen, o->reuseport)) {
        return -EADDRINUSE;
    }
    struct cs_bound *b = bound_create(r, n, service, gen, ops, user);
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

int cs_registry_named(struct cs_registry *r, const struct cs_net *n, const char *name, unsigned gen,
                      struct cs_addr *out)
{
    unsigned nth = 0;
    while (r->table && cs_listen_table_named(r->table, name, nth++, out)) {
        if (!bound_here(r, n, out, gen, false)) {
            return 0;
        }
    }
    return -ENOENT;
}

void cs_bound_close(struct cs_bound *b)
{
    struct seat *s = b->seat;
    if (s && s->staged == b) {
        s->staged = NULL;
    } else if (s && s->live == b) {
        s->live = NULL;
        cs_listener_attach(s->listener, NULL, NULL);
    }
    bound_free(b);
    if (s) {
        seat_close_unowned(s);
    }
}

struct cs_conn *cs_bound_take(struct cs_bound *b)
{
    bool live = b->seat && b->seat->live == b;
    return live ? cs_listener_take(b->seat->listener) : NULL;
}

const struct cs_addr *cs_bound_addr(const struct cs_bound *b)
{
    return &b->addr;
}

/* ---- generations ---- */

/* A seat of this cell that is not being closed; NULL: the cell has none in this entry. */
static struct seat *seat_of(struct entry *e, const struct cs_net *n)
{
    cs_list_each(l, next, &e->seats) {
        struct seat *s = cs_container_of(l, struct seat, node);
        if (s->net == n && !s->closing) {
            return s;
        }
    }
    return NULL;
}

void cs_registry_commit(struct cs_registry *r, const struct cs_net *n, unsigned gen)
{
    cs_list_each(l, next, &r->entries) {
        struct seat *s = seat_of(cs_container_of(l, struct entry, node), n);
        if (s && s->staged && s->staged->gen == gen) {
            hand_over(s);
        } else if (s && s->live && s->live->gen != gen) {
            seat_close(s); /* its owner takes what is left, then loses it */
        }
    }
}

void cs_registry_rollback(struct cs_registry *r, const struct cs_net *n, unsigned gen)
{
    cs_list_each(l, next, &r->bounds) {
        struct cs_bound *b = cs_container_of(l, struct cs_bound, node);
        if (b->net == n && b->gen == gen) {
            struct seat *s = b->seat;
            if (s && s->staged == b) {
                s->staged = NULL;
            }
            bound_lose(b);
            if (s) {
                seat_close_unowned(s);
            }
        }
    }
}

/* ---- the end ---- */

void cs_registry_leave(struct cs_registry *r, const struct cs_net *n)
{
    cs_list_each(l, next, &r->entries) {
        struct seat *s = seat_of(cs_container_of(l, struct entry, node), n);
        if (s) {
            seat_close(s);
        }
    }
}

/* Whoever is closed last takes the entry along. */
static void close_seats(struct entry *e)
{
    struct seat *last = NULL;
    cs_list_each(l, next, &e->seats) {
        struct seat *s = cs_container_of(l, struct seat, node);
        if (!s->closing) {
            if (last) {
                seat_close(last);
            }
            last = s;
        }
    }
    if (last) {
        seat_close(last);
    }
}

void cs_registry_stop(struct cs_registry *r)
{
    r->stopped = true;
    cs_list_each(l, next, &r->entries) {
        close_seats(cs_container_of(l, struct entry, node));
    }
}

static bool seat_spare(struct seat *s)
{
    if (s->entry->at == s) {
        entry_look_back(s->entry);
    }
    return s->entry->at != s && !s->closing && !s->staged && cs_listener_unused(s->listener);
}

bool cs_registry_spare(struct cs_registry *r, const struct cs_net *n)
{
    bool spare = true;
    cs_list_each(l, next, &r->entries) {
        struct entry *e = cs_container_of(l, struct entry, node);
        cs_list_each(m, mnext, &e->seats) {
            struct seat *s = cs_container_of(m, struct seat, node);
            spare = (s->net != n || seat_spare(s)) && spare;
        }
    }
    return spare;
}

bool cs_registry_left(const struct cs_registry *r, const struct cs_net *n)
{
    cs_list_each(l, next, (struct cs_list *)&r->entries) {
        struct entry *e = cs_container_of(l, struct entry, node);
        cs_list_each(m, mnext, &e->seats) {
            if (cs_container_of(m, struct seat, node)->net == n) {
                return false;
            }
        }
    }
    return true;
}
