/*
 * log - one structured line per event: "level what happened key=value ...". The daemon chooses the
 * sink; before that, and in tests, lines go to stderr. A line is one write(2), so lines of several
 * threads do not mix.
 */
#ifndef CS_BASE_LOG_H
#define CS_BASE_LOG_H

#include <stdatomic.h>

#include "base/base.h"

/* Values are the syslog priorities of the same names. */
enum cs_log_level {
    CS_LOG_ERROR = 3,
    CS_LOG_WARN = 4,
    CS_LOG_NOTICE = 5, /* start, stop, reload */
    CS_LOG_INFO = 6,   /* one line a connection */
    CS_LOG_DEBUG = 7,
};

enum cs_log_style {
    CS_LOG_PLAIN,   /* 2026-11-22T06:07:55.123Z level message */
    CS_LOG_JOURNAL, /* <N>message, for stderr connected to the journal */
};

/* Longest line; more is cut and ends in "...". */
#define CS_LOG_LINE_MAX 8192

/* fd stays the caller's. Before threads start, or while the caller holds them still. */
void cs_log_set_sink(int fd, enum cs_log_style style);
void cs_log_set_level(enum cs_log_level level);

extern _Atomic(enum cs_log_level) cs_log_level_now; /* a reload changes it under way */

static inline bool cs_log_enabled(enum cs_log_level level)
{
    return level <= atomic_load_explicit(&cs_log_level_now, memory_order_relaxed);
}

/* Any thread. Line feeds and control characters in the message (but not tabs) are written as \n,
 * \xNN (a traceback stays one record). */
void cs_log(enum cs_log_level level, const char *format, ...) CS_PRINTF(2, 3);

/* For warnings that a peer can cause: at most one line a second per `limit`; the next line that
 * gets through says how many were left out. A limit belongs to one thread. */
struct cs_log_limit {
    uint64_t until_ms;
    unsigned suppressed;
};
void cs_log_limited(struct cs_log_limit *limit, enum cs_log_level level, const char *format, ...)
    CS_PRINTF(3, 4);

/* Replaces the writer (tests, script runner): called with the message as it would be written, with
 * neither prefix nor line feed but with a final zero. NULL restores the sink. */
typedef void cs_log_writer(enum cs_log_level level, const char *line, size_t len);
void cs_log_set_writer(cs_log_writer *writer);

#endif
