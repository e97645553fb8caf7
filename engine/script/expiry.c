/* expiry - see expiry.h. */
#include "script/expiry.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "script/vm.h"

#define DAY 86400
#define SOON_MS 1000

/* Seconds before the end, and what is reached at that moment. */
static const int64_t steps[] = {30 * DAY, 7 * DAY, DAY, 0};

struct watched {
    struct cs_list node;
    struct cs_cert *cert;
    unsigned told; /* steps that have been logged */
    char file[];
};

static struct watched *watched_of(struct cs_list *l)
{
    return cs_container_of(l, struct watched, node);
}

static void drop(struct watched *w)
{
    cs_list_remove(&w->node);
    cs_cert_unref(w->cert);
    cs_free(w);
}

/* Those that nobody uses any more. */
static void prune(struct cs_expiry *e)
{
    cs_list_each(l, next, &e->certs) {
        if (!cs_cert_shared(watched_of(l)->cert)) {
            drop(watched_of(l));
        }
    }
}

/* ---- warning ---- */

static unsigned steps_reached(int64_t left)
{
    unsigned n = 0;

    while (n < CS_ARRAY_LEN(steps) && left <= steps[n]) {
        n++;
    }
    return n;
}

static void warn(const struct watched *w, int64_t left)
{
    const char *name = cs_cert_name(w->cert), *file = w->file[0] ? w->file : "-";

    if (left <= 0) {
        cs_log(CS_LOG_ERROR, "certificate has expired name=%s file=%s days=%" PRId64, name, file,
               -left / DAY);
    } else {
        cs_log(CS_LOG_WARN, "certificate expires soon name=%s file=%s days=%" PRId64, name, file,
               left / DAY);
    }
}

static void look(struct cs_expiry *e)
{
    int64_t now = time(NULL), sleep = DAY;

    prune(e);
    cs_list_each(l, next, &e->certs) {
        struct watched *w = watched_of(l);
        int64_t left = cs_cert_expires(w->cert) - now;
        unsigned reached = steps_reached(left);

        if (reached > w->told) {
            warn(w, left);
        }
        w->told = reached;
        if (reached < CS_ARRAY_LEN(steps)) {
            sleep = CS_MIN(sleep, left - steps[reached]);
        }
    }
    if (!cs_list_empty(&e->certs)) {
        cs_timer_set(e->wheel, &e->timer, cs_clock_ms() + (uint64_t)sleep * 1000);
    }
}

static void on_timer(struct cs_timer *t)
{
    look(cs_container_of(t, struct cs_expiry, timer));
}

/* ---- calls ---- */

void cs_expiry_init(struct cs_expiry *e, struct cs_wheel *wheel)
{
    *e = (struct cs_expiry){.wheel = wheel};
    cs_list_init(&e->certs);
    cs_timer_init(&e->timer, on_timer);
}

void cs_expiry_finish(struct cs_expiry *e)
{
    struct cs_list *l;

    cs_timer_stop(e->wheel, &e->timer);
    while ((l = cs_list_first(&e->certs))) {
        drop(watched_of(l));
    }
}

int cs_expiry_add(struct cs_vm *vm, struct cs_cert *c, const char *file)
{
    struct cs_expiry *e = &vm->expiry;
    size_t len = strlen(file);
    struct watched *w = cs_zalloc(sizeof(*w) + len + 1);

    if (!w) {
        return -ENOMEM;
    }
    prune(e);
    memcpy(w->file, file, len + 1);
    w->cert = cs_cert_ref(c);
    cs_list_append(&e->certs, &w->node);
    if (e->started) { /* soon: a certificate that is only looked at is gone by then */
        cs_timer_set(e->wheel, &e->timer, cs_clock_ms() + SOON_MS);
    }
    return 0;
}

void cs_expiry_start(struct cs_expiry *e)
{
    e->started = true;
    look(e);
}

void cs_expiry_stop(struct cs_expiry *e)
{
    e->started = false;
    cs_timer_stop(e->wheel, &e->timer);
}

/* Puts a certificate where it belongs among the first n, which has room for max. */
static unsigned insert(struct cs_cert_status *out, unsigned n, unsigned max,
                       const struct watched *w)
{
    int64_t expires = cs_cert_expires(w->cert);
    unsigned at = n;

    while (at > 0 && out[at - 1].expires > expires) {
        at--;
    }
    if (at == max) {
        return n;
    }
    unsigned kept = CS_MIN(n, max - 1) - at;

    memmove(&out[at + 1], &out[at], kept * sizeof(*out));
    out[at].expires = expires;
    (void)snprintf(out[at].name, sizeof(out[at].name), "%s", cs_cert_name(w->cert));
    (void)snprintf(out[at].file, sizeof(out[at].file), "%s", w->file);
    return CS_MIN(n + 1, max);
}

unsigned cs_expiry_status(struct cs_expiry *e, struct cs_cert_status *out, unsigned max)
{
    unsigned n = 0;

    prune(e);
    cs_list_each(l, next, &e->certs) {
        n = insert(out, n, max, watched_of(l));
    }
    return n;
}
