/*
 * logging - where log lines go: stderr, in the form that suits what stderr is, or a file that can
 * be opened again under the same name.
 */
#ifndef CSD_LOGGING_H
#define CSD_LOGGING_H

#include <sys/types.h>

#include "base/log.h"

struct csd_settings;

/* True when fd 2 is the journal's (JOURNAL_STREAM names its device and inode). */
bool csd_stderr_is_journal(void);

/* Lines go to stderr. */
void csd_logging_stderr(void);

/* As the settings say; before threads start. False: one line in `why`. */
CS_MUST_CHECK bool csd_logging_open(const struct csd_settings *s, char *why, size_t why_size);

/* The file's owner becomes this one, so that it can be opened again after root is given up. */
void csd_logging_chown(uid_t uid, gid_t gid);

/* Opens the file again under the same descriptor; threads that log at the same time lose nothing.
 * On failure the old file stays in use. False: one line in `why`. */
CS_MUST_CHECK bool csd_logging_reopen(const struct csd_settings *s, char *why, size_t why_size);

/* Prints lines for the person (or journal) that started us, before or beside the log: each line of
 * `text` on stderr, in the journal with the priority of an error. */
void csd_complain(const char *text);

/* Logs a text line by line, `what` in front of each. Any thread. */
void csd_log_lines(enum cs_log_level level, const char *what, const char *text);

#endif
