/* stream_frame - frames over a stream. */
#include "stream_frame.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "sim.h"

#define HEAD 2
/* Raw input that is taken from below while a frame is not complete. */
#define RAW_MAX (HEAD + 65535)
#define LATE_MS 5

struct frame {
    struct cs_stream s;
    struct cs_stream *lower;
    struct cs_loop *loop;
    struct stream_frame_config config;
    struct cs_chain raw; /* from below, not yet decoded; owned, for it outlives the turn */
    struct cs_chain out; /* encoded, not yet given below */
    struct cs_timer late;
    uint8_t in_key, out_key;
    bool want;  /* resumed */
    bool full;  /* on_room is owed */
    bool ended; /* the last frame has been decoded */
    bool shut, closing;
};

static unsigned frames_alive;

static struct frame *of(const struct cs_stream *s)
{
    return cs_container_of(s, struct frame, s);
}

/* ---- in ---- */

static void tell_eof(struct frame *f, int err)
{
    if (f->closing || f->s.err || (f->s.eof && !err)) {
        return;
    }
    f->s.err = err;
    f->s.eof = true;
    if (f->s.user_ops) {
        f->s.user_ops->on_eof(f->s.user, &f->s, err);
    }
}

/* Whether a whole frame is there, and how many bytes it has. */
static bool complete(const struct frame *f, size_t *len)
{
    uint8_t head[HEAD];
    if (cs_chain_len(&f->raw) < HEAD) {
        return false;
    }
    cs_chain_peek(&f->raw, head, HEAD);
    *len = (size_t)head[0] << 8 | head[1];
    return cs_chain_len(&f->raw) >= HEAD + *len;
}

/* Moves one frame from raw to the input. 1, 0 when none is complete, or -errno. */
static int decode_one(struct frame *f)
{
    size_t len;
    if (!complete(f, &len)) {
        return 0;
    }
    cs_chain_drop(&f->raw, HEAD);
    if (len == 0) {
        f->ended = true;
        SIM_CHECK(cs_chain_len(&f->raw) == 0 &&
                  cs_chain_len(&f->lower->in) == 0); /* nothing follows the last frame */
        return 0;
    }
    struct cs_slice *slice = cs_slice_create(len);
    if (!slice) {
        return -ENOMEM;
    }
    cs_chain_peek(&f->raw, slice->data, len);
    cs_chain_drop(&f->raw, len);
    for (size_t i = 0; i < len; i++) {
        slice->data[i] ^= (uint8_t)(0x5a + f->in_key);
    }
    f->in_key++;
    slice->len = (uint32_t)len;
    slice->room -= (uint32_t)len;
    cs_chain_push(&f->s.in, slice);
    return 1;
}

/* Takes what there is below and what fits. */
static int pull(struct frame *f)
{
    size_t n = CS_MIN(cs_chain_len(&f->lower->in), RAW_MAX - cs_chain_len(&f->raw));
    return n ? cs_stream_consume(f->lower, n, &f->raw) : 0;
}

static bool hungry(const struct frame *f)
{
    return f->want && !f->closing && !f->ended && !f->s.err &&
           cs_chain_len(&f->s.in) < f->config.in_high;
}

/* From the loop only. */
static void decode(struct frame *f)
{
    size_t before = cs_chain_len(&f->s.in);
    int err = 0;
    do {
        err = hungry(f) ? pull(f) : 0;
        if (err == 0 && hungry(f)) {
            err = decode_one(f);
        } else if (err == 0) {
            break;
        }
    } while (err > 0);
    if (err == 0 && cs_chain_len(&f->raw)) {
        err = cs_chain_own(&f->raw); /* the ring wants its buffers back at the turn's end */
    }
    if (cs_chain_len(&f->s.in) > before && !f->closing && f->s.user_ops) {
        f->s.user_ops->on_input(f->s.user, &f->s);
    }
    if (err < 0 || f->ended) { /* after the input that came before */
        tell_eof(f, err);
    }
}

/* ---- later ---- */

static void kick(struct frame *f, uint64_t ms)
{
    if (!cs_timer_active(&f->late) && !f->closing) {
        cs_timer_set(cs_loop_wheel(f->loop), &f->late, cs_loop_now(f->loop) + ms);
    }
}

static bool draw_late(const struct frame *f)
{
    return sim_chance(f->config.late_pm);
}

static size_t frame_room(const struct cs_stream *s)
{
    const struct frame *f = of(s);
    size_t room = cs_stream_room(f->lower);
    return f->closing || f->shut || s->err || room <= cs_chain_len(&f->out)
               ? 0
               : room - cs_chain_len(&f->out);
}

static int flush(struct frame *f)
{
    return cs_chain_len(&f->out) ? cs_stream_write(f->lower, &f->out) : 0;
}

static void room_again(struct frame *f)
{
    if (f->full && !f->closing && frame_room(&f->s) > 0) {
        f->full = false;
        if (f->s.user_ops) {
            f->s.user_ops->on_room(f->s.user, &f->s);
        }
    }
}

/* An end below without the last frame is a cut. */
static void check_cut(struct frame *f)
{
    size_t len;
    if (f->lower->eof && !f->lower->err && cs_chain_len(&f->lower->in) == 0 && hungry(f) &&
        !complete(f, &len)) {
        tell_eof(f, -EPROTO);
    }
}

static void on_late(struct cs_timer *t)
{
    struct frame *f = cs_container_of(t, struct frame, late);
    int err = flush(f);
    if (err < 0) {
        tell_eof(f, err);
    }
    decode(f);
    check_cut(f);
    room_again(f);
}

/* ---- events from below ---- */

