/*
 * clock - monotonic time. A loop reads it once a turn and hands the value on; everything that
 * needs "now" takes it as an argument. The simulator replaces the source.
 */
#ifndef CS_BASE_CLOCK_H
#define CS_BASE_CLOCK_H

#include "base/base.h"

typedef uint64_t cs_clock_fn(void);

/* Milliseconds of CLOCK_MONOTONIC, or of the replaced source. Any thread. */
uint64_t cs_clock_ms(void);

/* Nanoseconds of CLOCK_MONOTONIC (always the real one: used for measuring only). Any thread. */
uint64_t cs_clock_ns(void);

/* Replaces the source of cs_clock_ms (tests, simulator); NULL restores the real one. Before any
 * other thread runs. */
void cs_clock_set_source(cs_clock_fn *fn);

#endif
