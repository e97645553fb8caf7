/*
 * systemd - what the service manager is told, and the sockets it gives and keeps. Everything here
 * does nothing without the environment variables that it sets (sd_notify(3), sd_listen_fds(3)).
 */
#ifndef CSD_SYSTEMD_H
#define CSD_SYSTEMD_H

#include "net/inherit.h"

/* Whether anybody listens. */
bool csd_notify_enabled(void);

void csd_notify_ready(const char *status);
void csd_notify_reloading(void); /* READY follows when it is over, whatever its result */
void csd_notify_stopping(const char *status);
void csd_notify_status(const char *status);

/* Adds the sockets that the manager passed: those of socket units and those of the fd store. New
 * ones go to the store. Once, before threads start. 0 or -ENOMEM; *out is the caller's to destroy.
 */
CS_MUST_CHECK int csd_inherit_sockets(struct cs_inherit **out);

/* Stopping takes at least this much longer. */
void csd_notify_extend(uint64_t ms);

/* How often csd_notify_watchdog is due, half of what the unit says; 0: never. */
uint64_t csd_watchdog_interval_ms(void);
void csd_notify_watchdog(void);

#endif
