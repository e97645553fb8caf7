/*
 * rng - random numbers of the unit tests: the same in every run, others with CS_SEED=n.
 */
#ifndef SUPPORT_RNG_H
#define SUPPORT_RNG_H

#include <stdint.h>
#include <stdlib.h>

static uint64_t rng;

/* splitmix64 */
static inline uint64_t rng_next(void)
{
    uint64_t z = rng += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* 0 <= result < below */
static inline uint32_t rnd(uint32_t below)
{
    return (uint32_t)(rng_next() >> 32) % below;
}

/* usual: the seed without CS_SEED. */
static inline void rng_start(uint64_t usual)
{
    const char *seed = getenv("CS_SEED");
    rng = seed ? strtoull(seed, NULL, 0) : usual;
}

#endif
