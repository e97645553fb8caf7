/*
 * server - setting up, and the main thread's wait for whatever comes first: a signal, an answer of
 * the workers, a client of the control socket, a time.
 */
#include "daemon/server.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/logging.h"
#include "daemon/machine.h"
#include "daemon/server_state.h"
#include "daemon/signals.h"
#include "daemon/systemd.h"
#include "ring/ring_set.h"

#define WHY_MAX 512
#define TICK_MS 1000         /* while something is being waited out */
#define NOTIFY_TICK_MS 30000 /* for systemd's status line */
#define EXTEND_MS 10000      /* each tick of a drain asks systemd for this much */
#define WAKE_RETRY_MS 50

/* ---- requests ---- */

static bool reopen(struct csd_server *s, char *why, size_t why_size)
{
    if (!csd_logging_reopen(&s->started->settings, why, why_size)) {
        cs_log(CS_LOG_ERROR, "%s; the old file stays in use", why);
        return false;
    }
    cs_log(CS_LOG_NOTICE, "log reopened");
    return true;
}

static void handle_signal(struct csd_server *s, enum csd_signal_request request, const char *name)
{
    char why[WHY_MAX];

    switch (request) {
    case CSD_SIGNAL_RELOAD:
        csd_server_ask_reload(s, name);
        break;
    case CSD_SIGNAL_REOPEN:
        (void)reopen(s, why, sizeof(why));
        break;
    case CSD_SIGNAL_DUMP:
        s->dump_wanted = true;
        csd_server_ask_status(s);
        break;
    case CSD_SIGNAL_STOP:
        csd_server_ask_stop(s, name);
        break;
    case CSD_SIGNAL_QUIT:
        csd_server_ask_quit(s, name);
        break;
    case CSD_SIGNAL_NONE:
        break;
    }
}

static void request_reload(struct csd_server *s, struct csd_client_ref client, bool wait)
{
    if (s->phase >= CSD_DRAINING) {
        csd_server_answer(s, client, false, "the daemon is stopping\n");
        return;
    }
    if (wait) {
        csd_waiter_add(s, CSD_WAIT_RELOAD, client);
        csd_control_patient(s->control, client);
    } else {
        csd_server_answer(s, client, true, "reloading\n");
    }
    csd_server_ask_reload(s, "control");
}

static void request_reopen(struct csd_server *s, struct csd_client_ref client)
{
    char why[WHY_MAX], text[WHY_MAX + 1];

    if (reopen(s, why, sizeof(why))) {
        csd_server_answer(s, client, true, "log reopened\n");
    } else {
        (void)snprintf(text, sizeof(text), "%s\n", why);
        csd_server_answer(s, client, false, text);
    }
}

static void handle_request(void *user, enum csd_request request, struct csd_client_ref client)
{
    struct csd_server *s = user;

    switch (request) {
    case CSD_REQUEST_STATUS:
    case CSD_REQUEST_STATUS_JSON:
        csd_waiter_add(s, request == CSD_REQUEST_STATUS ? CSD_WAIT_STATUS : CSD_WAIT_STATUS_JSON,
                       client);
        csd_server_ask_status(s);
        break;
    case CSD_REQUEST_RELOAD:
    case CSD_REQUEST_RELOAD_WAIT:
        request_reload(s, client, request == CSD_REQUEST_RELOAD_WAIT);
        break;
    case CSD_REQUEST_STOP:
        csd_server_answer(s, client, true, "stopping\n");
        csd_server_ask_stop(s, "control");
        break;
    case CSD_REQUEST_QUIT:
        csd_server_answer(s, client, true, "stopping when the last connection has ended\n");
        csd_server_ask_quit(s, "control");
        break;
    case CSD_REQUEST_REOPEN:
        request_reopen(s, client);
        break;
    case CSD_REQUEST_BAD:
        break;
    }
}

static void handle_answers(struct csd_server *s)
{
    struct csd_answers a;

    csd_workers_answers(s->workers, &a);
    if (a.set & CSD_LOADED) {
        csd_server_loaded(s, &a);
    }
    if (a.set & CSD_COMMITTED) {
        csd_server_committed(s);
    }
    if (a.set & CSD_STATUS_READY) {
        csd_server_status_ready(s, &a);
    }
    if (a.set & CSD_PONG) {
        s->ping_out = false;
        csd_notify_watchdog();
    }
    if ((a.set & CSD_SCRIPT_DONE) && s->phase < CSD_STOPPING) {
        s->exit_status = (enum csd_exit)a.exit_status;
        csd_server_stop_now(s, NULL);
    }
    if ((a.set & CSD_QUIET) && s->phase == CSD_DRAINING) {
        csd_server_stop_now(s, NULL);
    }
    if (a.set & CSD_FINISHED) {
        csd_server_finished(s, &a);
    }
    cs_free(a.errors);
}

