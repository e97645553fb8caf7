/*
 * sock - what a Lua socket is behind its userdata: a stream, a listener, a datagram socket or
 * nothing yet, the coroutine that owns it, and who waits for what. The methods are in bind_sock.c,
 * ba.socket in bind_socket.c, what concerns datagrams in bind_udp.c.
 *
 *   UNBOUND ──connect──▶ CONNECTING ──▶ OPEN ──close/end──▶ TERMINATED
 *    │ └─────bind──▶ LISTENING ───────────────close─────────▲  ▲
 *    └──udpcon──▶ (RESOLVING) ──▶ DATAGRAM ───close────────────┘
 *
 * Owns:   the stream, the bound address or the datagram socket while it has one.
 * Life:   the collector's. __gc only requests closes.
 * Events of the stream wake tasks and do nothing else: Lua runs later, in the script phase.
 */
#ifndef CS_SCRIPT_SOCK_H
#define CS_SCRIPT_SOCK_H

#include "net/dial.h"
#include "net/udp.h"
#include "script/bind.h"

enum cs_sock_state {
    CS_SOCK_UNBOUND,
    CS_SOCK_CONNECTING,
    CS_SOCK_OPEN,
    CS_SOCK_LISTENING,
    CS_SOCK_RESOLVING,
    CS_SOCK_DATAGRAM,
    CS_SOCK_TERMINATED,
};

enum cs_sock_mode { CS_SOCK_BLOCKING, CS_SOCK_ASYNC, CS_SOCK_COSOCKET };

enum cs_sock_disabled {
    CS_SOCK_ENABLED,
    CS_SOCK_DISABLED_SELF,    /* its coroutine waits in disable() */
    CS_SOCK_DISABLED_OUTSIDE, /* its coroutine waits in read and is not to be woken by data */
};

struct cs_sock_tls;

struct cs_sock {
    struct cs_vm *vm;
    struct cs_stream *stream; /* exactly while OPEN */
    union {
        struct cs_bound *bound;       /* only while LISTENING */
        struct cs_dial *dial;         /* only while CONNECTING; NULL while that is held */
        struct cs_udp_dial *udp_dial; /* only while RESOLVING; likewise */
        struct cs_udp *udp;           /* only while DATAGRAM */
    };
    struct cs_sock_tls *tls; /* of a connect or a listener; NULL: nothing to say */
    struct cs_task *owner;   /* its coroutine ("r" or "s"), or NULL */
    struct cs_task *waiter;  /* waits here in read, accept, connect or disable; at most one */
    struct cs_list writers;  /* of cs_writer, oldest first */
    size_t held;             /* bytes of the messages among them */
    uint32_t queuelen;
    int end; /* why it is TERMINATED, or why the connect failed */
    enum cs_sock_state state : 8;
    enum cs_sock_mode mode : 8;
    enum cs_sock_disabled disabled : 8;
    bool writing; /* the oldest of writers has been woken and is about to go on */
    bool latched; /* enable came while the owner was running: its values wait in the user value */
};

/* One place in the queue of a socket that TCP takes no more from: a task suspended in write (the
 * struct is a userdata on its stack), or a message a non-cosocket has left behind such tasks. */
struct cs_writer {
    struct cs_list node;
    struct cs_sock *sock;
    struct cs_task *task; /* NULL: a message */
    struct cs_chain data; /* of a message */
    bool text;            /* likewise: what it is in a WebSocket */
};

#define CS_SOCK_TYPE "ba.socket"
#define CS_SOCK_QUEUELEN 16384
#define CS_READ_MAX 65535 /* bytes one read joins: what one write to a WebSocket takes */

/* A new userdata on L's stack, UNBOUND. */
CS_RAISES struct cs_sock *cs_sock_new(lua_State *L, enum cs_sock_mode mode);

/* The socket to connect or bind: the caller's own while it is a cosocket, else a new one. Pushes
 * it; NULL when the cosocket has been used already. */
CS_RAISES struct cs_sock *cs_sock_for_caller(lua_State *L);

/* The argument; raises when it is no socket. For functions whose upvalue 1 is the metatable. */
CS_RAISES struct cs_sock *cs_sock_check(lua_State *L, int arg);

/* Gives it an open stream: UNBOUND or CONNECTING to OPEN. */
void cs_sock_attach(struct cs_sock *s, struct cs_stream *stream);

