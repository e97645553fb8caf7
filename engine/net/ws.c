/* ws - a WebSocket stream over a stream; see ws.h for the picture. */
#include "net/ws.h"

#include <errno.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "codec/ws_frame.h"
#include "net/conn.h"

#define COPY_MAX 4096u            /* bytes */
#define MARKS_MAX 1024u           /* frames read ahead */
#define DISCARD_MAX (256u * 1024) /* bytes read after a close to throw away */

/* RFC 6455 7.4.1 */
#define CODE_NORMAL 1000
#define CODE_GOING_AWAY 1001
#define CODE_PROTOCOL 1002
#define CODE_NONE 1005
#define CODE_BAD_DATA 1007
#define CODE_TOO_BIG 1009

/* A frame or message whose first byte is in `in`, or is to come next. */
struct mark {
    uint32_t len;
    bool text;
};

/* What compression needs. */
struct packed {
    struct cs_ws_deflate *codec;
    struct cs_chain in; /* of the message in progress, still to be made larger */
    struct cs_utf8 utf8;
    bool text;
    bool more; /* there is more to come of what was in `in` */
    bool last; /* nothing more comes to `in` */
};

struct ws {
    struct cs_stream s;
    struct cs_stream *lower;
    struct cs_net *net;
    struct cs_ws codec;
    struct packed *packed; /* NULL: without compression */
    struct cs_chain marks; /* of struct mark */
    struct cs_chain pong;  /* the payload of the answer that is owed */
    struct cs_list node;   /* in net->ws_due */
    struct cs_timer timer; /* the next look for life; after close: the handshake's end */
    size_t counted;        /* bytes of s.in that the marks know of */
    uint64_t message;      /* bytes of the message in progress */
    uint32_t at;           /* bytes of the first mark that have been consumed */
    uint32_t size_max;     /* of a message */
    uint32_t ping_ms;      /* 0: no keepalive */
    uint32_t sent;         /* cs_conn_bytes_out at the latest look */
    uint32_t discarded;    /* bytes, since close */
    uint16_t close_code;   /* of the Close received, 0: none */
    bool want : 1;         /* resumed */
    bool messages : 1;     /* the unit of input: messages, not frames */
    bool bytes : 1;        /* nobody wants to know of it */
    bool text : 1;         /* what is written */
    bool half_close : 1;   /* an empty message ends a direction */
    bool half_ended : 1;   /* and the peer's has come */
    bool shut : 1;         /* no more data is sent */
    bool close_sent : 1;   /* nothing more is sent */
    bool heard : 1;        /* from the peer, since the latest look */
    bool asked : 1;        /* and a ping has gone out */
    bool pong_owed : 1;
    bool closing : 1;   /* by its user */
    bool lingering : 1; /* waits for the peer's Close */
};

static const struct cs_stream_ops ws_ops;

static struct ws *of(const struct cs_stream *s)
{
    CS_ASSERT(s->ops == &ws_ops);
    return cs_container_of(s, struct ws, s);
}

/* ---- small things ---- */

/* There is something to do in the write phase. */
static void due(struct ws *w)
{
    if (cs_list_empty(&w->node)) {
        cs_list_append(&w->net->ws_due, &w->node);
        cs_loop_again(w->net->loop);
    }
}

/* A part of a compressed message can be given to the user. */
static bool has_packed(const struct ws *w)
{
    return w->packed && (w->packed->more || w->packed->last || cs_chain_len(&w->packed->in) > 0);
}

static bool has_input(const struct ws *w)
{
    return cs_chain_len(&w->lower->in) > 0 || w->lower->eof || has_packed(w);
}

static void drop_packed(struct ws *w)
{
    if (w->packed) {
        cs_chain_clear(&w->packed->in);
        cs_ws_deflate_destroy(w->packed->codec);
        cs_free(w->packed);
        w->packed = NULL;
    }
}

static void start_timer(struct ws *w, uint32_t ms)
{
    cs_timer_set(cs_loop_wheel(w->net->loop), &w->timer, cs_loop_now(w->net->loop) + ms);
}

static void stop_timer(struct ws *w)
{
    cs_timer_stop(cs_loop_wheel(w->net->loop), &w->timer);
}

