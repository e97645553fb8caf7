/*
 * conf_value - the plain half of conf: values, their copies, and the list of errors. No Lua.
 */
#include "script/conf_value.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

#define ERRORS_MAX 100u

/* ---- errors ---- */

/* Adds a whole line or, out of memory, nothing. */
static void errors_append(struct cs_errors *e, const char *file, int line, const char *format,
                          va_list args)
{
    char number[16] = "";
    va_list again;
    int prefix, message;
    size_t size;
    char *text;

    if (line > 0) {
        (void)snprintf(number, sizeof(number), ":%d", line);
    }
    va_copy(again, args);
    message = vsnprintf(NULL, 0, format, again);
    va_end(again);
    prefix = file ? snprintf(NULL, 0, "%s%s: ", file, number) : 0;
    if (message < 0 || prefix < 0) {
        return;
    }
    size = (size_t)prefix + (size_t)message + 2;
    text = cs_realloc(e->text, e->len + size);
    if (!text) {
        return;
    }
    e->text = text;
    text += e->len;
    if (file) {
        (void)snprintf(text, size, "%s%s: ", file, number);
    }
    (void)vsnprintf(text + prefix, (size_t)message + 1, format, args);
    memcpy(text + size - 2, "\n", 2);
    e->len += size - 1;
}

void cs_errors_add(struct cs_errors *e, const char *file, int line, const char *format, ...)
{
    va_list args;

    /* The count goes on: an error whose text did not fit is still one. */
    if (e->count++ > ERRORS_MAX) {
        return;
    }
    if (e->count > ERRORS_MAX) {
        format = "too many errors: the others are left out";
        file = NULL;
    }
    va_start(args, format);
    errors_append(e, file, line, format, args);
    va_end(args);
}

void cs_errors_free(struct cs_errors *e)
{
    cs_free(e->text);
    *e = (struct cs_errors){0};
}

/* ---- values ---- */

void cs_value_free(struct cs_value *v)
{
    if (v->type == CS_VALUE_STRING) {
        cs_free(v->string.bytes);
    } else if (v->type == CS_VALUE_TABLE) {
        for (size_t i = 0; i < v->table.count; i++) {
            cs_free(v->table.members[i].key);
            cs_value_free(&v->table.members[i].value);
        }
        cs_free(v->table.members);
    }
    v->type = CS_VALUE_NIL;
}

const struct cs_value *cs_value_get(const struct cs_value *table, const char *key)
{
    if (table->type != CS_VALUE_TABLE) {
        return NULL;
    }
    for (size_t i = 0; i < table->table.count; i++) {
        const struct cs_member *m = &table->table.members[i];

        if (m->key && strcmp(m->key, key) == 0) {
            return &m->value;
        }
    }
    return NULL;
}

int cs_value_set_string(struct cs_value *v, const char *bytes, size_t len)
{
    char *copy = cs_alloc(len + 1);

    if (!copy) {
        return -ENOMEM;
    }
    memcpy(copy, bytes, len);
    copy[len] = '\0';
    v->type = CS_VALUE_STRING;
    v->string.bytes = copy;
    v->string.len = len;
    return 0;
}

int cs_value_set_table(struct cs_value *v, size_t count)
{
    struct cs_member *members = NULL;

    if (count > 0) {
        members = cs_zalloc(count * sizeof(*members));
        if (!members) {
            return -ENOMEM;
        }
    }
    v->type = CS_VALUE_TABLE;
    v->table.members = members;
    v->table.count = count;
    return 0;
}

static int copy_into(struct cs_value *to, const struct cs_value *from)
{
    int err;

    to->file = from->file;
    to->line = from->line;
    if (from->type == CS_VALUE_STRING) {
        return cs_value_set_string(to, from->string.bytes, from->string.len);
    }
    if (from->type != CS_VALUE_TABLE) {
        *to = *from;
        return 0;
    }
    err = cs_value_set_table(to, from->table.count);
    for (size_t i = 0; err == 0 && i < from->table.count; i++) {
        const struct cs_member *m = &from->table.members[i];

        if (m->key) {
            to->table.members[i].key = cs_strdup(m->key);
            err = to->table.members[i].key ? 0 : -ENOMEM;
        }
        if (err == 0) {
            err = copy_into(&to->table.members[i].value, &m->value);
        }
    }
    return err;
}

int cs_value_copy(struct cs_value *to, const struct cs_value *from)
{
    int err;

    *to = (struct cs_value){.type = CS_VALUE_NIL};
    err = copy_into(to, from);
    if (err != 0) {
        cs_value_free(to);
    }
    return err;
}

void cs_conf_free(struct cs_conf *c)
{
    cs_value_free(&c->settings);
    for (size_t i = 0; i < c->service_count; i++) {
        cs_free(c->services[i].name);
        cs_value_free(&c->services[i].args);
    }
    cs_free(c->services);
    for (size_t i = 0; i < c->file_count; i++) {
        cs_free(c->files[i]);
    }
    cs_free(c->files);
    *c = (struct cs_conf){.settings.type = CS_VALUE_NIL};
}
