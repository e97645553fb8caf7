/* tls - a TLS stream over a stream; see tls.h for the picture. */
#include "net/tls.h"

#include <errno.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/conn.h"

#define BUDGET_NS 2000000 /* of a turn for handshakes */

/* After a pause of a second the first bytes go in records that fit a fresh congestion window: the
 * peer can use them as they arrive. */
#define LATENCY_RECORD 4096
#define LATENCY_BYTES (64 * 1024)

/* What only the handshake needs. */
struct handshake {
    struct cs_timer deadline;
    struct tls *tls;
    struct cs_chain raw;              /* from below, not yet taken by the session; owned memory */
    struct cs_chain held;             /* written meanwhile; owned memory */
    const struct cs_tls_hooks *hooks; /* or NULL */
    void *arg;
    void *choice; /* of hooks->choose */
    bool choosing;
};

struct tls {
    struct cs_stream s;
    struct cs_stream *lower;
    struct cs_net *net;
    struct handshake *hs; /* NULL: over */
    struct cs_tls session;
    struct cs_list node; /* in net->tls_due */
    uint32_t burst_s,
        burst_bytes; /* when the latest burst of output began to be fast, and its size */
    int failed;      /* a write, with this: still to be told */
    uint16_t record_max;
    bool want : 1;      /* resumed */
    bool full : 1;      /* on_room is owed */
    bool shut : 1;      /* no more writes; the end is sent after the handshake */
    bool closing : 1;   /* by its user */
    bool lingering : 1; /* closed with bytes held: the handshake goes on for them */
};

static const struct cs_stream_ops tls_ops;

static struct tls *of(const struct cs_stream *s)
{
    CS_ASSERT(s->ops == &tls_ops);
    return cs_container_of(s, struct tls, s);
}

/* ---- small things ---- */

/* There is something to do in the write phase. */
static void due(struct tls *t)
{
    if (cs_list_empty(&t->node)) {
        cs_list_append(&t->net->tls_due, &t->node);
        cs_loop_again(t->net->loop);
    }
}

/* Sends what the session has to say. */
static int send_out(struct tls *t, struct cs_chain *out)
{
    return cs_chain_len(out) > 0 ? cs_stream_write(t->lower, out) : 0;
}

static bool hungry(const struct tls *t)
{
    return t->want && !t->closing && !t->s.eof && cs_chain_len(&t->s.in) < t->net->config.in_high;
}

/* The end of input, clean (0) or not; told once, and a second time when it breaks after that. */
static void tell_end(struct tls *t, int err)
{
    if (t->closing || t->s.err || (t->s.eof && err == 0)) {
        return;
    }
    t->s.eof = true;
    t->s.err = err;
    if (err < 0) {
        t->full = false;
        cs_stream_pause(t->lower);
    }
    if (t->s.user_ops) {
        t->s.user_ops->on_eof(t->s.user, &t->s, err);
    }
}

static size_t tls_room(const struct cs_stream *s);

static void room_again(struct tls *t)
{
    if (t->full && !t->hs && !t->closing && tls_room(&t->s) > 0) {
        t->full = false;
        if (t->s.user_ops) {
            t->s.user_ops->on_room(t->s.user, &t->s);
        }
    }
}

/* ---- the end of the handshake ---- */

static void close_below(struct tls *t, enum cs_close_how how, int why);
static int send_end(struct tls *t);
static void take_input(struct tls *t, struct cs_chain *raw);

static void drop_handshake(struct tls *t)
{
    struct handshake *hs = t->hs;
    t->hs = NULL;
    cs_timer_stop(cs_loop_wheel(t->net->loop), &hs->deadline);
    if (hs->choosing) {
        hs->hooks->abandon(hs->choice);
    }
    cs_chain_clear(&hs->raw);
    cs_chain_clear(&hs->held);
    cs_free(hs);
}

static void log_failure(const struct tls *t, int err)
{
    static _Thread_local struct cs_log_limit limit;
    struct cs_conn *c = cs_conn_of(cs_stream_bottom(t->lower));
    struct cs_addr peer;
    char text[CS_ADDR_TEXT_MAX] = "-";
    if (cs_conn_peername(c, &peer) == 0) {
        cs_addr_text(&peer, text);
    }
    cs_log_limited(&limit, CS_LOG_INFO, "TLS handshake failed peer=%s reason=\"%s%s%s\"", text,
                   cs_err_text(err), t->session.why ? ": " : "",
                   t->session.why ? t->session.why : "");
}

