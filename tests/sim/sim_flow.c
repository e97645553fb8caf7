/* sim_flow - a far end with a plan. */
#include "sim_flow.h"

#include <errno.h>

#define CHUNK 4096

static void flow_end(struct sim_flow *f, bool reset)
{
    sim_trace("peer  %s ends: sent=%llu got=%llu eof=%d err=%d%s",
              sim_peer_connected(f->peer) == 1 ? "flow" : "unconnected flow",
              (unsigned long long)f->sent, (unsigned long long)f->got, f->eof, f->err,
              reset ? " by reset" : "");
    if (reset) {
        sim_peer_reset(f->peer);
    } else {
        sim_peer_close(f->peer);
    }
    f->peer = NULL;
    f->ended = true;
    sim_actor_remove(&f->actor);
}

static bool may_send(const struct sim_flow *f)
{
    if (f->sent == f->out_size || f->shut) {
        return false;
    }
    if (f->plan == SIM_FLOW_STUCK) {
        return f->sent + f->got < f->limit;
    }
    /* The second half of a reply comes after the request's end. */
    return f->plan != SIM_FLOW_REPLY || f->eof || f->sent < f->out_size / 2;
}

static bool flow_send(struct sim_flow *f)
{
    uint8_t buf[CHUNK];
    if (!may_send(f)) {
        return false;
    }
    uint64_t left = f->out_size - f->sent;
    size_t n = sim_size(left < sizeof buf ? (size_t)left : sizeof buf);
    sim_stream_fill(f->out_id, f->sent, buf, n);
    ssize_t done = sim_peer_write(f->peer, buf, n);
    if (done < 0) {
        f->err = (int)done;
        return true;
    }
    f->sent += (uint64_t)done;
    return done > 0;
}

static bool may_read(struct sim_flow *f)
{
    if (f->eof || f->read_from_ms > sim_now_ms()) {
        return false;
    }
    if (f->plan == SIM_FLOW_STUCK && f->sent + f->got >= f->limit) {
        return false;
    }
    if (f->pause_ms && sim_chance(f->slow_pm)) {
        f->read_from_ms = sim_now_ms() + sim_between(1, f->pause_ms);
        f->actor.wake_ms = f->read_from_ms;
        return false;
    }
    return true;
}

static bool flow_read(struct sim_flow *f)
{
    uint8_t buf[CHUNK];
    if (!may_read(f)) {
        return false;
    }
    ssize_t n = sim_peer_read(f->peer, buf, sim_size(sizeof buf));
    if (n == -EAGAIN) {
        return false;
    }
    if (n < 0) {
        f->err = (int)n;
    } else if (n == 0) {
        f->eof = true;
    } else {
        sim_stream_verify(f->in_id, f->got, buf, (size_t)n);
        f->got += (uint64_t)n;
        f->last_read_ms = sim_now_ms();
    }
    return true;
}

/* True when the plan has come to its end. */
static bool flow_over(const struct sim_flow *f)
{
    switch (f->plan) {
    case SIM_FLOW_POLITE:
    case SIM_FLOW_REPLY:
        return f->eof && f->shut;
    case SIM_FLOW_RESET:
    case SIM_FLOW_CLOSE:
        return f->sent + f->got >= f->limit || f->eof;
    case SIM_FLOW_SILENT:
        return f->eof;
    case SIM_FLOW_DEAF:
    case SIM_FLOW_STUCK:
        break;
    }
    return false;
}

static bool flow_step(struct sim_actor *a)
{
    struct sim_flow *f = cs_container_of(a, struct sim_flow, actor);
    int up = sim_peer_connected(f->peer);
    if (up == 0) {
        return false;
    }
    if (up < 0) {
        f->err = up;
        flow_end(f, false);
        return true;
    }
    bool any = flow_send(f);
    bool ends = f->plan == SIM_FLOW_POLITE || f->plan == SIM_FLOW_REPLY;
    if (ends && f->sent == f->out_size && !f->shut && !f->err) {
        sim_peer_shutdown(f->peer);
        f->shut = any = true;
    }
    any = (!f->err && flow_read(f)) || any;
    if (f->err || flow_over(f)) {
        flow_end(f, f->plan == SIM_FLOW_RESET);
        return true;
    }
    return any;
}

void sim_flow_start(struct sim_flow *f, struct sim_peer *peer, enum sim_flow_plan plan,
                    uint64_t out_id, uint64_t out_size, uint64_t in_id)
{
    *f = (struct sim_flow){
        .peer = peer,
        .plan = plan,
        .out_id = out_id,
        .out_size = out_size,
        .in_id = in_id,
        .limit = sim_below(out_size * 2 + 1),
        .slow_pm = sim_chance(300) ? (unsigned)sim_between(1, 300) : 0,
        .pause_ms = (unsigned)sim_between(1, 1000),
    };
    sim_actor_add(&f->actor, flow_step);
}

enum sim_flow_plan sim_flow_draw(void)
{
    static const enum sim_flow_plan plans[] = {SIM_FLOW_POLITE, SIM_FLOW_POLITE, SIM_FLOW_POLITE,
                                               SIM_FLOW_RESET, SIM_FLOW_CLOSE};
    return plans[sim_below(CS_ARRAY_LEN(plans))];
}

bool sim_flow_settled(const struct sim_flow *f)
{
    return f->ended || f->plan == SIM_FLOW_STUCK || (f->plan == SIM_FLOW_DEAF && f->eof);
}

void sim_flow_stop(struct sim_flow *f)
{
    if (f->peer) {
        flow_end(f, true);
    }
}
