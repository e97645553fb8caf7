/*
 * resolve - host names to addresses: a cache in front of one c-ares channel.
 *
 * Every answer, whether c-ares gave it, the cache had it, or the question was nonsense, is
 * delivered by one timer (resolver_deliver). So a user's function never runs inside cs_resolve and
 * never inside c-ares, which 1.18 would not survive when that function ends the resolver's channel.
 */
#include "net/resolve.h"

#include <ares.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    NAME_LEN_MAX = 254, /* 253, and the dot that makes a name absolute */
    BUCKETS = 256,      /* a power of two */
    ENTRIES_MAX = 1024, /* names kept */
    ASKING_MAX = 4096,  /* names being asked for at one time; the cache grows that far for them */
    DELIVER_MAX = 256,  /* answers per turn */
    TRY_MS = 2000,      /* first wait for a server; doubled each round by c-ares */
    TRIES = 3,
    TTL_MS_MIN = 1000,
    TTL_MS_MAX = 3600 * 1000,
    HOSTS_MS = 5000, /* an answer of the hosts file has no TTL */
    NEGATIVE_MS = 2000,
    STALE_MS = 3600 * 1000,
    PATIENCE_MS =
        1800, /* a refresh may take this long while a stale answer is at hand (RFC 8767) */
    STALE_RETRY_MS = 10 * 1000, /* a stale answer is served without asking for this long */
    CONF_CHECK_MS = 5000,       /* how often resolv.conf is looked at */
};

/* Without port and without the padding a Unix path needs: a cache is mostly addresses. */
struct host_addr {
    sa_family_t family;
    uint32_t scope;
    union {
        struct in_addr v4;
        struct in6_addr v6;
    };
};

/* One name and family. Lives while somebody waits, while c-ares works on it (it is c-ares'
 * argument), while an answer is to be delivered, and else as long as the cache has room. */
struct entry {
    struct cs_list by_hash;
    struct cs_list by_age;   /* in resolver.entries; to the end at each answer */
    struct cs_list by_ready; /* in resolver.ready while there is an answer to deliver */
    struct cs_list waiting;  /* queries */
    struct cs_resolver *r;
    struct host_addr *addrs; /* the last good answer */
    unsigned count;
    int err;                 /* the answer when addrs do not count */
    uint64_t until_ms;       /* the answer is served without asking before this */
    uint64_t stale_until_ms; /* addrs may stand in for a failed refresh before this */
    struct cs_timer patience;
    enum cs_resolve_family family;
    bool asking;   /* from ares_getaddrinfo to its callback */
    bool starting; /* inside ares_getaddrinfo */
    char name[];
};

/* One socket of c-ares' and the poll on it. Outlives the socket, and if need be the resolver, until
 * the poll's last event. */
struct sock {
    struct cs_list node;
    struct cs_op op;
    struct cs_resolver *r; /* NULL: the resolver is gone */
    int fd;
    unsigned want;  /* poll(2) bits; 0: c-ares has closed it */
    unsigned armed; /* the bits the op was started with */
    bool busy;      /* inside ares_process_fd for it */
};

/* What identifies a version of resolv.conf. */
struct conf_stamp {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec changed;
};

struct cs_resolver {
    struct cs_net *net;
    struct ares_channeldata *channel; /* NULL until the first name is asked for */
    struct cs_list socks;
    struct sock *spare;     /* for the next socket: sock_state has no way to report a failure */
    struct cs_list entries; /* all, oldest answer first */
    struct cs_list ready;   /* entries with something to deliver */
    struct cs_list failed;  /* queries that never got an entry */
    struct cs_timer deliver;
    struct cs_timer timeout; /* c-ares' own next deadline */
    unsigned count;          /* entries */
    unsigned asking;         /* entries that are with c-ares */
    bool stopped;
    uint64_t conf_check_ms;
    struct conf_stamp conf;
    struct cs_list buckets[BUCKETS];
};

static uint64_t resolver_now(const struct cs_resolver *r)
{
    return cs_loop_now(r->net->loop);
}

