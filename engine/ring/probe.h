/*
 * probe - what this kernel offers, and one sentence for each way in which it can refuse.
 */
#ifndef CS_RING_PROBE_H
#define CS_RING_PROBE_H

#include "base/base.h"

struct io_uring;

/* Bits of enum cs_ring_feature found on an open ring, less those in COSOCKD_WITHOUT. */
unsigned cs_probe_features(struct io_uring *ring);

/* The sentence for a failed set-up: cause and cure. err: -errno of the step. */
void cs_probe_explain(int err, char *why, size_t size);

#endif
