/*
 * signals - see signals.h.
 */
#include "daemon/signals.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const struct {
    int number;
    enum csd_signal_request request;
    const char *name;
} table[] = {
    {SIGHUP, CSD_SIGNAL_RELOAD, "SIGHUP"}, {SIGUSR1, CSD_SIGNAL_REOPEN, "SIGUSR1"},
    {SIGUSR2, CSD_SIGNAL_DUMP, "SIGUSR2"}, {SIGTERM, CSD_SIGNAL_STOP, "SIGTERM"},
    {SIGINT, CSD_SIGNAL_STOP, "SIGINT"},   {SIGQUIT, CSD_SIGNAL_QUIT, "SIGQUIT"},
};

int csd_signals_open(void)
{
    sigset_t set;
    int fd;

    (void)sigemptyset(&set);
    for (size_t i = 0; i < CS_ARRAY_LEN(table); i++) {
        (void)sigaddset(&set, table[i].number);
    }
    if (sigprocmask(SIG_BLOCK, &set, NULL) != 0 || signal(SIGPIPE, SIG_IGN) == SIG_ERR) {
        return -errno;
    }
    fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd >= 0 ? fd : -errno;
}

enum csd_signal_request csd_signals_next(int fd, const char **name)
{
    struct signalfd_siginfo info;

    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info)) {
        return CSD_SIGNAL_NONE;
    }
    for (size_t i = 0; i < CS_ARRAY_LEN(table); i++) {
        if ((uint32_t)table[i].number == info.ssi_signo) {
            *name = table[i].name;
            return table[i].request;
        }
    }
    return CSD_SIGNAL_NONE;
}
