/*
 * sim_peer - the far ends a test plays: the other end of the engine's connections.
 */
#include <errno.h>

#include "sim_world.h"

/* A peer is a socket that the test owns. */
static struct sim_sock *sock_of(const struct sim_peer *p)
{
    return (struct sim_sock *)(uintptr_t)p;
}

struct sim_peer *sim_peer_connect(const struct cs_addr *remote)
{
    struct sim_sock *s = sim_sock_create();
    sim_sock_connect(s, remote, NULL);
    return (struct sim_peer *)s;
}

int sim_peer_connected(const struct sim_peer *p)
{
    const struct sim_sock *s = sock_of(p);
    if (s->was_up) {
        return 1;
    }
    return s->state == SIM_DEAD ? -s->err : 0;
}

ssize_t sim_peer_write(struct sim_peer *p, const void *data, size_t len)
{
    struct sim_sock *s = sock_of(p);
    return s->state == SIM_CONNECTING ? 0 : sim_sock_write(s, data, len);
}

ssize_t sim_peer_read(struct sim_peer *p, void *buf, size_t len)
{
    return sim_sock_read(sock_of(p), buf, len);
}

void sim_peer_shutdown(struct sim_peer *p)
{
    (void)sim_sock_shutdown(sock_of(p));
}

void sim_peer_close(struct sim_peer *p)
{
    sim_sock_close(sock_of(p), false);
}

void sim_peer_reset(struct sim_peer *p)
{
    sim_sock_close(sock_of(p), true);
}

const struct cs_addr *sim_peer_local(const struct sim_peer *p)
{
    return &sock_of(p)->local;
}

const struct cs_addr *sim_peer_remote(const struct sim_peer *p)
{
    return &sock_of(p)->remote;
}

size_t sim_peer_unsent(const struct sim_peer *p)
{
    const struct sim_sock *s = sock_of(p);
    return s->tx.len + (s->peer ? s->peer->rx.len : 0);
}

size_t sim_peer_incoming(const struct sim_peer *p)
{
    const struct sim_sock *s = sock_of(p);
    return s->rx.len + (s->peer ? s->peer->tx.len : 0);
}

struct sim_far_listener *sim_far_listen(struct cs_addr *addr, int backlog)
{
    struct sim_listener *l;
    int err = sim_listener_open(&l, addr, backlog, false);
    if (err < 0) {
        sim_fail("sim_far_listen: error %d", err);
    }
    return (struct sim_far_listener *)l;
}

struct sim_peer *sim_far_accept(struct sim_far_listener *l)
{
    return (struct sim_peer *)sim_listener_pop((struct sim_listener *)l);
}

void sim_far_close(struct sim_far_listener *l)
{
    sim_listener_close((struct sim_listener *)l);
}
