/* loop - the turn of one cell: the drawing of loop.h as code. */
#include "ring/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "ring/ring_set.h"

#define TIMERS_MAX 1024
#define LATE_MS 2 /* a turn, and one of a set, leaves the rest to the next after so long */

/* What other threads have handed over. The wake-up is a pipe: an eventfd that is written to from
 * within the wake-up of another one (a ring_set's) is delayed by the kernel. */
struct inbox {
    pthread_mutex_t lock;
    struct cs_post *first, **last;
    int pipe[2];
    struct cs_op wake; /* poll on pipe[0] */
};

struct phase {
    cs_phase_fn *fn;
    void *arg;
};

struct cs_loop {
    struct cs_ring *ring;
    struct cs_wheel *wheel;
    uint64_t now_ms;
    bool busy;                  /* something has more to do: the next turn does not sleep */
    bool *held_up, own_held_up; /* somebody had leave to hold up this turn: the set's, or its own */
    bool ending;                /* being destroyed: what is posted is not run any more */
    struct phase phases[CS_PHASE_COUNT];
    struct inbox inbox;
    struct cs_loop_stats stats;
    struct cs_event events[CS_LOOP_EVENTS_MAX];
};

/* ---- posting ---- */

static struct cs_post *inbox_take(struct inbox *in)
{
    pthread_mutex_lock(&in->lock);
    struct cs_post *first = in->first;
    in->first = NULL;
    in->last = &in->first;
    pthread_mutex_unlock(&in->lock);
    return first;
}

static void inbox_add(struct inbox *in, struct cs_post *p)
{
    pthread_mutex_lock(&in->lock);
    *in->last = p;
    in->last = &p->next;
    /* Inside the lock: once p can be taken, the loop may be about to end. */
    ssize_t n = write(in->pipe[1], "", 1);
    (void)n; /* fails only when the pipe is full, and then the loop is awake */
    pthread_mutex_unlock(&in->lock);
}

static void inbox_arm(struct cs_loop *l)
{
    if (!l->inbox.wake.armed) {
        cs_ring_poll(l->ring, &l->inbox.wake, l->inbox.pipe[0], POLLIN);
    }
}

static void inbox_woken(struct cs_op *op, const struct cs_event *ev)
{
    struct cs_loop *l = cs_container_of(op, struct cs_loop, inbox.wake);
    char bytes[64];
    if (ev->res == -ECANCELED || l->ending) {
        return;
    }
    if (read(l->inbox.pipe[0], bytes, sizeof(bytes)) < 0 && errno != EAGAIN) {
        return; /* a pipe of our own cannot fail otherwise */
    }
    inbox_arm(l);
    for (struct cs_post *p = inbox_take(&l->inbox), *next; p; p = next) {
        bool owned = p->owned; /* fn may free it */
        next = p->next;
        p->fn(p->arg);
        if (owned) {
            cs_free(p);
        }
    }
}

static int inbox_init(struct inbox *in)
{
    if (pipe2(in->pipe, O_CLOEXEC | O_NONBLOCK) < 0) {
        return -errno;
    }
    pthread_mutex_init(&in->lock, NULL);
    in->last = &in->first;
    cs_op_init(&in->wake, inbox_woken);
    return 0;
}

void cs_loop_post_with(struct cs_loop *l, struct cs_post *p, cs_post_fn *fn, void *arg)
{
    *p = (struct cs_post){.fn = fn, .arg = arg};
    inbox_add(&l->inbox, p);
}

int cs_loop_post(struct cs_loop *l, cs_post_fn *fn, void *arg)
{
    struct cs_post *p = cs_alloc(sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    *p = (struct cs_post){.fn = fn, .arg = arg, .owned = true};
    inbox_add(&l->inbox, p);
    return 0;
}

/* ---- the turn ---- */

static int64_t sleep_time(const struct cs_loop *l, uint64_t now_ms, int64_t timeout_ms)
{
    int64_t next = l->busy ? 0 : cs_wheel_next(l->wheel, now_ms);
    if (next < 0) {
        return timeout_ms;
    }
    return timeout_ms < 0 ? next : CS_MIN(next, timeout_ms);
}

static void handle_events(struct cs_loop *l, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const struct cs_event *ev = &l->events[i];
        cs_ring_event_begin(ev);
        cs_op_handler(ev->op)(ev->op, ev);
    }
}

static void note_awake(struct cs_loop_stats *s, uint64_t since_ns)
{
    uint64_t awake = cs_clock_ns() - since_ns;
    s->turn_ns_max = CS_MAX(s->turn_ns_max, awake);
}

unsigned cs_loop_turn(struct cs_loop *l, int64_t timeout_ms)
{
    inbox_arm(l);
    l->own_held_up = false;
    int64_t sleep_ms = timeout_ms == 0 ? 0 : sleep_time(l, cs_clock_ms(), timeout_ms);
    unsigned n = cs_ring_wait(l->ring, sleep_ms, l->events, CS_LOOP_EVENTS_MAX);
    uint64_t awake_ns = cs_clock_ns();
    l->now_ms = cs_clock_ms();
    l->busy = n == CS_LOOP_EVENTS_MAX; /* from here on cs_loop_again may set it */
    handle_events(l, n);
    unsigned fired = cs_wheel_run(l->wheel, l->now_ms, TIMERS_MAX);
    l->busy |= fired == TIMERS_MAX;
    for (unsigned i = 0; i < CS_PHASE_COUNT; i++) {
        if (l->phases[i].fn && l->phases[i].fn(l->phases[i].arg)) {
            l->busy = true;
        }
    }
    l->stats.turns++;
    l->stats.events += n;
    note_awake(&l->stats, awake_ns);
    return n + fired;
}

void cs_loop_again(struct cs_loop *l)
{
    l->busy = true;
}