/* ---- time ---- */

/* How often to look at the workers' state; 0: nobody wants to know. */
static uint64_t tick_every(const struct csd_server *s)
{
    if (s->options->test) {
        return 0;
    }
    if (s->phase == CSD_DRAINING || s->phase == CSD_STOPPING ||
        (s->generations && s->generations->next)) {
        return TICK_MS;
    }
    return csd_notify_enabled() && s->phase == CSD_RUNNING ? NOTIFY_TICK_MS : 0;
}

static void tick(struct csd_server *s, uint64_t now)
{
    uint64_t every = tick_every(s);

    if (every == 0 || now < s->tick_ms) {
        return;
    }
    s->tick_ms = now + every;
    csd_server_ask_status(s);
    if (s->phase >= CSD_DRAINING) {
        csd_notify_extend(EXTEND_MS);
    }
}

static void watchdog(struct csd_server *s, uint64_t now)
{
    if (s->watchdog_every == 0 || now < s->watchdog_ms) {
        return;
    }
    s->watchdog_ms = now + s->watchdog_every;
    /* No second ping while one is out: a stuck worker is what the watchdog is for. */
    if (!s->ping_out) {
        s->ping_out = true;
        csd_workers_send(s->workers, CSD_PING);
    }
}

static void on_time(struct csd_server *s)
{
    uint64_t now = cs_clock_ms();

    (void)csd_workers_wake(s->workers);
    if (s->reload_wanted && s->phase == CSD_RUNNING && !s->loading) {
        csd_server_reload(s);
    }
    if (s->phase == CSD_DRAINING && now >= s->deadline) {
        csd_server_stop_now(s, "stop_timeout");
    } else if (s->phase == CSD_STOPPING && now >= s->deadline) {
        csd_server_leave_behind(s);
    }
    csd_generations_expire(s, now);
    tick(s, now);
    watchdog(s, now);
}

/* Milliseconds until on_time has something to do, -1: only when something happens. */
static int sleep_ms(struct csd_server *s)
{
    uint64_t now = cs_clock_ms(), first = UINT64_MAX;

    if (s->phase == CSD_DRAINING || s->phase == CSD_STOPPING) {
        first = s->deadline;
    }
    if (tick_every(s) > 0) {
        first = CS_MIN(first, s->tick_ms);
    }
    if (s->watchdog_every > 0) {
        first = CS_MIN(first, s->watchdog_ms);
    }
    if (s->control) {
        first = CS_MIN(first, csd_control_deadline(s->control));
    }
    if (!csd_workers_wake(s->workers)) {
        first = CS_MIN(first, now + WAKE_RETRY_MS);
    }
    if (first == UINT64_MAX) {
        return -1;
    }
    return first <= now ? 0 : (int)CS_MIN(first - now, INT32_MAX);
}

/* ---- the loop ---- */

static void wait_and_handle(struct csd_server *s)
{
    struct pollfd fds[2 + CSD_CONTROL_POLLFDS];
    size_t n = 2;
    enum csd_signal_request request;
    const char *name;

    fds[0] = (struct pollfd){.fd = s->signal_fd, .events = POLLIN};
    fds[1] = (struct pollfd){.fd = csd_workers_fd(s->workers), .events = POLLIN};
    if (s->control) {
        n += csd_control_pollfds(s->control, fds + n);
    }
    if (poll(fds, n, sleep_ms(s)) < 0 && errno != EINTR) {
        cs_log(CS_LOG_ERROR, "poll: %s", strerror(errno));
        csd_server_stop_now(s, "poll failed");
        return;
    }
    while ((request = csd_signals_next(s->signal_fd, &name)) != CSD_SIGNAL_NONE) {
        handle_signal(s, request, name);
    }
    handle_answers(s);
    if (s->control) {
        csd_control_handle(s->control, fds + 2, n - 2, cs_clock_ms());
    }
}

/* ---- setting up ---- */

static enum csd_exit failed(enum csd_exit status, const char *why)
{
    char text[WHY_MAX + 16];

    (void)snprintf(text, sizeof(text), "cosockd: %s", why);
    csd_complain(text);
    return status;
}

static enum csd_exit open_control(struct csd_server *s)
{
    const struct csd_settings *set = &s->config->settings;
    char why[WHY_MAX];
    bool change;

