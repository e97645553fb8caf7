/*
 * bind_http - ba.http: messages of HTTP/1 out of a socket's input (codec/http.h), and heads as
 * text.
 *
 *   BETWEEN ──head──▶ BODY ──body──▶ ENDED ──body gives nil──▶ BETWEEN        bad input ──▶ LOST
 *      └──head without a body──▶ BETWEEN
 *
 * A reader takes from the socket just what belongs to the message; between two messages it holds no
 * memory but its own.
 */
#include <errno.h>
#include <string.h>

#include "codec/http.h"
#include "script/sock.h"

#define READER_TYPE "ba.http.reader"
#define PIECE_MAX 65536u /* bytes one body() gives, as read does */
#define PIECE_JOIN 4096u /* smaller pieces are joined with what follows them */
#define LIMIT_MAX (1 << 24)

enum reader_state { BETWEEN, BODY, ENDED, LOST };

struct reader {
    struct cs_http http;
    struct cs_sock *sock; /* kept by the userdata's user value */
    uint64_t deadline_ms; /* of the call that runs, by the loop's clock; UINT64_MAX: none */
    enum reader_state state;
    int lost; /* why, once LOST: -EBADMSG, -ENOMEM */
};

static struct reader *CS_RAISES check_reader(lua_State *L)
{
    struct reader *r = luaL_checkudata(L, 1, READER_TYPE);

    cs_sock_check_reader(L, r->sock);
    return r;
}

static int reader_gc(lua_State *L)
{
    struct reader *r = luaL_checkudata(L, 1, READER_TYPE);

    cs_http_finish(&r->http);
    return 0;
}

static void set_deadline(struct reader *r, int64_t ms)
{
    r->deadline_ms = ms < 0 ? UINT64_MAX : cs_loop_now(r->sock->vm->net->loop) + (uint64_t)ms;
}

static int64_t CS_RAISES opt_ms(lua_State *L, int arg)
{
    return lua_isnoneornil(L, arg) ? -1 : cs_check_ms(L, arg);
}

/* ---- results ---- */

static void CS_RAISES set_text(lua_State *L, const struct cs_http *h, const char *key,
                               struct cs_http_span s)
{
    lua_pushlstring(L, cs_http_text(h, s), s.len);
    lua_setfield(L, -2, key);
}

static void CS_RAISES set_flag(lua_State *L, const char *key, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, key);
}

/* Pushes {{name, value}, ...}, names as sent. */
static void CS_RAISES push_fields(lua_State *L, const struct cs_http *h,
                                  const struct cs_http_field *fields, int count)
{
    lua_createtable(L, count, 0);
    for (int i = 0; i < count; i++) {
        lua_createtable(L, 2, 0);
        lua_pushlstring(L, cs_http_text(h, fields[i].name), fields[i].name.len);
        lua_rawseti(L, -2, 1);
        lua_pushlstring(L, cs_http_text(h, fields[i].value), fields[i].value.len);
        lua_rawseti(L, -2, 2);
        lua_rawseti(L, -2, i + 1);
    }
}

static void CS_RAISES push_lower(lua_State *L, const char *s, size_t len)
{
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, len);

    for (size_t i = 0; i < len; i++) {
        to[i] = (char)(s[i] >= 'A' && s[i] <= 'Z' ? s[i] | 0x20 : s[i]);
    }
    luaL_pushresultsize(&b, len);
}

static bool is_name(lua_State *L, int index, const char *name)
{
    return strcmp(lua_tostring(L, index), name) == 0;
}

/* Pushes {[lower-case name] = value}; the values of repeated fields in one list (RFC 9110 5.3).
 * Set-Cookie is no list. */
