/*
 * err - every error code in one list. Functions return 0 (or a count) on success and a negative
 * code on failure: -errno exactly as the kernel gave it, or one of ours, which lie beyond errno.
 */
#ifndef CS_BASE_ERR_H
#define CS_BASE_ERR_H

#include "base/base.h"

/* X(name, value, text). The text completes "connection ended: ...". */
#define CS_ERR_LIST(X)                                                                             \
    X(EOF, -5001, "end of stream")                                                                 \
    X(ETIMEOUT, -5002, "timeout")                                                                  \
    X(ECLOSED, -5003, "closed by this program")                                                    \
    X(EFULL, -5004, "queue full")                                                                  \
    X(ELIMIT, -5005, "limit reached")                                                              \
    X(ERESOLVE, -5006, "name does not resolve")                                                    \
    X(ESHUTDOWN, -5007, "the server is stopping")                                                  \
    X(EINVAL, -5008, "invalid parameter")                                                          \
    X(EIDLE, -5009, "idle timeout")                                                                \
    X(ELINGER, -5010, "the other half stayed silent after a half-close")                           \
    X(ESCRIPT, -5011, "script error")                                                              \
    X(ECOLLECTED, -5012, "collected while abandoned")                                              \
    X(ENOTSUP, -5013, "not supported by this kernel")                                              \
    X(ESTATE, -5014, "not allowed in this state")                                                  \
    X(ETLSHANDSHAKE, -5015, "the TLS handshake failed")                                            \
    X(ETLSALERT, -5016, "the TLS peer sent an alert")                                              \
    X(ETLSRECORD, -5017, "a damaged TLS record")                                                   \
    X(ETLSTRUST, -5018, "the peer's certificate is not trusted")                                   \
    X(ETLSCUT, -5019, "the TLS peer ended without close_notify")                                   \
    X(EWS, -5020, "the WebSocket peer broke the protocol")                                         \
    X(EWSCUT, -5021, "the WebSocket peer ended within a message")                                  \
    X(ETOOBIG, -5022, "a WebSocket message over the limit")

enum cs_err {
    CS_OK = 0,
#define CS_ERR_ENUM(name, value, text) CS_##name = (value),
    CS_ERR_LIST(CS_ERR_ENUM)
#undef CS_ERR_ENUM
};

/* "ECONNRESET", "EOF" ...: a short stable name for logs. Never NULL; valid for ever. */
const char *cs_err_name(int err);

/* One lower-case phrase for people. Never NULL; valid until the next call in this thread. */
const char *cs_err_text(int err);

#endif
