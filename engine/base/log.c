/*
 * log - lines are put together on the stack of the thread that logs and leave in one write(2):
 * nothing is shared, nothing is locked, nothing is allocated.
 */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* What cs_log_limited may add behind a message. */
#define LOG_SUFFIX_MAX 48

_Atomic(enum cs_log_level) cs_log_level_now = CS_LOG_INFO;

/* All three change only while one thread runs. */
static int log_fd = STDERR_FILENO;
static enum cs_log_style log_style = CS_LOG_PLAIN;
static cs_log_writer *log_writer;

/* A line under construction; one byte stays free for the line feed. */
struct log_line {
    size_t len;
    char text[CS_LOG_LINE_MAX];
};

void cs_log_set_sink(int fd, enum cs_log_style style)
{
    log_fd = fd;
    log_style = style;
}

void cs_log_set_level(enum cs_log_level level)
{
    cs_log_level_now = level;
}

void cs_log_set_writer(cs_log_writer *writer)
{
    log_writer = writer;
}

static const char *log_level_name(enum cs_log_level level)
{
    switch (level) {
    case CS_LOG_ERROR:
        return "error";
    case CS_LOG_WARN:
        return "warn";
    case CS_LOG_NOTICE:
        return "notice";
    case CS_LOG_INFO:
        return "info";
    case CS_LOG_DEBUG:
        return "debug";
    }
    return "?";
}

/* Civil date of a day counted from 1970-01-01. gmtime_r would take the C library's time zone lock.
 * (Howard Hinnant's days algorithm, for dates after 1970; years start in March.) */
static void log_date(uint64_t days, unsigned *year, unsigned *month, unsigned *day)
{
    uint64_t z = days + 719468;
    uint64_t era = z / 146097;
    unsigned doe = (unsigned)(z - era * 146097);
    unsigned yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    unsigned doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    unsigned mp = (5 * doy + 2) / 153;

    *day = doy - (153 * mp + 2) / 5 + 1;
    *month = mp < 10 ? mp + 3 : mp - 9;
    *year = (unsigned)(era * 400) + yoe + (*month <= 2);
}

/* "2026-11-22T06:07:55.123Z level " or "<6>". */
static void log_prefix(struct log_line *line, enum cs_log_level level)
{
    struct timespec ts;
    unsigned year, month, day, second;

    if (log_style == CS_LOG_JOURNAL) {
        line->len = (size_t)snprintf(line->text, sizeof(line->text), "<%d>", (int)level);
        return;
    }
    clock_gettime(CLOCK_REALTIME, &ts);
    second = (unsigned)((uint64_t)ts.tv_sec % 86400);
    log_date((uint64_t)ts.tv_sec / 86400, &year, &month, &day);
    line->len =
        (size_t)snprintf(line->text, sizeof(line->text), "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ %s ",
                         year, month, day, second / 3600, second / 60 % 60, second % 60,
                         (unsigned)(ts.tv_nsec / 1000000), log_level_name(level));
}

/* How many bytes at `in` must stay together: a UTF-8 sequence as far as it is one, else 1. */
static size_t log_unit_len(const char *in)
{
    unsigned char lead = (unsigned char)in[0];
    size_t len = lead < 0xc2 || lead > 0xf4 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;

    for (size_t i = 1; i < len; i++) {
        if (((unsigned char)in[i] & 0xc0) != 0x80) {
            return 1;
        }
    }
    return len;
}

/* C0 controls, DEL, and the C1 controls that UTF-8 writes as c2 80 .. c2 9f: a terminal acts on all
 * of them. */
static bool log_unit_is_control(const char *in, size_t len)
{
    unsigned char c = (unsigned char)in[0];

    return (len == 1 && ((c < 0x20 && c != '\t') || c == 0x7f)) ||
           (len == 2 && c == 0xc2 && (unsigned char)in[1] < 0xa0);
}

/* Writes one unit as it shall appear, at most 8 bytes; returns its length there. */
static size_t log_unit_write(char *out, const char *in, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    size_t used = 0;

    if (!log_unit_is_control(in, len)) {
        memcpy(out, in, len);
        return len;
    }
    if (in[0] == '\n') {
        memcpy(out, "\\n", 2);
        return 2;
    }
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)in[i];

        out[used++] = '\\';
        out[used++] = 'x';
        out[used++] = hex[c >> 4];
        out[used++] = hex[c & 15];
    }
    return used;
}

/* Appends the message, escaped. What does not fit is cut between two units and marked "...". */
static void log_message(struct log_line *line, const char *message, bool cut)
{
    const size_t max = sizeof(line->text) - 1;
    size_t len = line->len;
    size_t len_cut = line->len; /* the last place where "..." fits */

    while (*message != '\0') {
        char unit[8];
        size_t in_len = log_unit_len(message);
        size_t out_len = log_unit_write(unit, message, in_len);

        if (len + out_len > max) {
            cut = true;
            break;
        }
        memcpy(line->text + len, unit, out_len);
        len += out_len;
        message += in_len;
        if (len + 3 <= max) {
            len_cut = len;
        }
    }
    if (cut) {
        memcpy(line->text + len_cut, "...", 3);
        len = len_cut + 3;
    }
    line->len = len;
}

/* A line that cannot be written now is lost: waiting would let the log's reader stop the daemon. */
static void log_write(const struct log_line *line)
{
    ssize_t n;

    do {
        n = write(log_fd, line->text, line->len);
    } while (n < 0 && errno == EINTR);
}

static void log_emit(enum cs_log_level level, const char *message, bool cut)
{
    struct log_line line;
    int saved_errno = errno;

    line.len = 0;
    if (log_writer != NULL) {
        log_message(&line, message, cut);
        line.text[line.len] = '\0';
        log_writer(level, line.text, line.len);
    } else {
        log_prefix(&line, level);
        log_message(&line, message, cut);
        line.text[line.len++] = '\n';
        log_write(&line);
    }
    errno = saved_errno;
}

/* Formats into buf; true when the message was longer. */
static bool log_format(char *buf, size_t size, const char *format, va_list args)
{
    int n = vsnprintf(buf, size, format, args);

    if (n < 0) {
        snprintf(buf, size, "log line cannot be formatted format=\"%s\"", format);
        return false;
    }
    return (size_t)n >= size;
}

void cs_log(enum cs_log_level level, const char *format, ...)
{
    char message[CS_LOG_LINE_MAX];
    va_list args;
    bool cut;

    if (!cs_log_enabled(level)) {
        return;
    }
    va_start(args, format);
    cut = log_format(message, sizeof(message), format, args);
    va_end(args);
    log_emit(level, message, cut);
}

void cs_log_limited(struct cs_log_limit *limit, enum cs_log_level level, const char *format, ...)
{
    char message[CS_LOG_LINE_MAX];
    uint64_t now_ms;
    va_list args;
    bool cut;

    if (!cs_log_enabled(level)) {
        return;
    }
    now_ms = cs_clock_ms();
    if (now_ms < limit->until_ms) {
        limit->suppressed++;
        return;
    }
    va_start(args, format);
    cut = log_format(message, sizeof(message) - LOG_SUFFIX_MAX, format, args);
    va_end(args);
    if (limit->suppressed > 0) {
        size_t len = strlen(message);

        snprintf(message + len, sizeof(message) - len, "%s suppressed=%u", cut ? "..." : "",
                 limit->suppressed);
        cut = false;
    }
    limit->until_ms = now_ms + 1000;
    limit->suppressed = 0;
    log_emit(level, message, cut);
}
