/*
 * server_status - what the server tells about itself, and the clients that wait to hear it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/logging.h"
#include "daemon/server_state.h"
#include "daemon/systemd.h"

static const char *phase_name(const struct csd_server *s)
{
    static const char *const names[] = {"starting", "running", "draining", "stopping", "ended"};

    return s->loading && s->phase == CSD_RUNNING ? "reloading" : names[s->phase];
}

struct csd_status csd_server_status(const struct csd_server *s)
{
    return (struct csd_status){.phase = phase_name(s),
                               .configuration = s->config->path,
                               .up_ms = cs_clock_ms() - s->started_ms,
                               .generation = csd_generation_current(s),
                               .reloads = s->reloads,
                               .refused = s->refused,
                               .cell = &s->cell_status,
                               .workers = s->workers,
                               .worker_count = csd_workers_count(s->workers),
                               .admit = s->admit};
}

/* The text, zero-terminated; free(3). NULL when out of memory. */
static char *status_render(const struct csd_server *s, bool json, size_t *len)
{
    struct csd_status status = csd_server_status(s);
    char *text = NULL;
    FILE *f = open_memstream(&text, len);

    if (!f) {
        return NULL;
    }
    if (json) {
        csd_status_json(&status, f);
    } else {
        csd_status_text(&status, f);
    }
    if (fclose(f) != 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void notify_status(const struct csd_server *s)
{
    struct csd_status status = csd_server_status(s);
    char line[128];

    csd_notify_status(csd_status_line(&status, line, sizeof(line)));
}

void csd_server_notify_ready(const struct csd_server *s)
{
    struct csd_status status = csd_server_status(s);
    char line[128];

    csd_notify_ready(csd_status_line(&status, line, sizeof(line)));
}

/* ---- clients that wait ---- */

/* There is a place for each client; one that went away leaves it to its successor in the slot. */
void csd_waiter_add(struct csd_server *s, enum csd_wait_kind kind, struct csd_client_ref client)
{
    struct csd_waiter *w = &s->waiters[client.slot];

    *w = (struct csd_waiter){.kind = kind, .client = client, .attempt = s->attempt + 1};
}

void csd_server_answer(struct csd_server *s, struct csd_client_ref client, bool ok,
                       const char *text)
{
    if (s->control) {
        csd_control_answer(s->control, client, ok, text, strlen(text));
    }
}

static void waiters_answer_status(struct csd_server *s)
{
    for (size_t i = 0; i < CS_ARRAY_LEN(s->waiters); i++) {
        struct csd_waiter *w = &s->waiters[i];
        bool json = w->kind == CSD_WAIT_STATUS_JSON;
        size_t len;
        char *text;

        if (w->kind != CSD_WAIT_STATUS && !json) {
            continue;
        }
        w->kind = CSD_WAIT_NONE;
        text = status_render(s, json, &len);
        if (text) {
            csd_control_answer(s->control, w->client, true, text, len);
        } else {
            csd_server_answer(s, w->client, false, "out of memory\n");
        }
        free(text);
    }
}

void csd_waiters_answer_reload(struct csd_server *s, unsigned attempt, bool ok, const char *text)
{
    for (size_t i = 0; i < CS_ARRAY_LEN(s->waiters); i++) {
        struct csd_waiter *w = &s->waiters[i];

        if (w->kind == CSD_WAIT_RELOAD && w->attempt <= attempt) {
            w->kind = CSD_WAIT_NONE;
            csd_server_answer(s, w->client, ok, text);
        }
    }
}

void csd_server_ask_status(struct csd_server *s)
{
    csd_workers_send(s->workers, CSD_STATUS);
}

void csd_server_status_ready(struct csd_server *s, const struct csd_answers *a)
{
    char *text;
    size_t len;

    s->cell_status = a->status;
    csd_generations_prune(s);
    waiters_answer_status(s);
    notify_status(s);
    if (s->dump_wanted) {
        s->dump_wanted = false;
        text = status_render(s, false, &len);
        if (text) {
            csd_log_lines(CS_LOG_NOTICE, "state: ", text);
        }
        free(text);
    }
}
