/*
 * addr - text to socket address and back. Nothing here resolves a name.
 */
#include "base/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/mem.h"

#define UNIX_PREFIX "unix:"
#define UNIX_PREFIX_LEN 5
#define UNIX_PATH_MAX sizeof(((struct sockaddr_un *)0)->sun_path)
#define UNIX_HEAD offsetof(struct sockaddr_un, sun_path)

/* The address, "%", an interface name. */
#define V6_TEXT_MAX (INET6_ADDRSTRLEN + 1 + IF_NAMESIZE)

_Static_assert(UNIX_PREFIX_LEN + UNIX_PATH_MAX + 1 <= CS_ADDR_TEXT_MAX, "a Unix path must fit");
_Static_assert(V6_TEXT_MAX + sizeof("[]:65535") <= CS_ADDR_TEXT_MAX, "an IPv6 address must fit");

static bool addr_is_unix_text(const char *text)
{
    return strncmp(text, UNIX_PREFIX, UNIX_PREFIX_LEN) == 0;
}

/* Decimal digits only: no sign, no blanks. */
static bool addr_number(const char *text, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    if (*text == '\0') {
        return false;
    }
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(*text - '0');
        if (value > max) {
            return false;
        }
    }
    *out = value;
    return true;
}

/* The path behind "unix:". An abstract name ("@x") has a zero in front and none behind; its length
 * counts. */
static int addr_parse_unix(struct cs_addr *out, const char *path)
{
    size_t len = strlen(path);
    bool abstract = path[0] == '@';

    if (len == 0 || len >= UNIX_PATH_MAX || (abstract && len == 1)) {
        return CS_EINVAL;
    }
    out->un.sun_family = AF_UNIX;
    memcpy(out->un.sun_path, path, len);
    if (abstract) {
        out->un.sun_path[0] = '\0';
    }
    out->len = (socklen_t)(UNIX_HEAD + len + (abstract ? 0 : 1));
    return 0;
}

/* An interface name or its number. */
static int addr_parse_scope(struct cs_addr *out, const char *scope)
{
    uint64_t number;

    if (addr_number(scope, UINT32_MAX, &number)) {
        out->v6.sin6_scope_id = (uint32_t)number;
        return 0;
    }
    out->v6.sin6_scope_id = if_nametoindex(scope);
    return out->v6.sin6_scope_id != 0 ? 0 : CS_EINVAL;
}

static int addr_parse_v6(struct cs_addr *out, const char *text, uint16_t port)
{
    char ip[V6_TEXT_MAX + 1];
    size_t len = strlen(text);
    char *scope;

    if (len >= sizeof(ip)) {
        return CS_EINVAL;
    }
    memcpy(ip, text, len + 1);
    scope = strchr(ip, '%');
    if (scope != NULL) {
        *scope++ = '\0';
    }
    if (inet_pton(AF_INET6, ip, &out->v6.sin6_addr) != 1) {
        return CS_EINVAL;
    }
    if (scope != NULL && addr_parse_scope(out, scope) != 0) {
        return CS_EINVAL;
    }
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons(port);
    out->len = sizeof(out->v6);
    return 0;
}

static int addr_parse_bracketed(struct cs_addr *out, const char *text, uint16_t port)
{
    char ip[V6_TEXT_MAX + 1];
    size_t len = strlen(text);

    if (len < 2 || text[len - 1] != ']' || len - 2 >= sizeof(ip)) {
        return CS_EINVAL;
    }
    memcpy(ip, text + 1, len - 2);
    ip[len - 2] = '\0';
    return addr_parse_v6(out, ip, port);
}

int cs_addr_parse(struct cs_addr *out, const char *text, uint16_t port)
{
    struct cs_addr a;
    int err;

    memset(&a, 0, sizeof(a));
    if (addr_is_unix_text(text)) {
        err = addr_parse_unix(&a, text + UNIX_PREFIX_LEN);
    } else if (text[0] == '[') {
        err = addr_parse_bracketed(&a, text, port);
    } else if (inet_pton(AF_INET, text, &a.v4.sin_addr) == 1) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons(port);
        a.len = sizeof(a.v4);
        err = 0;
    } else {
        memset(&a, 0, sizeof(a));
        err = addr_parse_v6(&a, text, port);
    }
    if (err == 0) {
        *out = a;
    }
    return err;
}