static void handshake_failed(struct tls *t, int err)
{
    const struct cs_tls_hooks *hooks = t->hs->hooks;
    void *arg = t->hs->arg;
    log_failure(t, err);
    drop_handshake(t);
    if (t->closing) {
        t->s.err = err;
        close_below(t, CS_CLOSE_GRACEFUL, err);
        return;
    }
    tell_end(t, err == CS_ETIMEOUT ? CS_ETLSHANDSHAKE : err);
    if (arg && !t->closing) {
        hooks->ready(arg, &t->s, err);
    }
}

/* Everything that waited goes on. */
static void handshake_done(struct tls *t)
{
    struct handshake *hs = t->hs;
    const struct cs_tls_hooks *hooks = hs->hooks;
    void *arg = hs->arg;
    struct cs_chain raw = hs->raw, out = {0};
    int err = cs_tls_write(&t->session, &hs->held, t->record_max, &out);
    err = err < 0 ? err : send_out(t, &out);
    hs->raw = (struct cs_chain){0};
    drop_handshake(t);
    if (t->closing) {
        cs_chain_clear(&raw);
        close_below(t, CS_CLOSE_GRACEFUL, 0);
        return;
    }
    if (err == 0 && t->shut) {
        err = send_end(t);
    }
    if (!t->want) {
        cs_stream_pause(t->lower);
    }
    t->failed = err;
    if (arg) {
        hooks->ready(arg, &t->s, err);
    }
    room_again(t);
    take_input(t, &raw);
}

/* ---- the handshake ---- */

static void refuse(struct tls *t)
{
    struct cs_chain out = {0};
    cs_tls_refuse(&t->session, &out);
    int err = send_out(t, &out);
    t->session.why = "refused";
    handshake_failed(t, err < 0 ? err : CS_ETLSHANDSHAKE);
}

static void ask(struct tls *t)
{
    struct handshake *hs = t->hs;
    struct cs_tls_offer offer;
    cs_tls_offer(&t->session, &offer);
    hs->choice = hs->hooks->choose(&t->s, &offer);
    hs->choosing = hs->choice != NULL;
    if (!hs->choosing) {
        refuse(t);
    }
}

/* What has not been taken yet must outlive the turn. */
static int keep_raw(struct tls *t)
{
    return cs_chain_len(&t->hs->raw) > 0 ? cs_chain_own(&t->hs->raw) : 0;
}

static void shake(struct tls *t)
{
    struct handshake *hs = t->hs;
    struct cs_chain out = {0};
    if (hs->choosing) {
        return; /* the peer's next bytes wait below */
    }
    int err = cs_stream_consume(t->lower, cs_chain_len(&t->lower->in), &hs->raw);
    int step = err < 0 ? err : cs_tls_handshake(&t->session, &hs->raw, &out);
    err = send_out(t, &out);
    if (step >= 0 && err < 0) {
        step = err;
    }
    if (step == CS_TLS_CHOOSE && !hs->hooks) {
        cs_tls_choose(&t->session, NULL, NULL); /* nobody to ask: the context's own choice */
        due(t);
        step = CS_TLS_MORE;
    }
    if (step == CS_TLS_DONE) {
        handshake_done(t);
        return;
    }
    if (step >= 0 && (err = keep_raw(t)) < 0) {
        step = err;
    }
    if (step == CS_TLS_CHOOSE) {
        ask(t);
    } else if (step < 0) {
        handshake_failed(t, step);
    } else if (t->lower->eof) {
        t->session.why = "the peer closed the connection";
        handshake_failed(t, CS_ETLSHANDSHAKE);
    }
}

static void deadline_passed(struct cs_timer *timer)
{
    struct handshake *hs = cs_container_of(timer, struct handshake, deadline);
    handshake_failed(hs->tls, CS_ETIMEOUT);
}

