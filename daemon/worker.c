/*
 * worker - see worker.h.
 */
#include "daemon/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

struct csd_worker {
    pthread_t thread;
    int answer_fd;
    bool script_mode;
    bool wake_owed; /* main thread: commands are waiting that the worker was not told of */

    /* Set before the thread starts, or by it before `started`. */
    struct csd_cells_config config;
    struct csd_cells *cells;
    char *why;
    size_t why_size;

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t starting;
    bool started;
    int start_err;
    bool gone; /* the cells are being destroyed: no more waking */
    unsigned commands;
    const struct cs_program *program;
    unsigned generation, end_up_to;
    struct csd_answers answers;

    /* The worker thread's own. */
    bool draining, stopping, ended;
};

/* ---- answers ---- */

/* Tells the main thread that answers.set changed; the lock is held. */
static void answer(struct csd_worker *w, unsigned bits)
{
    uint64_t one = 1;

    w->answers.set |= bits;
    /* An eventfd refuses a write only at 2^64 - 2: then it is readable anyway. */
    if (write(w->answer_fd, &one, sizeof(one)) < 0) {
        return;
    }
}

static void locked_answer(struct csd_worker *w, unsigned bits)
{
    pthread_mutex_lock(&w->lock);
    answer(w, bits);
    pthread_mutex_unlock(&w->lock);
}

static void loaded(void *user, unsigned generation, int err, const char *errors)
{
    struct csd_worker *w = user;
    char *copy = NULL;

    if (errors) {
        copy = cs_strdup(errors);
    }
    pthread_mutex_lock(&w->lock);
    cs_free(w->answers.errors);
    w->answers.errors = copy;
    w->answers.generation = generation;
    w->answers.load_err = err;
    answer(w, CSD_LOADED);
    pthread_mutex_unlock(&w->lock);
}

/* ---- commands, in the worker ---- */

static void do_stop(struct csd_worker *w)
{
    struct cs_cell_status status;

    if (w->stopping) {
        return;
    }
    w->stopping = true;
    csd_cells_status(w->cells, &status);
    pthread_mutex_lock(&w->lock);
    w->answers.cut = status.connections;
    pthread_mutex_unlock(&w->lock);
    csd_cells_stop(w->cells);
}

static void do_status(struct csd_worker *w)
{
    struct cs_cell_status status;

    csd_cells_status(w->cells, &status);
    pthread_mutex_lock(&w->lock);
    w->answers.status = status;
    answer(w, CSD_STATUS_READY);
    pthread_mutex_unlock(&w->lock);
}

/* Runs in the loop's ops phase. */
static void run_commands(void *arg)
{
    struct csd_worker *w = arg;
    const struct cs_program *program;
    unsigned commands, generation, end_up_to;

    pthread_mutex_lock(&w->lock);
    commands = w->commands;
    w->commands = 0;
    program = w->program;
    generation = w->generation;
    end_up_to = w->end_up_to;
    pthread_mutex_unlock(&w->lock);

    if (commands & CSD_ROLLBACK) { /* first: a load may have been asked for since */
        csd_cells_rollback(w->cells);
        locked_answer(w, CSD_ROLLED_BACK);
    }
    if (commands & CSD_LOAD) {
        csd_cells_load(w->cells, program, generation, loaded, w);
    }
    if (commands & CSD_COMMIT) {
        csd_cells_commit(w->cells);
        locked_answer(w, CSD_COMMITTED);
    }
    if (commands & CSD_END_OLD) {
        csd_cells_end_draining(w->cells, end_up_to);
    }
    if ((commands & CSD_DRAIN) && !w->draining && !w->stopping) {
        w->draining = true;
        csd_cells_drain(w->cells);
    }
    if (commands & CSD_STOP) {
        do_stop(w);
    }
    if (commands & CSD_STATUS) {
        do_status(w);
    }
    if (commands & CSD_PING) {
        locked_answer(w, CSD_PONG);
    }
}

/* ---- the thread ---- */

/* What nobody calls back for: looked at after every turn. */
static void look_for_ends(struct csd_worker *w)
{
    int status = 0;

    if (w->stopping) {
        w->ended = csd_cells_finished(w->cells);
    } else if (w->draining && csd_cells_quiet(w->cells)) {
        w->draining = false;
        locked_answer(w, CSD_QUIET);
    }
    if (w->script_mode && !w->ended && csd_cells_script_done(w->cells, &status)) {
        w->script_mode = false;
        pthread_mutex_lock(&w->lock);
        w->answers.exit_status = status;
        answer(w, CSD_SCRIPT_DONE);
        pthread_mutex_unlock(&w->lock);
    }
}