static void resolver_set_timer(struct cs_resolver *r, struct cs_timer *t, uint64_t in_ms)
{
    cs_timer_set(cs_loop_wheel(r->net->loop), t, resolver_now(r) + in_ms);
}

static void resolver_stop_timer(struct cs_resolver *r, struct cs_timer *t)
{
    cs_timer_stop(cs_loop_wheel(r->net->loop), t);
}

/* ---- sockets of c-ares ---- */

/* c-ares' deadline may have moved with every call into it. */
static void resolver_rearm(struct cs_resolver *r)
{
    struct timeval tv;
    if (!r->channel || !ares_timeout(r->channel, NULL, &tv)) {
        resolver_stop_timer(r, &r->timeout);
        return;
    }
    uint64_t ms = (uint64_t)tv.tv_sec * 1000 + ((uint64_t)tv.tv_usec + 999) / 1000;
    resolver_set_timer(r, &r->timeout, CS_MAX(ms, 1u));
}

/* Before each call into c-ares that may open a socket. */
static bool spare_ready(struct cs_resolver *r)
{
    if (!r->spare) {
        r->spare = cs_zalloc(sizeof(*r->spare));
    }
    return r->spare != NULL;
}

static void resolver_process(struct cs_resolver *r, int read_fd, int write_fd)
{
    if (r->channel) {
        (void)spare_ready(r); /* without one a socket may stay unseen until its time-out */
        ares_process_fd(r->channel, read_fd, write_fd);
        resolver_rearm(r);
    }
}

static void resolver_timeout(struct cs_timer *t)
{
    struct cs_resolver *r = cs_container_of(t, struct cs_resolver, timeout);
    resolver_process(r, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
}

/* Brings the poll in line with what c-ares wants, or ends the struct when both are done with it. */
static void sock_update(struct sock *s)
{
    if (s->busy) {
        return; /* sock_polled does it when c-ares is through */
    }
    if (s->op.armed) {
        if (s->want != s->armed && !s->op.cancelling) {
            cs_ring_cancel(s->r->net->ring, &s->op);
        }
        return;
    }
    if (s->want == 0) {
        cs_list_remove(&s->node);
        cs_free(s);
        return;
    }
    s->armed = s->want;
    cs_ring_poll(s->r->net->ring, &s->op, s->fd, s->want);
}

static void sock_polled(struct cs_op *op, const struct cs_event *ev)
{
    struct sock *s = cs_container_of(op, struct sock, op);
    if (!s->r) {
        cs_free(s);
        return;
    }
    if (ev->res < 0 && ev->res != -ECANCELED && s->want != 0) {
        return; /* arming it again would fail again and spin: c-ares' time-out deals with it */
    }
    if (ev->res > 0 && s->want != 0) {
        const int broken = POLLERR | POLLHUP;
        s->busy = true;
        resolver_process(s->r, ev->res & (POLLIN | broken) ? s->fd : ARES_SOCKET_BAD,
                         ev->res & (POLLOUT | broken) ? s->fd : ARES_SOCKET_BAD);
        s->busy = false;
    }
    sock_update(s);
}

static struct sock *sock_find(struct cs_resolver *r, int fd)
{
    cs_list_each(it, tmp, &r->socks) {
        struct sock *s = cs_container_of(it, struct sock, node);
        if (s->fd == fd && s->want != 0) {
            return s;
        }
    }
    return NULL;
}

/* c-ares tells what it waits for; neither = it closes fd when this returns. The number may come
 * back at once as another socket while the old poll is still armed, hence a new struct for each. */
static void sock_state(void *user, ares_socket_t fd, int readable, int writable)
{
    struct cs_resolver *r = user;
    unsigned want = (readable ? (unsigned)POLLIN : 0) | (writable ? (unsigned)POLLOUT : 0);
    struct sock *s = sock_find(r, fd);
    if (!s) {
        s = r->spare;
        if (want == 0 || !s) {
            return;
        }
        r->spare = NULL;
        cs_op_init(&s->op, sock_polled);
        s->r = r;
        s->fd = fd;
        cs_list_append(&r->socks, &s->node);
    }
    s->want = want;
    sock_update(s);
}

/* ---- the channel ---- */

static int library_status;

static void library_init(void)
{
    library_status = ares_library_init(ARES_LIB_INIT_ALL);
}

/* Once per process: before c-ares 1.23 the call itself is not thread-safe. */
static bool library_ready(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, library_init);
    return library_status == ARES_SUCCESS;
}

