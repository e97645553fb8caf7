/*
 * systemd - see systemd.h. A manager that does not answer is no reason to fail: results are
 * ignored.
 */
#include "daemon/systemd.h"

#include <inttypes.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>
#include <time.h>

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