void cs_tls_stream_choose(struct cs_stream *s, enum cs_tls_answer answer,
                          struct cs_tls_context *context, struct cs_cert *cert)
{
    struct tls *t = of(s);
    CS_ASSERT(t->hs && t->hs->choosing);
    t->hs->choosing = false;
    if (answer == CS_TLS_REFUSE) {
        refuse(t);
        return;
    }
    cs_tls_choose(&t->session, context, cert);
    due(t);
}

/* ---- reading ---- */

/* Decrypts raw (empty afterwards) and tells the user. */
static void take_input(struct tls *t, struct cs_chain *raw)
{
    size_t before = cs_chain_len(&t->s.in);
    struct cs_chain out = {0};
    int err = cs_chain_len(raw) > 0 ? cs_tls_read(&t->session, raw, &t->s.in, SIZE_MAX, &out) : 0;
    cs_chain_clear(raw);
    int sent = send_out(t, &out);
    if (cs_chain_len(&t->s.in) > before && t->s.user_ops) {
        t->s.user_ops->on_input(t->s.user, &t->s);
    }
    if (t->closing) {
        return;
    }
    err = err == 0 ? t->failed : err;
    if (cs_chain_len(&t->s.in) > 0 && cs_chain_own(&t->s.in) < 0) { /* the ring's buffers go back */
        cs_chain_clear(&t->s.in);
        err = -ENOMEM;
    }
    if (err == CS_EOF) {
        tell_end(t, 0);
    } else if (err < 0 || sent < 0) {
        tell_end(t, err < 0 ? err : sent);
    } else if (t->lower->eof && cs_chain_len(&t->lower->in) == 0) {
        tell_end(t, t->lower->err ? t->lower->err : CS_ETLSCUT);
    }
}

static void take_from_below(struct tls *t)
{
    struct cs_chain raw = {0};
    if (!hungry(t) && !t->failed) {
        return;
    }
    int err = cs_stream_consume(t->lower, cs_chain_len(&t->lower->in), &raw);
    CS_ASSERT(err == 0); /* all of it: nothing is cut */
    take_input(t, &raw);
}

/* ---- events from below ---- */

static void on_input(void *user, struct cs_stream *lower)
{
    struct tls *t = user;
    (void)lower;
    if (t->hs) {
        due(t);
    } else {
        take_from_below(t);
    }
}

static void on_room(void *user, struct cs_stream *lower)
{
    (void)lower;
    room_again(user);
}

static void on_eof(void *user, struct cs_stream *lower, int err)
{
    struct tls *t = user;
    (void)lower;
    if (t->hs && err < 0) {
        handshake_failed(t, err);
    } else if (t->hs) {
        due(t); /* the last bytes may complete it */
    } else if (err < 0) {
        tell_end(t, err);
    } else {
        take_from_below(t);
    }
}

static void on_closed(void *user, struct cs_stream *lower)
{
    struct tls *t = user;
    (void)lower;
    cs_list_remove(&t->node);
    if (t->hs) {
        const struct cs_tls_hooks *hooks = t->hs->hooks;
        void *arg = t->hs->arg;
        drop_handshake(t);
        if (arg && !t->closing) {
            hooks->ready(arg, &t->s, CS_ESHUTDOWN);
        }
    }
    cs_chain_clear(&t->s.in);
    if (t->s.user_ops) {
        t->s.user_ops->on_closed(t->s.user, &t->s);
    }
    cs_tls_finish(&t->session);
    cs_pool_free(t->net->tls, t);
}

static const struct cs_stream_user lower_user = {
    .on_input = on_input, .on_room = on_room, .on_eof = on_eof, .on_closed = on_closed};

/* ---- calls from above ---- */

static size_t tls_room(const struct cs_stream *s)
{
    const struct tls *t = of(s);
    size_t high = t->net->config.out_high;
    if (t->closing || t->shut || t->failed || s->err) {
        return 0;
    }
    if (t->hs) {
        return cs_chain_len(&t->hs->held) < high ? high - cs_chain_len(&t->hs->held) : 0;
    }
    return cs_stream_room(t->lower);
}

static size_t tls_queued(const struct cs_stream *s)
{
    const struct tls *t = of(s);
    return (t->hs ? cs_chain_len(&t->hs->held) : 0) + cs_stream_queued(t->lower);
}

