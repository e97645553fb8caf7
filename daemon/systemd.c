/*
 * systemd - see systemd.h. A manager that does not answer is no reason to fail: results are
 * ignored.
 */
#include "daemon/systemd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <time.h>

#include "base/err.h"
#include "base/log.h"

bool csd_notify_enabled(void)
{
    return getenv("NOTIFY_SOCKET") != NULL;
}

void csd_notify_ready(const char *status)
{
    (void)sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void csd_notify_reloading(void)
{
    struct timespec ts = {0};

    /* Type=notify-reload compares this with the time of its request. */
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    (void)sd_notifyf(0, "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=Reloading",
                     (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000);
}

void csd_notify_stopping(const char *status)
{
    (void)sd_notifyf(0, "STOPPING=1\nSTATUS=%s", status);
}

void csd_notify_status(const char *status)
{
    (void)sd_notifyf(0, "STATUS=%s", status);
}

void csd_notify_extend(uint64_t ms)
{
    (void)sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%" PRIu64, ms * 1000);
}

/* ---- sockets ---- */

static void keep(void *user, int fd, const char *name)
{
    char state[128];

    (void)user;
    (void)snprintf(state, sizeof(state), "FDSTORE=1\nFDNAME=%s", name);
    (void)sd_pid_notify_with_fds(0, 0, state, &fd, 1);
}

static void drop(void *user, const char *name)
{
    (void)user;
    (void)sd_notifyf(0, "FDSTOREREMOVE=1\nFDNAME=%s", name);
}

static int add_sockets(struct cs_inherit *in)
{
    char **names = NULL;
    int err = 0;
    int count = sd_listen_fds_with_names(1, &names);

    for (int i = 0; i < count; i++) {
        int added = cs_inherit_add(in, SD_LISTEN_FDS_START + i, names[i]);

        if (added == -ENOMEM) {
            err = added;
        } else if (added < 0) {
            cs_log(CS_LOG_WARN, "descriptor of the service manager not used name=%s: %s", names[i],
                   added == -EINVAL ? "not a listening stream socket" : cs_err_text(added));
        }
        free(names[i]);
    }
    free((void *)names);
    return err;
}

int csd_inherit_sockets(struct cs_inherit **out)
{
    static const struct cs_keeper keeper = {.keep = keep, .drop = drop};
    int err = cs_inherit_create(out, csd_notify_enabled() ? &keeper : NULL);

    if (err == 0) {
        err = add_sockets(*out);
        if (err < 0) {
            cs_inherit_destroy(*out);
            *out = NULL;
        }
    }
    return err;
}

/* ---- watchdog ---- */

uint64_t csd_watchdog_interval_ms(void)
{
    uint64_t usec = 0;

    if (sd_watchdog_enabled(0, &usec) <= 0) {
        return 0;
    }
    return usec / 2000 > 0 ? usec / 2000 : 1;
}

void csd_notify_watchdog(void)
{
    (void)sd_notify(0, "WATCHDOG=1");
}