static const char *servers_override(void)
{
    const char *servers = getenv("COSOCKD_DNS");
    return servers && *servers ? servers : NULL;
}

static struct conf_stamp conf_stamp_now(void)
{
    struct conf_stamp stamp = {0};
    struct stat st;
    if (stat("/etc/resolv.conf", &st) == 0) {
        stamp.dev = st.st_dev;
        stamp.ino = st.st_ino;
        stamp.size = st.st_size;
        stamp.changed = st.st_mtim;
    }
    return stamp;
}

static bool conf_stamp_equal(const struct conf_stamp *a, const struct conf_stamp *b)
{
    return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
           a->changed.tv_sec == b->changed.tv_sec && a->changed.tv_nsec == b->changed.tv_nsec;
}

static int channel_open(struct cs_resolver *r)
{
    char lookups[] = "fb"; /* the hosts file, then DNS, whatever nsswitch.conf says */
    struct ares_options o = {0};
    o.timeout = TRY_MS;
    o.tries = TRIES;
    o.lookups = lookups;
    o.sock_state_cb = sock_state;
    o.sock_state_cb_data = r;
    int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
#ifdef ARES_OPT_QUERY_CACHE
    o.qcache_max_ttl = 0; /* from 1.23 on c-ares has a cache too; ours knows the cell's clock */
    mask |= ARES_OPT_QUERY_CACHE;
#endif
    if (!library_ready()) {
        return -ENOMEM;
    }
    int status = ares_init_options(&r->channel, &o, mask);
    if (status != ARES_SUCCESS) {
        r->channel = NULL;
        cs_log(CS_LOG_ERROR, "name resolution cannot start: %s", ares_strerror(status));
        return status == ARES_ENOMEM ? -ENOMEM : CS_ERESOLVE;
    }
    const char *servers = servers_override();
    if (servers && ares_set_servers_ports_csv(r->channel, servers) != ARES_SUCCESS) {
        cs_log(CS_LOG_ERROR, "COSOCKD_DNS is not host:port[,host:port]: %s", servers);
    }
    r->conf = conf_stamp_now();
    return 0;
}

/* Callbacks of what is with c-ares come from inside, with ARES_EDESTRUCTION. */
static void channel_close(struct cs_resolver *r)
{
    if (r->channel) {
        ares_destroy(r->channel);
        r->channel = NULL;
        resolver_stop_timer(r, &r->timeout);
    }
    CS_ASSERT(r->asking == 0);
}

/* c-ares 1.18 reads resolv.conf once. A changed one (a new network) makes a new channel as soon as
 * nothing is being asked for. */
static int channel_ready(struct cs_resolver *r)
{
    uint64_t now = resolver_now(r);
    if (r->channel && r->asking == 0 && now >= r->conf_check_ms && !servers_override()) {
        struct conf_stamp stamp = conf_stamp_now();
        if (!conf_stamp_equal(&stamp, &r->conf)) {
            channel_close(r);
        }
    }
    if (r->asking == 0 && now >= r->conf_check_ms) {
        r->conf_check_ms = now + CONF_CHECK_MS;
    }
    return r->channel ? 0 : channel_open(r);
}

/* ---- entries ---- */

static struct cs_list *entry_bucket(struct cs_resolver *r, const char *name,
                                    enum cs_resolve_family family)
{
    uint32_t hash = 2166136261u ^ (uint32_t)family; /* FNV-1a */
    for (const char *p = name; *p; p++) {
        hash = (hash ^ (uint8_t)*p) * 16777619u;
    }
    return &r->buckets[(hash ^ hash >> 16) & (BUCKETS - 1)];
}

