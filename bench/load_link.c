/* TLS and WebSockets of the clients. */
#include "load_link.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- TLS ---- */

static SSL_CTX *tls_context;
static SSL_SESSION *last_session;

static int keep_session(SSL *tls, SSL_SESSION *session)
{
    (void)tls;
    SSL_SESSION_free(last_session);
    last_session = session;
    return 1;
}

static void begin_tls(struct load_link *l, bool resume)
{
    if (tls_context == NULL) {
        tls_context = SSL_CTX_new(TLS_client_method());
        if (tls_context == NULL) {
            load_die("TLS: out of memory");
        }
        SSL_CTX_set_mode(tls_context,
                         SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        SSL_CTX_set_session_cache_mode(tls_context, SSL_SESS_CACHE_CLIENT);
        SSL_CTX_sess_set_new_cb(tls_context, keep_session);
    }
    l->tls = SSL_new(tls_context);
    if (l->tls == NULL || SSL_set_fd(l->tls, l->fd) != 1 ||
        SSL_set_tlsext_host_name(l->tls, "localhost") != 1) {
        load_die("TLS: out of memory");
    }
    SSL_set_connect_state(l->tls);
    if (resume && last_session != NULL) {
        SSL_set_session(l->tls, last_session);
    }
}

/* What a call that returned `result` wants to be said in errno; always -1, or 0 at the end. */
static int tls_failed(struct load_link *l, int result)
{
    int error = SSL_get_error(l->tls, result);
    if (error == SSL_ERROR_ZERO_RETURN) {
        return 0;
    }
    if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
        l->wants = error == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT;
        errno = EAGAIN;
    } else if (error != SSL_ERROR_SYSCALL || errno == 0) {
        errno = EPROTO;
    }
    return -1;
}

static ssize_t tls_send(struct load_link *l, const unsigned char *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ERR_clear_error();
        errno = 0;
        size_t rest = len - done;
        int n = SSL_write(l->tls, data + done, rest > LOAD_SLICE_MAX ? LOAD_SLICE_MAX : (int)rest);
        if (n <= 0) {
            tls_failed(l, n);
            break;
        }
        done += (size_t)n;
    }
    return done > 0 ? (ssize_t)done : -1;
}

/* Whole records only: nothing may stay inside where epoll does not see it. */
static ssize_t tls_recv(struct load_link *l, unsigned char *data, size_t len)
{
    size_t done = 0;
    while (len - done >= LOAD_RECORD_MAX) {
        ERR_clear_error();
        errno = 0;
        int n = SSL_read(l->tls, data + done, (int)(len - done));
        if (n <= 0) {
            int end = tls_failed(l, n);
            return done > 0 ? (ssize_t)done : end;
        }
        done += (size_t)n;
    }
    return (ssize_t)done;
}

/* ---- under the frames ---- */

static ssize_t raw_send(struct load_link *l, const void *data, size_t len)
{
    return l->tls ? tls_send(l, data, len) : send(l->fd, data, len, MSG_NOSIGNAL);
}

static ssize_t raw_recv(struct load_link *l, void *data, size_t len)
{
    return l->tls ? tls_recv(l, data, len) : recv(l->fd, data, len, 0);
}

/* ---- WebSocket frames (RFC 6455, section 5.2) ---- */

enum { FRAME_MAX = 65536, CONTROL_MAX = 125, OPCODE_CLOSE = 8, OPCODE_PING = 9 };

/* The key and its answer are those of RFC 6455, section 1.3. */
static const char upgrade_request[] = "GET / HTTP/1.1\r\n"
                                      "Host: localhost\r\n"
                                      "Upgrade: websocket\r\n"
                                      "Connection: Upgrade\r\n"
                                      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                                      "Sec-WebSocket-Version: 13\r\n"
                                      "Sec-WebSocket-Protocol: binary\r\n\r\n";
