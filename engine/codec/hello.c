/*
 * hello - records to one message, then one pass over the message.
 *
 *   record: type 22, version 3.x, length (1..2^14) │ handshake: type 1, length (24 bits) │ body
 */
#include "codec/hello.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"

#define RECORD_HANDSHAKE 22
#define RECORD_HEADER 5u
#define RECORD_MAX 16384u /* of a plaintext record: RFC 8446 5.1 */
#define CLIENT_HELLO 1
#define MESSAGE_HEADER 4u
#define ROOM_FIRST 1024u

enum { EXT_SERVER_NAME = 0, EXT_GROUPS = 10, EXT_ALPN = 16, EXT_VERSIONS = 43, EXT_KEY_SHARE = 51 };
enum { ALERT_ILLEGAL_PARAMETER = 47, ALERT_PROTOCOL_VERSION = 70 };

/* ---- the message ---- */

/* What is left of a vector or message. */
struct span {
    const uint8_t *at;
    size_t len;
};

/* Takes a big-endian number of `size` bytes. */
static bool take_number(struct span *s, unsigned size, uint32_t *out)
{
    *out = 0;
    if (s->len < size) {
        return false;
    }
    for (unsigned i = 0; i < size; i++) {
        *out = *out << 8 | s->at[i];
    }
    s->at += size;
    s->len -= size;
    return true;
}

static bool take(struct span *s, size_t n, struct span *out)
{
    if (s->len < n) {
        return false;
    }
    *out = (struct span){s->at, n};
    s->at += n;
    s->len -= n;
    return true;
}

/* A vector behind a length of `size` bytes. */
static bool take_vector(struct span *s, unsigned size, struct span *out)
{
    uint32_t n;

    return take_number(s, size, &n) && take(s, n, out);
}

static bool printable(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] <= ' ' || s.at[i] > '~') {
            return false;
        }
    }
    return true;
}

/* RFC 6066 3: a list of one host name; other types of names were never defined. */
static bool read_server_name(struct cs_hello *h, struct span ext)
{
    struct span list, name;
    uint32_t type;

    if (h->sni.len > 0 || !take_vector(&ext, 2, &list) || ext.len > 0 ||
        !take_number(&list, 1, &type) || type != 0 || !take_vector(&list, 2, &name) ||
        list.len > 0 || name.len == 0 || name.len > UINT8_MAX || !printable(name)) {
        return false;
    }
    h->sni = (struct cs_hello_name){(const char *)name.at, (uint8_t)name.len};
    return true;
}

static bool read_alpn(struct cs_hello *h, struct span ext)
{
    struct span list, rest, name;

    if (h->alpn || !take_vector(&ext, 2, &list) || ext.len > 0 || list.len == 0) {
        return false;
    }
    rest = list;
    while (rest.len > 0) {
        if (!take_vector(&rest, 1, &name) || name.len == 0) {
            return false;
        }
    }
    h->alpn = list.at;
    h->alpn_len = list.len;
    return true;
}

static bool read_versions(struct cs_hello *h, struct span ext)
{
    struct span list;

    if (!take_vector(&ext, 1, &list) || ext.len > 0 || list.len == 0 || list.len % 2 != 0) {
        return false;
    }
    h->versions = list.at;
    h->version_count = list.len / 2;
    return true;
}