static struct entry *entry_find(struct cs_list *bucket, const char *name,
                                enum cs_resolve_family family)
{
    cs_list_each(it, tmp, bucket) {
        struct entry *e = cs_container_of(it, struct entry, by_hash);
        if (e->family == family && strcmp(e->name, name) == 0) {
            return e;
        }
    }
    return NULL;
}

static void entry_free(struct entry *e)
{
    cs_list_remove(&e->by_hash);
    cs_list_remove(&e->by_age);
    cs_list_remove(&e->by_ready);
    resolver_stop_timer(e->r, &e->patience);
    e->r->count--;
    cs_free(e->addrs);
    cs_free(e);
}

static bool entry_in_use(const struct entry *e)
{
    return e->asking || !cs_list_empty(&e->waiting) || !cs_list_empty(&e->by_ready);
}

/* Makes room for one: the longest expired goes, else the one with the oldest answer. */
static bool entries_evict(struct cs_resolver *r)
{
    struct entry *victim = NULL;
    cs_list_each(it, tmp, &r->entries) {
        struct entry *e = cs_container_of(it, struct entry, by_age);
        if (entry_in_use(e)) {
            continue;
        }
        bool expired = resolver_now(r) >= e->until_ms;
        if (expired || !victim) {
            victim = e;
        }
        if (expired) {
            break;
        }
    }
    if (victim) {
        entry_free(victim);
    }
    return victim != NULL;
}

static void entry_impatient(struct cs_timer *t);

static struct entry *entry_create(struct cs_resolver *r, struct cs_list *bucket, const char *name,
                                  enum cs_resolve_family family)
{
    while (r->count >= ENTRIES_MAX && entries_evict(r)) {
    }
    size_t len = strlen(name);
    struct entry *e = cs_zalloc(sizeof(*e) + len + 1);
    if (!e) {
        return NULL;
    }
    memcpy(e->name, name, len + 1);
    e->r = r;
    e->family = family;
    cs_list_init(&e->by_ready);
    cs_list_init(&e->waiting);
    cs_timer_init(&e->patience, entry_impatient);
    cs_list_append(bucket, &e->by_hash);
    cs_list_append(&r->entries, &e->by_age);
    r->count++;
    return e;
}

static void entry_ready(struct entry *e)
{
    if (cs_list_empty(&e->by_ready)) {
        cs_list_append(&e->r->ready, &e->by_ready);
    }
    if (!cs_timer_active(&e->r->deliver)) {
        resolver_set_timer(e->r, &e->r->deliver, 0);
    }
}

static bool entry_has_stale(const struct entry *e)
{
    return e->count > 0 && resolver_now(e->r) < e->stale_until_ms;
}

/* The refresh is slow: who waits gets the stale answer, and so does who asks in the next seconds.
 */
static void entry_impatient(struct cs_timer *t)
{
    struct entry *e = cs_container_of(t, struct entry, patience);
    if (e->asking && entry_has_stale(e)) {
        e->until_ms = resolver_now(e->r) + STALE_RETRY_MS;
        entry_ready(e);
    }
}

/* ---- answers ---- */

static bool host_addr_equal(const struct host_addr *a, const struct host_addr *b)
{
    if (a->family != b->family || a->scope != b->scope) {
        return false;
    }
    return a->family == AF_INET ? a->v4.s_addr == b->v4.s_addr
                                : memcmp(&a->v6, &b->v6, sizeof(a->v6)) == 0;
}

