/* relay - joins two streams in C; see relay.h for the picture. */
#include "net/relay.h"

#include <errno.h>

#include "base/assert.h"
#include "base/mem.h"
#include "net/conn.h"
#include "net/splice.h"

#define LOOKS 4 /* for movement, within the time a relay may be still */
/* KiB of full reads, hardly interrupted by others, after which a direction is bulk. */
#define BULK_KIB 1024
#define LAYER_TALK 1024 /* bytes of output that can be a layer's own: pings, tickets */

/* What not every relay needs: made when it is needed. */
struct more {
    struct cs_relay *relay;
    struct cs_timer quiet;       /* the next look */
    struct cs_splice *splice[2]; /* moves what that side sends while it is bulk */
    cs_relay_done_fn *done;
    void *user;
};

struct cs_relay {
    struct cs_stream *stream[2]; /* NULL once closed */
    uint64_t bytes[2];           /* taken from that side and given to the other */
    struct more *more;           /* or NULL */
    uint32_t idle_ms, linger_ms;
    uint32_t seen;    /* movement() at the last look */
    uint16_t bulk[2]; /* KiB of full reads lately */
    int16_t err;      /* of the result */
    int8_t first;     /* of the result: an enum cs_relay_side */
    uint8_t still;    /* looks in a row that saw no movement */
    bool ending;      /* both streams are being closed */
    /* A bit for each side: */
    uint8_t ended;  /* it will send no more */
    uint8_t paused; /* it waits because the other is full */
};

_Static_assert(sizeof(struct cs_relay) == 64, "a cache line");

static struct cs_net *net_of(const struct cs_relay *r)
{
    return cs_pool_owner(r);
}

static uint8_t bit(enum cs_relay_side who)
{
    return who == CS_RELAY_A ? 1 : 2;
}

static void look(struct cs_timer *t);

/* Makes sure that it is there. 0 or -ENOMEM. */
static CS_MUST_CHECK int more_get(struct cs_relay *r)
{
    if (!r->more) {
        r->more = cs_zalloc(sizeof(*r->more));
        if (!r->more) {
            return -ENOMEM;
        }
        r->more->relay = r;
        cs_timer_init(&r->more->quiet, look);
    }
    return 0;
}

static struct cs_splice *splice_of(const struct cs_relay *r, enum cs_relay_side who)
{
    return r->more ? r->more->splice[who] : NULL;
}

size_t cs_relay_size(void)
{
    return sizeof(struct cs_relay);
}

void cs_relay_options_default(struct cs_relay_options *o)
{
    *o = (struct cs_relay_options){.idle_ms = 0, .linger_ms = 30000};
}

static enum cs_relay_side side_of(const struct cs_relay *r, const struct cs_stream *s)
{
    return s == r->stream[CS_RELAY_A] ? CS_RELAY_A : CS_RELAY_B;
}

/* ---- the end ---- */

static void drop_splices(struct cs_relay *r)
{
    for (unsigned i = 0; i < 2; i++) {
        struct cs_splice *s = splice_of(r, i);
        if (s) {
            cs_splice_drop(s);
            r->more->splice[i] = NULL;
        }
    }
}

/* Back to ordinary reading and writing; what is in the pipe is on its way afterwards. */
static int unsplice(struct cs_relay *r, enum cs_relay_side who)
{
    struct cs_splice *s = splice_of(r, who);
    if (!s) {
        return 0;
    }
    r->more->splice[who] = NULL;
    r->bulk[who] = 0;
    ssize_t n = cs_splice_end(s);
    r->bytes[who] += n > 0 ? (size_t)n : 0;
    return n < 0 ? (int)n : 0;
}

static void stop_looking(struct cs_relay *r)
{
    if (r->more) {
        cs_timer_stop(cs_loop_wheel(net_of(r)->loop), &r->more->quiet);
    }
}

static void end(struct cs_relay *r, enum cs_close_how how, int err)
{
    if (r->ending) {
        return;
    }
    r->ending = true;
    r->err = (int16_t)err;
    stop_looking(r);
    if (how == CS_CLOSE_GRACEFUL && (unsplice(r, CS_RELAY_A) < 0 || unsplice(r, CS_RELAY_B) < 0)) {
        how = CS_CLOSE_ABORT; /* bytes are lost: the peers must see that */
    }
    drop_splices(r);
    for (unsigned i = 0; i < 2; i++) {
        cs_stream_close(r->stream[i], how, err);
    }
}

static void finish(struct cs_relay *r)
{
    struct cs_net *n = net_of(r);
    n->relays--;
    if (r->more && r->more->done) {
        const struct cs_relay_result result = {
            .bytes = {r->bytes[0], r->bytes[1]}, .err = r->err, .first = r->first};
        r->more->done(r->more->user, &result);
    }
    cs_free(r->more);
    cs_pool_free(n->relay_pool, r);
}

