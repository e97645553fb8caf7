/*
 * fd - ordinary files by descriptor. These calls wait: for helper threads and start-up, never for a
 * socket.
 */
#ifndef CS_BASE_FD_H
#define CS_BASE_FD_H

#include "base/base.h"

/* Writes all of it, however often that takes. 0 or -errno; then a part may be written. */
CS_MUST_CHECK int cs_fd_write_all(int fd, const void *data, size_t len);

#endif