/* Adds the nodes of one family to out, each address once. Returns the new count. */
static unsigned host_addrs_add(struct host_addr *out, unsigned count,
                               const struct ares_addrinfo_node *node, int family)
{
    for (; node && count < CS_RESOLVE_ADDRS_MAX; node = node->ai_next) {
        if (node->ai_family != family) {
            continue;
        }
        struct host_addr a = {.family = (sa_family_t)family};
        if (family == AF_INET) {
            a.v4 = ((const struct sockaddr_in *)(const void *)node->ai_addr)->sin_addr;
        } else {
            const struct sockaddr_in6 *v6 = (const void *)node->ai_addr;
            a.v6 = v6->sin6_addr;
            a.scope = v6->sin6_scope_id;
        }
        unsigned i = 0;
        while (i < count && !host_addr_equal(&out[i], &a)) {
            i++;
        }
        if (i == count) {
            out[count++] = a;
        }
    }
    return count;
}

static uint64_t answer_ttl_ms(const struct ares_addrinfo *ai)
{
    uint64_t ttl_ms = TTL_MS_MAX;
    for (const struct ares_addrinfo_node *n = ai->nodes; n; n = n->ai_next) {
        uint64_t ms = n->ai_ttl > 0 ? (uint64_t)n->ai_ttl * 1000 : 0;
        ttl_ms = CS_MIN(ttl_ms, ms);
    }
    return CS_MAX(ttl_ms, (uint64_t)TTL_MS_MIN);
}

/* 0; CS_ERESOLVE when there are none, -ENOMEM. */
static int entry_keep(struct entry *e, const struct host_addr *found, unsigned count,
                      uint64_t ttl_ms)
{
    if (count == 0) {
        return CS_ERESOLVE;
    }
    struct host_addr *addrs = cs_alloc(count * sizeof(*addrs));
    if (!addrs) {
        return -ENOMEM;
    }
    memcpy(addrs, found, count * sizeof(*addrs));
    cs_free(e->addrs);
    e->addrs = addrs;
    e->count = count;
    e->err = 0;
    e->until_ms = resolver_now(e->r) + ttl_ms;
    e->stale_until_ms = e->until_ms + STALE_MS;
    return 0;
}

/* As entry_keep. */
static int entry_succeeded(struct entry *e, const struct ares_addrinfo *ai)
{
    struct host_addr found[CS_RESOLVE_ADDRS_MAX];
    unsigned count = host_addrs_add(found, 0, ai->nodes, AF_INET);
    count = host_addrs_add(found, count, ai->nodes, AF_INET6);
    /* Only the hosts file (and a literal) answers before ares_getaddrinfo returns. */
    return entry_keep(e, found, count, e->starting ? HOSTS_MS : answer_ttl_ms(ai));
}

/* This name is this machine whatever the hosts file says (RFC 6761 6.3). c-ares 1.18 leaks a copy
 * of it where the file knows it in the other family only. As entry_keep. */
static int entry_localhost(struct entry *e)
{
    struct host_addr both[] = {{.family = AF_INET, .v4.s_addr = htonl(INADDR_LOOPBACK)},
                               {.family = AF_INET6, .v6 = IN6ADDR_LOOPBACK_INIT}};
    unsigned first = e->family == CS_RESOLVE_V6, behind = e->family == CS_RESOLVE_V4 ? 1 : 2;
    return entry_keep(e, both + first, behind - first, HOSTS_MS);
}

/* gone: the name is known not to exist, which an older answer does not outweigh. */
static void entry_failed(struct entry *e, int err, bool gone)
{
    uint64_t now = resolver_now(e->r);
    if (!gone && entry_has_stale(e)) {
        e->until_ms = now + STALE_RETRY_MS;
        return;
    }
    cs_free(e->addrs);
    e->addrs = NULL;
    e->count = 0;
    e->err = err;
    e->until_ms = now + (err == -ENOMEM ? 0 : NEGATIVE_MS);
}

