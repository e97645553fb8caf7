/*
 * date - moments as texts: HTTP dates (RFC 9110, 5.6.7) and ISO 8601 as of RFC 3339.
 *
 * A moment is a number of seconds since 1970-01-01T00:00:00Z, of the proleptic Gregorian calendar,
 * years 1 to 9999.
 */
#ifndef CS_CODEC_DATE_H
#define CS_CODEC_DATE_H

#include "base/base.h"
#include "base/err.h"

#define CS_DATE_MIN INT64_C(-62135596800) /* 0001-01-01T00:00:00Z */
#define CS_DATE_MAX INT64_C(253402300799) /* 9999-12-31T23:59:59Z */
#define CS_DATE_OFFSET_MAX 1439           /* minutes a time zone may be away from UTC */

/* A moment as a person of some time zone writes it. */
struct cs_date {
    int year, month, day; /* 1-9999, 1-12, 1-31 */
    int hour, min, sec;   /* 0-23, 0-59, 0-59 (60 is read as the next minute) */
    int nsec;             /* 0-999999999 */
    int offset;           /* minutes east of UTC */
};

/* The seconds of a date, as if it were UTC: `offset` is not looked at. 0, or CS_EINVAL when there
 * is no such date. */
CS_MUST_CHECK int cs_date_seconds(int64_t *out, const struct cs_date *d);

/* The date of seconds from CS_DATE_MIN to CS_DATE_MAX; nsec and offset are 0. */
void cs_date_of(struct cs_date *out, int64_t seconds);

#define CS_DATE_HTTP_SIZE 64
/* "Thu, 01 Jan 1970 00:00:00 GMT". seconds as for cs_date_of. Returns buf. */
const char *cs_date_http(int64_t seconds, char buf[CS_DATE_HTTP_SIZE]);

/* Reads the three forms of HTTP, a date without "GMT" too. 0 or CS_EINVAL. */
CS_MUST_CHECK int cs_date_parse_http(int64_t *out, const char *text);

#define CS_DATE_ISO_SIZE 112
/* "1970-01-01T01:00:00.5+01:00" or "...Z"; no fraction when nsec is 0. Returns buf. */
const char *cs_date_iso(const struct cs_date *d, char buf[CS_DATE_ISO_SIZE]);

/* Reads "YYYY-MM-DD", then perhaps 'T' or a space and "HH:MM", ":SS", ".fraction", then perhaps
 * "Z",
 * "+HH:MM", "+HHMM" or "+HH". 0, or CS_EINVAL: no such text or no such date. */
CS_MUST_CHECK int cs_date_parse_iso(struct cs_date *out, const char *text);

#endif