static void CS_RAISES push_header(lua_State *L, const struct cs_http *h)
{
    lua_createtable(L, 0, h->field_count);
    for (int i = 0; i < h->field_count; i++) {
        const struct cs_http_field *f = &h->fields[i];

        push_lower(L, cs_http_text(h, f->name), f->name.len);
        if (is_name(L, -1, "set-cookie")) {
            lua_pop(L, 1);
            continue;
        }
        lua_pushvalue(L, -1);
        if (lua_rawget(L, -3) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_pushlstring(L, cs_http_text(h, f->value), f->value.len);
        } else { /* RFC 6265 5.4: a cookie list has its own separator */
            lua_pushstring(L, is_name(L, -2, "cookie") ? "; " : ", ");
            lua_pushlstring(L, cs_http_text(h, f->value), f->value.len);
            lua_concat(L, 3);
        }
        lua_rawset(L, -3);
    }
}

static void CS_RAISES push_head(lua_State *L, const struct cs_http *h)
{
    static const char *const bodies[] = {[CS_HTTP_NO_BODY] = "none",
                                         [CS_HTTP_LENGTH] = "length",
                                         [CS_HTTP_CHUNKED] = "chunked",
                                         [CS_HTTP_UNTIL_CLOSE] = "close"};

    lua_createtable(L, 0, 10);
    if (h->kind == CS_HTTP_REQUESTS) {
        set_text(L, h, "method", h->method);
        set_text(L, h, "target", h->target);
        set_flag(L, "expect", h->expect_continue);
    } else {
        lua_pushinteger(L, h->status);
        lua_setfield(L, -2, "status");
        set_text(L, h, "reason", h->reason);
    }
    if (h->minor == 1) {
        lua_pushliteral(L, "1.1");
    } else {
        lua_pushfstring(L, "1.%d", h->minor);
    }
    lua_setfield(L, -2, "version");
    push_fields(L, h, h->fields, h->field_count);
    lua_setfield(L, -2, "fields");
    push_header(L, h);
    lua_setfield(L, -2, "header");
    set_flag(L, "keepalive", h->keep_alive);
    set_flag(L, "upgrade", h->upgrade);
    lua_pushstring(L, bodies[h->body]);
    lua_setfield(L, -2, "body");
    if (h->body == CS_HTTP_LENGTH) {
        lua_pushinteger(L, (lua_Integer)h->length);
        lua_setfield(L, -2, "length");
    }
}

/* Nothing can be read any more, unless the state changes again. */
static void lose(struct reader *r, int err)
{
    r->state = LOST;
    r->lost = err;
}

/* What the codec refused, or no memory for it. */
static int CS_RAISES push_refusal(lua_State *L, struct reader *r, int err)
{
    lose(r, err);
    if (err != -EBADMSG) {
        return cs_push_error(L, err);
    }
    luaL_pushfail(L);
    lua_pushstring(L, r->http.kind == CS_HTTP_REQUESTS ? "badrequest" : "invalidresponse");
    lua_pushinteger(L, r->http.status);
    lua_pushstring(L, r->http.why);
    return 4;
}

static int CS_RAISES push_failure(lua_State *L, int err)
{
    return cs_push_error_as(L, cs_sock_read_error(err), err);
}

/* ---- input ---- */

static void consume(struct reader *r, size_t n)
{
    int err = cs_stream_consume(r->sock->stream, n, NULL);

    (void)err; /* dropping cannot fail */
}

/* Gives the codec what has arrived, until there is something to tell. As cs_http_next; of what goes
 * with CS_HTTP_DATA (at most max bytes) nothing is consumed yet. */
static int feed(struct reader *r, size_t max, struct cs_http_part *part)
{
    const struct cs_chain *in = &r->sock->stream->in;
    int got;

    do {
        const struct cs_slice *s = cs_chain_first(in);

        got = s ? cs_http_next(&r->http, s->data, CS_MIN((size_t)s->len, max), part)
                : cs_http_next(&r->http, NULL, 0, part);
        if (got != CS_HTTP_DATA) {
            consume(r, part->used);
        }
    } while (got == CS_HTTP_MORE && cs_chain_len(in) > 0);
    return got;
}

