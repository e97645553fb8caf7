/*
 * logging - see logging.h.
 */
#include "daemon/logging.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/settings.h"

static int file_fd = -1;

bool csd_stderr_is_journal(void)
{
    const char *text = getenv("JOURNAL_STREAM");
    struct stat st;
    char wanted[64];

    if (!text || fstat(STDERR_FILENO, &st) != 0) {
        return false;
    }
    (void)snprintf(wanted, sizeof(wanted), "%ju:%ju", (uintmax_t)st.st_dev, (uintmax_t)st.st_ino);
    return strcmp(text, wanted) == 0;
}

void csd_logging_stderr(void)
{
    cs_log_set_sink(STDERR_FILENO, csd_stderr_is_journal() ? CS_LOG_JOURNAL : CS_LOG_PLAIN);
}

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

bool csd_logging_open(const struct csd_settings *s, char *why, size_t why_size)
{
    cs_log_set_level((enum cs_log_level)s->log_level);
    csd_logging_stderr();
    if (!s->log_file) {
        return true;
    }
    file_fd = open_file(s->log_file);
    if (file_fd < 0) {
        (void)snprintf(why, why_size, "log_file %s: %s", s->log_file, strerror(errno));
        return false;
    }
    cs_log_set_sink(file_fd, CS_LOG_PLAIN);
    return true;
}

void csd_logging_chown(uid_t uid, gid_t gid)
{
    if (file_fd >= 0 && fchown(file_fd, uid, gid) != 0) {
        cs_log(CS_LOG_WARN, "log_file: its owner cannot be changed: %s", strerror(errno));
    }
}

bool csd_logging_reopen(const struct csd_settings *s, char *why, size_t why_size)
{
    int fd;

    if (file_fd < 0) {
        return true;
    }
    fd = open_file(s->log_file);
    if (fd < 0 || dup3(fd, file_fd, O_CLOEXEC) < 0) {
        (void)snprintf(why, why_size, "log_file %s: %s", s->log_file, strerror(errno));
        if (fd >= 0) {
            (void)close(fd);
        }
        return false;
    }
    (void)close(fd);
    return true;
}

void csd_complain(const char *text)
{
    const char *prefix = csd_stderr_is_journal() ? "<3>" : "";

    while (*text) {
        size_t len = strcspn(text, "\n");

        (void)fprintf(stderr, "%s%.*s\n", prefix, (int)len, text);
        text += len + (text[len] == '\n');
    }
}

void csd_log_lines(enum cs_log_level level, const char *what, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");

        if (len > 0) {
            cs_log(level, "%s%.*s", what, (int)len, text);
        }
        text += len + (text[len] == '\n');
    }
}