static bool read_extensions(struct cs_hello *h, struct span all)
{
    bool versions_seen = false;

    while (all.len > 0) {
        struct span ext;
        uint32_t type;
        bool ok = take_number(&all, 2, &type) && take_vector(&all, 2, &ext);

        if (ok && type == EXT_SERVER_NAME) {
            ok = read_server_name(h, ext);
        } else if (ok && type == EXT_ALPN) {
            ok = read_alpn(h, ext);
        } else if (ok && type == EXT_VERSIONS) {
            ok = !versions_seen && read_versions(h, ext);
            versions_seen = true;
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* The whole ClientHello. Clients before TLS 1.3 have no list of versions: theirs is the best one.
 */
static bool read_message(struct cs_hello *h)
{
    struct span body = {h->message + MESSAGE_HEADER, h->len - MESSAGE_HEADER};
    struct span version, random, session, suites, compressions, extensions;

    if (!take(&body, 2, &version) || !take(&body, 32, &random) ||
        !take_vector(&body, 1, &session) || session.len > 32 || !take_vector(&body, 2, &suites) ||
        suites.len == 0 || suites.len % 2 != 0 || !take_vector(&body, 1, &compressions) ||
        compressions.len == 0) {
        return false;
    }
    h->versions = version.at;
    h->version_count = 1;
    if (body.len == 0) {
        return true;
    }
    return take_vector(&body, 2, &extensions) && body.len == 0 && read_extensions(h, extensions);
}

/* ---- records ---- */

void cs_hello_init(struct cs_hello *h)
{
    *h = (struct cs_hello){0};
}

void cs_hello_finish(struct cs_hello *h)
{
    cs_free(h->message);
    *h = (struct cs_hello){0};
}

/* Header and body. Only once the header is there. */
static uint32_t message_size(const struct cs_hello *h)
{
    const uint8_t *m = h->message;

    return MESSAGE_HEADER + ((uint32_t)m[1] << 16 | (uint32_t)m[2] << 8 | m[3]);
}

static int add(struct cs_hello *h, const uint8_t *data, uint32_t n)
{
    if (h->len + n > h->room) {
        uint32_t room = CS_MAX(h->room * 2, ROOM_FIRST);
        uint8_t *more;

        while (room < h->len + n) {
            room *= 2;
        }
        more = cs_realloc(h->message, room);
        if (!more) {
            return -ENOMEM;
        }
        h->message = more;
        h->room = room;
    }
    memcpy(h->message + h->len, data, n);
    h->len += n;
    return 0;
}

/* As soon as a byte is wrong, so that nobody waits for the rest of what is no TLS. The first two
 * bytes tell TLS from everything else that is spoken on a port. */
static int check_header(const struct cs_hello *h)
{
    uint32_t length = (uint32_t)h->header[3] << 8 | h->header[4];
    bool wrong_type = h->header[0] != RECORD_HANDSHAKE;
    bool wrong_version = h->header_len > 1 && h->header[1] != 3;

    if (wrong_type || wrong_version) {
        return h->len == 0 ? -EPROTONOSUPPORT : -EBADMSG;
    }
    if (h->header_len == RECORD_HEADER && (length == 0 || length > RECORD_MAX)) {
        return -EBADMSG; /* RFC 8446 5.1: no handshake record is empty */
    }
    return 0;
}

/* Takes one byte of a record's header. */
static int feed_header(struct cs_hello *h, uint8_t byte)
{
    int err;

    h->header[h->header_len++] = byte;
    err = check_header(h);
    if (err == 0 && h->header_len == RECORD_HEADER) {
        h->record_left = (uint32_t)h->header[3] << 8 | h->header[4];
        h->header_len = 0;
    }
    return err;
}

/* Takes n bytes of the message, at most up to the end of its header while that is not complete. */
static int feed_message(struct cs_hello *h, const uint8_t *data, uint32_t n)
{
    int err = add(h, data, n);

    h->record_left -= n;
    if (err < 0) {
        return err;
    }
    if (h->message[0] != CLIENT_HELLO) {
        return -EBADMSG;
    }
    if (h->len < MESSAGE_HEADER) {
        return 0;
    }
    if (message_size(h) > CS_HELLO_MAX) {
        return -EMSGSIZE;
    }
    if (h->len < message_size(h)) {
        return 0;
    }
    return read_message(h) ? 1 : -EBADMSG;
}

int cs_hello_feed(struct cs_hello *h, const uint8_t *data, size_t len)
{
    int result = 0;

    while (len > 0 && result == 0) {
        size_t n = 1;

        if (h->record_left == 0) {
            result = feed_header(h, *data);
        } else {
            uint32_t end = h->len < MESSAGE_HEADER ? MESSAGE_HEADER : message_size(h);

            n = CS_MIN(CS_MIN(len, (size_t)h->record_left), (size_t)(end - h->len));
            result = feed_message(h, data, (uint32_t)n);
        }
        data += n;
        len -= n;
    }
    return result;
}

/* ---- results ---- */

bool cs_hello_alpn(const struct cs_hello *h, size_t *at, struct cs_hello_name *name)
{
    if (*at >= h->alpn_len) {
        return false;
    }
    *name = (struct cs_hello_name){(const char *)h->alpn + *at + 1, h->alpn[*at]};
    *at += 1 + (size_t)name->len;
    return true;
}

const char *cs_hello_version_name(const uint8_t v[2])
{
    static const char *const names[] = {"SSLv3", "TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"};

    return v[0] == 3 && v[1] < CS_ARRAY_LEN(names) ? names[v[1]] : NULL;
}

/* ---- what is against the rules ---- */

/* A set of numbers of two bytes: a hello may hold thousands of extensions. */
struct set {
    uint64_t bits[65536 / 64];
};

static bool set_has(const struct set *s, uint32_t n)
{
    return s->bits[n / 64] >> n % 64 & 1;
}

static void set_add(struct set *s, uint32_t n)
{
    s->bits[n / 64] |= UINT64_C(1) << n % 64;
}

static bool twice(struct span all)
{
    struct set seen = {0};
    struct span ext;
    uint32_t type;

    while (take_number(&all, 2, &type) && take_vector(&all, 2, &ext)) {
        if (set_has(&seen, type)) {
            return true;
        }
        set_add(&seen, type);
    }
    return false;
}

/* Empty when it is not there. */
static struct span find(struct span all, uint32_t wanted)
{
    struct span ext;
    uint32_t type;

    while (take_number(&all, 2, &type) && take_vector(&all, 2, &ext)) {
        if (type == wanted) {
            return ext;
        }
    }
    return (struct span){0};
}

static bool name_is_odd(struct span ext)
{
    struct span list, name;
    uint32_t type;

    return take_vector(&ext, 2, &list) && take_number(&list, 1, &type) &&
           take_vector(&list, 2, &name) && !printable(name);
}

static bool shares_more(struct span groups, struct span shares)
{
    struct set listed = {0};
    struct span list, key;
    uint32_t group;

    if (!take_vector(&groups, 2, &list)) {
        return false;
    }
    while (take_number(&list, 2, &group)) {
        set_add(&listed, group);
    }
    if (!take_vector(&shares, 2, &list)) {
        return false;
    }
    while (take_number(&list, 2, &group) && take_vector(&list, 2, &key)) {
        if (!set_has(&listed, group)) {
            return true;
        }
    }
    return false;
}

const char *cs_hello_fault(uint16_t version, const uint8_t *extensions, size_t len, uint8_t *alert)
{
    struct span all = {extensions, len}, shares = find(all, EXT_KEY_SHARE);

    if (version < 0x0301) {
        *alert = ALERT_PROTOCOL_VERSION;
        return "a version before TLS 1.0";
    }
    *alert = ALERT_ILLEGAL_PARAMETER;
    if (twice(all)) {
        return "an extension twice";
    }
    if (name_is_odd(find(all, EXT_SERVER_NAME))) {
        return "a name that is not printable ASCII";
    }
    if (shares.len > 0 && shares_more(find(all, EXT_GROUPS), shares)) {
        return "a key share for a group that is not listed";
    }
    return NULL;
}