static const char upgrade_accepted[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

struct load_frames {
    bool open;              /* the handshake is over */
    bool ended;             /* a close frame came */
    unsigned char out[512]; /* the request; pongs and the head of the frame that is being sent */
    size_t out_len, out_sent;
    uint64_t payload_left;  /* of that frame */
    unsigned char mask[4];  /* of that frame */
    uint64_t masked;        /* bytes of its payload that have been sent */
    unsigned char in[1024]; /* the answer; a frame's head as far as it has come */
    size_t in_len;
    uint64_t in_left; /* payload of the frame that is arriving */
};

static void new_mask(unsigned char mask[4])
{
    static uint32_t x = 0x9e3779b9u;
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    memcpy(mask, &x, 4);
}

/* offset: position in the frame's payload. */
static void apply_mask(unsigned char *to, const unsigned char *from, size_t len,
                       const unsigned char mask[4], uint64_t offset)
{
    unsigned char key[8];
    uint64_t wide;
    size_t i = 0;
    for (unsigned k = 0; k < 8; k++) {
        key[k] = mask[(offset + k) % 4];
    }
    memcpy(&wide, key, 8);
    for (; i + 8 <= len; i += 8) {
        uint64_t word;
        memcpy(&word, from + i, 8);
        word ^= wide;
        memcpy(to + i, &word, 8);
    }
    for (; i < len; i++) {
        to[i] = from[i] ^ key[i % 8];
    }
}

/* Puts the head of a masked frame behind what is to be sent. There is room: pongs leave it. */
static void put_head(struct load_frames *f, unsigned first, size_t len)
{
    unsigned char *p = f->out + f->out_len;
    *p++ = (unsigned char)first;
    if (len < 126) {
        *p++ = (unsigned char)(0x80 | len);
    } else if (len < 65536) {
        *p++ = 0x80 | 126;
        *p++ = (unsigned char)(len >> 8);
        *p++ = (unsigned char)len;
    } else {
        *p++ = 0x80 | 127;
        for (int shift = 56; shift >= 0; shift -= 8) {
            *p++ = (unsigned char)((uint64_t)len >> shift);
        }
    }
    new_mask(f->mask);
    memcpy(p, f->mask, 4);
    f->out_len = (size_t)(p + 4 - f->out);
}

/* What lies in `out`. 0: all gone, -1 and errno. */
static int flush(struct load_link *l)
{
    struct load_frames *f = l->frames;
    while (f->out_sent < f->out_len) {
        ssize_t n = raw_send(l, f->out + f->out_sent, f->out_len - f->out_sent);
        if (n < 0) {
            return -1;
        }
        f->out_sent += (size_t)n;
    }
    f->out_len = f->out_sent = 0;
    return 0;
}

static ssize_t frames_send(struct load_link *l, const unsigned char *data, size_t len)
{
    static unsigned char buffer[sizeof(l->frames->out) + FRAME_MAX];
    struct load_frames *f = l->frames;
    size_t done = 0;
    while (done < len) {
        if (f->payload_left == 0) {
            f->payload_left = len - done < FRAME_MAX ? len - done : FRAME_MAX;
            f->masked = 0;
            put_head(f, 0x82, f->payload_left);
        }
        size_t head = f->out_len - f->out_sent;
        memcpy(buffer, f->out + f->out_sent, head);
        apply_mask(buffer + head, data + done, f->payload_left, f->mask, f->masked);
        ssize_t n = raw_send(l, buffer, head + f->payload_left);
        if (n < 0) {
            return done > 0 ? (ssize_t)done : -1;
        }
        size_t of_head = (size_t)n < head ? (size_t)n : head;
        f->out_sent += of_head;
        if (f->out_sent == f->out_len) {
            f->out_len = f->out_sent = 0;
        }
        size_t payload = (size_t)n - of_head;
        f->payload_left -= payload;
        f->masked += payload;
        done += payload;
    }
    return (ssize_t)done;
}

/* In the middle of a frame of ours that frame is sign of life enough. */
static void pong(struct load_link *l, const unsigned char *payload, size_t len)
{
    struct load_frames *f = l->frames;
    if (f->payload_left > 0 || f->out_len > 0) {
        return;
    }
    put_head(f, 0x8a, len);
    apply_mask(f->out + f->out_len, payload, len, f->mask, 0);
    f->out_len += len;
    flush(l); /* what stays goes out before the next frame */
}

/* How long a frame's head is, with all of a control frame. */
static size_t head_size(const struct load_frames *f)
{
    if (f->in_len < 2) {
        return 2;
    }
    unsigned len = f->in[1] & 127u;
    if (f->in[0] & 8) {
        return 2 + len;
    }
    return len < 126 ? 2 : len == 126 ? 4 : 10;
}

/* A frame's head is there. False: against the protocol. */
static bool head_complete(struct load_link *l)
{
    struct load_frames *f = l->frames;
    unsigned opcode = f->in[0] & 15u;
    uint64_t len = f->in[1];
    if ((f->in[0] & 0x70) != 0 || len > 127 || (opcode & 8 && len > CONTROL_MAX)) {
        return false; /* reserved bits, a masked frame, a long control frame */
    }
    if (opcode == OPCODE_CLOSE) {
        f->ended = true;
    } else if (opcode == OPCODE_PING) {
        pong(l, f->in + 2, len);
    } else if (!(opcode & 8)) {
        size_t bytes = len == 126 ? 2 : len == 127 ? 8 : 0;
        f->in_left = bytes > 0 ? 0 : len;
        for (size_t i = 0; i < bytes; i++) {
            f->in_left = f->in_left << 8 | f->in[2 + i];
        }
    }
    f->in_len = 0;
    return true;
}

/* Takes the heads out of what came; the payloads move together. Their bytes, or -1. */
static ssize_t unwrap(struct load_link *l, unsigned char *data, size_t len)
{
    struct load_frames *f = l->frames;
    size_t payload = 0;
    for (size_t at = 0; at < len && !f->ended;) {
        if (f->in_left > 0) {
            size_t n = len - at < f->in_left ? len - at : (size_t)f->in_left;
            memmove(data + payload, data + at, n);
            payload += n;
            at += n;
            f->in_left -= n;
            continue;
        }
        f->in[f->in_len++] = data[at++];
        if (f->in_len == head_size(f) && !head_complete(l)) {
            errno = EPROTO;
            return -1;
        }
    }
    return (ssize_t)payload;
}

static ssize_t frames_recv(struct load_link *l, unsigned char *data, size_t len)
{
    ssize_t n = raw_recv(l, data, len);
    if (n <= 0) {
        return n;
    }
    n = unwrap(l, data, (size_t)n);
    if (n == 0 && !l->frames->ended) {
        errno = EAGAIN;
        return -1;
    }
    return n;
}

static int upgrade(struct load_link *l)
{
    struct load_frames *f = l->frames;
    l->wants = EPOLLOUT;
    if (flush(l) < 0) {
        return errno == EAGAIN ? 0 : -1;
    }
    l->wants = EPOLLIN;
    unsigned char data[LOAD_RECORD_MAX];
    ssize_t n = raw_recv(l, data, sizeof(data));
    if (n <= 0) {
        return n < 0 && errno == EAGAIN ? 0 : -1;
    }
    errno = EPROTO;
    if (f->in_len + (size_t)n >= sizeof(f->in)) {
        return -1;
    }
    memcpy(f->in + f->in_len, data, (size_t)n);
    f->in_len += (size_t)n;
    f->in[f->in_len] = '\0';
    const char *end = strstr((char *)f->in, "\r\n\r\n");
    if (end == NULL) {
        return 0;
    }
    /* The origin says nothing of its own, so nothing may follow. */
    if (strncmp((char *)f->in, "HTTP/1.1 101 ", 13) != 0 || end[4] != '\0' ||
        strstr((char *)f->in, upgrade_accepted) == NULL) {
        return -1;
    }
    f->in_len = 0;
    f->open = true;
    return 1;
}

/* ---- all together ---- */

void load_link_begin(struct load_link *l, const struct load_options *o)
{
    if (o->tls) {
        begin_tls(l, o->resume);
    }
    if (o->websocket) {
        l->frames = calloc(1, sizeof(*l->frames));
        if (l->frames == NULL) {
            load_die("out of memory");
        }
        l->frames->out_len = sizeof(upgrade_request) - 1;
        memcpy(l->frames->out, upgrade_request, l->frames->out_len);
    }
}

int load_link_handshake(struct load_link *l)
{
    if (l->tls != NULL && SSL_in_init(l->tls)) {
        ERR_clear_error();
        errno = 0;
        int result = SSL_do_handshake(l->tls);
        if (result != 1) {
            return tls_failed(l, result) < 0 && errno == EAGAIN ? 0 : -1;
        }
    }
    return l->frames == NULL || l->frames->open ? 1 : upgrade(l);
}

bool load_link_resumed(const struct load_link *l)
{
    return l->tls != NULL && SSL_session_reused(l->tls);
}

ssize_t load_link_send(struct load_link *l, const void *data, size_t len)
{
    return l->frames ? frames_send(l, data, len) : raw_send(l, data, len);
}

ssize_t load_link_recv(struct load_link *l, void *data, size_t len)
{
    return l->frames ? frames_recv(l, data, len) : raw_recv(l, data, len);
}

void load_link_close(struct load_link *l)
{
    if (l->tls != NULL) {
        if (!SSL_in_init(l->tls)) {
            SSL_shutdown(l->tls);
        }
        SSL_free(l->tls);
        l->tls = NULL;
    }
    free(l->frames);
    l->frames = NULL;
    if (l->fd >= 0) {
        close(l->fd);
    }
    l->fd = -1;
}
