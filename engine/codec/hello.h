/*
 * hello - what a TLS client asks for, read from its ClientHello without answering it: for routing a
 * connection by name before anybody terminates it (RFC 8446 4.1.2 and 5.1, RFC 6066 3, RFC
 * 7301 3.1).
 *
 * The message may be spread over any number of records, and a record over any number of reads. No
 * socket here: bytes in, a result out. The caller keeps the bytes and passes them on untouched.
 *
 * Memory: grows with what has arrived, from 1 KiB to CS_HELLO_MAX; freed by cs_hello_finish.
 */
#ifndef CS_CODEC_HELLO_H
#define CS_CODEC_HELLO_H

#include "base/base.h"

/* The longest handshake message that is read, header included. Clients of today send 0.3 to 20 KiB.
 */
#define CS_HELLO_MAX 65536u

/* A protocol name of RFC 7301 or a host name, as sent. */
struct cs_hello_name {
    const char *bytes; /* into the reader's memory */
    uint8_t len;
};

struct cs_hello {
    /* Once cs_hello_feed has returned 1: */
    struct cs_hello_name sni; /* printable ASCII; len 0: the client named no host */
    const uint8_t *alpn;      /* names, each behind a byte with its length; for cs_hello_alpn */
    size_t alpn_len;
    const uint8_t *versions; /* two bytes each, best first; GREASE values of RFC 8701 among them */
    size_t version_count;

    /* The reader's own. */
    uint8_t *message; /* handshake header and body, as far as they have arrived */
    uint32_t len, room;
    uint32_t record_left; /* bytes of the current record that are still to come */
    uint8_t header[5];    /* of the next record */
    uint8_t header_len;
};

/* Nothing is allocated yet. */
void cs_hello_init(struct cs_hello *h);

/* The next bytes of the connection, in order, each once. 1: the ClientHello is complete (what comes
 * behind it is not looked at); 0: more is needed; -EPROTONOSUPPORT: this is no TLS; -EBADMSG: it
 * begins like TLS but is no proper ClientHello; -EMSGSIZE: longer than CS_HELLO_MAX; -ENOMEM. After
 * 1 or an error: do not feed again. */
CS_MUST_CHECK int cs_hello_feed(struct cs_hello *h, const uint8_t *data, size_t len);

/* The name at *at, which moves on; *at begins at 0. False at the end. */
bool cs_hello_alpn(const struct cs_hello *h, size_t *at, struct cs_hello_name *name);

/* "TLSv1.3" ... "SSLv3" for the two bytes of a version, NULL for one that has no name. */
const char *cs_hello_version_name(const uint8_t version[2]);

/* Frees the memory; the results are gone. */
void cs_hello_finish(struct cs_hello *h);

/* For a server that answers a hello, the rules that TLS libraries are lenient about: no version of
 * before TLS 1.0 (RFC 8446 D.5), no extension twice (4.2; RFC 5246 7.4.1.4), a name of printable
 * ASCII (RFC 6066 3), key shares only for groups that are listed (RFC 8446 4.2.8). What cannot be
 * parsed is left to the library. version: legacy_version; extensions: the list without its length.
 * NULL, or what is wrong, which lives for ever, and the *alert to send (RFC 8446 6). */
const char *cs_hello_fault(uint16_t version, const uint8_t *extensions, size_t len, uint8_t *alert);

#endif
