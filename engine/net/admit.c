/* admit - gates with counts, and a table of the clients that are counted. */
#include "net/admit.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include "base/assert.h"
#include "base/mem.h"

#define BUCKETS_MIN 64 /* a power of two */

struct cs_gate {
    struct cs_list node; /* in admit->services; the one of all is in no list */
    struct cs_admit *admit;
    char *name; /* NULL: of all */
    unsigned refs;
    unsigned open, udp;
    struct cs_admit_limits limits;
    uint64_t refused, paused;
};

/* A client's connections through one gate. */
struct client {
    struct client *next;
    const struct cs_gate *gate;
    unsigned count;
    uint8_t ip[16];
};

struct cs_admit {
    pthread_mutex_t lock;
    struct cs_gate all;
    struct cs_list services;
    struct cs_list waiters;
    struct client **buckets; /* NULL until somebody is counted */
    size_t bucket_count, client_count;
    uint64_t seed; /* clients must not know who shares their bucket */
};

/* ---- clients ---- */

/* IPv4 as an IPv4-mapped address. False: it has no address. */
static bool client_ip(const struct cs_addr *client, uint8_t ip[16])
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    switch (client ? cs_addr_family(client) : AF_UNSPEC) {
    case AF_INET:
        memcpy(ip, mapped, sizeof(mapped));
        memcpy(ip + 12, &client->v4.sin_addr, 4);
        return true;
    case AF_INET6:
        memcpy(ip, &client->v6.sin6_addr, 16);
        return true;
    default:
        return false;
    }
}

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    x = (x ^ (x >> 32)) * 0xd6e8feb86659fd93u;
    return x ^ (x >> 32);
}

static struct client **bucket_of(const struct cs_admit *a, const struct cs_gate *g,
                                 const uint8_t ip[16])
{
    uint64_t half[2];
    memcpy(half, ip, sizeof(half));
    uint64_t hash = mix(mix(mix(a->seed ^ half[0]) ^ half[1]) ^ (uintptr_t)g);
    return &a->buckets[hash & (a->bucket_count - 1)];
}

static struct client **find(const struct cs_admit *a, const struct cs_gate *g, const uint8_t ip[16])
{
    struct client **at = bucket_of(a, g, ip);
    while (*at && ((*at)->gate != g || memcmp((*at)->ip, ip, 16) != 0)) {
        at = &(*at)->next;
    }
    return at;
}

/* At most one client a bucket, on average. Without memory the chains get longer. */
static int make_room(struct cs_admit *a)
{
    size_t old_count = a->bucket_count;
    struct client **old = a->buckets;
    if (old && a->client_count < old_count) {
        return 0;
    }
    size_t count = old ? 2 * old_count : BUCKETS_MIN;
    struct client **buckets = cs_zalloc(count * sizeof(struct client *));
    if (!buckets) {
        return old ? 0 : -ENOMEM;
    }
    a->buckets = buckets;
    a->bucket_count = count;
    for (size_t i = 0; i < old_count; i++) {
        for (struct client *c = old[i], *next; c; c = next) {
            struct client **at = bucket_of(a, c->gate, c->ip);
            next = c->next;
            c->next = *at;
            *at = c;
        }
    }
    cs_free(old);
    return 0;
}

/* 1 when the client is counted now, 0 when the gate counts none. */
static int client_enter(struct cs_gate *g, const uint8_t ip[16])
{
    struct cs_admit *a = g->admit;
    if (g->limits.max_client == 0) {
        return 0;
    }
    int err = make_room(a);
    if (err < 0) {
        return err;
    }
    struct client **at = find(a, g, ip);
    if (!*at) {
        struct client *c = cs_zalloc(sizeof(*c));
        if (!c) {
            return -ENOMEM;
        }
        c->gate = g;
        memcpy(c->ip, ip, 16);
        *at = c;
        a->client_count++;
    } else if ((*at)->count >= g->limits.max_client) {
        g->refused++;
        return -EUSERS;
    }
    (*at)->count++;
    return 1;
}

static void client_leave(struct cs_gate *g, const uint8_t ip[16])
{
    struct client **at = find(g->admit, g, ip), *c = *at;
    CS_ASSERT(c && c->count > 0);
    if (--c->count == 0) {
        *at = c->next;
        cs_free(c);
        if (--g->admit->client_count == 0) {
            cs_free(g->admit->buckets);
            g->admit->buckets = NULL;
            g->admit->bucket_count = 0;
        }
    }
}