static int addr_copy_host(char *host, size_t host_size, const char *text, size_t len)
{
    if (len >= host_size) {
        return CS_EINVAL;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    return 0;
}

int cs_addr_split(const char *text, char *host, size_t host_size, uint16_t *port)
{
    const char *start = text;
    const char *end = strchr(text, ':'); /* of the host */
    const char *colon = end;
    uint64_t number;

    if (addr_is_unix_text(text)) {
        *port = 0;
        return text[UNIX_PREFIX_LEN] != '\0' ? addr_copy_host(host, host_size, text, strlen(text))
                                             : CS_EINVAL;
    }
    if (text[0] == '[') {
        start = text + 1;
        end = strchr(start, ']');
        /* Brackets are for IPv6 only. */
        if (end == NULL || memchr(start, ':', (size_t)(end - start)) == NULL) {
            return CS_EINVAL;
        }
        colon = end + 1;
    }
    /* In "::1:80" nobody can tell where the port begins; addr_number refuses its second colon. */
    if (colon == NULL || *colon != ':' || !addr_number(colon + 1, UINT16_MAX, &number)) {
        return CS_EINVAL;
    }
    *port = (uint16_t)number;
    return addr_copy_host(host, host_size, start, (size_t)(end - start));
}

void cs_addr_any(struct cs_addr *out, int family, uint16_t port)
{
    CS_ASSERT(family == AF_INET || family == AF_INET6);
    memset(out, 0, sizeof(*out));
    if (family == AF_INET) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        out->len = sizeof(out->v4);
    } else {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        out->len = sizeof(out->v6);
    }
}

/* Makes a mapped address the IPv4 address that it stands for. */
static void addr_unmap(struct cs_addr *a)
{
    struct sockaddr_in v4;

    memset(&v4, 0, sizeof(v4));
    v4.sin_family = AF_INET;
    v4.sin_port = a->v6.sin6_port;
    memcpy(&v4.sin_addr, a->v6.sin6_addr.s6_addr + 12, sizeof(v4.sin_addr));
    memset(a, 0, sizeof(*a));
    a->v4 = v4;
    a->len = sizeof(v4);
}

/* The kernel counts the final zero of a path or not, as the binder did; here it always counts. */
static void addr_trim_unix(struct cs_addr *a)
{
    size_t len = a->len - UNIX_HEAD;

    if (len == 0 || a->un.sun_path[0] == '\0') {
        return;
    }
    len = strnlen(a->un.sun_path, len);
    a->len = (socklen_t)(UNIX_HEAD + CS_MIN(len + 1, UNIX_PATH_MAX));
    memset(a->un.sun_path + len, 0, UNIX_PATH_MAX - len);
}

void cs_addr_from_sockaddr(struct cs_addr *out, const struct sockaddr *sa, socklen_t len)
{
    sa_family_t family = AF_UNSPEC;

    memset(out, 0, sizeof(*out));
    if (len >= sizeof(family)) {
        memcpy(&family, sa, sizeof(family));
    }
    if (family == AF_INET && len >= sizeof(out->v4)) {
        memcpy(&out->v4, sa, sizeof(out->v4));
        out->len = sizeof(out->v4);
    } else if (family == AF_INET6 && len >= sizeof(out->v6)) {
        memcpy(&out->v6, sa, sizeof(out->v6));
        out->len = sizeof(out->v6);
        if (IN6_IS_ADDR_V4MAPPED(&out->v6.sin6_addr)) {
            addr_unmap(out);
        }
    } else if (family == AF_UNIX) {
        out->len = (socklen_t)CS_MIN(len, sizeof(out->un));
        memcpy(&out->un, sa, out->len);
        addr_trim_unix(out);
    }
}

int cs_addr_family(const struct cs_addr *a)
{
    return a->len != 0 ? a->sa.sa_family : AF_UNSPEC;
}

uint16_t cs_addr_port(const struct cs_addr *a)
{
    switch (cs_addr_family(a)) {
    case AF_INET:
        return ntohs(a->v4.sin_port);
    case AF_INET6:
        return ntohs(a->v6.sin6_port);
    default:
        return 0;
    }
}

void cs_addr_set_port(struct cs_addr *a, uint16_t port)
{
    if (cs_addr_family(a) == AF_INET) {
        a->v4.sin_port = htons(port);
    } else if (cs_addr_family(a) == AF_INET6) {
        a->v6.sin6_port = htons(port);
    }
}

static void addr_text_v6(const struct sockaddr_in6 *v6, char *buf)
{
    char name[IF_NAMESIZE];
    size_t len;

    inet_ntop(AF_INET6, &v6->sin6_addr, buf, CS_ADDR_TEXT_MAX);
    if (v6->sin6_scope_id == 0) {
        return;
    }
    len = strlen(buf);
    if (if_indextoname(v6->sin6_scope_id, name) != NULL) {
        snprintf(buf + len, CS_ADDR_TEXT_MAX - len, "%%%s", name);
    } else {
        snprintf(buf + len, CS_ADDR_TEXT_MAX - len, "%%%u", v6->sin6_scope_id);
    }
}

