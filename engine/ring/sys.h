/*
 * sys - kernel interfaces of io_uring that Debian 12's liburing 2.3 has no helper for yet. Numbers
 * and layouts are kernel ABI (include/uapi/linux/io_uring.h).
 */
#ifndef CS_RING_SYS_H
#define CS_RING_SYS_H

#include <liburing.h>
#include <string.h>

#define CS_URING_OP_FIXED_FD_INSTALL 54 /* Linux 6.8 */
#define CS_URING_SOCKET_GETSOCKOPT 2    /* URING_CMD on a socket, Linux 6.7 */
#define CS_URING_SOCKET_SETSOCKOPT 3

/* SQE offsets of the socket commands' operands. */
#define CS_SQE_CMD_OP 8
#define CS_SQE_LEVEL 16
#define CS_SQE_OPTNAME 20
#define CS_SQE_OPTLEN 44
#define CS_SQE_OPTVAL 48

static inline void cs_sqe_put32(struct io_uring_sqe *sqe, size_t at, uint32_t value)
{
    memcpy((char *)sqe + at, &value, sizeof(value));
}

static inline void cs_sqe_put64(struct io_uring_sqe *sqe, size_t at, uint64_t value)
{
    memcpy((char *)sqe + at, &value, sizeof(value));
}

/* get/setsockopt on a socket by URING_CMD; value must stay until the command ran. */
static inline void cs_sqe_sockopt(struct io_uring_sqe *sqe, int fd, uint32_t cmd, int level,
                                  int name, const void *value, uint32_t len)
{
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, NULL, 0, 0);
    cs_sqe_put64(sqe, CS_SQE_CMD_OP, cmd);
    cs_sqe_put32(sqe, CS_SQE_LEVEL, (uint32_t)level);
    cs_sqe_put32(sqe, CS_SQE_OPTNAME, (uint32_t)name);
    cs_sqe_put32(sqe, CS_SQE_OPTLEN, len);
    cs_sqe_put64(sqe, CS_SQE_OPTVAL, (uint64_t)(uintptr_t)value);
}

/* Makes a real descriptor of a slot; close-on-exec. */
static inline void cs_sqe_install(struct io_uring_sqe *sqe, unsigned slot)
{
    io_uring_prep_rw(CS_URING_OP_FIXED_FD_INSTALL, sqe, (int)slot, NULL, 0, 0);
    sqe->flags |= IOSQE_FIXED_FILE;
}

#endif
