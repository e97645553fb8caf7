/*
 * clock - CLOCK_MONOTONIC in two units, the coarser one replaceable.
 */
#include "base/clock.h"

#include <time.h>

/* Written before threads start, read by all: no lock needed. */
static cs_clock_fn *clock_source;

uint64_t cs_clock_ns(void)
{
    struct timespec ts;

    /* Cannot fail: the clock exists on every Linux and the pointer is good. */
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

uint64_t cs_clock_ms(void)
{
    return clock_source != NULL ? clock_source() : cs_clock_ns() / 1000000U;
}

void cs_clock_set_source(cs_clock_fn *fn)
{
    clock_source = fn;
}
