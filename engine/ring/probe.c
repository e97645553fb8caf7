/* probe - what this kernel offers. */
#include "ring/probe.h"

#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/err.h"
#include "ring/ring.h"
#include "ring/sys.h"

/* True when the comma-separated list in COSOCKD_WITHOUT names the feature. */
static bool masked(const char *name)
{
    const char *list = getenv("COSOCKD_WITHOUT");
    size_t len = strlen(name);
    while (list && *list) {
        size_t n = strcspn(list, ",");
        if (n == len && strncmp(list, name, n) == 0) {
            return true;
        }
        list += n + (list[n] == ',');
    }
    return false;
}

unsigned cs_probe_features(struct io_uring *ring)
{
    struct io_uring_probe *p = io_uring_get_probe_ring(ring);
    unsigned features = 0;
    /* FIXED_FD_INSTALL (6.8) came after the socket options by URING_CMD (6.7): it stands for both.
     */
    if (p && io_uring_opcode_supported(p, CS_URING_OP_FIXED_FD_INSTALL) && !masked("direct")) {
        features |= CS_RING_DIRECT;
    }
    if (!masked("splice")) {
        features |= CS_RING_SPLICE;
    }
    io_uring_free_probe(p);
    return features;
}

static bool read_disabled(void)
{
    FILE *f = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    int value = 0;
    if (f) {
        if (fscanf(f, "%d", &value) != 1) {
            value = 0;
        }
        fclose(f);
    }
    return value != 0;
}

void cs_probe_explain(int err, char *why, size_t size)
{
    struct utsname u;
    const char *release = uname(&u) == 0 ? u.release : "unknown";
    switch (err) {
    case -ENOSYS:
        snprintf(why, size, "this kernel (%s) has no io_uring: Linux 6.1 or newer is needed",
                 release);
        break;
    case -EINVAL:
        snprintf(why, size,
                 "this kernel (%s) is too old for cosockd's use of io_uring: Linux 6.1 or newer is "
                 "needed",
                 release);
        break;
    case -EPERM:
    case -EACCES:
        if (read_disabled()) {
            snprintf(why, size,
                     "io_uring is switched off: set kernel.io_uring_disabled=0 with sysctl");
        } else {
            snprintf(why, size,
                     "io_uring is not permitted here, probably by the container's seccomp profile: "
                     "allow io_uring_setup, io_uring_enter and io_uring_register");
        }
        break;
    default:
        snprintf(why, size, "io_uring could not be set up: %s", cs_err_text(err));
        break;
    }
}

void cs_ring_describe(char *buf, size_t size)
{
    struct io_uring ring;
    int err =
        io_uring_queue_init(8, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
    if (err < 0) {
        cs_probe_explain(err, buf, size);
        return;
    }
    unsigned features = cs_probe_features(&ring);
    io_uring_queue_exit(&ring);
    snprintf(buf, size,
             "io_uring: yes (deferred task work, multishot accept and receive, buffer rings)\n"
             "direct descriptors: %s",
             features & CS_RING_DIRECT
                 ? "yes"
                 : "no (Linux 6.8 is needed; connections are bounded by RLIMIT_NOFILE)");
}