/* Counts the client at both gates or at none. */
static int clients_enter(struct cs_gate *g, const uint8_t ip[16])
{
    int own = client_enter(g, ip);
    if (own < 0) {
        return own;
    }
    int all = client_enter(&g->admit->all, ip);
    if (all < 0) {
        if (own) {
            client_leave(g, ip);
        }
        return all;
    }
    return (own ? CS_PASS_CLIENT : 0) | (all ? CS_PASS_CLIENT_ALL : 0);
}

/* ---- gates ---- */

static unsigned room_of(const struct cs_gate *g)
{
    if (g->limits.max == 0) {
        return UINT_MAX;
    }
    return g->limits.max > g->open ? g->limits.max - g->open : 0;
}

static unsigned room(const struct cs_gate *g)
{
    return CS_MIN(room_of(g), room_of(&g->admit->all));
}

/* All of them: who it is enough for is theirs to find out. */
static void wake_waiters(struct cs_admit *a)
{
    cs_list_each(l, next, &a->waiters) {
        struct cs_admit_waiter *w = cs_container_of(l, struct cs_admit_waiter, node);
        cs_list_remove(&w->node);
        w->wake(w->user);
    }
}

static int enter(struct cs_gate *g, const struct cs_addr *client)
{
    uint8_t ip[16];
    int pass = 0;
    if (room(g) == 0) {
        return -EAGAIN;
    }
    if (client_ip(client, ip)) {
        pass = clients_enter(g, ip);
    }
    if (pass >= 0) {
        g->open++;
        g->admit->all.open++;
        pass |= CS_PASS_IN;
    }
    return pass;
}

int cs_gate_enter(struct cs_gate *g, const struct cs_addr *client)
{
    pthread_mutex_lock(&g->admit->lock);
    int pass = enter(g, client);
    pthread_mutex_unlock(&g->admit->lock);
    return pass;
}

void cs_gate_leave(struct cs_gate *g, unsigned pass, const struct cs_addr *client)
{
    struct cs_admit *a = g->admit;
    uint8_t ip[16];
    if (!(pass & CS_PASS_IN)) {
        return;
    }
    pthread_mutex_lock(&a->lock);
    CS_ASSERT(g->open > 0);
    bool full = room(g) == 0;
    g->open--;
    a->all.open--;
    if (client_ip(client, ip)) {
        if (pass & CS_PASS_CLIENT) {
            client_leave(g, ip);
        }
        if (pass & CS_PASS_CLIENT_ALL) {
            client_leave(&a->all, ip);
        }
    }
    if (full) {
        wake_waiters(a);
    }
    pthread_mutex_unlock(&a->lock);
}

void cs_gate_count_udp(struct cs_gate *g, int change)
{
    pthread_mutex_lock(&g->admit->lock);
    g->udp += (unsigned)change;
    g->admit->all.udp += (unsigned)change;
    pthread_mutex_unlock(&g->admit->lock);
}

unsigned cs_gate_room(struct cs_gate *g)
{
    pthread_mutex_lock(&g->admit->lock);
    unsigned n = room(g);
    pthread_mutex_unlock(&g->admit->lock);
    return n;
}

/* ---- waiting ---- */

void cs_admit_waiter_init(struct cs_admit_waiter *w, void (*wake)(void *user), void *user)
{
    *w = (struct cs_admit_waiter){.wake = wake, .user = user};
    cs_list_init(&w->node);
}

bool cs_gate_wait(struct cs_gate *g, struct cs_admit_waiter *w, bool first)
{
    struct cs_admit *a = g->admit;
    pthread_mutex_lock(&a->lock);
    bool full = room(g) == 0;
    if (full) {
        (room_of(g) == 0 ? g : &a->all)->paused += first;
        if (cs_list_empty(&w->node)) {
            cs_list_append(&a->waiters, &w->node);
        }
    }
    pthread_mutex_unlock(&a->lock);
    return full;
}

void cs_admit_waiter_stop(struct cs_admit *a, struct cs_admit_waiter *w)
{
    pthread_mutex_lock(&a->lock);
    cs_list_remove(&w->node);
    pthread_mutex_unlock(&a->lock);
}

/* ---- services ---- */

static struct cs_gate *gate_find(struct cs_admit *a, const char *service)
{
    cs_list_each(l, next, &a->services) {
        struct cs_gate *g = cs_container_of(l, struct cs_gate, node);
        if (strcmp(g->name, service) == 0) {
            return g;
        }
    }
    return NULL;
}