/* Waits for more, for `k`; or the results when no more can come. */
static int CS_RAISES wait_more(lua_State *L, struct reader *r, const char *what, int status,
                               lua_KFunction k, lua_KContext ctx)
{
    struct cs_sock *s = r->sock;
    uint64_t now = cs_loop_now(s->vm->net->loop);
    int wake = status == LUA_YIELD ? cs_task_current(L)->wake : 0;

    s->disabled = CS_SOCK_ENABLED; /* as read does */
    if (wake < 0 || s->stream->err) {
        return push_failure(L, wake < 0 ? wake : s->stream->err);
    }
    if (s->stream->eof) {
        int got = cs_http_eof(&r->http);

        if (got == CS_HTTP_END) {
            r->state = BETWEEN;
            cs_http_finish(&r->http);
            lua_pushnil(L);
            return 1;
        }
        return got < 0 ? push_refusal(L, r, got) : push_failure(L, CS_EOF);
    }
    if (now >= r->deadline_ms) {
        return push_failure(L, CS_ETIMEOUT);
    }
    int64_t ms = r->deadline_ms == UINT64_MAX ? -1 : (int64_t)(r->deadline_ms - now);

    return cs_sock_wait_input(L, s, what, ms, k, ctx);
}

/* The results of a call on a socket that is not open or was taken away (disown), or of a reader
 * that is lost; 0: go on. */
static int CS_RAISES unusable(lua_State *L, struct reader *r, int status)
{
    const struct cs_sock *s = r->sock;

    if (status == LUA_YIELD && cs_task_current(L)->wake == CS_ECLOSED) {
        return push_failure(L, CS_ECLOSED);
    }

    if (r->state == LOST) {
        return push_refusal(L, r, r->lost);
    }
    if (!s->stream) {
        return push_failure(L, s->state == CS_SOCK_TERMINATED ? s->end : CS_ESTATE);
    }
    return 0;
}

/* ---- the reader's methods ---- */

/* A message without a body has ended with its head. */
static void end_bare(struct reader *r)
{
    struct cs_http_part part;

    if (r->http.body == CS_HTTP_NO_BODY && cs_http_next(&r->http, NULL, 0, &part) == CS_HTTP_END) {
        cs_http_finish(&r->http);
        r->state = BETWEEN;
    }
}

/* The next message is asked for: what was kept of the last one (its trailers) goes. */
static void settle(struct reader *r)
{
    if (r->state == ENDED) {
        r->state = BETWEEN;
    }
    if (r->state == BETWEEN && r->http.text_len == 0) {
        cs_http_finish(&r->http);
    }
}

static int head_on(lua_State *L, int status, lua_KContext ctx)
{
    struct reader *r = lua_touserdata(L, 1);
    struct cs_http_part part;
    int n = unusable(L, r, status);

    if (n > 0) {
        return n;
    }
    int got = feed(r, SIZE_MAX, &part);

    if (got < 0) {
        return push_refusal(L, r, got);
    }
    if (got == CS_HTTP_MORE) {
        return wait_more(L, r, "head", status, head_on, ctx);
    }
    lose(r, -ENOMEM); /* unless the table can be made */
    push_head(L, &r->http);
    r->state = BODY;
    end_bare(r);
    return 1;
}

/* reader:head([ms [, method]]) */
static int reader_head(lua_State *L)
{
    struct reader *r = check_reader(L);
    int64_t ms = opt_ms(L, 2);

    if (r->state == BODY) {
        return cs_push_error(L, CS_ESTATE);
    }
    settle(r);
    if (r->http.kind == CS_HTTP_RESPONSES && !lua_isnoneornil(L, 3)) {
        size_t len;
        const char *method = luaL_checklstring(L, 3, &len);

        cs_http_answer_to(&r->http, method, len);
    }
    lua_settop(L, 1);
    set_deadline(r, ms);
    return head_on(L, LUA_OK, 0);
}

static int wait_on(lua_State *L, int status, lua_KContext ctx)
{
    struct reader *r = lua_touserdata(L, 1);
    int n = unusable(L, r, status);

    if (n > 0) {
        return n;
    }
    if (cs_chain_len(&r->sock->stream->in) == 0 && r->http.text_len == 0) {
        return wait_more(L, r, "wait", status, wait_on, ctx);
    }
    lua_pushboolean(L, true);
    return 1;
}

