/*
 * ring_set - the rings that one thread drives, and the one place where it sleeps for all of them:
 * an eventfd that every ring of the set writes to, and only while the thread sleeps. Part of the
 * ring's face: like ring.h it has two implementations.
 *
 * Thread: that of its rings.
 */
#ifndef CS_RING_RING_SET_H
#define CS_RING_RING_SET_H

#include "ring/ring.h"

struct cs_ring_set;
struct io_uring;

#define CS_RING_SET_MAX 64

/* 0, -ENOMEM or -errno of eventfd(2). */
CS_MUST_CHECK int cs_ring_set_create(struct cs_ring_set **out);

/* Its rings must have left. Accepts NULL. */
void cs_ring_set_destroy(struct cs_ring_set *s);

/* The ring was made with in_set, and is in no other set. 0 or -errno (-ENOSPC: the set
 * is full). */
CS_MUST_CHECK int cs_ring_set_add(struct cs_ring_set *s, struct cs_ring *r);
void cs_ring_set_remove(struct cs_ring_set *s, struct cs_ring *r);

/* Sleeps until one of the rings has work, at most timeout_ms (-1: without limit). May return early.
 */
void cs_ring_set_sleep(struct cs_ring_set *s, int64_t timeout_ms);

/* For ring_set.c. */
struct io_uring *cs_ring_uring(struct cs_ring *r);

#endif
