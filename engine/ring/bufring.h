/*
 * bufring - one group of receive buffers that the kernel picks from (a provided buffer ring). A
 * buffer is with the kernel or lent out as a slice; releasing the slice gives it back.
 *
 * Thread: its ring's.
 */
#ifndef CS_RING_BUFRING_H
#define CS_RING_BUFRING_H

#include "base/chain.h"

struct cs_bufring;
struct io_uring;

/* count: a power of two up to 32,768. size: bytes of one buffer. 0 or -errno. */
CS_MUST_CHECK int cs_bufring_create(struct cs_bufring **out, struct io_uring *ring, unsigned group,
                                    unsigned count, unsigned size);

/* Every slice must be back. The kernel must not use the group any more. Accepts NULL. */
void cs_bufring_destroy(struct cs_bufring *b);

/* The slice of a buffer the kernel filled with len bytes. */
struct cs_slice *cs_bufring_lend(struct cs_bufring *b, unsigned id, unsigned len);

/* Buffers that are with the kernel. */
unsigned cs_bufring_free(const struct cs_bufring *b);

/* Bytes of one buffer. */
unsigned cs_bufring_size(const struct cs_bufring *b);

/* The group a lent slice comes from. */
const struct cs_bufring *cs_bufring_of(const struct cs_slice *s);

/* True while at most half of the buffers are lent out. */
bool cs_bufring_may_keep(const struct cs_bufring *b);

/* Lets the system have the pages back while no buffer is lent; they are zero pages afterwards. */
void cs_bufring_trim(struct cs_bufring *b);

#endif
