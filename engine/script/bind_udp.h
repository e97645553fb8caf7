/*
 * bind_udp - what the methods of a socket mean while it is DATAGRAM; called by bind_sock.c, which
 * has checked that it is.
 */
#ifndef CS_SCRIPT_BIND_UDP_H
#define CS_SCRIPT_BIND_UDP_H

#include "script/sock.h"

/* The results of a read(...) that can be answered now; 0: it has to wait (receiving is on then). */
CS_RAISES int cs_datagram_read(lua_State *L, struct cs_sock *s);

/* The results of write(...), whose stack has at most 5 values. */
CS_RAISES int cs_datagram_write(lua_State *L, struct cs_sock *s, struct cs_payload p);

/* The results of setoption(name, ...). */
CS_RAISES int cs_datagram_setoption(lua_State *L, struct cs_sock *s, const char *name);

/* sock:sendto(data [, ip, port]), on any socket. */
int cs_sock_sendto(lua_State *L);

#endif
