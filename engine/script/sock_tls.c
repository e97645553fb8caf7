/* sock_tls - what a Lua socket keeps for TLS beside its stream. */
#include "script/sock_tls.h"

#include <string.h>

#include "base/mem.h"
#include "script/bind_shark.h"
#include "script/sock.h"

struct cs_sock_tls *cs_sock_tls_create(struct cs_tls_context *context, const char *host,
                                       const char *alpn, bool strict)
{
    size_t host_len = host ? strlen(host) + 1 : 0, alpn_len = alpn ? strlen(alpn) + 1 : 0;
    size_t size = offsetof(struct cs_sock_tls, strings) + host_len + alpn_len;
    struct cs_sock_tls *tls = cs_alloc(CS_MAX(size, sizeof(*tls)));
    if (!tls) {
        return NULL;
    }
    *tls = (struct cs_sock_tls){.context = context, .strict = strict, .host = host, .alpn = alpn};
    if (host) {
        memcpy(tls->strings, host, host_len);
    }
    if (alpn) { /* in place of the context's */
        memcpy(tls->strings + host_len, alpn, alpn_len);
    }
    if (context) {
        cs_tls_context_ref(context);
    }
    return tls;
}

void cs_sock_tls_pin(lua_State *L, struct cs_sock_tls *tls)
{
    lua_rawsetp(L, LUA_REGISTRYINDEX, tls);
    tls->pinned = true;
}

void cs_sock_tls_free(struct cs_vm *vm, struct cs_sock_tls *tls)
{
    if (tls) {
        if (tls->pinned) {
            lua_pushnil(vm->L); /* takes no memory: the key is there */
            lua_rawsetp(vm->L, LUA_REGISTRYINDEX, tls);
        }
        cs_tls_context_unref(tls->context);
        cs_free(tls);
    }
}

const char *cs_sock_tls_host(const struct cs_sock_tls *tls)
{
    return tls->host ? tls->strings : NULL;
}

static const char *alpn_of(const struct cs_sock_tls *tls)
{
    size_t host_len = tls->host ? strlen(tls->strings) + 1 : 0;
    return tls->alpn ? tls->strings + host_len : NULL;
}

static void on_ready(void *arg, struct cs_stream *stream, int err)
{
    struct cs_sock *s = arg;
    (void)stream;
    if (s->waiter && (s->waiter->waiting == CS_WAIT_CONNECT || s->waiter->waiting == CS_WAIT_TLS)) {
        cs_sock_wake(s, err);
    }
}

static const struct cs_tls_hooks hooks = {
    .ready = on_ready, .choose = cs_shark_choose, .abandon = cs_shark_abandon};

int cs_sock_tls_open(struct cs_stream **out, struct cs_sock *s, struct cs_stream *lower,
                     const struct cs_sock_tls *tls, uint32_t timeout_ms)
{
    const struct cs_tls_peer peer = {
        .host = cs_sock_tls_host(tls), .alpn = alpn_of(tls), .strict = tls->strict};
    bool server = cs_tls_context_is_server(tls->context);
    const struct cs_tls_stream_spec spec = {.context = tls->context,
                                            .peer = server ? NULL : &peer,
                                            .timeout_ms = timeout_ms,
                                            .hooks = &hooks,
                                            .arg = s};
    return cs_tls_stream_create(out, s->vm->net, lower, &spec);
}
