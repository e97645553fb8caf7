/*
 * ticket_keys - the file with the keys of TLS session tickets, for machines that share an address:
 * a line a key, 48 bytes in base64 (openssl rand -base64 48). The first encrypts, the others still
 * decrypt.
 */
#ifndef CSD_TICKET_KEYS_H
#define CSD_TICKET_KEYS_H

#include "codec/tls_ticket.h"
#include "script/conf.h"

struct csd_ticket_keys {
    unsigned count; /* 0: none of our own */
    uint8_t keys[CS_TLS_TICKET_KEYS_MAX][CS_TLS_TICKET_KEY_SIZE];
};

/* path: NULL for no file. What is wrong is added to errors. */
void csd_ticket_keys_read(struct csd_ticket_keys *out, const char *path, struct cs_errors *errors);

void csd_ticket_keys_wipe(struct csd_ticket_keys *k);

#endif