    if (csd_server_is_script(s) || s->options->test) {
        return CSD_EXIT_OK;
    }
    if (!csd_identity_find(&s->identity, set->user, set->group, why, sizeof(why))) {
        return failed(CSD_EXIT_FAILURE, why);
    }
    change = s->identity.change;
    if (set->control_socket[0] != '\0' &&
        !csd_control_open(&s->control, set->control_socket, change ? s->identity.uid : (uid_t)-1,
                          change ? s->identity.gid : (gid_t)-1, handle_request, s, why,
                          sizeof(why))) {
        return failed(CSD_EXIT_FAILURE, why);
    }
    return CSD_EXIT_OK;
}

/* A script runs like a program, and a test needs to see each script once. */
static bool is_single(const struct csd_server *s)
{
    return csd_server_is_script(s) || s->options->test;
}

static unsigned worker_count(const struct csd_server *s)
{
    uint64_t n = s->options->workers_given ? s->options->workers : s->config->settings.workers;

    if (is_single(s)) {
        return 1;
    }
    return n == CSD_AUTO ? CS_MIN(csd_machine_cpus(), (unsigned)CSD_WORKERS_MAX) : (unsigned)n;
}

static unsigned max_cells(const struct csd_server *s)
{
    uint64_t n = s->config->settings.cells;

    if (is_single(s)) {
        return 1;
    }
    return n == CSD_AUTO ? CS_RING_SET_MAX : (unsigned)n;
}

static enum csd_exit start_workers(struct csd_server *s)
{
    struct csd_cells_config config = {.cell = &s->cell_config};
    char why[WHY_MAX] = "";
    int err;

    config.max = max_cells(s);
    if (csd_inherit_sockets(&s->inherit) != 0 || cs_admit_create(&s->admit) != 0) {
        return failed(CSD_EXIT_FAILURE, "out of memory");
    }
    s->table = cs_listen_table_create(worker_count(s), s->inherit);
    if (!s->table) {
        return failed(CSD_EXIT_FAILURE, "out of memory");
    }
    config.table = s->table;
    s->cell_config = s->config->cell;
    s->cell_config.net.admit = s->admit;
    err = csd_workers_start(&s->workers, &config, worker_count(s), csd_server_is_script(s), why,
                            sizeof(why));
    if (err == CS_ENOTSUP) {
        return failed(CSD_EXIT_UNAVAILABLE, why);
    }
    if (err != 0) {
        return failed(CSD_EXIT_FAILURE, why[0] ? why : cs_err_text(err));
    }
    return CSD_EXIT_OK;
}

static enum csd_exit set_up(struct csd_server *s)
{
    enum csd_exit status;

    s->signal_fd = csd_signals_open();
    if (s->signal_fd < 0) {
        return failed(CSD_EXIT_FAILURE, strerror(-s->signal_fd));
    }
    (void)csd_raise_nofile();
    status = open_control(s);
    if (status == CSD_EXIT_OK) {
        status = start_workers(s);
    }
    if (status != CSD_EXIT_OK) {
        return status;
    }
    s->loading = csd_generation_new(s, csd_config_ref(s->config));
    if (!s->loading) {
        csd_server_stop_now(s, NULL);
        return failed(CSD_EXIT_FAILURE, "out of memory");
    }
    s->config->program.check_only = s->options->test;
    csd_workers_load(s->workers, &s->config->program, s->loading->number);
    s->watchdog_every = s->options->test ? 0 : csd_watchdog_interval_ms();
    return CSD_EXIT_OK;
}

static void tear_down(struct csd_server *s)
{
    csd_workers_destroy(s->workers);
    cs_listen_table_destroy(s->table);
    cs_inherit_destroy(s->inherit);
    cs_admit_destroy(s->admit);
    csd_control_close(s->control);
    if (s->signal_fd >= 0) {
        (void)close(s->signal_fd);
    }
    csd_generation_free(s->loading);
    while (s->generations) {
        struct csd_generation *g = s->generations;

        s->generations = g->next;
        csd_generation_free(g);
    }
    csd_config_unref(s->config);
    csd_config_unref(s->started);
}

enum csd_exit csd_server_run(const struct csd_options *o, struct csd_config *config)
{
    struct csd_server s = {.options = o,
                           .started = config,
                           .config = csd_config_ref(config),
                           .signal_fd = -1,
                           .deadline = UINT64_MAX,
                           .started_ms = cs_clock_ms()};

    s.exit_status = set_up(&s);
    while (s.workers && s.phase != CSD_ENDED) {
        on_time(&s);
        wait_and_handle(&s);
    }
    if (s.generations && !csd_server_is_script(&s)) {
        cs_log(CS_LOG_NOTICE, "stopped");
    }
    tear_down(&s);
    return s.exit_status;
}
