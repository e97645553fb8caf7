/*
 * assert - the end of the line when one of our own invariants does not hold.
 */
#include "base/assert.h"

#include <stdlib.h>

#include "base/log.h"

void cs_assert_failed(const char *expr, const char *file, int line)
{
    cs_log(CS_LOG_ERROR, "assertion failed expr=\"%s\" at=%s:%d", expr, file, line);
    abort();
}
