/*
 * workers - see workers.h.
 */
#include "daemon/workers.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/mem.h"

/* What is an answer only when all have given it. */
#define BY_ALL                                                                                     \
    (CSD_LOADED | CSD_ROLLED_BACK | CSD_COMMITTED | CSD_QUIET | CSD_FINISHED | CSD_STATUS_READY |  \
     CSD_PONG)

struct one {
    struct csd_worker *worker;
    unsigned have; /* answers that wait for those of the others */
    struct cs_cell_status status;
};

struct csd_workers {
    int answer_fd;
    unsigned generation; /* being loaded */
    int load_err;
    char *errors;
    size_t cut;
    unsigned count;
    struct one one[];
};

/* ---- answers ---- */

static void forget(struct csd_workers *ws, unsigned bits)
{
    for (unsigned i = 0; i < ws->count; i++) {
        ws->one[i].have &= ~bits;
    }
}

/* The bits that every worker has given; they are used up. */
static unsigned given_by_all(struct csd_workers *ws)
{
    unsigned all = BY_ALL;

    for (unsigned i = 0; i < ws->count; i++) {
        all &= ws->one[i].have;
    }
    forget(ws, all);
    return all;
}

static void take_load(struct csd_workers *ws, struct one *w, struct csd_answers *a)
{
    if (a->generation != ws->generation) {
        w->have &= ~(unsigned)CSD_LOADED;
    } else if (a->load_err < 0 && ws->load_err == 0) {
        ws->load_err = a->load_err;
        ws->errors = a->errors;
        a->errors = NULL;
    }
}

static void take(struct csd_workers *ws, struct one *w, struct csd_answers *out)
{
    struct csd_answers a;

    csd_worker_answers(w->worker, &a);
    w->have |= a.set & BY_ALL;
    if (a.set & CSD_LOADED) {
        take_load(ws, w, &a);
    }
    if (a.set & CSD_STATUS_READY) {
        w->status = a.status;
    }
    if (a.set & CSD_FINISHED) {
        ws->cut += a.cut;
    }
    if (a.set & CSD_SCRIPT_DONE) {
        out->set |= CSD_SCRIPT_DONE;
        out->exit_status = a.exit_status;
    }
    cs_free(a.errors);
}

void csd_workers_answers(struct csd_workers *ws, struct csd_answers *out)
{
    uint64_t count;

    /* Nothing to read is fine: the bits decide. */
    if (read(ws->answer_fd, &count, sizeof(count)) < 0) {
        count = 0;
    }
    *out = (struct csd_answers){.cut = 0};
    for (unsigned i = 0; i < ws->count; i++) {
        take(ws, &ws->one[i], out);
    }
    out->set |= given_by_all(ws);
    if ((out->set & CSD_LOADED) && ws->load_err < 0) {
        out->set &= ~(unsigned)CSD_LOADED; /* later: those that have loaded use the program yet */
        csd_workers_rollback(ws, ws->load_err);
    }
    if (out->set & CSD_ROLLED_BACK) {
        out->set |= CSD_LOADED;
    }
    if (out->set & CSD_LOADED) {
        out->generation = ws->generation;
        out->load_err = ws->load_err;
        out->errors = ws->errors;
        ws->errors = NULL;
    }
    for (unsigned i = 0; (out->set & CSD_STATUS_READY) && i < ws->count; i++) {
        cs_cell_status_add(&out->status, &ws->one[i].status);
    }
    out->cut = ws->cut;
}

const struct cs_cell_status *csd_workers_status(const struct csd_workers *ws, unsigned i)
{
    return &ws->one[i].status;
}

/* ---- commands ---- */

unsigned csd_workers_count(const struct csd_workers *ws)
{
    return ws->count;
}

int csd_workers_fd(const struct csd_workers *ws)
{
    return ws->answer_fd;
}

void csd_workers_send(struct csd_workers *ws, unsigned commands)
{
    if (commands & CSD_STATUS) {
        forget(ws, CSD_STATUS_READY);
    }
    for (unsigned i = 0; i < ws->count; i++) {
        csd_worker_send(ws->one[i].worker, commands);
    }
}

void csd_workers_load(struct csd_workers *ws, const struct cs_program *program, unsigned generation)
{
    cs_free(ws->errors);
    ws->errors = NULL;
    ws->load_err = 0;
    ws->generation = generation;
    forget(ws, CSD_LOADED);
    for (unsigned i = 0; i < ws->count; i++) {
        csd_worker_load(ws->one[i].worker, program, generation);
    }
}

void csd_workers_rollback(struct csd_workers *ws, int err)
{
    ws->load_err = err;
    csd_workers_send(ws, CSD_ROLLBACK);
}

void csd_workers_end_old(struct csd_workers *ws, unsigned generation)
{
    for (unsigned i = 0; i < ws->count; i++) {
        csd_worker_end_old(ws->one[i].worker, generation);
    }
}

bool csd_workers_wake(struct csd_workers *ws)
{
    bool all = true;

    for (unsigned i = 0; i < ws->count; i++) {
        all &= csd_worker_wake(ws->one[i].worker);
    }
    return all;
}

/* ---- life ---- */

void csd_workers_destroy(struct csd_workers *ws)
{
    if (!ws) {
        return;
    }
    for (unsigned i = 0; i < ws->count; i++) {
        csd_worker_destroy(ws->one[i].worker);
    }
    (void)close(ws->answer_fd);
    cs_free(ws->errors);
    cs_free(ws);
}

int csd_workers_start(struct csd_workers **out, const struct csd_cells_config *config,
                      unsigned count, bool script_mode, char *why, size_t why_size)
{
    struct csd_workers *ws = cs_zalloc(sizeof(*ws) + count * sizeof(ws->one[0]));
    struct csd_cells_config own = *config;
    int err = 0;

    if (!ws) {
        return -ENOMEM;
    }
    ws->answer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ws->answer_fd < 0) {
        err = -errno;
        cs_free(ws);
        return err;
    }
    while (err == 0 && ws->count < count) {
        own.worker = ws->count;
        err = csd_worker_start(&ws->one[ws->count].worker, &own, ws->answer_fd, script_mode, why,
                               why_size);
        ws->count += err == 0;
    }
    if (err != 0) {
        csd_workers_send(ws, CSD_STOP); /* nothing runs in them: they end at once */
        csd_workers_destroy(ws);
        return err;
    }
    *out = ws;
    return 0;
}
