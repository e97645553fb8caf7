/*
 * json - RFC 8259 texts out of a stream of bytes, one value after the other.
 *
 * json-c reads the texts. Before its tokener sees them, a scanner of ours looks at each byte, for
 * what json-c does not promise: that a whole number beyond 64 bits does not become another one
 * (it becomes a double), that a name with a zero byte is not cut, the depth, and what memory the
 * value may take. It also refuses the liberties that some versions of json-c allow.
 */
#ifndef CS_CODEC_JSON_H
#define CS_CODEC_JSON_H

#include "base/base.h"
#include "base/err.h"

struct cs_json;
struct json_object; /* json-c's */

#define CS_JSON_DEPTH_MAX 1000

/* depth_max: containers inside one another, 1 to CS_JSON_DEPTH_MAX. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_json_create(struct cs_json **out, unsigned depth_max);

/* Accepts NULL. */
void cs_json_destroy(struct cs_json *j);

/* Takes bytes until a value is complete, or all. 1: *value is it, the caller's (json_object_put),
 * NULL for null. 0: all are taken, more are needed. *taken is set then; the rest must be given
 * first in the next call. A number of its own ends with the byte behind it.
 *
 * CS_EINVAL: no JSON. CS_ELIMIT: nested too deeply, or a name with a zero byte. -ENOMEM: no memory,
 * or the value in the making would take more than about `room` bytes. After an error the object can
 * only be destroyed; cs_json_why says more. */
CS_MUST_CHECK int cs_json_feed(struct cs_json *j, const char *bytes, size_t n, size_t room,
                               size_t *taken, struct json_object **value);

/* True while a value has begun and not ended. */
bool cs_json_begun(const struct cs_json *j);

/* About the bytes of memory that the value in the making takes, or the one just given. */
size_t cs_json_cost(const struct cs_json *j);

/* What the last error was and at which byte of the stream, from 1 on. */
const char *cs_json_why(const struct cs_json *j);
uint64_t cs_json_where(const struct cs_json *j);

#endif
