/* date - the calendar is the C library's; names are English whatever the locale. */
#include "codec/date.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

static int days_of(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

static bool within(int value, int low, int high)
{
    return value >= low && value <= high;
}

static bool valid(const struct cs_date *d)
{
    return within(d->year, 1, 9999) && within(d->month, 1, 12) &&
           within(d->day, 1, days_of(d->year, d->month)) && within(d->hour, 0, 23) &&
           within(d->min, 0, 59) && within(d->sec, 0, 60) && within(d->nsec, 0, 999999999) &&
           within(d->offset, -CS_DATE_OFFSET_MAX, CS_DATE_OFFSET_MAX);
}

int cs_date_seconds(int64_t *out, const struct cs_date *d)
{
    if (!valid(d)) {
        return CS_EINVAL;
    }
    struct tm tm = {.tm_year = d->year - 1900,
                    .tm_mon = d->month - 1,
                    .tm_mday = d->day,
                    .tm_hour = d->hour,
                    .tm_min = d->min,
                    .tm_sec = d->sec};
    int64_t seconds = timegm(&tm);

    *out = seconds;
    return seconds > CS_DATE_MAX ? CS_EINVAL : 0; /* a leap second at the end of time */
}

void cs_date_of(struct cs_date *out, int64_t seconds)
{
    time_t t = (time_t)seconds;
    struct tm tm = {0};

    gmtime_r(&t, &tm);
    *out = (struct cs_date){.year = tm.tm_year + 1900,
                            .month = tm.tm_mon + 1,
                            .day = tm.tm_mday,
                            .hour = tm.tm_hour,
                            .min = tm.tm_min,
                            .sec = tm.tm_sec};
}

/* ---- HTTP ---- */

const char *cs_date_http(int64_t seconds, char buf[CS_DATE_HTTP_SIZE])
{
    static const char weekdays[7][4] = {"Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"};
    int64_t days = (seconds - CS_DATE_MIN) / 86400 + 4; /* the first day was a Monday */
    struct cs_date d;

    cs_date_of(&d, seconds);
    snprintf(buf, CS_DATE_HTTP_SIZE, "%s, %02d %s %04d %02d:%02d:%02d GMT", weekdays[days % 7],
             d.day, months[d.month - 1], d.year, d.hour, d.min, d.sec);
    return buf;
}

/* 1 to 12, or 0. */
static int month_of(const char *name)
{
    for (int i = 0; i < 12; i++) {
        if (strcasecmp(name, months[i]) == 0) {
            return i + 1;
        }
    }
    return 0;
}

/* The three forms, as sscanf reads them. Returns what stands behind the date, or NULL. */
static const char *scan_http(const char *text, struct cs_date *d)
{
    char month[4];
    int end = 0, year_at = 0, year_end = 0;

    *d = (struct cs_date){0};
    if (sscanf(text, "%*9[A-Za-z], %2d%*1[ -]%3[A-Za-z]%*1[ -]%n%4d%n %2d:%2d:%2d%n", &d->day,
               month, &year_at, &d->year, &year_end, &d->hour, &d->min, &d->sec, &end) == 6 &&
        end > 0) {
        if (year_end - year_at == 2) { /* RFC 850: as POSIX reads two digits */
            d->year += d->year < 69 ? 2000 : 1900;
        }
        d->month = month_of(month);
        return text + end;
    }
    if (sscanf(text, "%*3[A-Za-z] %3[A-Za-z] %2d %2d:%2d:%2d %4d%n", month, &d->day, &d->hour,
               &d->min, &d->sec, &d->year, &end) == 6 &&
        end > 0) { /* asctime */
        d->month = month_of(month);
        return text + end;
    }
    return NULL;
}

int cs_date_parse_http(int64_t *out, const char *text)
{
    struct cs_date d;
    const char *rest = scan_http(text, &d);

    if (!rest) {
        return CS_EINVAL;
    }
    rest += strspn(rest, " ");
    if (*rest && strcmp(rest, "GMT") != 0 && strcmp(rest, "UTC") != 0) {
        return CS_EINVAL;
    }
    return cs_date_seconds(out, &d);
}

/* ---- ISO 8601 ---- */

const char *cs_date_iso(const struct cs_date *d, char buf[CS_DATE_ISO_SIZE])
{
    char fraction[16] = "", zone[16] = "Z";

    if (d->nsec > 0) {
        int n = snprintf(fraction, sizeof(fraction), ".%09d", d->nsec);

        while (fraction[n - 1] == '0') {
            fraction[--n] = '\0';
        }
    }
    if (d->offset != 0) {
        int minutes = abs(d->offset);

        snprintf(zone, sizeof(zone), "%c%02d:%02d", d->offset < 0 ? '-' : '+', minutes / 60 % 24,
                 minutes % 60);
    }
    snprintf(buf, CS_DATE_ISO_SIZE, "%04d-%02d-%02dT%02d:%02d:%02d%s%s", d->year, d->month, d->day,
             d->hour, d->min, d->sec, fraction, zone);
    return buf;
}

/* Exactly n digits; moves on, or sets *p to NULL. */
static int digits(const char **p, int n)
{
    int value = 0;

    for (int i = 0; *p && i < n; i++) {
        char c = **p;

        value = value * 10 + (c - '0');
        *p = c >= '0' && c <= '9' ? *p + 1 : NULL;
    }
    return *p ? value : 0;
}

static void expect(const char **p, char c)
{
    if (*p) {
        *p = **p == c ? *p + 1 : NULL;
    }
}

static bool skip(const char **p, char c)
{
    bool there = *p && **p == c;

    if (there) {
        (*p)++;
    }
    return there;
}

/* Digits beyond the ninth are dropped. */
static int fraction(const char **p)
{
    int nsec = 0, weight = 100000000;

    if (**p < '0' || **p > '9') {
        *p = NULL;
        return 0;
    }
    for (; **p >= '0' && **p <= '9'; (*p)++, weight /= 10) {
        nsec += (**p - '0') * weight;
    }
    return nsec;
}

static void time_of_day(const char **p, struct cs_date *d)
{
    d->hour = digits(p, 2);
    expect(p, ':');
    d->min = digits(p, 2);
    if (skip(p, ':')) {
        d->sec = digits(p, 2);
        if (skip(p, '.') || skip(p, ',')) {
            d->nsec = fraction(p);
        }
    }
}

static void zone(const char **p, struct cs_date *d)
{
    bool west = skip(p, '-');

    if (west || skip(p, '+')) {
        d->offset = digits(p, 2) * 60;
        if (*p && (skip(p, ':') || **p)) {
            int minutes = digits(p, 2);

            d->offset += minutes;
            *p = minutes < 60 ? *p : NULL;
        }
        d->offset = west ? -d->offset : d->offset;
    } else if (!skip(p, 'Z')) {
        skip(p, 'z');
    }
}

int cs_date_parse_iso(struct cs_date *out, const char *text)
{
    struct cs_date d = {0};
    const char *p = text;

    d.year = digits(&p, 4);
    expect(&p, '-');
    d.month = digits(&p, 2);
    expect(&p, '-');
    d.day = digits(&p, 2);
    if (skip(&p, 'T') || skip(&p, 't') || skip(&p, ' ')) {
        time_of_day(&p, &d);
    }
    if (p) {
        zone(&p, &d);
    }
    *out = d;
    return p && !*p && valid(&d) ? 0 : CS_EINVAL;
}