/* ---- frames out ---- */

static int add_frame(const struct ws *w, struct cs_chain *out, enum cs_ws_op op, bool deflated,
                     struct cs_chain *data, size_t n)
{
    return cs_ws_frame_add(out, w->codec.options.role, op, deflated, data, n);
}

/* A message of the first n bytes of data goes to the end of out. */
static int add_message(const struct ws *w, struct cs_chain *out, struct cs_chain *data, size_t n)
{
    enum cs_ws_op op = w->text ? CS_WS_TEXT : CS_WS_BINARY;
    struct cs_chain small = {0};
    if (!w->packed || n == 0) {
        return add_frame(w, out, op, false, data, n);
    }
    int err = cs_ws_deflate_message(w->packed->codec, data, n, &small);
    err = err < 0 ? err : add_frame(w, out, op, true, &small, cs_chain_len(&small));
    cs_chain_clear(&small);
    return err;
}

/* At most CS_WS_CONTROL_MAX bytes, which are gone afterwards. */
static int send_control(struct ws *w, enum cs_ws_op op, struct cs_chain *data)
{
    struct cs_chain out = {0};
    int err = add_frame(w, &out, op, false, data, cs_chain_len(data));
    cs_chain_clear(data);
    return err < 0 ? err : cs_stream_write(w->lower, &out);
}

/* Nothing is sent behind it. Without memory for it, the end below has to do. */
static void send_close(struct ws *w, unsigned code)
{
    const uint8_t payload[2] = {(uint8_t)(code >> 8), (uint8_t)code};
    struct cs_chain data = {0};
    if (w->close_sent) {
        return;
    }
    int err = code == CODE_NONE ? 0 : cs_chain_append(&data, payload, sizeof(payload));
    err = err < 0 ? err : send_control(w, CS_WS_CLOSE, &data);
    (void)err;
    cs_chain_clear(&w->pong);
    w->pong_owed = false;
    w->close_sent = true;
}

/* As long as the peer does not take the answers, only the latest ping has one (RFC 6455 5.5.3). */
static void send_pong(struct ws *w)
{
    if (w->pong_owed && cs_stream_room(w->lower) > 0) {
        int err = send_control(w, CS_WS_PONG, &w->pong);
        (void)err; /* what breaks the stream below is told by it */
        w->pong_owed = false;
    }
}

/* ---- the edges of frames ---- */

static bool first_mark(const struct ws *w, struct mark *m)
{
    return cs_chain_peek(&w->marks, m, sizeof(*m)) == sizeof(*m);
}

static int add_mark(struct ws *w, uint64_t len, bool text)
{
    struct mark m;
    memset(&m, 0, sizeof(m)); /* with what is between the fields */
    m.len = (uint32_t)len;
    m.text = text;
    return w->bytes ? 0 : cs_chain_append(&w->marks, &m, sizeof(m));
}

/* n bytes more have been consumed. */
static void advance(struct ws *w, size_t n)
{
    struct mark m;
    w->at += w->bytes ? 0 : (uint32_t)n;
    while (w->at > 0 && first_mark(w, &m) && w->at >= m.len) {
        w->at -= m.len;
        cs_chain_drop(&w->marks, sizeof(m));
    }
}

bool cs_ws_stream_next(const struct cs_stream *s, struct cs_ws_input *in)
{
    const struct ws *w = of(s);
    struct mark m;
    if (w->bytes || !first_mark(w, &m)) {
        return false;
    }
    *in = (struct cs_ws_input){.len = CS_MIN(m.len - w->at, cs_chain_len(&s->in)),
                               .at = w->at,
                               .frame = m.len,
                               .text = m.text};
    bool whole = in->at + in->len == in->frame;
    return whole || (in->frame > CS_WS_WHOLE_MAX && in->len > 0);
}

void cs_ws_stream_take(struct cs_stream *s, size_t n)
{
    struct ws *w = of(s);
    if (n > 0) {
        int err = cs_stream_consume(s, n, NULL);
        (void)err; /* dropping cannot fail */
    } else {
        cs_chain_drop(&w->marks, sizeof(struct mark));
        s->ops->consumed(s);
    }
}

