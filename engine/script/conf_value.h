/*
 * conf_value - how conf.c builds the values it gives out. Private to the room.
 */
#ifndef CS_SCRIPT_CONF_VALUE_H
#define CS_SCRIPT_CONF_VALUE_H

#include "script/conf.h"

/* Copies the bytes and adds a zero that is not counted. The place stays. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_value_set_string(struct cs_value *v, const char *bytes, size_t len);

/* A table of `count` members without key and value, to be filled. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_value_set_table(struct cs_value *v, size_t count);

#endif