static void blame(struct cs_relay *r, enum cs_relay_side who)
{
    if (r->first == CS_RELAY_NOBODY) {
        r->first = (int8_t)who;
    }
}

static void broke(struct cs_relay *r, enum cs_relay_side who, int err)
{
    blame(r, who);
    end(r, CS_CLOSE_ABORT, err);
}

/* ---- quiet times ---- */

static uint32_t quiet_limit(const struct cs_relay *r)
{
    if (!r->ended || r->linger_ms == 0) {
        return r->idle_ms;
    }
    return r->idle_ms ? CS_MIN(r->idle_ms, r->linger_ms) : r->linger_ms;
}

/* Movement is looked for, not noted as it happens: LOOKS times within the limit. 0 or -ENOMEM. */
static CS_MUST_CHECK int look_later(struct cs_relay *r)
{
    struct cs_loop *loop = net_of(r)->loop;
    uint32_t limit = quiet_limit(r);
    if (limit == 0) {
        stop_looking(r);
        return 0;
    }
    int err = more_get(r);
    if (err == 0) {
        cs_timer_set(cs_loop_wheel(loop), &r->more->quiet,
                     cs_loop_now(loop) + CS_MAX(limit / LOOKS, 1u));
    }
    return err;
}

/* Changes with every byte that is read, and while there is output with every byte that a kernel
 * takes: a slow reader is not a silent one. */
static uint32_t movement(const struct cs_relay *r)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < 2; i++) {
        n += r->bytes[i];
        if (cs_stream_queued(r->stream[i]) > LAYER_TALK) {
            n += cs_conn_bytes_out(cs_conn_of(cs_stream_bottom(r->stream[i])));
        }
    }
    return (uint32_t)n;
}

static void look(struct cs_timer *t)
{
    struct cs_relay *r = cs_container_of(t, struct more, quiet)->relay;
    uint32_t now = movement(r);
    r->still = now == r->seen ? (uint8_t)(r->still + 1) : 0;
    r->seen = now;
    if (r->still >= LOOKS || look_later(r) < 0) {
        end(r, CS_CLOSE_GRACEFUL, r->ended ? CS_ELINGER : CS_EIDLE);
    }
}

/* ---- moving bytes ---- */

static void hold(struct cs_relay *r, enum cs_relay_side who)
{
    r->paused |= bit(who);
    cs_stream_pause(r->stream[who]);
    cs_conn_watch(cs_conn_of(cs_stream_bottom(r->stream[who])));
}

/* Everything `who` has sent goes to the other side. */
static void pump(struct cs_relay *r, enum cs_relay_side who)
{
    struct cs_stream *from = r->stream[who], *to = r->stream[!who];
    struct cs_chain data = {0};
    size_t n = cs_chain_len(&from->in);
    if (n == 0 || r->ending) {
        return;
    }
    int err = cs_stream_consume(from, n, &data);
    if (err == 0) {
        err = cs_stream_write(to, &data);
    }
    if (err == CS_EOF) { /* a WebSocket whose peer has closed: it takes nothing more either */
        end(r, CS_CLOSE_GRACEFUL, 0);
        return;
    }
    if (err < 0) {
        broke(r, !who, err);
        return;
    }
    r->bytes[who] += n;
    if (!(r->paused & bit(who)) && cs_stream_room(to) == 0) {
        hold(r, who);
    }
}

/* ---- bulk ---- */

static void splice_over(struct cs_relay *r, enum cs_relay_side who)
{
    int err = unsplice(r, who);
    if (err < 0) {
        broke(r, !who, err);
    }
}

static void splice_idle(void *user, struct cs_splice *s)
{
    struct cs_relay *r = user;
    splice_over(r, s == splice_of(r, CS_RELAY_A) ? CS_RELAY_A : CS_RELAY_B);
}

/* Full reads in a row speak for bulk. Only the bottom streams have sockets to splice. */
static void choose_splice(struct cs_relay *r, enum cs_relay_side who, size_t n)
{
    struct cs_stream *a = r->stream[who], *b = r->stream[!who];
    if (n < net_of(r)->small_size) {
        r->bulk[who] /= 2; /* the rest of a message, or small messages: soon nothing is left */
        return;
    }
    r->bulk[who] = (uint16_t)CS_MIN(r->bulk[who] + n / 1024, UINT16_MAX);
    if (r->bulk[who] < BULK_KIB || splice_of(r, who) || r->ending || a->ops->lower(a) ||
        b->ops->lower(b)) {
        return;
    }
    r->bulk[who] = 0; /* when it is not to be had, the next try is as much later */
    if (more_get(r) == 0) {
        r->more->splice[who] =
            cs_splice_start(net_of(r), cs_conn_of(a), cs_conn_of(b), splice_idle, r);
    }
}