/* The main thread waits for this. */
static void tell_started(struct csd_worker *w, int err)
{
    pthread_mutex_lock(&w->lock);
    w->started = true;
    w->start_err = err;
    pthread_cond_signal(&w->starting);
    pthread_mutex_unlock(&w->lock);
}

static void *worker_main(void *arg)
{
    struct csd_worker *w = arg;
    int err = csd_cells_create(&w->cells, &w->config, w->why, w->why_size);

    if (err != 0) {
        tell_started(w, err);
        return NULL;
    }
    tell_started(w, 0);
    while (!w->ended) {
        csd_cells_turn(w->cells);
        look_for_ends(w);
    }
    pthread_mutex_lock(&w->lock);
    w->gone = true;
    pthread_mutex_unlock(&w->lock);
    csd_cells_destroy(w->cells);
    locked_answer(w, CSD_FINISHED);
    return NULL;
}

/* ---- the main thread's side ---- */

static int init(struct csd_worker *w)
{
    int err = pthread_mutex_init(&w->lock, NULL);

    if (err != 0) {
        return -err;
    }
    err = pthread_cond_init(&w->starting, NULL);
    if (err != 0) {
        pthread_mutex_destroy(&w->lock);
    }
    return -err;
}

static void finish(struct csd_worker *w)
{
    pthread_cond_destroy(&w->starting);
    pthread_mutex_destroy(&w->lock);
    cs_free(w->answers.errors);
    cs_free(w);
}

static int start_thread(struct csd_worker *w)
{
    char name[16];
    int err = pthread_create(&w->thread, NULL, worker_main, w);

    if (err != 0) {
        return -err;
    }
    (void)snprintf(name, sizeof(name), "cosockd-w%u", w->config.worker);
    (void)pthread_setname_np(w->thread, name);
    pthread_mutex_lock(&w->lock);
    while (!w->started) {
        pthread_cond_wait(&w->starting, &w->lock);
    }
    err = w->start_err;
    pthread_mutex_unlock(&w->lock);
    if (err != 0) {
        (void)pthread_join(w->thread, NULL);
    }
    return err;
}

int csd_worker_start(struct csd_worker **out, const struct csd_cells_config *config, int answer_fd,
                     bool script_mode, char *why, size_t why_size)
{
    struct csd_worker *w = cs_zalloc(sizeof(*w));
    int err;

    *out = NULL;
    why[0] = '\0';
    if (!w) {
        return -ENOMEM;
    }
    err = init(w);
    if (err != 0) {
        cs_free(w);
        return err;
    }
    w->script_mode = script_mode;
    w->config = *config;
    w->answer_fd = answer_fd;
    w->why = why;
    w->why_size = why_size;
    err = start_thread(w);
    if (err != 0) {
        finish(w);
        return err;
    }
    *out = w;
    return 0;
}

void csd_worker_destroy(struct csd_worker *w)
{
    if (w) {
        (void)pthread_join(w->thread, NULL);
        finish(w);
    }
}

/* The lock is held while posting: it keeps the cells alive. */
static void wake_locked(struct csd_worker *w)
{
    if (w->gone) {
        w->wake_owed = false;
    } else if (w->wake_owed) {
        w->wake_owed = cs_loop_post(csd_cells_loop(w->cells), run_commands, w) != 0;
    }
}

bool csd_worker_wake(struct csd_worker *w)
{
    pthread_mutex_lock(&w->lock);
    wake_locked(w);
    pthread_mutex_unlock(&w->lock);
    return !w->wake_owed;
}

static void send_locked(struct csd_worker *w, unsigned commands)
{
    /* With commands still waiting, a wake-up is on its way or owed already. */
    if (w->commands == 0) {
        w->wake_owed = true;
    }
    w->commands |= commands;
    wake_locked(w);
}

void csd_worker_send(struct csd_worker *w, unsigned commands)
{
    pthread_mutex_lock(&w->lock);
    send_locked(w, commands);
    pthread_mutex_unlock(&w->lock);
}

void csd_worker_load(struct csd_worker *w, const struct cs_program *program, unsigned generation)
{
    pthread_mutex_lock(&w->lock);
    w->program = program;
    w->generation = generation;
    send_locked(w, CSD_LOAD);
    pthread_mutex_unlock(&w->lock);
}

void csd_worker_end_old(struct csd_worker *w, unsigned generation)
{
    pthread_mutex_lock(&w->lock);
    w->end_up_to = generation;
    send_locked(w, CSD_END_OLD);
    pthread_mutex_unlock(&w->lock);
}

void csd_worker_answers(struct csd_worker *w, struct csd_answers *out)
{
    pthread_mutex_lock(&w->lock);
    *out = w->answers;
    w->answers.set = 0;
    w->answers.errors = NULL;
    pthread_mutex_unlock(&w->lock);
}
