/*
 * bind_date - ba.datetime, ba.parsedate and ba.encdate (ba-api C.5): a moment with a time zone, and
 * the dates of HTTP.
 */
#include <string.h>
#include <time.h>

#include "codec/date.h"
#include "script/bind.h"

#define DATE_TYPE "ba.datetime"
#define NSEC 1000000000

struct moment {
    int64_t secs;
    int32_t nsec;
    int32_t offset; /* minutes */
};

__extension__ typedef __int128 wide; /* nanoseconds of ten thousand years need more than 64 bits */

static struct moment *CS_RAISES new_moment(lua_State *L)
{
    struct moment *m = lua_newuserdatauv(L, sizeof(*m), 0);

    *m = (struct moment){0};
    luaL_setmetatable(L, DATE_TYPE);
    return m;
}

static struct moment *CS_RAISES check_moment(lua_State *L, int arg)
{
    return luaL_checkudata(L, arg, DATE_TYPE);
}

static int32_t CS_RAISES check_offset(lua_State *L, int arg, lua_Integer minutes)
{
    luaL_argcheck(L, minutes >= -CS_DATE_OFFSET_MAX && minutes <= CS_DATE_OFFSET_MAX, arg,
                  "offset must be -1439 to 1439 minutes");
    return (int32_t)minutes;
}

/* ---- arithmetic ---- */

static wide ticks_of(const struct moment *m)
{
    return (wide)m->secs * NSEC + m->nsec;
}

static void CS_RAISES set_ticks(lua_State *L, struct moment *m, wide ticks)
{
    wide secs = ticks / NSEC, nsec = ticks % NSEC;

    if (nsec < 0) {
        nsec += NSEC;
        secs--;
    }
    if (secs < CS_DATE_MIN || secs > CS_DATE_MAX) {
        luaL_error(L, "date out of range: years 1 to 9999");
    }
    m->secs = (int64_t)secs;
    m->nsec = (int32_t)nsec;
}

/* Nanoseconds of a number of them, or of a table {days, hours, mins, secs, nsecs}. */
static wide CS_RAISES check_span(lua_State *L, int arg)
{
    if (!lua_istable(L, arg)) {
        return cs_check_number(L, arg);
    }
    return (wide)cs_opt_number(L, arg, "days", 0) * 86400 * NSEC +
           (wide)cs_opt_number(L, arg, "hours", 0) * 3600 * NSEC +
           (wide)cs_opt_number(L, arg, "mins", 0) * 60 * NSEC +
           (wide)cs_opt_number(L, arg, "secs", 0) * NSEC + cs_opt_number(L, arg, "nsecs", 0);
}

static void CS_RAISES move(lua_State *L, struct moment *m, wide span)
{
    set_ticks(L, m, ticks_of(m) + span);
}

/* Pushes a copy of argument `arg`, moved. */
static int CS_RAISES push_moved(lua_State *L, int arg, wide span)
{
    const struct moment *from = check_moment(L, arg);
    struct moment *m = new_moment(L);

    *m = *from;
    move(L, m, span);
    return 1;
}

static int date_add(lua_State *L)
{
    int arg = luaL_testudata(L, 1, DATE_TYPE) ? 1 : 2;

    return push_moved(L, arg, check_span(L, 3 - arg));
}

/* date - span: a date. date - date: nanoseconds. */
static int date_sub(lua_State *L)
{
    const struct moment *a = check_moment(L, 1);
    const struct moment *b = luaL_testudata(L, 2, DATE_TYPE);

    if (!b) {
        return push_moved(L, 1, -check_span(L, 2));
    }
    wide span = ticks_of(a) - ticks_of(b);

    if (span < 0 || span > INT64_MAX) {
        return luaL_error(L, "difference of dates out of range: 0 to %I nanoseconds",
                          (LUAI_UACINT)INT64_MAX);
    }
    lua_pushinteger(L, (lua_Integer)span);
    return 1;
}

static int date_eq(lua_State *L)
{
    const struct moment *a = luaL_testudata(L, 1, DATE_TYPE), *b = luaL_testudata(L, 2, DATE_TYPE);

    lua_pushboolean(L, a && b && ticks_of(a) == ticks_of(b));
    return 1;
}