/* There is something that the user wants to hear of. */
static bool readable(const struct ws *w)
{
    struct cs_ws_input in;
    return w->bytes ? cs_chain_len(&w->s.in) > 0 : cs_ws_stream_next(&w->s, &in);
}

/* ---- input ---- */

/* What is kept for the user is bounded, but what it waits for is read to its end. After a close,
 * frames are read for the Close among them. */
static bool hungry(const struct ws *w)
{
    if (w->closing) {
        return w->lingering && w->discarded < DISCARD_MAX;
    }
    if (!w->want || w->s.err || w->close_code || (w->s.eof && !w->half_ended)) {
        return false;
    }
    return cs_chain_len(&w->marks) < MARKS_MAX * sizeof(struct mark) &&
           (cs_chain_len(&w->s.in) < w->net->config.in_high || !readable(w));
}

static void look_again(struct ws *w)
{
    if (has_input(w) && hungry(w)) {
        due(w);
    }
}

/* The connection cannot go on (RFC 6455 7.1.7). Returns err. */
static int fail(struct ws *w, unsigned code, int err)
{
    send_close(w, code);
    cs_stream_shutdown(w->lower);
    return err;
}

/* The frame that begins with this part is one too many, or too much. */
static int check_frame(struct ws *w, const struct cs_ws_part *part)
{
    if (w->half_ended) {
        return fail(w, CODE_PROTOCOL, CS_EWS);
    }
    if (w->messages && !part->deflated && w->message + part->frame > w->size_max) {
        return fail(w, CODE_TOO_BIG, CS_ETOOBIG);
    }
    if (!w->messages && part->frame > 0) {
        return add_mark(w, part->frame, part->op == CS_WS_TEXT);
    }
    return 0;
}

static int message_over(struct ws *w, bool text)
{
    uint64_t len = w->message;
    w->message = 0;
    if (w->half_close && len == 0) {
        w->half_ended = true;
        return 0;
    }
    return w->messages ? add_mark(w, len, text) : 0;
}

/* ---- compressed messages ---- */

static int check_unpacked(struct ws *w, const struct cs_chain *data, bool over)
{
    struct packed *p = w->packed;
    if (w->message > w->size_max) {
        return fail(w, CODE_TOO_BIG, CS_ETOOBIG);
    }
    for (const struct cs_slice *s = cs_chain_first(data); s && p->text;
         s = cs_chain_next(data, s)) {
        if (!cs_utf8_feed(&p->utf8, s->data, s->len)) {
            return fail(w, CODE_BAD_DATA, CS_EWS);
        }
    }
    return over && p->text && !cs_utf8_complete(&p->utf8) ? fail(w, CODE_BAD_DATA, CS_EWS) : 0;
}

/* Makes the next piece of the message larger. */
static int unpack(struct ws *w)
{
    struct packed *p = w->packed;
    struct cs_chain out = {0};
    const struct cs_slice *s = cs_chain_first(&p->in);
    bool over = false;
    size_t used = 0;
    int got = 0;
    if (s || p->more) {
        got = cs_ws_inflate(p->codec, s ? s->data : NULL, s ? s->len : 0, SIZE_MAX, &used, &out);
        p->more = got > 0;
    } else {
        got = cs_ws_inflate_end(p->codec, SIZE_MAX, &out);
        over = got == 0;
    }
    cs_chain_drop(&p->in, used);
    w->message += cs_chain_len(&out);
    int err = got < 0 ? got : check_unpacked(w, &out, over);
    cs_chain_move_all(&w->s.in, &out);
    w->counted = cs_chain_len(&w->s.in);
    if (err == -EBADMSG) {
        return fail(w, CODE_BAD_DATA, CS_EWS);
    }
    if (over) {
        p->last = false;
        p->utf8 = (struct cs_utf8){0};
    }
    return over && err == 0 ? message_over(w, p->text) : err;
}