/* Another stream over the one it has takes its place. */
void cs_sock_replace(struct cs_sock *s, struct cs_stream *stream);

/* Closes the stream of a connect that failed in the end: OPEN to UNBOUND, it may try again. */
void cs_sock_unattach(struct cs_sock *s, int why);

/* Hands the stream out (to a relay): TERMINATED as if it had been closed here. Only while OPEN. */
struct cs_stream *cs_sock_release(struct cs_sock *s);

/* Closes whatever it has, from any state, and wakes everyone who waits on it with `end`. Output
 * already written is still delivered. why: for the log (0: ordinary). */
void cs_sock_close(struct cs_sock *s, int end, int why);

/* The event functions of a bound address whose user is the sock. */
extern const struct cs_bound_user cs_sock_bound_user;

/* Lets everyone who is suspended in write here try again (err 0), or fail. */
void cs_sock_wake_writers(struct cs_sock *s, int err);

/* The bytes of write(data [, i [, j]] [, text]), as string.sub would cut them. */
struct cs_payload {
    const char *bytes;
    size_t len;
    bool text;
};
CS_RAISES struct cs_payload cs_check_payload(lua_State *L);

/* Pushes the first n bytes (at most its length) as a string. */
CS_RAISES void cs_push_front(lua_State *L, const struct cs_chain *chain, size_t n);

/* Results of a write that failed. */
CS_RAISES int cs_push_write_error(lua_State *L, int err);

/* Wakes the task that waits here. */
void cs_sock_wake(struct cs_sock *s, int err);

/* `return cs_writer_park(...)`: the writer's task waits in its socket's queue, in front of the
 * others if it goes first. */
CS_RAISES int cs_writer_park(lua_State *L, struct cs_writer *w, bool first, lua_KFunction k,
                             lua_KContext ctx);

/* While there is room: messages go to the stream, the next suspended writer goes on. */
void cs_sock_next_writer(struct cs_sock *s);

/* Puts a message of n bytes behind those who wait. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_sock_hold(struct cs_sock *s, const void *bytes, size_t n, bool text);

/* There is something to read; of a WebSocket, a frame or a piece of one. */
bool cs_sock_has_input(const struct cs_sock *s);

/* For cs_task_park: takes the task off the socket it waits on (t->user). */
void cs_sock_leave(struct cs_task *t);

/* sock:event and ba.socket.event: makes `f` (at index, followed by nargs arguments, the first of
 * which is the socket) the socket's coroutine and runs it at once. */
CS_RAISES void cs_sock_run(lua_State *L, struct cs_sock *s, enum cs_sock_mode mode, int nargs);

/* Takes the socket from its coroutine, which then does not close it at its end. Its co must have
 * room for one value. */
void cs_sock_disown(struct cs_sock *s);

/* For methods that look at input. Raises unless the caller may read the socket now (ba-api A.2). */
CS_RAISES void cs_sock_check_reader(lua_State *L, const struct cs_sock *s);

/* `return cs_sock_wait_input(...)`: k runs once there is more input, the stream has ended, or after
 * ms (< 0: never). what: the method, for the error where nobody can wait. */
CS_RAISES int cs_sock_wait_input(lua_State *L, struct cs_sock *s, const char *what, int64_t ms,
                                 lua_KFunction k, lua_KContext ctx);

/* bind_sock_tls.c: the methods that are about TLS. */
extern const luaL_Reg cs_sock_tls_methods[];

/* bind_websocket.c: the methods, and what a read of a WebSocket that has input gives. */
extern const luaL_Reg cs_sock_ws_methods[];
CS_RAISES int cs_websocket_read(lua_State *L, struct cs_stream *stream);

/* bind_hello.c: the method, and what it needs; once a VM. */
int cs_sock_clienthello(lua_State *L);
CS_RAISES void cs_bind_hello(lua_State *L);

/* Pushes the list of a ClientHello's versions, two bytes each: {"TLSv1.3", ...}. */
CS_RAISES void cs_push_versions(lua_State *L, const uint8_t *versions, size_t count);

/* The string for a failed read: "socketclosed" for an end, "socketreadfailed" for a break ... */
const char *cs_sock_read_error(int err);

/* Adds the socket's methods to the table on top, whose functions get the metatable (below it). */
CS_RAISES void cs_bind_sock_methods(lua_State *L);

#endif
