/*
 * tls_ticket - the keys that session tickets are encrypted with (RFC 5077, RFC 8446 4.6.1): one set
 * for the whole process, so that every worker resumes what another began, and a reload keeps them.
 *
 *   new ──first use──▶ encrypts ──PERIOD──▶ still decrypts ──2 PERIODs──▶ wiped
 *
 * Without cs_tls_tickets_set the keys are random and rotate by themselves. With it they are the
 * caller's: machines that share an address can share them.
 *
 * Thread: any.
 */
#ifndef CS_CODEC_TLS_TICKET_H
#define CS_CODEC_TLS_TICKET_H

#include "base/base.h"
#include "base/err.h"

#define CS_TLS_TICKET_KEY_SIZE 48 /* 16 bytes of name, 32 of AES-256-GCM key */
#define CS_TLS_TICKET_KEYS_MAX 4

struct ssl_ctx_st;

/* The keys from now on: the first encrypts, all decrypt. count 1..CS_TLS_TICKET_KEYS_MAX; 0: random
 * ones again. Cannot fail. */
void cs_tls_tickets_set(const uint8_t (*keys)[CS_TLS_TICKET_KEY_SIZE], unsigned count);

/* For tls_context.c: a server's context encrypts its tickets here. */
void cs_tls_tickets_use(struct ssl_ctx_st *ctx);

#endif