static void splice_on(struct cs_relay *r, enum cs_relay_side who)
{
    struct cs_splice_result result;
    enum cs_splice_state state = cs_splice_run(splice_of(r, who), &result);
    r->bytes[who] += result.moved;
    switch (state) {
    case CS_SPLICE_GOES_ON:
        break;
    case CS_SPLICE_OVER:
        splice_over(r, who);
        break;
    case CS_SPLICE_FROM_BROKE:
        broke(r, who, result.err);
        break;
    case CS_SPLICE_TO_BROKE:
        broke(r, !who, result.err);
        break;
    }
}

/* ---- events ---- */

static void on_input(void *user, struct cs_stream *s)
{
    struct cs_relay *r = user;
    enum cs_relay_side who = side_of(r, s);
    size_t n = cs_chain_len(&s->in);
    if (n > 0) {
        pump(r, who);
        choose_splice(r, who, n);
    } else if (splice_of(r, who) && !r->ending) {
        splice_on(r, who);
    }
}

static void on_room(void *user, struct cs_stream *s)
{
    struct cs_relay *r = user;
    enum cs_relay_side from = !side_of(r, s);
    if (r->ending) {
        return;
    }
    if (r->paused & bit(from)) {
        r->paused ^= bit(from);
        cs_stream_resume(r->stream[from]);
    } else if (splice_of(r, from)) {
        splice_on(r, from);
    }
}

/* One direction is over: tell the other side, unless that was over too. */
static void half_end(struct cs_relay *r, enum cs_relay_side who)
{
    blame(r, who);
    r->ended |= bit(who);
    if (r->ended & bit(!who)) {
        end(r, CS_CLOSE_GRACEFUL, 0);
        return;
    }
    cs_stream_shutdown(r->stream[!who]);
    r->still = 0;
    if (look_later(r) < 0) {
        end(r, CS_CLOSE_GRACEFUL, -ENOMEM);
    }
}

static void on_eof(void *user, struct cs_stream *s, int err)
{
    struct cs_relay *r = user;
    if (r->ending) {
        return;
    }
    if (err == 0) {
        half_end(r, side_of(r, s));
    } else {
        /* Many servers end TLS without close_notify: what they sent before still arrives. */
        blame(r, side_of(r, s));
        end(r, err == CS_ETLSCUT ? CS_CLOSE_GRACEFUL : CS_CLOSE_ABORT, err);
    }
}

static void on_closed(void *user, struct cs_stream *s)
{
    struct cs_relay *r = user;
    drop_splices(r);
    r->stream[side_of(r, s)] = NULL;
    if (!r->stream[0] && !r->stream[1]) {
        finish(r);
    } else if (!r->ending) { /* somebody above the relay aborted this one (a server that stops) */
        r->ending = true;
        r->err = CS_ECLOSED;
        stop_looking(r);
        cs_stream_close(r->stream[r->stream[0] ? 0 : 1], CS_CLOSE_ABORT, CS_ECLOSED);
    }
}

static const struct cs_stream_user relay_user = {
    .on_input = on_input, .on_room = on_room, .on_eof = on_eof, .on_closed = on_closed};

/* ---- life ---- */

/* What the streams had to say before the relay had them. */
static void catch_up(struct cs_relay *r, enum cs_relay_side who)
{
    struct cs_stream *s = r->stream[who];
    pump(r, who);
    if (!r->ending && s->eof) {
        on_eof(r, s, s->err);
    }
    if (!r->ending && !(r->paused & bit(who))) {
        cs_stream_resume(s);
    }
}

struct cs_relay *cs_relay_start(struct cs_net *n, struct cs_stream *a, struct cs_stream *b,
                                const struct cs_relay_options *o, cs_relay_done_fn *done,
                                void *user)
{
    CS_ASSERT(a != b);
    struct cs_relay *r = cs_pool_alloc(n->relay_pool);
    if (!r) {
        return NULL;
    }
    r->stream[CS_RELAY_A] = a;
    r->stream[CS_RELAY_B] = b;
    r->idle_ms = o->idle_ms;
    r->linger_ms = o->linger_ms;
    r->first = CS_RELAY_NOBODY;
    if ((done && more_get(r) < 0) || look_later(r) < 0) {
        cs_free(r->more);
        cs_pool_free(n->relay_pool, r);
        return NULL;
    }
    if (done) {
        r->more->done = done;
        r->more->user = user;
    }
    n->relays++;
    cs_stream_attach(a, &relay_user, r);
    cs_stream_attach(b, &relay_user, r);
    catch_up(r, CS_RELAY_A);
    catch_up(r, CS_RELAY_B);
    return r;
}

void cs_relay_forget(struct cs_relay *r)
{
    if (r->more) {
        r->more->done = NULL;
    }
}

void cs_relay_stop(struct cs_relay *r, enum cs_close_how how, int why)
{
    if (r->ending && how == CS_CLOSE_ABORT) {
        for (unsigned i = 0; i < 2; i++) {
            if (r->stream[i]) {
                cs_stream_close(r->stream[i], how, why);
            }
        }
    }
    end(r, how, why);
}