/* reader:wait([ms]) */
static int reader_wait(lua_State *L)
{
    struct reader *r = check_reader(L);
    int64_t ms = opt_ms(L, 2);

    if (r->state == BODY) {
        return cs_push_error(L, CS_ESTATE);
    }
    settle(r);
    lua_settop(L, 1);
    set_deadline(r, ms);
    struct cs_task *t = cs_task_current(L);

    /* A peer that always has a request ready must not keep the others waiting. */
    if (t && lua_isyieldable(L) && !t->vm->no_wait && r->sock->stream &&
        cs_chain_len(&r->sock->stream->in) > 0) {
        return cs_task_give_way(L, t, wait_on, 0);
    }
    return wait_on(L, LUA_OK, 0);
}

/* A finalizer that ran meanwhile may have closed or read the socket: then what `part` was told
 * about is gone. first: where the input began. */
static bool still_there(const struct reader *r, const uint8_t *first, size_t used)
{
    const struct cs_slice *s = r->sock->stream ? cs_chain_first(&r->sock->stream->in) : NULL;

    return s && s->data == first && s->len >= used;
}

/* Pushes the bytes of `part` and, while they are few, of the parts behind it: at most max. Consumes
 * them. */
static int CS_RAISES push_piece(lua_State *L, struct reader *r, struct cs_http_part *part,
                                size_t max)
{
    const struct cs_chain *in = &r->sock->stream->in;
    const uint8_t *first = cs_chain_first(in)->data;
    size_t there = CS_MIN(max, cs_chain_len(in));

    lose(r, -ENOMEM); /* unless the string can be made */
    if (part->len >= PIECE_JOIN || part->len == there || part->used == cs_chain_len(in)) {
        lua_pushlstring(L, (const char *)part->data, part->len);
        if (!still_there(r, first, part->used)) {
            return push_refusal(L, r, CS_ECLOSED);
        }
        consume(r, part->used);
        r->state = BODY;
        return 1;
    }
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, there);

    if (!still_there(r, first, part->used)) {
        return push_refusal(L, r, CS_ECLOSED);
    }
    size_t len = 0;
    int got = CS_HTTP_DATA;

    while (got == CS_HTTP_DATA) {
        memcpy(to + len, part->data, part->len);
        len += part->len;
        consume(r, part->used);
        got = len < there && cs_chain_len(in) > 0 ? feed(r, there - len, part) : CS_HTTP_MORE;
    }
    luaL_pushresultsize(&b, len);
    r->state = got == CS_HTTP_END ? ENDED : BODY;
    if (got < 0) {
        lose(r, got);
    }
    return 1;
}

/* ctx: at most so many bytes. */
static int body_on(lua_State *L, int status, lua_KContext ctx)
{
    struct reader *r = lua_touserdata(L, 1);
    struct cs_http_part part;

    if (r->state == BETWEEN || r->state == ENDED) {
        r->state = BETWEEN;
        lua_pushnil(L);
        return 1;
    }
    int n = unusable(L, r, status);

    if (n > 0) {
        return n;
    }
    int got = feed(r, (size_t)ctx, &part);

    if (got < 0) {
        return push_refusal(L, r, got);
    }
    if (got == CS_HTTP_MORE) {
        return wait_more(L, r, "body", status, body_on, ctx);
    }
    if (got == CS_HTTP_DATA) {
        return push_piece(L, r, &part, (size_t)ctx);
    }
    r->state = BETWEEN;
    if (r->http.trailer_count == 0) {
        cs_http_finish(&r->http);
    }
    lua_pushnil(L);
    return 1;
}

/* reader:body([max [, ms]]) */
static int reader_body(lua_State *L)
{
    struct reader *r = check_reader(L);
    lua_Integer max = lua_isnoneornil(L, 2) ? PIECE_MAX : cs_check_number(L, 2);
    int64_t ms = opt_ms(L, 3);

    luaL_argcheck(L, max >= 1, 2, "at least one byte");
    lua_settop(L, 1);
    set_deadline(r, ms);
    return body_on(L, LUA_OK, (lua_KContext)CS_MIN(max, (lua_Integer)PIECE_MAX));
}

