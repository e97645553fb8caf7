/*
 * server_stop - ending: gracefully, with or without a deadline, or at once.
 */
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/server_state.h"
#include "daemon/systemd.h"
#include "daemon/units.h"

#define STOP_HARD_MS 10000 /* a worker that has not ended by then is left behind */

void csd_server_stop_now(struct csd_server *s, const char *reason)
{
    if (s->phase >= CSD_STOPPING) {
        return;
    }
    s->phase = CSD_STOPPING;
    s->cut_reason = reason;
    s->deadline = cs_clock_ms() + STOP_HARD_MS;
    s->tick_ms = 0;
    cs_listen_table_leave(s->table);
    csd_workers_send(s->workers, CSD_STOP);
}

static void drain(struct csd_server *s, const char *by, uint64_t timeout)
{
    char text[CSD_UNITS_TEXT_MAX];

    s->phase = CSD_DRAINING;
    s->deadline = timeout == CSD_NEVER ? UINT64_MAX : cs_clock_ms() + timeout;
    s->tick_ms = 0;
    s->reload_wanted = false;
    cs_log(CS_LOG_NOTICE, "stopping by=%s timeout=%s", by,
           csd_format_duration(timeout, text, sizeof(text)));
    csd_notify_stopping("draining");
    csd_waiters_answer_reload(s, UINT_MAX, false, "the daemon is stopping\n");
    cs_listen_table_leave(s->table);
    csd_workers_send(s->workers, CSD_DRAIN);
}

void csd_server_ask_stop(struct csd_server *s, const char *by)
{
    uint64_t timeout = s->config->settings.stop_timeout;

    if (s->phase == CSD_STARTING || (csd_server_is_script(s) && s->phase < CSD_STOPPING)) {
        cs_log(CS_LOG_NOTICE, "stopping by=%s", by);
        csd_notify_stopping("stopping");
        csd_server_stop_now(s, NULL);
    } else if (s->phase == CSD_RUNNING) {
        drain(s, by, timeout);
    } else if (s->phase == CSD_DRAINING && !s->stop_asked) {
        s->deadline = timeout == CSD_NEVER ? UINT64_MAX : cs_clock_ms() + timeout;
    } else if (s->phase == CSD_DRAINING) {
        cs_log(CS_LOG_NOTICE, "stopping at once by=%s", by);
        csd_server_stop_now(s, "second stop request");
    }
    s->stop_asked = true;
}

void csd_server_ask_quit(struct csd_server *s, const char *by)
{
    if (s->phase == CSD_RUNNING && !csd_server_is_script(s)) {
        drain(s, by, CSD_NEVER);
    } else if (s->phase < CSD_DRAINING) {
        csd_server_ask_stop(s, by);
    }
}

void csd_server_leave_behind(struct csd_server *s)
{
    cs_log(CS_LOG_ERROR, "a worker does not end: leaving without it");
    csd_control_close(s->control);
    (void)fflush(NULL);
    _exit(CSD_EXIT_FAILURE);
}

void csd_server_finished(struct csd_server *s, const struct csd_answers *a)
{
    if (s->cut_reason && a->cut > 0) {
        cs_log(CS_LOG_WARN, "connections cut=%zu reason=\"%s\"", a->cut, s->cut_reason);
    }
    s->phase = CSD_ENDED;
}