static void on_input(void *user, struct cs_stream *lower)
{
    struct frame *f = user;
    SIM_CHECK(lower == f->lower && !f->closing);
    if (draw_late(f)) {
        kick(f, sim_below(LATE_MS));
    } else {
        decode(f);
    }
}

static void on_room(void *user, struct cs_stream *lower)
{
    struct frame *f = user;
    SIM_CHECK(lower == f->lower && !f->closing);
    room_again(f);
}

static void on_eof(void *user, struct cs_stream *lower, int err)
{
    struct frame *f = user;
    SIM_CHECK(lower == f->lower && !f->closing);
    if (err) {
        tell_eof(f, err);
        return;
    }
    decode(f);
    check_cut(f);
}

static void on_closed(void *user, struct cs_stream *lower)
{
    struct frame *f = user;
    SIM_CHECK(lower == f->lower);
    cs_timer_stop(cs_loop_wheel(f->loop), &f->late);
    cs_chain_clear(&f->raw);
    cs_chain_clear(&f->out);
    cs_chain_clear(&f->s.in);
    if (f->s.user_ops) {
        f->s.user_ops->on_closed(f->s.user, &f->s);
    }
    frames_alive--;
    cs_free(f);
}

static const struct cs_stream_user lower_user = {on_input, on_room, on_eof, on_closed};

/* ---- calls from above ---- */

/* One frame of the first n bytes of data. */
static int encode_one(struct frame *f, struct cs_chain *data, size_t n)
{
    struct cs_slice *slice = cs_slice_create(HEAD + n);
    if (!slice) {
        return -ENOMEM;
    }
    slice->data[0] = (uint8_t)(n >> 8);
    slice->data[1] = (uint8_t)n;
    cs_chain_peek(data, slice->data + HEAD, n);
    cs_chain_drop(data, n);
    for (size_t i = 0; i < n; i++) {
        slice->data[HEAD + i] ^= (uint8_t)(0x5a + f->out_key);
    }
    f->out_key++;
    slice->len = (uint32_t)(HEAD + n);
    slice->room -= (uint32_t)(HEAD + n);
    cs_chain_push(&f->out, slice);
    return 0;
}

static int frame_write(struct cs_stream *s, struct cs_chain *data)
{
    struct frame *f = of(s);
    int err = s->err ? s->err : f->closing || f->shut ? CS_ECLOSED : 0;
    while (err == 0 && cs_chain_len(data) > 0) {
        err = encode_one(f, data, CS_MIN(cs_chain_len(data), f->config.frame_max));
    }
    cs_chain_clear(data);
    if (err == 0 && draw_late(f)) {
        kick(f, sim_below(LATE_MS));
    } else if (err == 0) {
        err = flush(f);
    }
    f->full = f->full || frame_room(s) == 0;
    return err;
}

static ssize_t frame_offer(struct cs_stream *s, const void *data, size_t len)
{
    return cs_stream_offer_whole(s, data, len);
}

static void frame_consumed(struct cs_stream *s)
{
    struct frame *f = of(s);
    /* Whether there is more to decode shows from the loop: no event from inside a call. */
    if (hungry(f) &&
        (cs_chain_len(&f->lower->in) > 0 || cs_chain_len(&f->raw) > 0 || f->lower->eof)) {
        kick(f, 0);
    }
}

static void frame_pause(struct cs_stream *s)
{
    struct frame *f = of(s);
    f->want = false;
    cs_stream_pause(f->lower);
}

static void frame_resume(struct cs_stream *s)
{
    struct frame *f = of(s);
    f->want = true;
    cs_stream_resume(f->lower);
    if (hungry(f) &&
        (cs_chain_len(&f->lower->in) > 0 || cs_chain_len(&f->raw) > 0 || f->lower->eof)) {
        kick(f, 0);
    }
}

static void frame_shutdown(struct cs_stream *s)
{
    struct frame *f = of(s);
    struct cs_chain none;
    if (f->shut || f->closing || s->err) {
        return;
    }
    f->shut = true;
    cs_chain_init(&none);
    /* A failure below is told by its on_eof. */
    if (encode_one(f, &none, 0) == 0 && flush(f) == 0) {
        cs_stream_shutdown(f->lower);
    }
}

static void frame_close(struct cs_stream *s, enum cs_close_how how, int why)
{
    struct frame *f = of(s);
    if (how == CS_CLOSE_GRACEFUL) {
        frame_shutdown(s);
    }
    f->closing = true;
    cs_timer_stop(cs_loop_wheel(f->loop), &f->late);
    cs_chain_clear(&s->in);
    cs_stream_close(f->lower, how, why);
}

static size_t frame_queued(const struct cs_stream *s)
{
    const struct frame *f = of(s);
    return cs_chain_len(&f->out) + cs_stream_queued(f->lower);
}

static struct cs_stream *frame_lower(const struct cs_stream *s)
{
    return of(s)->lower;
}

static const struct cs_stream_ops frame_ops = {
    .kind = "frame",
    .write = frame_write,
    .offer = frame_offer,
    .consumed = frame_consumed,
    .pause = frame_pause,
    .resume = frame_resume,
    .shutdown = frame_shutdown,
    .close = frame_close,
    .room = frame_room,
    .queued = frame_queued,
    .lower = frame_lower,
};

struct cs_stream *stream_frame_create(struct cs_loop *loop, struct cs_stream *lower,
                                      const struct stream_frame_config *config)
{
    struct frame *f = cs_zalloc(sizeof(*f));
    if (!f) {
        return NULL;
    }
    f->s.ops = &frame_ops;
    f->lower = lower;
    f->loop = loop;
    f->config = *config;
    cs_timer_init(&f->late, on_late);
    cs_stream_attach(lower, &lower_user, f);
    frames_alive++;
    return &f->s;
}

unsigned stream_frame_count(void)
{
    return frames_alive;
}