/* From inside c-ares. */
static void entry_answered(void *arg, int status, int timeouts, struct ares_addrinfo *ai)
{
    struct entry *e = arg;
    (void)timeouts;
    CS_ASSERT(e->asking);
    e->asking = false;
    e->r->asking--;
    resolver_stop_timer(e->r, &e->patience);
    int err = status == ARES_ENOMEM ? -ENOMEM : CS_ERESOLVE;
    if (status == ARES_SUCCESS) {
        err = entry_succeeded(e, ai);
    }
    if (ai) {
        ares_freeaddrinfo(ai);
    }
    if (status == ARES_EDESTRUCTION) {
        return; /* resolver_stop or _destroy goes through the entries itself */
    }
    if (err) {
        entry_failed(e, err, status == ARES_ENOTFOUND || status == ARES_ENODATA);
    }
    cs_list_remove(&e->by_age);
    cs_list_append(&e->r->entries, &e->by_age);
    entry_ready(e);
}

static void entry_ask(struct entry *e)
{
    struct cs_resolver *r = e->r;
    if (strcmp(e->name, "localhost") == 0) {
        int err = entry_localhost(e);
        if (err) {
            entry_failed(e, err, false);
        }
        entry_ready(e);
        return;
    }
    int err = r->asking >= ASKING_MAX ? CS_ELIMIT : channel_ready(r);
    if (!err && !spare_ready(r)) {
        err = -ENOMEM;
    }
    if (err) {
        entry_failed(e, err, false);
        entry_ready(e);
        return;
    }
    struct ares_addrinfo_hints hints = {0};
    hints.ai_family = e->family == CS_RESOLVE_V4   ? AF_INET
                      : e->family == CS_RESOLVE_V6 ? AF_INET6
                                                   : AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    /* Sorting would connect a socket to every address; we want IPv4 first and the servers' order.
     */
    hints.ai_flags = ARES_AI_NOSORT;
    if (entry_has_stale(e)) {
        resolver_set_timer(r, &e->patience, PATIENCE_MS);
    }
    r->asking++;
    e->asking = true;
    e->starting = true;
    ares_getaddrinfo(r->channel, e->name, NULL, &hints, entry_answered, e);
    e->starting = false;
    resolver_rearm(r);
}

/* ---- delivery ---- */

static void query_fail(struct cs_resolver *r, struct cs_resolve_query *q, int err)
{
    q->err = err;
    cs_list_append(&r->failed, &q->node);
    if (!cs_timer_active(&r->deliver)) {
        resolver_set_timer(r, &r->deliver, 0);
    }
}

static void query_answer(struct cs_resolve_query *q, const struct entry *e)
{
    struct cs_addr addrs[CS_RESOLVE_ADDRS_MAX];
    for (unsigned i = 0; i < e->count; i++) {
        const struct host_addr *a = &e->addrs[i];
        cs_addr_any(&addrs[i], a->family, q->port);
        if (a->family == AF_INET) {
            addrs[i].v4.sin_addr = a->v4;
        } else {
            addrs[i].v6.sin6_addr = a->v6;
            addrs[i].v6.sin6_scope_id = a->scope;
        }
    }
    q->fn(q, e->err, e->err ? NULL : addrs, e->err ? 0 : e->count);
}

/* An entry stays in `ready` while its queries are called, so that nothing they do can evict it. */
static void resolver_deliver(struct cs_timer *t)
{
    struct cs_resolver *r = cs_container_of(t, struct cs_resolver, deliver);
    struct cs_list *node;
    unsigned left = DELIVER_MAX;
    while (left > 0 && (node = cs_list_first(&r->failed))) {
        struct cs_resolve_query *q = cs_container_of(node, struct cs_resolve_query, node);
        cs_list_remove(node);
        left--;
        q->fn(q, q->err, NULL, 0);
    }
    while (left > 0 && (node = cs_list_first(&r->ready))) {
        struct entry *e = cs_container_of(node, struct entry, by_ready);
        struct cs_list *first = cs_list_first(&e->waiting);
        if (!first) {
            cs_list_remove(node);
            continue;
        }
        cs_list_remove(first);
        left--;
        query_answer(cs_container_of(first, struct cs_resolve_query, node), e);
    }
    if (!cs_list_empty(&r->failed) || !cs_list_empty(&r->ready)) {
        resolver_set_timer(r, &r->deliver, 0);
    }
}

