/*
 * addr - socket addresses of the three families cosockd speaks: IPv4, IPv6 and Unix.
 */
#ifndef CS_BASE_ADDR_H
#define CS_BASE_ADDR_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/base.h"

struct cs_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un un;
    };
    socklen_t len; /* 0: no address */
};

/* Longest text of an address without port ("fe80::1%lo", a Unix path), with the final zero. */
#define CS_ADDR_TEXT_MAX 128

/* Parses a literal IP ("127.0.0.1", "::1", "[::1]", "fe80::1%eth0") or "unix:/path" (port ignored;
 * "unix:@name" is an abstract one). 0, or CS_EINVAL when it is none of these (a host name, say). */
CS_MUST_CHECK int cs_addr_parse(struct cs_addr *out, const char *text, uint16_t port);

/* Splits "host:port", "[v6]:port", ":port", "*:port" or "unix:/path" (port 0). host gets at most
 * host_size bytes with the final zero. 0, or CS_EINVAL. */
CS_MUST_CHECK int cs_addr_split(const char *text, char *host, size_t host_size, uint16_t *port);

/* The any-address of a family (AF_INET, AF_INET6). */
void cs_addr_any(struct cs_addr *out, int family, uint16_t port);

/* From a kernel address; an IPv4-mapped IPv6 address becomes plain IPv4. */
void cs_addr_from_sockaddr(struct cs_addr *out, const struct sockaddr *sa, socklen_t len);

int cs_addr_family(const struct cs_addr *a);
uint16_t cs_addr_port(const struct cs_addr *a); /* 0 for Unix */
void cs_addr_set_port(struct cs_addr *a, uint16_t port);

/* The address without port; returns buf, which holds CS_ADDR_TEXT_MAX bytes. Unnamed: "unix:". */
const char *cs_addr_ip(const struct cs_addr *a, char *buf);

/* "1.2.3.4:80", "[::1]:80", "unix:/path"; returns buf (CS_ADDR_TEXT_MAX bytes). "-" without one. */
const char *cs_addr_text(const struct cs_addr *a, char *buf);

bool cs_addr_equal(const struct cs_addr *a, const struct cs_addr *b);

/* An IP address and port in eight bytes, for those kept by the hundred thousand: an IPv4 one whole,
 * an IPv6 one as a pointer to memory of its own. */
struct cs_addr_packed {
    uint64_t word; /* 0: none */
};

/* A Unix address packs to none. 0, or -ENOMEM (to none). Free what was there before first. */
CS_MUST_CHECK int cs_addr_pack(struct cs_addr_packed *out, const struct cs_addr *a);
void cs_addr_packed_free(struct cs_addr_packed *p); /* it is none afterwards */

/* False when there is none. */
bool cs_addr_unpack(struct cs_addr *out, const struct cs_addr_packed *p);

#endif