/* Few bytes do not keep the whole slice they came in: what is counted are bytes. */
static int take_payload(struct ws *w, const struct cs_ws_part *part, struct cs_chain *into)
{
    bool copied = part->len < COPY_MAX;
    int err = copied ? cs_chain_append(into, part->data, part->len) : 0;
    return err < 0 ? err : cs_stream_consume(w->lower, part->len, copied ? NULL : into);
}

static int take_packed(struct ws *w, const struct cs_ws_part *part)
{
    struct packed *p = w->packed;
    p->text = part->op == CS_WS_TEXT;
    p->last = part->last;
    return take_payload(w, part, &p->in);
}

/* ---- frames in ---- */

static int take_data(struct ws *w, const struct cs_ws_part *part)
{
    int err = cs_stream_consume(w->lower, part->used - part->len, NULL); /* the header */
    if (w->closing) {
        w->discarded += (uint32_t)part->used;
        return cs_stream_consume(w->lower, part->len, NULL);
    }
    if (err == 0 && part->at == 0) {
        err = check_frame(w, part);
    }
    if (err == 0 && part->deflated) {
        return take_packed(w, part);
    }
    if (err == 0) {
        err = take_payload(w, part, &w->s.in);
    }
    w->message += part->len;
    w->counted = cs_chain_len(&w->s.in);
    return err == 0 && part->last ? message_over(w, part->op == CS_WS_TEXT) : err;
}

static int take_close(struct ws *w, const struct cs_ws_part *part)
{
    int code = cs_ws_close_code(part->data, part->len);
    if (code < 0) {
        return fail(w, CODE_PROTOCOL, CS_EWS);
    }
    w->close_code = (uint16_t)code;
    send_close(w, (unsigned)code);
    cs_stream_shutdown(w->lower);
    return 0;
}

static int take_control(struct ws *w, const struct cs_ws_part *part)
{
    int err = 0;
    if (part->op == CS_WS_CLOSE) {
        err = take_close(w, part);
    } else if (part->op == CS_WS_PING && !w->close_sent) {
        cs_chain_clear(&w->pong);
        err = cs_chain_append(&w->pong, part->data, part->len);
        w->pong_owed = true;
        send_pong(w);
    }
    int gone = cs_stream_consume(w->lower, part->used, NULL); /* part->data lies there */
    return err < 0 ? err : gone;
}

/* Takes the next piece from below, at most one slice. 0, or why the stream has broken. */
static int take_part(struct ws *w)
{
    struct cs_slice *head = cs_chain_first(&w->lower->in);
    struct cs_ws_part part;
    int got = cs_ws_next(&w->codec, head->data, head->len, &part);
    switch (got) {
    case CS_WS_MORE:
        w->discarded += w->closing ? (uint32_t)part.used : 0;
        return cs_stream_consume(w->lower, part.used, NULL);
    case CS_WS_DATA:
        return take_data(w, &part);
    case CS_WS_CONTROL:
        return take_control(w, &part);
    case -ENOMEM:
        return -ENOMEM;
    default:
        return fail(w, w->codec.code, w->codec.code == CODE_TOO_BIG ? CS_ETOOBIG : CS_EWS);
    }
}

static void close_below(struct ws *w, enum cs_close_how how, int why);

static void tell_room(struct ws *w)
{
    if (!w->closing && w->s.user_ops && cs_stream_room(&w->s) > 0) {
        w->s.user_ops->on_room(w->s.user, &w->s);
    }
}

/* The end of input, clean (0) or not; told once, and a second time when it breaks after that. */
static void tell_end(struct ws *w, int err)
{
    if (w->closing || w->s.err || (w->s.eof && err == 0)) {
        return;
    }
    w->s.eof = true;
    w->s.err = err;
    if (err < 0) {
        cs_stream_pause(w->lower);
    }
    if (w->s.user_ops) {
        w->s.user_ops->on_eof(w->s.user, &w->s, err);
    }
}

/* Behind the input that came before it. */
static void look_for_end(struct ws *w, int err)
{
    bool below = w->lower->eof && cs_chain_len(&w->lower->in) == 0 && !has_packed(w);
    bool over = w->close_code || err < 0 || below;
    if (w->lingering && (over || w->discarded >= DISCARD_MAX)) {
        close_below(w, CS_CLOSE_GRACEFUL, 0);
    } else if (err < 0 || w->close_code || w->half_ended) {
        tell_end(w, err);
    } else if (below) {
        tell_end(w, w->lower->err ? w->lower->err : cs_ws_at_rest(&w->codec) ? 0 : CS_EWSCUT);
    }
}