/* ---- the face ---- */

int cs_resolver_create(struct cs_resolver **out, struct cs_net *n)
{
    struct cs_resolver *r = cs_zalloc(sizeof(*r));
    if (!r) {
        return -ENOMEM;
    }
    r->net = n;
    cs_list_init(&r->socks);
    cs_list_init(&r->entries);
    cs_list_init(&r->ready);
    cs_list_init(&r->failed);
    for (unsigned i = 0; i < BUCKETS; i++) {
        cs_list_init(&r->buckets[i]);
    }
    cs_timer_init(&r->deliver, resolver_deliver);
    cs_timer_init(&r->timeout, resolver_timeout);
    *out = r;
    return 0;
}

static void queries_drop(struct cs_list *list)
{
    cs_list_each(it, tmp, list) {
        cs_list_remove(it); /* a later cancel finds the node alone and does nothing */
    }
}

void cs_resolver_destroy(struct cs_resolver *r)
{
    if (!r) {
        return;
    }
    channel_close(r);
    cs_list_each(it, tmp, &r->socks) {
        struct sock *s = cs_container_of(it, struct sock, node);
        CS_ASSERT(s->op.armed && s->want == 0);
        cs_list_remove(&s->node);
        s->r = NULL;
    }
    cs_list_each(it, tmp, &r->entries) {
        struct entry *e = cs_container_of(it, struct entry, by_age);
        queries_drop(&e->waiting);
        entry_free(e);
    }
    queries_drop(&r->failed);
    resolver_stop_timer(r, &r->deliver);
    resolver_stop_timer(r, &r->timeout);
    cs_free(r->spare);
    cs_free(r);
}

void cs_resolver_stop(struct cs_resolver *r)
{
    r->stopped = true;
    channel_close(r);
    cs_list_each(it, tmp, &r->entries) {
        struct entry *e = cs_container_of(it, struct entry, by_age);
        if (!cs_list_empty(&e->waiting)) {
            entry_failed(e, CS_ECLOSED, true);
            entry_ready(e);
        }
    }
}

/* Lower case, so that the cache does not care. False for what cannot be a host name. */
static bool name_key(char key[NAME_LEN_MAX + 1], const char *name)
{
    size_t len = strnlen(name, NAME_LEN_MAX + 1);
    if (len == 0 || len > NAME_LEN_MAX || (len == NAME_LEN_MAX && name[len - 1] != '.')) {
        return false;
    }
    for (size_t i = 0; i < len; i++) {
        char c = name[i];
        if (c <= ' ' || c >= 0x7f || c == '\\') { /* the last begins an escape in c-ares */
            return false;
        }
        key[i] = c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
    }
    key[len] = '\0';
    return true;
}

void cs_resolve(struct cs_resolver *r, struct cs_resolve_query *q, const char *name,
                enum cs_resolve_family family)
{
    char key[NAME_LEN_MAX + 1];
    cs_list_init(&q->node);
    if (r->stopped || !name_key(key, name)) {
        query_fail(r, q, r->stopped ? CS_ECLOSED : CS_ERESOLVE);
        return;
    }
    struct cs_list *bucket = entry_bucket(r, key, family);
    struct entry *e = entry_find(bucket, key, family);
    if (!e) {
        e = entry_create(r, bucket, key, family);
    }
    if (!e) {
        query_fail(r, q, -ENOMEM);
        return;
    }
    cs_list_append(&e->waiting, &q->node);
    if (resolver_now(r) < e->until_ms) {
        entry_ready(e);
    } else if (!e->asking) {
        entry_ask(e);
    }
}

void cs_resolve_cancel(struct cs_resolve_query *q)
{
    if (q->node.next) {
        cs_list_remove(&q->node);
    }
}

bool cs_resolver_idle(const struct cs_resolver *r)
{
    return r->asking == 0 && cs_list_empty(&r->socks) && cs_list_empty(&r->ready) &&
           cs_list_empty(&r->failed);
}