/* Zeros of an abstract name are shown as "@", as ss(8) does. */
static void addr_text_unix(const struct cs_addr *a, char *buf)
{
    const char *path = a->un.sun_path;
    size_t len = a->len - UNIX_HEAD;

    memcpy(buf, UNIX_PREFIX, UNIX_PREFIX_LEN);
    buf += UNIX_PREFIX_LEN;
    if (len > 0 && path[0] != '\0') {
        len = strnlen(path, len);
    }
    for (size_t i = 0; i < len; i++) {
        buf[i] = path[i];
        if (path[i] == '\0') {
            buf[i] = '@';
        }
    }
    buf[len] = '\0';
}

const char *cs_addr_ip(const struct cs_addr *a, char *buf)
{
    switch (cs_addr_family(a)) {
    case AF_INET:
        inet_ntop(AF_INET, &a->v4.sin_addr, buf, CS_ADDR_TEXT_MAX);
        break;
    case AF_INET6:
        addr_text_v6(&a->v6, buf);
        break;
    case AF_UNIX:
        addr_text_unix(a, buf);
        break;
    default:
        memcpy(buf, "-", 2);
        break;
    }
    return buf;
}

const char *cs_addr_text(const struct cs_addr *a, char *buf)
{
    char ip[CS_ADDR_TEXT_MAX];
    int family = cs_addr_family(a);

    if (family != AF_INET && family != AF_INET6) {
        return cs_addr_ip(a, buf);
    }
    cs_addr_ip(a, ip);
    if (family == AF_INET) {
        snprintf(buf, CS_ADDR_TEXT_MAX, "%.*s:%u", V6_TEXT_MAX, ip, cs_addr_port(a));
    } else {
        snprintf(buf, CS_ADDR_TEXT_MAX, "[%.*s]:%u", V6_TEXT_MAX, ip, cs_addr_port(a));
    }
    return buf;
}

bool cs_addr_equal(const struct cs_addr *a, const struct cs_addr *b)
{
    int family = cs_addr_family(a);

    if (family != cs_addr_family(b)) {
        return false;
    }
    switch (family) {
    case AF_INET:
        return a->v4.sin_addr.s_addr == b->v4.sin_addr.s_addr && a->v4.sin_port == b->v4.sin_port;
    case AF_INET6:
        return IN6_ARE_ADDR_EQUAL(&a->v6.sin6_addr, &b->v6.sin6_addr) &&
               a->v6.sin6_port == b->v6.sin6_port && a->v6.sin6_scope_id == b->v6.sin6_scope_id;
    case AF_UNIX:
        return a->len == b->len && memcmp(a->un.sun_path, b->un.sun_path, a->len - UNIX_HEAD) == 0;
    default:
        return true;
    }
}

/* The word is an IPv4 address, its port and an odd number, or it is a pointer. */
#define PACKED_V4 1u

struct packed_v6 {
    struct in6_addr ip;
    in_port_t port;
    uint32_t scope;
};

static struct packed_v6 *packed_v6(const struct cs_addr_packed *p)
{
    return p->word & PACKED_V4 ? NULL : (struct packed_v6 *)(uintptr_t)p->word;
}

int cs_addr_pack(struct cs_addr_packed *out, const struct cs_addr *a)
{
    struct packed_v6 *v6;

    out->word = 0;
    if (cs_addr_family(a) == AF_INET) {
        out->word =
            (uint64_t)a->v4.sin_addr.s_addr << 32 | (uint32_t)a->v4.sin_port << 16 | PACKED_V4;
    } else if (cs_addr_family(a) == AF_INET6) {
        v6 = cs_alloc(sizeof(*v6));
        if (v6 == NULL) {
            return -ENOMEM;
        }
        *v6 = (struct packed_v6){a->v6.sin6_addr, a->v6.sin6_port, a->v6.sin6_scope_id};
        out->word = (uintptr_t)v6;
    }
    return 0;
}

void cs_addr_packed_free(struct cs_addr_packed *p)
{
    cs_free(packed_v6(p));
    p->word = 0;
}

bool cs_addr_unpack(struct cs_addr *out, const struct cs_addr_packed *p)
{
    const struct packed_v6 *v6 = packed_v6(p);

    if (p->word == 0) {
        return false;
    }
    if (v6 != NULL) {
        cs_addr_any(out, AF_INET6, ntohs(v6->port));
        out->v6.sin6_addr = v6->ip;
        out->v6.sin6_scope_id = v6->scope;
    } else {
        cs_addr_any(out, AF_INET, ntohs((in_port_t)(p->word >> 16)));
        out->v4.sin_addr.s_addr = (in_addr_t)(p->word >> 32);
    }
    return true;
}