/* The ring's buffers go back. */
static int own_input(struct ws *w)
{
    int err = w->packed ? cs_chain_own(&w->packed->in) : 0;
    return err < 0 ? err : cs_chain_own(&w->s.in);
}

/* From the loop only. */
static void take(struct ws *w)
{
    size_t bytes = cs_chain_len(&w->s.in), marks = cs_chain_len(&w->marks);
    bool closed = w->close_code;
    int err = 0;
    while (err == 0 && hungry(w) && (has_packed(w) || cs_chain_len(&w->lower->in) > 0)) {
        err = has_packed(w) ? unpack(w) : take_part(w);
    }
    bool more = cs_chain_len(&w->s.in) > bytes || cs_chain_len(&w->marks) > marks;
    if (more && readable(w) && w->s.user_ops) {
        w->s.user_ops->on_input(w->s.user, &w->s);
    }
    if (!w->closing && own_input(w) < 0) {
        cs_chain_clear(&w->s.in);
        cs_chain_clear(&w->marks);
        err = -ENOMEM;
    }
    look_for_end(w, err);
    if (!closed && w->close_code) {
        tell_room(w);
    }
}

/* ---- signs of life ---- */

/* Silence counts only while the peer is listened to, and not while it still takes what was written
 * before. */
static bool is_silent(struct ws *w)
{
    uint32_t sent = (uint32_t)cs_conn_bytes_out(cs_conn_of(cs_stream_bottom(w->lower)));
    bool taking = cs_stream_queued(w->lower) > 0 && sent != w->sent;
    bool silent = !w->heard && hungry(w) && !taking;
    w->sent = sent;
    w->heard = false;
    return silent;
}

static void look(struct ws *w)
{
    struct cs_chain none = {0};
    if (w->s.eof && !w->half_ended) {
        return;
    }
    if (!is_silent(w)) {
        w->asked = false;
    } else if (w->asked) {
        tell_end(w, -ETIMEDOUT);
        return;
    } else if (!w->close_sent) {
        int err = send_control(w, CS_WS_PING, &none);
        (void)err; /* what breaks the stream below is told by it */
        w->asked = true;
    }
    start_timer(w, w->ping_ms);
}

static void on_timer(struct cs_timer *t)
{
    struct ws *w = cs_container_of(t, struct ws, timer);
    if (w->lingering) {
        close_below(w, CS_CLOSE_GRACEFUL, 0);
    } else {
        look(w);
    }
}

/* ---- events from below ---- */

static void on_input(void *user, struct cs_stream *lower)
{
    struct ws *w = user;
    (void)lower;
    w->heard = true;
    take(w);
}

static void on_room(void *user, struct cs_stream *lower)
{
    struct ws *w = user;
    (void)lower;
    send_pong(w);
    tell_room(w);
}

static void on_eof(void *user, struct cs_stream *lower, int err)
{
    struct ws *w = user;
    (void)lower;
    if (err < 0 && w->lingering) {
        close_below(w, CS_CLOSE_ABORT, err);
    } else if (err < 0) {
        tell_end(w, err);
    } else {
        take(w);
    }
}

static void on_closed(void *user, struct cs_stream *lower)
{
    struct ws *w = user;
    (void)lower;
    cs_list_remove(&w->node);
    stop_timer(w);
    drop_packed(w);
    cs_ws_drop(&w->codec);
    cs_chain_clear(&w->s.in);
    cs_chain_clear(&w->marks);
    cs_chain_clear(&w->pong);
    if (w->s.user_ops) {
        w->s.user_ops->on_closed(w->s.user, &w->s);
    }
    cs_pool_free(w->net->ws, w);
}

static const struct cs_stream_user lower_user = {
    .on_input = on_input, .on_room = on_room, .on_eof = on_eof, .on_closed = on_closed};

/* ---- calls from above ---- */

