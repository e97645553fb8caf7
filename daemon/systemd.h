/*
 * systemd - what the service manager is told. Everything here does nothing without NOTIFY_SOCKET.
 */
#ifndef CSD_SYSTEMD_H
#define CSD_SYSTEMD_H

#include "base/base.h"

/* Whether anybody listens. */
bool csd_notify_enabled(void);

void csd_notify_ready(const char *status);
void csd_notify_reloading(void); /* READY follows when it is over, whatever its result */
void csd_notify_stopping(const char *status);
void csd_notify_status(const char *status);

/* Stopping takes at least this much longer. */
void csd_notify_extend(uint64_t ms);

/* How often csd_notify_watchdog is due, half of what the unit says; 0: never. */
uint64_t csd_watchdog_interval_ms(void);
void csd_notify_watchdog(void);

#endif