static int date_lt(lua_State *L)
{
    lua_pushboolean(L, ticks_of(check_moment(L, 1)) < ticks_of(check_moment(L, 2)));
    return 1;
}

static int date_le(lua_State *L)
{
    lua_pushboolean(L, ticks_of(check_moment(L, 1)) <= ticks_of(check_moment(L, 2)));
    return 1;
}

/* ---- making ---- */

static int CS_RAISES set_date(lua_State *L, struct moment *m, const struct cs_date *d, bool local)
{
    int err = cs_date_seconds(&m->secs, d);

    m->nsec = d->nsec;
    m->offset = d->offset;
    if (err == 0 && local) {
        move(L, m, -(wide)d->offset * 60 * NSEC);
    }
    return err;
}

static int CS_RAISES field(lua_State *L, int table, const char *name, int otherwise)
{
    lua_Integer value = cs_opt_number(L, table, name, otherwise);

    return value < -INT32_MAX || value > INT32_MAX ? -INT32_MAX : (int)value;
}

/* {year, month, day, hour, min, sec, nsec, offset} [, local] [, span]. */
static int CS_RAISES from_table(lua_State *L, struct moment *m)
{
    struct cs_date d = {.year = field(L, 1, "year", 1),
                        .month = field(L, 1, "month", 1),
                        .day = field(L, 1, "day", 1),
                        .hour = field(L, 1, "hour", 0),
                        .min = field(L, 1, "min", 0),
                        .sec = field(L, 1, "sec", 0),
                        .nsec = field(L, 1, "nsec", 0),
                        .offset = field(L, 1, "offset", 0)};

    return set_date(L, m, &d, lua_toboolean(L, 2) && !lua_istable(L, 2));
}

/* "NOW" [, offset], "MIN", "MAX", ISO 8601. */
static int CS_RAISES from_text(lua_State *L, struct moment *m)
{
    const char *text = lua_tostring(L, 1);
    struct timespec now;
    struct cs_date d;

    if (strcmp(text, "NOW") == 0) {
        clock_gettime(CLOCK_REALTIME, &now);
        lua_Integer offset = lua_isnumber(L, 2) ? cs_check_number(L, 2) : 0;
        *m = (struct moment){now.tv_sec, (int32_t)now.tv_nsec, check_offset(L, 2, offset)};
        return 0;
    }
    if (strcmp(text, "MIN") == 0) {
        m->secs = CS_DATE_MIN;
        return 0;
    }
    if (strcmp(text, "MAX") == 0) {
        *m = (struct moment){CS_DATE_MAX, NSEC - 1, 0};
        return 0;
    }
    int err = cs_date_parse_iso(&d, text);

    return err < 0 ? err : set_date(L, m, &d, true);
}

/* seconds [, nanoseconds [, offset]]. */
static int CS_RAISES from_ticks(lua_State *L, struct moment *m)
{
    lua_Integer secs = cs_check_number(L, 1);
    lua_Integer nsec = lua_isnumber(L, 2) ? cs_check_number(L, 2) : 0;
    lua_Integer offset = lua_isnumber(L, 3) ? cs_check_number(L, 3) : 0;

    if (secs < CS_DATE_MIN || secs > CS_DATE_MAX || nsec < 0 || nsec >= NSEC) {
        return CS_EINVAL;
    }
    *m = (struct moment){secs, (int32_t)nsec, check_offset(L, 3, offset)};
    return 0;
}

/* datetime(...): a date object; nil, "invalidparam" when there is no such date. A table behind what
 * the first argument takes is a span to add. */
static int datetime(lua_State *L)
{
    int last = lua_gettop(L), type = lua_type(L, 1), err = 0;

    lua_settop(L, CS_MAX(last, 4)); /* absent arguments are nil */
    struct moment *m = new_moment(L);

    if (luaL_testudata(L, 1, DATE_TYPE)) {
        *m = *check_moment(L, 1);
    } else if (type == LUA_TTABLE) {
        err = from_table(L, m);
    } else if (type == LUA_TNUMBER) {
        err = from_ticks(L, m);
    } else {
        luaL_checkstring(L, 1);
        err = from_text(L, m);
    }
    if (err < 0) {
        return cs_push_error(L, err);
    }
    if (last > 1 && lua_istable(L, last)) {
        move(L, m, check_span(L, last));
    }
    return 1;
}