bool cs_loop_late(const struct cs_loop *l)
{
    return cs_clock_ms() - l->now_ms >= LATE_MS;
}

bool cs_loop_may_hold_up(struct cs_loop *l)
{
    bool free = !*l->held_up;
    *l->held_up = true;
    return free;
}

/* ---- several loops ---- */

struct cs_loop_set {
    struct cs_ring_set *rings; /* NULL while there has been one loop only */
    unsigned count;
    unsigned next; /* whose turn it is, modulo count */
    bool held_up;
    struct cs_loop *loops[CS_RING_SET_MAX];
};

struct cs_loop_set *cs_loop_set_create(void)
{
    return cs_zalloc(sizeof(struct cs_loop_set));
}

void cs_loop_set_destroy(struct cs_loop_set *s)
{
    if (s) {
        CS_ASSERT(s->count == 0);
        cs_ring_set_destroy(s->rings);
        cs_free(s);
    }
}

/* The second loop: from now on nobody sleeps in a ring of his own. */
static int share_sleep(struct cs_loop_set *s)
{
    int err = cs_ring_set_create(&s->rings);
    if (err == 0) {
        err = cs_ring_set_add(s->rings, s->loops[0]->ring);
        if (err < 0) {
            cs_ring_set_destroy(s->rings);
            s->rings = NULL;
        }
    }
    return err;
}

int cs_loop_set_add(struct cs_loop_set *s, struct cs_loop *l)
{
    int err = s->count == 1 && !s->rings ? share_sleep(s) : 0;
    if (err == 0 && s->rings) {
        err = cs_ring_set_add(s->rings, l->ring);
    }
    if (err < 0) {
        return err;
    }
    CS_ASSERT(s->count < CS_RING_SET_MAX);
    s->loops[s->count++] = l;
    l->held_up = &s->held_up;
    l->busy = true; /* its inbox is not armed yet */
    return 0;
}

void cs_loop_set_remove(struct cs_loop_set *s, struct cs_loop *l)
{
    unsigned i = 0;
    while (i < s->count && s->loops[i] != l) {
        i++;
    }
    CS_ASSERT(i < s->count);
    s->loops[i] = s->loops[--s->count];
    l->held_up = &l->own_held_up;
    if (s->rings) {
        cs_ring_set_remove(s->rings, l->ring);
    }
}

unsigned cs_loop_set_turn(struct cs_loop_set *s, int64_t timeout_ms)
{
    unsigned n = 0, turned = 0;
    uint64_t now_ms = cs_clock_ms();
    bool late = false;
    s->held_up = false;
    if (!s->rings) {
        return cs_loop_turn(s->loops[0], timeout_ms);
    }
    uint64_t awake_ns = cs_clock_ns();
    for (unsigned i = 0; i < s->count && !late; i++) {
        struct cs_loop *l = s->loops[s->next++ % s->count];
        int64_t sleep_ms = sleep_time(l, now_ms, -1);
        if (sleep_ms == 0 || cs_ring_has_work(l->ring)) {
            n += cs_loop_turn(l, 0);
            turned++;
            uint64_t took_ms = cs_clock_ms() - now_ms;
            late = took_ms >= LATE_MS;
            s->held_up = s->held_up || took_ms > 0; /* not on top of what others took */
        } else if (sleep_ms > 0 && (timeout_ms < 0 || sleep_ms < timeout_ms)) {
            timeout_ms = sleep_ms;
        }
    }
    s->next += !late; /* another one is the first of the next turn */
    note_awake(&s->loops[0]->stats, awake_ns);
    if (turned == 0 && timeout_ms != 0) {
        cs_ring_set_sleep(s->rings, timeout_ms);
    }
    return n;
}

/* ---- life ---- */

struct cs_loop *cs_loop_create(struct cs_ring *ring)
{
    struct cs_loop *l = cs_zalloc(sizeof(*l));
    if (!l) {
        return NULL;
    }
    l->now_ms = cs_clock_ms();
    l->wheel = cs_wheel_create(l->now_ms);
    if (!l->wheel || inbox_init(&l->inbox) < 0) {
        cs_wheel_destroy(l->wheel);
        cs_free(l);
        return NULL;
    }
    l->ring = ring;
    l->held_up = &l->own_held_up;
    return l;
}

void cs_loop_destroy(struct cs_loop *l)
{
    if (!l) {
        return;
    }
    l->ending = true;
    cs_ring_cancel(l->ring, &l->inbox.wake);
    while (l->inbox.wake.armed) {
        handle_events(l, cs_ring_wait(l->ring, 1000, l->events, CS_LOOP_EVENTS_MAX));
    }
    for (struct cs_post *p = inbox_take(&l->inbox), *next; p; p = next) {
        next = p->next;
        if (p->owned) {
            cs_free(p);
        }
    }
    cs_ring_destroy(l->ring);
    cs_wheel_destroy(l->wheel);
    pthread_mutex_destroy(&l->inbox.lock);
    close(l->inbox.pipe[0]);
    close(l->inbox.pipe[1]);
    cs_free(l);
}

struct cs_ring *cs_loop_ring(const struct cs_loop *l)
{
    return l->ring;
}

void cs_loop_set_phase(struct cs_loop *l, enum cs_phase phase, cs_phase_fn *fn, void *arg)
{
    l->phases[phase] = (struct phase){fn, arg};
}

uint64_t cs_loop_now(const struct cs_loop *l)
{
    return l->now_ms;
}

struct cs_wheel *cs_loop_wheel(const struct cs_loop *l)
{
    return l->wheel;
}

void cs_loop_stats(struct cs_loop *l, struct cs_loop_stats *out, bool reset)
{
    *out = l->stats;
    if (reset) {
        l->stats.turn_ns_max = 0;
    }
}