static size_t ws_room(const struct cs_stream *s)
{
    const struct ws *w = of(s);
    if (w->closing || w->shut || s->err) {
        return 0;
    }
    return w->close_code ? 1 : cs_stream_room(w->lower); /* a write fails at once: none waits */
}

static size_t ws_queued(const struct cs_stream *s)
{
    return cs_stream_queued(of(s)->lower);
}

size_t cs_ws_stream_write_max(const struct cs_stream *s)
{
    const struct ws *w = of(s);
    if (w->bytes) {
        return CS_WS_FRAME_MAX;
    }
    return w->messages ? CS_WS_SIZE_MAX : w->size_max;
}

/* 0, or why nothing can be written. */
static int writable(const struct ws *w)
{
    if (w->s.err) {
        return w->s.err;
    }
    if (w->close_code) {
        return CS_EOF;
    }
    return w->closing || w->shut ? CS_ECLOSED : 0;
}

/* No bytes are an empty message. */
static int ws_write(struct cs_stream *s, struct cs_chain *data)
{
    struct ws *w = of(s);
    struct cs_chain out = {0};
    size_t max = cs_ws_stream_write_max(s);
    int err = writable(w);
    if (err == 0) {
        do {
            err = add_message(w, &out, data, CS_MIN(cs_chain_len(data), max));
        } while (err == 0 && cs_chain_len(data) > 0);
    }
    if (err == 0) {
        return cs_stream_write(w->lower, &out);
    }
    cs_chain_clear(&out);
    cs_chain_clear(data);
    return err;
}

static ssize_t ws_offer(struct cs_stream *s, const void *data, size_t len)
{
    int err = writable(of(s));
    if (err < 0) {
        return err;
    }
    return len > 0 ? cs_stream_offer_whole(s, data, len) : cs_stream_offer(of(s)->lower, NULL, 0);
}

static void ws_consumed(struct cs_stream *s)
{
    struct ws *w = of(s);
    size_t n = w->counted - cs_chain_len(&s->in);
    w->counted = cs_chain_len(&s->in);
    advance(w, n);
    look_again(w);
}

static void ws_pause(struct cs_stream *s)
{
    struct ws *w = of(s);
    w->want = false;
    cs_stream_pause(w->lower);
}

static void ws_resume(struct cs_stream *s)
{
    struct ws *w = of(s);
    w->want = true;
    if (!s->err) {
        cs_stream_resume(w->lower);
        look_again(w);
    }
}

static void ws_shutdown(struct cs_stream *s)
{
    struct ws *w = of(s);
    struct cs_chain none = {0};
    if (w->shut || w->closing || s->err) {
        return;
    }
    if (w->half_close && !w->close_sent) {
        int err = ws_write(s, &none);
        (void)err; /* what breaks the stream below is told by it */
    } else {
        send_close(w, CODE_NORMAL);
    }
    w->shut = true;
}

/* The last step of a close. A Close that was sent because of an error still goes out. */
static void close_below(struct ws *w, enum cs_close_how how, int why)
{
    w->lingering = false;
    stop_timer(w);
    cs_list_remove(&w->node);
    if (w->s.err == CS_EWS || w->s.err == CS_ETOOBIG) {
        how = CS_CLOSE_GRACEFUL;
    }
    cs_stream_close(w->lower, how, why);
}

static void ws_close(struct cs_stream *s, enum cs_close_how how, int why)
{
    struct ws *w = of(s);
    if (w->closing) {
        if (how == CS_CLOSE_ABORT) {
            close_below(w, how, why);
        }
        return;
    }
    w->closing = true;
    drop_packed(w);
    cs_chain_clear(&s->in);
    cs_chain_clear(&w->marks);
    if (how == CS_CLOSE_ABORT || s->err) {
        close_below(w, how, why);
        return;
    }
    send_close(w, why == CS_ESHUTDOWN ? CODE_GOING_AWAY : CODE_NORMAL);
    if (w->close_code || (s->eof && !w->half_ended)) {
        close_below(w, how, why);
        return;
    }
    w->lingering = true;
    start_timer(w, w->net->config.drain_ms);
    cs_stream_resume(w->lower);
    if (has_input(w)) {
        due(w);
    }
}