/* reader:trailers() */
static int reader_trailers(lua_State *L)
{
    struct reader *r = check_reader(L);
    const struct cs_http *h = &r->http;

    if (r->state != BETWEEN || !h->fields) {
        lua_newtable(L);
        return 1;
    }
    lose(r, -ENOMEM); /* unless the table can be made: a finalizer must not begin a new head now */
    push_fields(L, h, h->fields + h->field_count, h->trailer_count);
    r->state = BETWEEN;
    return 1;
}

static uint32_t CS_RAISES opt_limit(lua_State *L, const char *name, uint32_t otherwise,
                                    lua_Integer max)
{
    lua_Integer n = cs_opt_number(L, 3, name, otherwise);

    if (n < 1 || n > max) {
        luaL_argerror(L, 3, lua_pushfstring(L, "limit '%s' out of range (1 to %I)", name, max));
    }
    return (uint32_t)n;
}

/* ba.http.reader(sock, "request"|"response" [, limits]) */
static int http_reader(lua_State *L)
{
    static const char *const kinds[] = {"request", "response", NULL};
    struct cs_sock *s = cs_sock_check(L, 1);
    int kind = luaL_checkoption(L, 2, NULL, kinds);
    struct cs_http_limits limits;

    cs_http_limits_default(&limits);
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        limits.line = opt_limit(L, "line", limits.line, LIMIT_MAX);
        limits.head = opt_limit(L, "head", limits.head, LIMIT_MAX);
        limits.fields = (uint16_t)opt_limit(L, "fields", limits.fields, INT16_MAX);
    }
    struct reader *r = lua_newuserdatauv(L, sizeof(*r), 1);

    *r = (struct reader){.sock = s, .state = BETWEEN};
    cs_http_init(&r->http, kind == 0 ? CS_HTTP_REQUESTS : CS_HTTP_RESPONSES, &limits);
    luaL_setmetatable(L, READER_TYPE);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

/* ---- heads as text ---- */

/* Text under way: first measured (to NULL), then written, at most `room` bytes. */
struct out {
    char *to;
    size_t len, room;
};

static void put(struct out *o, const char *s, size_t len)
{
    if (o->to && len <= o->room - CS_MIN(o->len, o->room)) {
        memcpy(o->to + o->len, s, len);
    }
    o->len += len;
}

/* The name at `name`, the value on top, which is popped. False: not allowed in a head. */
static bool CS_RAISES put_field(lua_State *L, struct out *o, int name)
{
    size_t name_len, len;
    const char *s = lua_tolstring(L, name, &name_len);

    if (!lua_isstring(L, -1)) {
        luaL_error(L, "header field '%s': string expected, got %s", s, luaL_typename(L, -1));
    }
    const char *value = lua_tolstring(L, -1, &len);
    bool fine = cs_http_is_token(s, name_len) && cs_http_is_value(value, len);

    put(o, s, name_len);
    put(o, ": ", 2);
    put(o, value, len);
    put(o, "\r\n", 2);
    lua_pop(L, 1);
    return fine;
}

/* A value or a list of values on top, popped; its name at `name`. */
static bool CS_RAISES put_values(lua_State *L, struct out *o, int name)
{
    bool fine = true;

    if (lua_type(L, name) != LUA_TSTRING) {
        luaL_error(L, "a header field's name must be a string, not a %s", luaL_typename(L, name));
    }
    if (!lua_istable(L, -1)) {
        return put_field(L, o, name);
    }
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);

    for (lua_Integer i = 1; i <= n && fine; i++) {
        lua_rawgeti(L, -1, i);
        fine = put_field(L, o, name);
    }
    lua_pop(L, 1);
    return fine;
}

