/* relay - joins two streams in C; see relay.h for the picture. */
#include "net/relay.h"

#include "base/assert.h"
#include "base/mem.h"
#include "net/conn.h"
#include "net/splice.h"

#define LOOKS 4 /* for movement, within the time a relay may be still */
/* KiB of full reads, hardly interrupted by others, after which a direction is bulk. */
#define BULK_KIB 1024

struct side {
    struct cs_stream *stream; /* NULL once closed */
    uint64_t bytes;           /* taken from it and given to the other */
    struct cs_splice *splice; /* moves them while they are bulk */
};

struct cs_relay {
    struct cs_net *net;
    struct side side[2];
    struct cs_timer quiet; /* the next look */
    uint32_t idle_ms, linger_ms;
    int err;          /* of the result */
    int8_t first;     /* of the result: an enum cs_relay_side */
    uint8_t still;    /* looks in a row that saw no movement */
    bool ending;      /* both streams are being closed */
    bool ended[2];    /* that side will send no more */
    bool paused[2];   /* that side waits because the other is full */
    uint16_t bulk[2]; /* KiB of full reads lately */
    uint32_t seen;    /* movement() at the last look */
    cs_relay_done_fn *done;
    void *user;
};

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
    return s == r->side[CS_RELAY_A].stream ? CS_RELAY_A : CS_RELAY_B;
}

/* ---- the end ---- */

static void drop_splices(struct cs_relay *r)
{
    for (unsigned i = 0; i < 2; i++) {
        if (r->side[i].splice) {
            cs_splice_drop(r->side[i].splice);
            r->side[i].splice = NULL;
        }
    }
}

/* Back to ordinary reading and writing; what is in the pipe is on its way afterwards. */
static int unsplice(struct cs_relay *r, enum cs_relay_side who)
{
    struct cs_splice *s = r->side[who].splice;
    if (!s) {
        return 0;
    }
    r->side[who].splice = NULL;
    r->bulk[who] = 0;
    ssize_t n = cs_splice_end(s);
    r->side[who].bytes += n > 0 ? (size_t)n : 0;
    return n < 0 ? (int)n : 0;
}

static void end(struct cs_relay *r, enum cs_close_how how, int err)
{
    if (r->ending) {
        return;
    }
    r->ending = true;
    r->err = err;
    cs_timer_stop(cs_loop_wheel(r->net->loop), &r->quiet);
    if (how == CS_CLOSE_GRACEFUL && (unsplice(r, CS_RELAY_A) < 0 || unsplice(r, CS_RELAY_B) < 0)) {
        how = CS_CLOSE_ABORT; /* bytes are lost: the peers must see that */
    }
    drop_splices(r);
    for (unsigned i = 0; i < 2; i++) {
        cs_stream_close(r->side[i].stream, how, err);
    }
}

static void finish(struct cs_relay *r)
{
    r->net->relays--;
    if (r->done) {
        const struct cs_relay_result result = {
            .bytes = {r->side[0].bytes, r->side[1].bytes}, .err = r->err, .first = r->first};
        r->done(r->user, &result);
    }
    cs_pool_free(r->net->relay_pool, r);
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
    bool half = r->ended[0] || r->ended[1];
    if (!half || r->linger_ms == 0) {
        return r->idle_ms;
    }
    return r->idle_ms ? CS_MIN(r->idle_ms, r->linger_ms) : r->linger_ms;
}

/* Movement is looked for, not noted as it happens: LOOKS times within the limit. */
static void look_later(struct cs_relay *r)
{
    uint32_t limit = quiet_limit(r);
    if (limit) {
        cs_timer_set(cs_loop_wheel(r->net->loop), &r->quiet,
                     cs_loop_now(r->net->loop) + CS_MAX(limit / LOOKS, 1u));
    } else {
        cs_timer_stop(cs_loop_wheel(r->net->loop), &r->quiet);
    }
}

static void start_quiet(struct cs_relay *r)
{
    r->still = 0;
    look_later(r);
}

/* Changes with every byte that is read, and with every byte that a kernel takes: a slow reader is
 * not a silent one. */
static uint32_t movement(const struct cs_relay *r)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < 2; i++) {
        n += r->side[i].bytes;
        n += cs_conn_bytes_out(cs_conn_of(cs_stream_bottom(r->side[i].stream)));
    }
    return (uint32_t)n;
}

static void look(struct cs_timer *t)
{
    struct cs_relay *r = cs_container_of(t, struct cs_relay, quiet);
    uint32_t now = movement(r);
    r->still = now == r->seen ? (uint8_t)(r->still + 1) : 0;
    r->seen = now;
    if (r->still < LOOKS) {
        look_later(r);
        return;
    }
    end(r, CS_CLOSE_GRACEFUL, r->ended[0] || r->ended[1] ? CS_ELINGER : CS_EIDLE);
}

/* ---- moving bytes ---- */

static void hold(struct cs_relay *r, enum cs_relay_side who)
{
    r->paused[who] = true;
    cs_stream_pause(r->side[who].stream);
    cs_conn_watch(cs_conn_of(cs_stream_bottom(r->side[who].stream)));
}

