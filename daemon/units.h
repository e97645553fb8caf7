/*
 * units - sizes and durations as people write them: "16k", "10M", "1G"; "500ms", "30s", "5m", "1h",
 * "1d".
 */
#ifndef CSD_UNITS_H
#define CSD_UNITS_H

#include "base/base.h"

/* A duration without an end. */
#define CSD_NEVER UINT64_MAX

/* Room for what the two formatters write. */
#define CSD_UNITS_TEXT_MAX 32

/* Bytes: digits and at most one of k, M, G, T (powers of 1024, either case). False: anything else,
 * or more than 63 bits. */
CS_MUST_CHECK bool csd_parse_size(const char *text, uint64_t *out);

/* Milliseconds: digits and one of ms, s, m, h, d; "0" needs no unit; "never" is CSD_NEVER. */
CS_MUST_CHECK bool csd_parse_duration(const char *text, uint64_t *out);

/* The shortest exact text that parses to the same value; returns buf. */
const char *csd_format_size(uint64_t bytes, char *buf, size_t size);
const char *csd_format_duration(uint64_t ms, char *buf, size_t size);

/* For people: "3 days", "2 h 5 min", "12 s"; returns buf. */
const char *csd_format_age(uint64_t ms, char *buf, size_t size);

#endif