/* The header at `table`, in either form. False: the name of what is not allowed is on top. */
static bool CS_RAISES put_header(lua_State *L, struct out *o, int table)
{
    bool list = lua_rawgeti(L, table, 1) == LUA_TTABLE;

    lua_pop(L, 1);
    if (!list) {
        for (lua_pushnil(L); lua_next(L, table);) {
            if (!put_values(L, o, lua_gettop(L) - 1)) {
                return false;
            }
        }
        return true;
    }
    lua_Integer n = (lua_Integer)lua_rawlen(L, table);

    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_rawgeti(L, table, i) != LUA_TTABLE) {
            luaL_error(L, "header field %I: {name, value} expected", i);
        }
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        if (!put_values(L, o, lua_gettop(L) - 1)) {
            return false;
        }
        lua_pop(L, 2);
    }
    return true;
}

/* Start line (on top, without its end) and header, as one string. */
static int CS_RAISES push_text(lua_State *L, int header)
{
    size_t line_len;
    const char *line = lua_tolstring(L, -1, &line_len);
    struct out o = {0};
    luaL_Buffer b;

    if (!put_header(L, &o, header)) {
        const char *name = lua_tostring(L, -1);

        cs_push_error(L, CS_EINVAL);
        lua_pushfstring(L, "header field '%s': a name or value that HTTP does not allow", name);
        return 3;
    }
    size_t len = line_len + 2 + o.len + 2;

    o = (struct out){.to = luaL_buffinitsize(L, &b, len), .room = len};
    put(&o, line, line_len);
    put(&o, "\r\n", 2);
    bool fine = put_header(L, &o, header);

    put(&o, "\r\n", 2);
    if (!fine || o.len != len) { /* by a finalizer */
        return luaL_error(L, "the header has changed while it was written");
    }
    luaL_pushresultsize(&b, len);
    return 1;
}

static int CS_RAISES push_invalid(lua_State *L, const char *what)
{
    cs_push_error(L, CS_EINVAL);
    lua_pushstring(L, what);
    return 3;
}

/* ba.http.request(method, target, header [, version]) */
static int http_request(lua_State *L)
{
    static const char *const versions[] = {"1.1", "1.0", NULL};
    size_t method_len, target_len;
    const char *method = luaL_checklstring(L, 1, &method_len);
    const char *target = luaL_checklstring(L, 2, &target_len);
    int version = luaL_checkoption(L, 4, "1.1", versions);

    luaL_checktype(L, 3, LUA_TTABLE);
    if (!cs_http_is_token(method, method_len)) {
        return push_invalid(L, "method");
    }
    if (!cs_http_is_target(method, method_len, target, target_len)) {
        return push_invalid(L, "target");
    }
    lua_pushfstring(L, "%s %s HTTP/%s", method, target, versions[version]);
    return push_text(L, 3);
}

/* ba.http.response(status, header [, reason]) */
static int http_response(lua_State *L)
{
    lua_Integer status = cs_check_number(L, 1);

    luaL_argcheck(L, status >= 100 && status <= 999, 1, "a status has three digits");
    luaL_checktype(L, 2, LUA_TTABLE);
    size_t len;
    const char *reason = luaL_optlstring(L, 3, cs_http_reason((unsigned)status), &len);

    if (!cs_http_is_value(reason, len)) {
        return push_invalid(L, "reason");
    }
    lua_pushfstring(L, "HTTP/1.1 %d %s", (int)status, reason);
    return push_text(L, 2);
}

/* ba.http.reason(status) */
static int http_reason(lua_State *L)
{
    lua_pushstring(L, cs_http_reason((unsigned)cs_check_number(L, 1)));
    return 1;
}

void cs_bind_http(lua_State *L)
{
    static const luaL_Reg functions[] = {{"request", http_request},
                                         {"response", http_response},
                                         {"reason", http_reason},
                                         {NULL, NULL}};
    static const luaL_Reg methods[] = {{"head", reader_head},
                                       {"wait", reader_wait},
                                       {"body", reader_body},
                                       {"trailers", reader_trailers},
                                       {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", reader_gc}, {NULL, NULL}};

    cs_bind_type(L, READER_TYPE, meta, methods);
    luaL_newlib(L, functions);
    luaL_getmetatable(L, CS_SOCK_TYPE); /* for cs_sock_check */
    lua_pushcclosure(L, http_reader, 1);
    lua_setfield(L, -2, "reader");
    lua_setfield(L, -2, "http");
}