static struct cs_stream *ws_lower(const struct cs_stream *s)
{
    return of(s)->lower;
}

static const struct cs_stream_ops ws_ops = {
    .kind = "ws",
    .write = ws_write,
    .offer = ws_offer,
    .consumed = ws_consumed,
    .pause = ws_pause,
    .resume = ws_resume,
    .shutdown = ws_shutdown,
    .close = ws_close,
    .room = ws_room,
    .queued = ws_queued,
    .lower = ws_lower,
};

/* ---- the write phase ---- */

void cs_ws_phase(struct cs_net *n)
{
    struct cs_list *l, now;
    /* Only those of this turn: one that puts itself back comes round in the next. */
    cs_list_init(&now);
    cs_list_splice(&now, &n->ws_due);
    if (!cs_list_empty(&now)) {
        cs_loop_again(n->loop); /* the tasks that are woken */
    }
    while ((l = cs_list_first(&now))) {
        cs_list_remove(l);
        take(cs_container_of(l, struct ws, node));
    }
}

/* ---- beginnings and the end ---- */

size_t cs_ws_stream_size(void)
{
    return sizeof(struct ws);
}

/* The uppermost first: what is below another one is closed by that. */
void cs_ws_close_all(struct cs_net *n, bool abort, int why)
{
    struct ws *w = NULL;
    while ((w = cs_pool_next(n->ws, w))) {
        if (w->s.user_ops != &lower_user) {
            cs_stream_close(&w->s, abort ? CS_CLOSE_ABORT : CS_CLOSE_GRACEFUL, why);
        }
    }
}

static int start_packed(struct ws *w, const struct cs_ws_deflate_options *o)
{
    w->packed = cs_zalloc(sizeof(*w->packed));
    if (w->packed) {
        w->packed->codec = cs_ws_deflate_create(o);
    }
    if (!w->packed || !w->packed->codec) {
        drop_packed(w);
        return -ENOMEM;
    }
    return 0;
}

int cs_ws_stream_create(struct cs_stream **out, struct cs_net *n, struct cs_stream *lower,
                        const struct cs_ws_stream_spec *spec)
{
    struct ws *w = cs_pool_alloc(n->ws);
    if (!w) {
        return -ENOMEM;
    }
    if (spec->deflate && start_packed(w, spec->deflate) < 0) {
        cs_pool_free(n->ws, w);
        return -ENOMEM;
    }
    w->s.ops = &ws_ops;
    w->lower = lower;
    w->net = n;
    w->messages = spec->messages;
    w->half_close = spec->half_close;
    w->size_max = spec->size_max;
    w->ping_ms = spec->ping_ms;
    cs_list_init(&w->node);
    cs_ws_init(&w->codec, &(struct cs_ws_options){.role = spec->role,
                                                  .frame_max = spec->size_max,
                                                  .check_text = spec->messages,
                                                  .compressed = spec->deflate});
    cs_timer_init(&w->timer, on_timer);
    if (w->ping_ms > 0) {
        start_timer(w, w->ping_ms);
    }
    cs_stream_attach(lower, &lower_user, w);
    *out = &w->s;
    return 0;
}

bool cs_ws_stream_is(const struct cs_stream *s)
{
    return s->ops == &ws_ops;
}

void cs_ws_stream_set_bytes(struct cs_stream *s)
{
    struct ws *w = of(s);
    w->bytes = true;
    w->at = 0;
    cs_chain_clear(&w->marks);
}

void cs_ws_stream_set_text(struct cs_stream *s, bool text)
{
    of(s)->text = text;
}

bool cs_ws_stream_is_messages(const struct cs_stream *s)
{
    return of(s)->messages;
}

unsigned cs_ws_stream_close_code(const struct cs_stream *s)
{
    return of(s)->close_code;
}

int cs_ws_stream_ping(struct cs_stream *s, const void *data, size_t len)
{
    struct ws *w = of(s);
    struct cs_chain payload = {0};
    int err = writable(w);
    err = err < 0 ? err : cs_chain_append(&payload, data, len);
    return err < 0 ? err : send_control(w, CS_WS_PING, &payload);
}