static size_t record_size(struct tls *t, size_t len)
{
    uint32_t now_s = (uint32_t)(cs_loop_now(t->net->loop) / 1000);
    if (now_s - t->burst_s > 1) {
        t->burst_bytes = 0;
    }
    t->burst_s = now_s;
    if (t->burst_bytes >= LATENCY_BYTES) {
        return t->record_max;
    }
    t->burst_bytes += (uint32_t)CS_MIN(len, (size_t)LATENCY_BYTES);
    return CS_MIN(t->record_max, LATENCY_RECORD);
}

static int hold(struct tls *t, struct cs_chain *data)
{
    int err = cs_chain_own(data);
    if (err < 0) {
        cs_chain_clear(data);
        return err;
    }
    cs_chain_move_all(&t->hs->held, data);
    return 0;
}

static int tls_write(struct cs_stream *s, struct cs_chain *data)
{
    struct tls *t = of(s);
    struct cs_chain out = {0};
    int err = s->err ? s->err : t->failed;
    if (err == 0 && (t->closing || t->shut)) {
        err = CS_ECLOSED;
    }
    if (err < 0) {
        cs_chain_clear(data);
        return err;
    }
    if (t->hs) {
        err = hold(t, data);
    } else {
        err = cs_tls_write(&t->session, data, record_size(t, cs_chain_len(data)), &out);
        err = err < 0 ? err : send_out(t, &out);
        cs_chain_clear(&out);
    }
    if (err < 0 && !t->hs) { /* a part may be lost: the end is told from the loop */
        t->failed = err;
        due(t);
    }
    t->full = t->full || tls_room(s) == 0;
    return err;
}

static void tls_consumed(struct cs_stream *s)
{
    struct tls *t = of(s);
    if (!t->hs && hungry(t) && (cs_chain_len(&t->lower->in) > 0 || t->lower->eof)) {
        due(t);
    }
}

static void tls_pause(struct cs_stream *s)
{
    struct tls *t = of(s);
    t->want = false;
    if (!t->hs) {
        cs_stream_pause(t->lower);
    }
}

static void tls_resume(struct cs_stream *s)
{
    struct tls *t = of(s);
    t->want = true;
    if (!t->hs && !s->err) {
        cs_stream_resume(t->lower);
        if (hungry(t) && (cs_chain_len(&t->lower->in) > 0 || t->lower->eof)) {
            due(t);
        }
    }
}

static int send_end(struct tls *t)
{
    struct cs_chain out = {0};
    int err = cs_tls_end(&t->session, &out);
    err = err < 0 ? err : send_out(t, &out);
    if (err == 0) {
        cs_stream_shutdown(t->lower);
    }
    return err;
}

static void tls_shutdown(struct cs_stream *s)
{
    struct tls *t = of(s);
    if (t->shut || t->closing || s->err) {
        return;
    }
    t->shut = true;
    if (!t->hs && send_end(t) < 0) {
        cs_stream_shutdown(t->lower); /* without memory for close_notify: the peer sees a cut */
    }
}

/* The last step of a close. An alert that was sent because of an error still goes out. */
static void close_below(struct tls *t, enum cs_close_how how, int why)
{
    t->lingering = false;
    cs_list_remove(&t->node);
    if (t->hs) {
        drop_handshake(t);
    } else if (how == CS_CLOSE_GRACEFUL && !t->s.err && !t->shut) {
        int err = send_end(t);
        (void)err; /* the close below ends it one way or another */
    }
    if (t->s.err <= CS_ETLSHANDSHAKE && t->s.err >= CS_ETLSTRUST) {
        how = CS_CLOSE_GRACEFUL;
    }
    cs_stream_close(t->lower, how, why);
}

static void tls_close(struct cs_stream *s, enum cs_close_how how, int why)
{
    struct tls *t = of(s);
    if (t->closing) {
        if (t->lingering && how == CS_CLOSE_ABORT) {
            close_below(t, how, why);
        } else if (how == CS_CLOSE_ABORT) {
            cs_stream_close(t->lower, how, why);
        }
        return;
    }
    t->closing = true;
    cs_chain_clear(&s->in);
    if (t->hs && how == CS_CLOSE_GRACEFUL && cs_chain_len(&t->hs->held) > 0) {
        t->lingering = true;
        cs_stream_resume(t->lower);
        return;
    }
    close_below(t, how, why);
}

