/* net - what all sockets of one cell share. */
#include "net/net.h"

#include <errno.h>

#include "base/assert.h"
#include "net/conn.h"
#include "net/listener.h"
#include "net/relay.h"
#include "net/resolve.h"
#include "net/tls.h"
#include "net/udp.h"
#include "net/ws.h"

void cs_net_config_default(struct cs_net_config *config)
{
    *config = (struct cs_net_config){
        .out_high = 128 * 1024,
        .out_low = 32 * 1024,
        .in_high = 128 * 1024,
        .in_low = 32 * 1024,
        .flush_ms = 30000,
        .drain_ms = 2000,
        .log_connections = true,
    };
}

/* The upper layers first: what they have to say goes out in the same turn. */
static bool phase_write(void *arg)
{
    cs_ws_phase(arg);
    bool more = cs_tls_phase(arg);
    return cs_conn_phase_write(arg) || more;
}

/* By any thread, under the gates' lock. Without memory the listeners' own timers will do. */
static void room_came(void *user)
{
    struct cs_net *n = user;
    (void)!cs_loop_post(n->loop, cs_listeners_room, n);
}

int cs_net_init(struct cs_net *n, struct cs_loop *loop, const struct cs_net_config *config)
{
    *n = (struct cs_net){.loop = loop, .ring = cs_loop_ring(loop), .config = *config};
    n->small_size = cs_ring_buffer_size(n->ring, CS_RING_SMALL);
    cs_list_init(&n->held);
    cs_admit_waiter_init(&n->room, room_came, n);
    cs_list_init(&n->starved);
    cs_list_init(&n->ports);
    cs_list_init(&n->tls_due);
    cs_list_init(&n->ws_due);
    n->conns = cs_pool_create(cs_conn_size(), n);
    n->tls = cs_pool_create(cs_tls_stream_size(), n);
    n->ws = cs_pool_create(cs_ws_stream_size(), n);
    n->relay_pool = cs_pool_create(cs_relay_size(), n);
    bool pools = n->conns && n->tls && n->ws && n->relay_pool;
    int err = pools ? cs_resolver_create(&n->resolver, n) : -ENOMEM;
    if (err < 0) {
        cs_pool_destroy(n->relay_pool);
        cs_pool_destroy(n->conns);
        cs_pool_destroy(n->tls);
        cs_pool_destroy(n->ws);
        return err;
    }
    cs_loop_set_phase(loop, CS_PHASE_WRITE, phase_write, n);
    cs_loop_set_phase(loop, CS_PHASE_BURY, cs_conn_phase_bury, n);
    return 0;
}

void cs_net_configure(struct cs_net *n, const struct cs_net_config *config)
{
    struct cs_admit *admit = n->config.admit;
    n->config = *config;
    n->config.admit = admit;
}

void cs_net_finish(struct cs_net *n)
{
    CS_ASSERT(cs_net_idle(n));
    if (n->config.admit) {
        cs_admit_waiter_stop(n->config.admit, &n->room);
    }
    cs_loop_set_phase(n->loop, CS_PHASE_WRITE, NULL, NULL);
    cs_loop_set_phase(n->loop, CS_PHASE_BURY, NULL, NULL);
    cs_resolver_destroy(n->resolver);
    cs_pool_destroy(n->ws);
    cs_pool_destroy(n->tls);
    cs_pool_destroy(n->relay_pool);
    cs_pool_destroy(n->conns);
}

void cs_net_close_all(struct cs_net *n, bool abort, int why)
{
    struct cs_conn *c = NULL;
    cs_resolver_stop(n->resolver);
    cs_udp_close_all(n);
    cs_ws_close_all(n, abort, why);
    cs_tls_close_all(n, abort, why);
    while ((c = cs_pool_next(n->conns, c))) {
        cs_stream_close(cs_conn_stream(c), abort ? CS_CLOSE_ABORT : CS_CLOSE_GRACEFUL, why);
    }
}

void cs_net_trim(struct cs_net *n)
{
    cs_pool_trim(n->conns);
    cs_pool_trim(n->tls);
    cs_pool_trim(n->ws);
    cs_pool_trim(n->relay_pool);
    cs_ring_trim(n->ring);
}

bool cs_net_idle(const struct cs_net *n)
{
    return cs_pool_count(n->conns) == 0 && cs_pool_count(n->relay_pool) == 0 &&
           cs_list_empty(&n->ports) && cs_resolver_idle(n->resolver);
}
