/* conn_begin - how a connection begins: adopted after accept, or dialled. */
#include "net/conn_impl.h"

size_t cs_conn_size(void)
{
    return sizeof(struct cs_conn);
}

struct cs_conn *cs_conn_create(struct cs_net *n, cs_fd fd, const struct cs_addr *peer,
                               struct cs_origin *origin)
{
    struct cs_conn *c = cs_conn_new(n, OPEN);
    if (!c) {
        return NULL;
    }
    if (peer && cs_addr_pack(&c->peer, peer) < 0) {
        cs_pool_free(n->conns, c);
        return NULL;
    }
    c->fd = fd;
    if (origin) {
        c->origin = origin;
        origin->refs++;
        origin->open++;
    }
    n->count.accepted++;
    return c;
}

static void connect_done(struct cs_op *op, const struct cs_event *ev)
{
    struct cs_conn *c = cs_container_of(op, struct cs_conn, recv);
    if (c->state == CONNECTING) {
        struct dialling d = c->dialling;
        c->bytes_in = c->bytes_out = 0;
        if (ev->res == 0) {
            cs_conn_set_state(c, OPEN);
            cs_conn_net(c)->count.connected++;
            cs_conn_read_on(c);
        }
        d.connected(d.user, c, ev->res);
    }
    cs_conn_join(c);
}

struct cs_conn *cs_conn_dial(struct cs_net *n, const struct cs_addr *remote,
                             const struct cs_addr *local, cs_conn_connected_fn *connected,
                             void *user)
{
    struct cs_conn *c = cs_conn_new(n, CONNECTING);
    if (!c) {
        return NULL;
    }
    if (cs_addr_pack(&c->peer, remote) < 0) {
        cs_pool_free(n->conns, c);
        return NULL;
    }
    cs_op_set_handler(&c->recv, connect_done);
    c->dialling = (struct dialling){connected, user};
    cs_ring_connect(n->ring, &c->recv, &c->fd, remote, local);
    return c;
}
