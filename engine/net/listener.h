/*
 * listener - a bound address that outlives the scripts: its socket, the accept op, and the
 * connections that were accepted but not yet taken. A reload hands it from one owner to the next;
 * what waits in it moves along.
 *
 *   IDLE ──start──▶ ACCEPTING ◀──▶ PAUSED (queue or table full, or out of descriptors: accept is
 *     ▲                │             │     cancelled, armed again when there is room)
 *     │                ├────park─────┤
 *     │                │             ▼
 *     ├───────(PARKING: the accept op's final event is awaited)
 *     │                │
 *     │              close
 *     │                ▼
 *     │             STOPPING  the accept op's final event is awaited
 *     │                ▼
 *     │             EMPTYING  the kernel's queue is accepted, the socket closed; what was accepted
 *     │                │      waits to be taken
 *     └────close───────┴────▶ gone: `closed` is called, the listener is freed
 *
 * Cells of one thread share a socket: a listener each, of which one accepts (the registry moves
 * that: park, `parked`, start the other). The socket is emptied and closed with the last one.
 *
 * Owns:   the socket, connections nobody has taken yet.
 * Thread: that of the cell it was started on; before that, any one.
 */
#ifndef CS_NET_LISTENER_H
#define CS_NET_LISTENER_H

#include "net/conn.h"
#include "net/listen_table.h"

struct cs_listener;

/* Opens (or fails as bind(2) does). table: of the process, and the worker this is for; NULL: this
 * socket is in none. `service` names it in logs and is copied. 0, -ENOMEM or -errno; -EADDRINUSE is
 * the common one. addr gets the real port. */
CS_MUST_CHECK int cs_listener_open(struct cs_listener **out, struct cs_listen_table *table,
                                   unsigned worker, struct cs_addr *addr,
                                   const struct cs_listen_options *o, const char *service);

/* Another listener on the socket of this one, for another cell of the thread. 0 or -ENOMEM;
 * -EBADF when the socket is closed already. */
CS_MUST_CHECK int cs_listener_share(struct cs_listener **out, const struct cs_listener *l,
                                    const char *service);

/* For who moves accepting between cells. */
struct cs_listener_watch {
    /* The cell's table has no room: true when that is seen to (by park), false to wait for room
     * here. Asked again while it lasts. */
    bool (*full)(void *user);
    /* Nothing is armed any more, after park or close. */
    void (*parked)(void *user);
};
void cs_listener_watch(struct cs_listener *l, const struct cs_listener_watch *watch, void *user);

/* Called from the loop when connections wait to be taken: once for all that arrived in a turn (take
 * until NULL, or remember to), and once after attach when some wait already. */
typedef void cs_listener_ready_fn(void *user);

/* Whom to tell. Nobody (NULL): connections wait. */
void cs_listener_attach(struct cs_listener *l, cs_listener_ready_fn *ready, void *user);

/* Starts accepting on this cell; again after `parked`. Always the same cell. */
void cs_listener_start(struct cs_listener *l, struct cs_net *n);

/* Stops accepting until the next start; what was accepted can be taken as before. `parked` follows,
 * at once when nothing is armed. Only after start. */
void cs_listener_park(struct cs_listener *l);

/* The oldest connection that waits, or NULL. It is paused and the caller's to attach to and close.
 */
struct cs_conn *cs_listener_take(struct cs_listener *l);

/* Connections that wait to be taken. */
unsigned cs_listener_waiting(const struct cs_listener *l);

/* True when it does not accept and nobody it has accepted waits, or is about to. */
bool cs_listener_unused(const struct cs_listener *l);

/* The last listener of a socket accepts what is already in the kernel's queue, then closes the
 * socket; what was accepted can still be taken, and `closed` (may be NULL) is called from the loop
 * when none is left and nothing is armed; the listener is freed before that. While nobody is
 * attached what waits is closed gracefully. A listener that was never started has no loop: it is
 * freed, and `closed` called, before this returns. Once only. */
void cs_listener_close(struct cs_listener *l, void (*closed)(void *user), void *user);

/* Takes a close back while the socket is still open: true, and it accepts again (`closed` is not
 * called). False when it is too late. */
bool cs_listener_reopen(struct cs_listener *l);

/* For net.c: more connections may be let in again (arg is the cs_net). */
void cs_listeners_room(void *arg);

const struct cs_addr *cs_listener_addr(const struct cs_listener *l);
struct cs_origin *cs_listener_origin(struct cs_listener *l);

/* The name in logs from now on (a reload may move an address to another service). 0 or -ENOMEM. */
CS_MUST_CHECK int cs_listener_rename(struct cs_listener *l, const char *service);

#endif
