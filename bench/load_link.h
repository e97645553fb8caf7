/*
 * load_link - what carries a client's bytes: a socket, TLS over it, WebSocket frames over either.
 *
 *   load_client ── bytes ──▶ frames (masked) ── bytes ──▶ TLS ──▶ socket
 *
 * Made for the load: certificates are not verified, and an upgrade always has the same key, so that
 * its answer is known.
 */
#ifndef COSOCK_LOAD_LINK_H
#define COSOCK_LOAD_LINK_H

#include "load.h"

#include <sys/types.h>

struct ssl_st;
struct load_frames;

/* All zero but for the socket, which is not blocking and belongs to the link. */
struct load_link {
    int fd;
    uint32_t wants;     /* handshake: the event of epoll that it waits for */
    struct ssl_st *tls; /* NULL: none */
    struct load_frames *frames;
};

enum { LOAD_RECORD_MAX = 16384 }; /* plain bytes of a TLS record (RFC 8446, section 5.1) */

/* Puts over the connected socket what the options ask for. */
void load_link_begin(struct load_link *l, const struct load_options *o);

/* 1: done, 0: to be called again when `wants` happens, -1: failed, see errno. */
int load_link_handshake(struct load_link *l);

/* True when TLS went on with an earlier session. */
bool load_link_resumed(const struct load_link *l);

/* As send: the bytes taken, or -1 and errno. What was not taken must be offered again, with more
 * behind it if there is more. */
ssize_t load_link_send(struct load_link *l, const void *data, size_t len);

/* As recv. len: with TLS at least LOAD_RECORD_MAX. Pings are answered inside. */
ssize_t load_link_recv(struct load_link *l, void *data, size_t len);

/* Closes the socket, TLS with a close_notify before; a WebSocket without a close frame. */
void load_link_close(struct load_link *l);

#endif
