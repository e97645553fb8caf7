/* tls_ticket - session tickets: name of the key, nonce, then the session under AES-256-GCM. */
#include "codec/tls_ticket.h"

#include <openssl/aead.h>
#include <openssl/mem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <string.h>

#include "base/clock.h"

#define NAME_SIZE 16
#define NONCE_SIZE 12
#define TAG_SIZE 16
#define OVERHEAD (NAME_SIZE + NONCE_SIZE + TAG_SIZE)

/* A ticket lives as long as a key encrypts, so one that is used up to its end can be decrypted. */
#define PERIOD_S (4 * 3600)

struct key {
    uint8_t bytes[CS_TLS_TICKET_KEY_SIZE];
};

static struct {
    pthread_mutex_t mutex;
    struct key keys[CS_TLS_TICKET_KEYS_MAX];
    unsigned count;    /* 0: none made yet */
    bool given;        /* by cs_tls_tickets_set: they do not rotate */
    uint64_t since_ms; /* keys[0] encrypts since then */
} all = {.mutex = PTHREAD_MUTEX_INITIALIZER};

/* ---- the set of keys; the mutex is held ---- */

static void forget(void)
{
    OPENSSL_cleanse(all.keys, sizeof(all.keys));
    all.count = 0;
    all.given = false;
}

static void rotate(void)
{
    uint64_t now = cs_clock_ms();
    uint64_t age_ms = now - all.since_ms;
    if (all.given || (all.count > 0 && age_ms < PERIOD_S * 1000ULL)) {
        return;
    }
    if (all.count > 0 && age_ms >= 2 * PERIOD_S * 1000ULL) {
        forget();
    }
    all.keys[1] = all.keys[0];
    all.count = all.count ? 2 : 1;
    all.since_ms = now;
    RAND_bytes(all.keys[0].bytes, sizeof(all.keys[0].bytes));
}

/* The key that encrypts (name NULL), or the one of that name. False: none. */
static bool find(const uint8_t *name, struct key *out)
{
    bool found = false;
    pthread_mutex_lock(&all.mutex);
    rotate();
    for (unsigned i = 0; i < all.count && !found; i++) {
        found = !name || memcmp(all.keys[i].bytes, name, NAME_SIZE) == 0;
        if (found) {
            *out = all.keys[i];
        }
    }
    pthread_mutex_unlock(&all.mutex);
    return found;
}

void cs_tls_tickets_set(const uint8_t (*keys)[CS_TLS_TICKET_KEY_SIZE], unsigned count)
{
    pthread_mutex_lock(&all.mutex);
    forget();
    for (unsigned i = 0; i < CS_MIN(count, (unsigned)CS_TLS_TICKET_KEYS_MAX); i++) {
        memcpy(all.keys[i].bytes, keys[i], CS_TLS_TICKET_KEY_SIZE);
        all.count++;
        all.given = true;
    }
    pthread_mutex_unlock(&all.mutex);
}

/* ---- BoringSSL's methods ---- */

static bool cipher(EVP_AEAD_CTX *aead, const struct key *key)
{
    return EVP_AEAD_CTX_init(aead, EVP_aead_aes_256_gcm(), key->bytes + NAME_SIZE,
                             CS_TLS_TICKET_KEY_SIZE - NAME_SIZE, TAG_SIZE, NULL);
}

static size_t overhead(SSL *ssl)
{
    (void)ssl;
    return OVERHEAD;
}

static int seal(SSL *ssl, uint8_t *out, size_t *out_len, size_t max, const uint8_t *in, size_t len)
{
    struct key key;
    EVP_AEAD_CTX aead;
    size_t sealed;
    int ok = 0;
    (void)ssl;
    EVP_AEAD_CTX_zero(&aead);
    if (max >= len + OVERHEAD && find(NULL, &key) && cipher(&aead, &key)) {
        memmove(out + NAME_SIZE + NONCE_SIZE, in, len); /* out may be in */
        memcpy(out, key.bytes, NAME_SIZE);
        RAND_bytes(out + NAME_SIZE, NONCE_SIZE);
        ok = EVP_AEAD_CTX_seal(&aead, out + NAME_SIZE + NONCE_SIZE, &sealed,
                               max - NAME_SIZE - NONCE_SIZE, out + NAME_SIZE, NONCE_SIZE,
                               out + NAME_SIZE + NONCE_SIZE, len, out, NAME_SIZE);
        *out_len = NAME_SIZE + NONCE_SIZE + sealed;
    }
    EVP_AEAD_CTX_cleanup(&aead);
    OPENSSL_cleanse(&key, sizeof(key));
    return ok;
}

/* What cannot be decrypted is a ticket of another time or place: a full handshake follows. */
static enum ssl_ticket_aead_result_t open_ticket(SSL *ssl, uint8_t *out, size_t *out_len,
                                                 size_t max, const uint8_t *in, size_t len)
{
    struct key key;
    EVP_AEAD_CTX aead;
    uint8_t head[NAME_SIZE + NONCE_SIZE];
    bool ok;
    (void)ssl;
    if (len < OVERHEAD || max < len - sizeof(head) || !find(in, &key)) {
        return ssl_ticket_aead_ignore_ticket;
    }
    memcpy(head, in, sizeof(head));
    memmove(out, in + sizeof(head), len - sizeof(head)); /* out may be in */
    EVP_AEAD_CTX_zero(&aead);
    ok = cipher(&aead, &key) &&
         EVP_AEAD_CTX_open(&aead, out, out_len, max, head + NAME_SIZE, NONCE_SIZE, out,
                           len - sizeof(head), head, NAME_SIZE);
    EVP_AEAD_CTX_cleanup(&aead);
    OPENSSL_cleanse(&key, sizeof(key));
    return ok ? ssl_ticket_aead_success : ssl_ticket_aead_ignore_ticket;
}

void cs_tls_tickets_use(SSL_CTX *ctx)
{
    static const SSL_TICKET_AEAD_METHOD methods = {
        .max_overhead = overhead, .seal = seal, .open = open_ticket};
    SSL_CTX_set_ticket_aead_method(ctx, &methods);
    SSL_CTX_set_timeout(ctx, PERIOD_S);
    SSL_CTX_set_session_psk_dhe_timeout(ctx, PERIOD_S);
}
