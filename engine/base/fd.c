/* fd - see fd.h. */
#include "base/fd.h"

#include <errno.h>
#include <unistd.h>

int cs_fd_write_all(int fd, const void *data, size_t len)
{
    const char *bytes = data;
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno != EINTR) {
            return -errno;
        }
        if (n > 0) {
            bytes += n;
            len -= (size_t)n;
        }
    }
    return 0;
}
