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
    struct cs_sock_tls *tls = cs_alloc(sizeof(*tls) + host_len + alpn_len);
    if (!tls) {
        return NULL;
    }
    *tls = (struct cs_sock_tls){.context = context, .strict = strict};
    if (host) {
        tls->host = memcpy(tls->strings, host, host_len);
    }
    if (alpn) {
        tls->alpn = memcpy(tls->strings + host_len, alpn, alpn_len);
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
    const struct cs_tls_peer peer = {.host = tls->host, .alpn = tls->alpn, .strict = tls->strict};
    bool server = cs_tls_context_is_server(tls->context);
    const struct cs_tls_stream_spec spec = {.context = tls->context,
                                            .peer = server ? NULL : &peer,
                                            .timeout_ms = timeout_ms,
                                            .hooks = &hooks,
                                            .arg = s};
    return cs_tls_stream_create(out, s->vm->net, lower, &spec);
}