static struct cs_stream *tls_lower(const struct cs_stream *s)
{
    return of(s)->lower;
}

static const struct cs_stream_ops tls_ops = {
    .kind = "tls",
    .write = tls_write,
    .offer = cs_stream_offer_whole,
    .consumed = tls_consumed,
    .pause = tls_pause,
    .resume = tls_resume,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .room = tls_room,
    .queued = tls_queued,
    .lower = tls_lower,
};

/* ---- the write phase ---- */

bool cs_tls_phase(struct cs_net *n)
{
    struct cs_list *l, now;
    uint64_t end = 0;
    /* Only those of this turn: one that puts itself back comes round in the next. */
    cs_list_init(&now);
    cs_list_splice(&now, &n->tls_due);
    while ((l = cs_list_first(&now))) {
        struct tls *t = cs_container_of(l, struct tls, node);
        if (end == 0) {
            end = cs_clock_ns() + BUDGET_NS;
        } else if (cs_clock_ns() >= end) {
            break;
        }
        cs_list_remove(l);
        if (t->hs) {
            shake(t);
        } else {
            take_from_below(t);
        }
    }
    cs_list_splice(&now, &n->tls_due); /* behind those that waited longer */
    cs_list_splice(&n->tls_due, &now);
    if (end > 0) {
        cs_loop_again(n->loop); /* the tasks that were woken */
    }
    return !cs_list_empty(&n->tls_due);
}

/* ---- beginnings and the end ---- */

size_t cs_tls_stream_size(void)
{
    return sizeof(struct tls);
}

/* The uppermost first: what is below another TLS stream is closed by that. */
void cs_tls_close_all(struct cs_net *n, bool abort, int why)
{
    struct tls *t = NULL;
    while ((t = cs_pool_next(n->tls, t))) {
        if (t->s.user_ops != &lower_user) {
            cs_stream_close(&t->s, abort ? CS_CLOSE_ABORT : CS_CLOSE_GRACEFUL, why);
        }
    }
}

int cs_tls_stream_create(struct cs_stream **out, struct cs_net *n, struct cs_stream *lower,
                         const struct cs_tls_stream_spec *spec)
{
    struct tls *t = cs_pool_alloc(n->tls);
    struct handshake *hs = cs_zalloc(sizeof(*hs));
    int err = t && hs ? cs_tls_start(&t->session, spec->context, spec->peer) : -ENOMEM;
    if (err < 0) {
        if (t) {
            cs_pool_free(n->tls, t);
        }
        cs_free(hs);
        return err;
    }
    t->s.ops = &tls_ops;
    t->lower = lower;
    t->net = n;
    t->hs = hs;
    t->record_max = CS_TLS_RECORD_MAX;
    cs_list_init(&t->node);
    hs->tls = t;
    hs->hooks = spec->hooks;
    hs->arg = spec->arg;
    cs_timer_init(&hs->deadline, deadline_passed);
    if (spec->timeout_ms > 0) {
        cs_timer_set(cs_loop_wheel(n->loop), &hs->deadline,
                     cs_loop_now(n->loop) + spec->timeout_ms);
    }
    cs_stream_attach(lower, &lower_user, t);
    cs_stream_resume(lower);
    due(t);
    *out = &t->s;
    return 0;
}

struct cs_tls *cs_tls_stream_session(struct cs_stream *s)
{
    return s->ops == &tls_ops ? &of(s)->session : NULL;
}

bool cs_tls_stream_is_ready(const struct cs_stream *s)
{
    return !of(s)->hs && !s->err;
}

void cs_tls_stream_forget(struct cs_stream *s)
{
    if (s->ops == &tls_ops && of(s)->hs) {
        of(s)->hs->arg = NULL;
    }
}

void cs_tls_stream_set_record_max(struct cs_stream *s, size_t bytes)
{
    size_t max = CS_MAX(bytes, (size_t)CS_TLS_RECORD_MIN);
    of(s)->record_max = (uint16_t)CS_MIN(max, (size_t)CS_TLS_RECORD_MAX);
}