/* ---- methods ---- */

/* As people with this offset write it. Near the ends of the calendar only as far as it goes. */
static struct cs_date local_date(const struct moment *m, int offset)
{
    int64_t secs = m->secs + (int64_t)offset * 60;
    struct cs_date d;

    cs_date_of(&d, CS_MAX(CS_MIN(secs, CS_DATE_MAX), CS_DATE_MIN));
    d.nsec = m->nsec;
    d.offset = offset;
    return d;
}

/* tostring([offset]) */
static int date_tostring(lua_State *L)
{
    const struct moment *m = check_moment(L, 1);
    lua_Integer offset = lua_isnumber(L, 2) ? cs_check_number(L, 2) : m->offset;
    struct cs_date d = local_date(m, check_offset(L, 2, offset));
    char buf[CS_DATE_ISO_SIZE];

    lua_pushstring(L, cs_date_iso(&d, buf));
    return 1;
}

/* offset([new]): the one until now. */
static int date_offset(lua_State *L)
{
    struct moment *m = check_moment(L, 1);

    lua_pushinteger(L, m->offset);
    if (!lua_isnoneornil(L, 2)) {
        m->offset = check_offset(L, 2, cs_check_number(L, 2));
    }
    return 1;
}

static int date_ticks(lua_State *L)
{
    const struct moment *m = check_moment(L, 1);

    lua_pushinteger(L, m->secs);
    lua_pushinteger(L, m->nsec);
    lua_pushinteger(L, m->offset);
    return 3;
}

/* date([local]): a table; local: the fields are those of its time zone. */
static int date_date(lua_State *L)
{
    const struct moment *m = check_moment(L, 1);
    struct cs_date d = local_date(m, lua_toboolean(L, 2) ? m->offset : 0);
    const struct {
        const char *name;
        int value;
    } fields[] = {{"year", d.year}, {"month", d.month}, {"day", d.day},   {"hour", d.hour},
                  {"min", d.min},   {"sec", d.sec},     {"nsec", d.nsec}, {"offset", m->offset}};

    lua_createtable(L, 0, (int)CS_ARRAY_LEN(fields));
    for (size_t i = 0; i < CS_ARRAY_LEN(fields); i++) {
        lua_pushinteger(L, fields[i].value);
        lua_setfield(L, -2, fields[i].name);
    }
    return 1;
}

/* ---- HTTP dates ---- */

/* parsedate(text): seconds since 1970; nil, "invalidparam" when it is no date of HTTP. */
static int parsedate(lua_State *L)
{
    int64_t seconds;
    int err = cs_date_parse_http(&seconds, luaL_checkstring(L, 1));

    if (err < 0) {
        return cs_push_error(L, err);
    }
    lua_pushinteger(L, seconds);
    return 1;
}

static int encdate(lua_State *L)
{
    lua_Integer seconds = cs_check_number(L, 1);
    char buf[CS_DATE_HTTP_SIZE];

    luaL_argcheck(L, seconds >= CS_DATE_MIN && seconds <= CS_DATE_MAX, 1,
                  "date out of range: years 1 to 9999");
    lua_pushstring(L, cs_date_http(seconds, buf));
    return 1;
}

void cs_bind_date(lua_State *L)
{
    static const luaL_Reg meta[] = {
        {"__add", date_add}, {"__sub", date_sub},           {"__eq", date_eq}, {"__lt", date_lt},
        {"__le", date_le},   {"__tostring", date_tostring}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"tostring", date_tostring},
                                       {"offset", date_offset},
                                       {"ticks", date_ticks},
                                       {"date", date_date},
                                       {NULL, NULL}};
    static const luaL_Reg functions[] = {
        {"datetime", datetime}, {"parsedate", parsedate}, {"encdate", encdate}, {NULL, NULL}};

    cs_bind_type(L, DATE_TYPE, meta, methods);
    luaL_setfuncs(L, functions, 0);
}