/* Everything `who` has sent goes to the other side. */
static void pump(struct cs_relay *r, enum cs_relay_side who)
{
    struct side *from = &r->side[who], *to = &r->side[!who];
    struct cs_chain data = {0};
    size_t n = cs_chain_len(&from->stream->in);
    if (n == 0 || r->ending) {
        return;
    }
    int err = cs_stream_consume(from->stream, n, &data);
    if (err == 0) {
        err = cs_stream_write(to->stream, &data);
    }
    if (err == CS_EOF) { /* a WebSocket whose peer has closed: it takes nothing more either */
        end(r, CS_CLOSE_GRACEFUL, 0);
        return;
    }
    if (err < 0) {
        broke(r, !who, err);
        return;
    }
    from->bytes += n;
    if (!r->paused[who] && cs_stream_room(to->stream) == 0) {
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
    splice_over(r, s == r->side[CS_RELAY_A].splice ? CS_RELAY_A : CS_RELAY_B);
}

/* Full reads in a row speak for bulk. Only the bottom streams have sockets to splice. */
static void choose_splice(struct cs_relay *r, enum cs_relay_side who, size_t n)
{
    struct side *from = &r->side[who];
    struct cs_stream *a = from->stream, *b = r->side[!who].stream;
    if (n < r->net->small_size) {
        r->bulk[who] /= 2; /* the rest of a message, or small messages: soon nothing is left */
        return;
    }
    r->bulk[who] = (uint16_t)CS_MIN(r->bulk[who] + n / 1024, UINT16_MAX);
    if (r->bulk[who] < BULK_KIB || from->splice || r->ending || a->ops->lower(a) ||
        b->ops->lower(b)) {
        return;
    }
    r->bulk[who] = 0; /* when it is not to be had, the next try is as much later */
    from->splice = cs_splice_start(r->net, cs_conn_of(a), cs_conn_of(b), splice_idle, r);
}

static void splice_on(struct cs_relay *r, enum cs_relay_side who)
{
    struct cs_splice_result result;
    enum cs_splice_state state = cs_splice_run(r->side[who].splice, &result);
    r->side[who].bytes += result.moved;
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
    } else if (r->side[who].splice && !r->ending) {
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
    if (r->paused[from]) {
        r->paused[from] = false;
        cs_stream_resume(r->side[from].stream);
    } else if (r->side[from].splice) {
        splice_on(r, from);
    }
}

/* One direction is over: tell the other side, unless that was over too. */
static void half_end(struct cs_relay *r, enum cs_relay_side who)
{
    blame(r, who);
    r->ended[who] = true;
    if (r->ended[!who]) {
        end(r, CS_CLOSE_GRACEFUL, 0);
        return;
    }
    cs_stream_shutdown(r->side[!who].stream);
    start_quiet(r);
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
    r->side[side_of(r, s)].stream = NULL;
    if (!r->side[0].stream && !r->side[1].stream) {
        finish(r);
    } else if (!r->ending) { /* somebody above the relay aborted this one (a server that stops) */
        r->ending = true;
        r->err = CS_ECLOSED;
        cs_timer_stop(cs_loop_wheel(r->net->loop), &r->quiet);
        cs_stream_close(r->side[r->side[0].stream ? 0 : 1].stream, CS_CLOSE_ABORT, CS_ECLOSED);
    }
}

static const struct cs_stream_user relay_user = {
    .on_input = on_input, .on_room = on_room, .on_eof = on_eof, .on_closed = on_closed};

/* ---- life ---- */

/* What the streams had to say before the relay had them. */
static void catch_up(struct cs_relay *r, enum cs_relay_side who)
{
    struct cs_stream *s = r->side[who].stream;
    pump(r, who);
    if (!r->ending && s->eof) {
        on_eof(r, s, s->err);
    }
    if (!r->ending && !r->paused[who]) {
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
    r->net = n;
    r->side[CS_RELAY_A].stream = a;
    r->side[CS_RELAY_B].stream = b;
    r->idle_ms = o->idle_ms;
    r->linger_ms = o->linger_ms;
    r->first = CS_RELAY_NOBODY;
    r->done = done;
    r->user = user;
    cs_timer_init(&r->quiet, look);
    n->relays++;
    cs_stream_attach(a, &relay_user, r);
    cs_stream_attach(b, &relay_user, r);
    start_quiet(r);
    catch_up(r, CS_RELAY_A);
    catch_up(r, CS_RELAY_B);
    return r;
}

void cs_relay_forget(struct cs_relay *r)
{
    r->done = NULL;
}

void cs_relay_stop(struct cs_relay *r, enum cs_close_how how, int why)
{
    if (r->ending && how == CS_CLOSE_ABORT) {
        for (unsigned i = 0; i < 2; i++) {
            if (r->side[i].stream) {
                cs_stream_close(r->side[i].stream, how, why);
            }
        }
    }
    end(r, how, why);
}
