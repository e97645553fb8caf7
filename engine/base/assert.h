/*
 * assert - CS_ASSERT judges our own invariants and stays on in every build; CS_DASSERT is for the
 * expensive ones (walks over lists) and exists in debug builds only. Neither is ever used on
 * anything that a peer, a script or a configuration file can cause: those are errors.
 */
#ifndef CS_BASE_ASSERT_H
#define CS_BASE_ASSERT_H

#include "base/base.h"

/* Logs the expression and the place, then aborts. */
CS_NORETURN void cs_assert_failed(const char *expr, const char *file, int line);

#define CS_ASSERT(x) (CS_LIKELY(x) ? (void)0 : cs_assert_failed(#x, __FILE__, __LINE__))

#ifdef CS_DEBUG
#define CS_DASSERT(x) CS_ASSERT(x)
#else
#define CS_DASSERT(x) ((void)0)
#endif

#endif
