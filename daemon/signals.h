/*
 * signals - what each signal asks for, read from a descriptor.
 *
 *   HUP reload · USR1 reopen the log · USR2 log the state · TERM, INT stop · QUIT stop without
 * deadline
 *
 * Threads started after csd_signals_open inherit that these signals are blocked.
 */
#ifndef CSD_SIGNALS_H
#define CSD_SIGNALS_H

#include "base/base.h"

enum csd_signal_request {
    CSD_SIGNAL_NONE,
    CSD_SIGNAL_RELOAD,
    CSD_SIGNAL_REOPEN,
    CSD_SIGNAL_DUMP,
    CSD_SIGNAL_STOP,
    CSD_SIGNAL_QUIT,
};

/* A descriptor for poll(2), or -errno. SIGPIPE is ignored from now on. */
CS_MUST_CHECK int csd_signals_open(void);

/* The next one that came, CSD_SIGNAL_NONE when there is none. name: for the log. */
enum csd_signal_request csd_signals_next(int fd, const char **name);

#endif