static struct cs_gate *gate_of(struct cs_admit *a, const char *service)
{
    struct cs_gate *g = gate_find(a, service);
    if (g) {
        return g;
    }
    g = cs_zalloc(sizeof(*g));
    if (!g) {
        return NULL;
    }
    g->name = cs_strdup(service);
    if (!g->name) {
        cs_free(g);
        return NULL;
    }
    g->admit = a;
    cs_list_append(&a->services, &g->node);
    return g;
}

static void gate_free(struct cs_gate *g)
{
    cs_list_remove(&g->node);
    cs_free(g->name);
    cs_free(g);
}

/* One that nobody uses and that limits nothing is not worth remembering. */
static void gates_prune(struct cs_admit *a)
{
    cs_list_each(l, next, &a->services) {
        struct cs_gate *g = cs_container_of(l, struct cs_gate, node);
        if (g->refs == 0 && g->limits.max == 0 && g->limits.max_client == 0) {
            gate_free(g);
        }
    }
}

struct cs_gate *cs_gate_get(struct cs_admit *a, const char *service)
{
    pthread_mutex_lock(&a->lock);
    struct cs_gate *g = gate_of(a, service);
    if (g) {
        g->refs++;
    }
    pthread_mutex_unlock(&a->lock);
    return g;
}

void cs_gate_put(struct cs_gate *g)
{
    struct cs_admit *a = g->admit;
    pthread_mutex_lock(&a->lock);
    CS_ASSERT(g->refs > 0);
    g->refs--;
    gates_prune(a);
    pthread_mutex_unlock(&a->lock);
}

static int configure(struct cs_admit *a, const struct cs_admit_limits *all,
                     const struct cs_admit_service *services, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!gate_of(a, services[i].name)) {
            return -ENOMEM;
        }
    }
    cs_list_each(l, next, &a->services) {
        cs_container_of(l, struct cs_gate, node)->limits = (struct cs_admit_limits){0};
    }
    for (size_t i = 0; i < count; i++) {
        gate_of(a, services[i].name)->limits = services[i].limits;
    }
    a->all.limits = *all;
    return 0;
}

int cs_admit_configure(struct cs_admit *a, const struct cs_admit_limits *all,
                       const struct cs_admit_service *services, size_t count)
{
    pthread_mutex_lock(&a->lock);
    int err = configure(a, all, services, count);
    gates_prune(a);
    wake_waiters(a);
    pthread_mutex_unlock(&a->lock);
    return err;
}

/* ---- status ---- */

static void tell(const struct cs_gate *g, void (*fn)(void *, const struct cs_admit_count *),
                 void *user)
{
    struct cs_admit_count c = {.name = g->name,
                               .limits = g->limits,
                               .open = g->open,
                               .udp = g->udp,
                               .refused = g->refused,
                               .paused = g->paused};
    fn(user, &c);
}

void cs_admit_counts(struct cs_admit *a, void (*fn)(void *user, const struct cs_admit_count *c),
                     void *user)
{
    pthread_mutex_lock(&a->lock);
    tell(&a->all, fn, user);
    cs_list_each(l, next, &a->services) {
        const struct cs_gate *g = cs_container_of(l, struct cs_gate, node);
        if (g->refs > 0) {
            tell(g, fn, user);
        }
    }
    pthread_mutex_unlock(&a->lock);
}

/* ---- life ---- */

int cs_admit_create(struct cs_admit **out)
{
    struct cs_admit *a = cs_zalloc(sizeof(*a));
    if (!a) {
        return -ENOMEM;
    }
    if (pthread_mutex_init(&a->lock, NULL) != 0) {
        cs_free(a);
        return -ENOMEM;
    }
    a->all.admit = a;
    cs_list_init(&a->all.node);
    cs_list_init(&a->services);
    cs_list_init(&a->waiters);
    if (getrandom(&a->seed, sizeof(a->seed), GRND_NONBLOCK) < 0) {
        a->seed = (uintptr_t)a; /* early at boot: the address space's layout will do */
    }
    *out = a;
    return 0;
}

void cs_admit_destroy(struct cs_admit *a)
{
    if (!a) {
        return;
    }
    cs_list_each(l, next, &a->services) {
        struct cs_gate *g = cs_container_of(l, struct cs_gate, node);
        CS_ASSERT(g->refs == 0);
        gate_free(g);
    }
    CS_ASSERT(cs_list_empty(&a->waiters) && a->client_count == 0);
    cs_free(a->buckets);
    pthread_mutex_destroy(&a->lock);
    cs_free(a);
}
