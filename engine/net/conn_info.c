/* conn_info - what can be asked of a connection, its socket's options, and its origin: the line in
 * the log, the pass of the gate. */
#include "base/assert.h"
#include "base/log.h"
#include "net/conn_impl.h"

static const char *const state_names[] = {"connecting", "open",   "flushing", "draining",
                                          "stopping",   "joined", "closed"};

const char *cs_conn_state_name(const struct cs_conn *c)
{
    return state_names[c->state];
}

uint64_t cs_conn_bytes_in(const struct cs_conn *c)
{
    return c->bytes_in;
}

uint64_t cs_conn_bytes_out(const struct cs_conn *c)
{
    return c->bytes_out;
}

struct cs_origin *cs_conn_origin(const struct cs_conn *c)
{
    return c->origin;
}

int cs_conn_setsockopt(struct cs_conn *c, int level, int name, const void *value, socklen_t len)
{
    return c->state == OPEN
               ? cs_ring_setsockopt(cs_conn_net(c)->ring, c->fd, level, name, value, len)
               : CS_ECLOSED;
}

int cs_conn_sockname(struct cs_conn *c, struct cs_addr *out)
{
    return c->state == OPEN ? cs_ring_name(cs_conn_net(c)->ring, c->fd, false, out) : CS_ECLOSED;
}

int cs_conn_peername(const struct cs_conn *c, struct cs_addr *out)
{
    if (cs_addr_unpack(out, &c->peer)) {
        return 0;
    }
    return c->state == OPEN ? cs_ring_name(cs_conn_net(c)->ring, c->fd, true, out) : CS_ECLOSED;
}

static const char *reason(const struct cs_conn *c)
{
    if (c->why || c->stream.err) {
        return cs_err_name(c->why ? c->why : c->stream.err);
    }
    return c->stream.eof ? "peer closed" : "closed";
}

static void log_end(const struct cs_conn *c)
{
    struct cs_addr peer;
    char text[CS_ADDR_TEXT_MAX] = "-";
    if (!cs_conn_net(c)->config.log_connections || !cs_log_enabled(CS_LOG_INFO)) {
        return;
    }
    if (cs_addr_unpack(&peer, &c->peer)) {
        cs_addr_text(&peer, text);
    }
    cs_log(CS_LOG_INFO,
           "connection closed service=%s peer=%s in=%llu out=%llu seconds=%llu "
           "reason=\"%s\"",
           c->origin->service, text, (unsigned long long)c->bytes_in,
           (unsigned long long)c->bytes_out,
           (unsigned long long)(cs_loop_now(cs_conn_net(c)->loop) / 1000 - c->start_s), reason(c));
}

void cs_origin_unref(struct cs_origin *o)
{
    CS_ASSERT(o->refs > 0);
    if (--o->refs == 0) {
        o->free(o);
    }
}

void cs_conn_set_pass(struct cs_conn *c, unsigned pass)
{
    CS_ASSERT(c->origin && !c->pass);
    c->pass = pass & 7u;
}

static void leave_gate(const struct cs_conn *c)
{
    struct cs_addr peer;
    bool known = cs_conn_peername(c, &peer) == 0;
    if (c->pass) {
        cs_gate_leave(c->origin->gate, c->pass, known ? &peer : NULL);
    }
}

void cs_conn_leave_origin(struct cs_conn *c)
{
    if (c->origin) {
        log_end(c);
        c->origin->open--;
        leave_gate(c);
        cs_origin_unref(c->origin);
        c->origin = NULL;
    }
}
