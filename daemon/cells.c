/*
 * cells - see cells.h.
 */
#include "daemon/cells.h"

#include <errno.h>
#include <stdio.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/logging.h"
#include "ring/ring_set.h"

#define WHY_MAX 512
#define RETRY_MS 10000 /* after a further cell could not be opened */
#define SPARE_MS 20000 /* a further cell that has been empty for so long ends */

/* Only the last one can be something else than READY. */
enum state { READY, OPENING, OPENED, FAILED, ENDING };

struct csd_cells {
    struct csd_cells_config config;
    struct cs_cell_config cell_config;
    struct cs_registry *registry;
    struct cs_loop_set *loops;
    struct cs_cell *cells[CS_RING_SET_MAX];
    unsigned count;
    enum state last;
    bool draining;
    uint64_t retry_ms;
    struct cs_cell_status past; /* the counters of cells that have ended */

    const struct cs_program *program; /* current; NULL: none yet */
    unsigned generation;

    /* The load under way: wanted, then begun, then staged; NULL: none. */
    const struct cs_program *loading;
    unsigned loading_generation;
    bool begun;
    unsigned awaited; /* cells that have not loaded yet */
    int err;          /* of the first that failed */
    char *errors;
    csd_cells_loaded_fn *loaded;
    void *loaded_user;
};

static unsigned ready_count(const struct csd_cells *c)
{
    return c->last == READY ? c->count : c->count - 1;
}

/* ---- loading in all of them ---- */

static void load_over(struct csd_cells *c)
{
    int err = c->err;
    char *errors = c->errors;

    c->errors = NULL;
    if (err < 0) {
        csd_cells_rollback(c);
    }
    c->loaded(c->loaded_user, c->loading_generation, err, errors);
    cs_free(errors);
}

static void cell_loaded(void *user, unsigned generation, int err, const char *errors)
{
    struct csd_cells *c = user;

    (void)generation;
    if (err < 0 && c->err == 0) {
        c->err = err;
        c->errors = errors ? cs_strdup(errors) : NULL;
    }
    if (--c->awaited == 0) {
        load_over(c);
    }
}

static void begin_load(struct csd_cells *c)
{
    char text[128];

    c->begun = true;
    c->awaited = ready_count(c) + 1; /* one for ourselves: nobody may be the last before the end */
    c->err = 0;
    for (unsigned i = 0; i < ready_count(c); i++) {
        int err = cs_cell_load(c->cells[i], c->loading, c->loading_generation, cell_loaded, c);

        if (err < 0) {
            (void)snprintf(text, sizeof(text), "cannot load: %s\n", cs_err_text(err));
            cell_loaded(c, c->loading_generation, err, text);
        }
    }
    if (--c->awaited == 0) {
        load_over(c);
    }
}

void csd_cells_load(struct csd_cells *c, const struct cs_program *program, unsigned generation,
                    csd_cells_loaded_fn *loaded, void *user)
{
    CS_ASSERT(!c->loading);
    c->loading = program;
    c->loading_generation = generation;
    c->begun = false;
    c->loaded = loaded;
    c->loaded_user = user;
    if (c->last == READY || c->last == ENDING) {
        begin_load(c);
    }
}

void csd_cells_commit(struct csd_cells *c)
{
    CS_ASSERT(c->loading && c->begun && c->awaited == 0);
    c->program = c->loading;
    c->generation = c->loading_generation;
    c->loading = NULL;
    for (unsigned i = 0; i < ready_count(c); i++) {
        cs_cell_commit(c->cells[i]);
    }
}

void csd_cells_rollback(struct csd_cells *c)
{
    if (!c->loading) {
        return;
    }
    c->loading = NULL;
    c->awaited = 0;
    for (unsigned i = 0; c->begun && i < ready_count(c); i++) {
        cs_cell_rollback(c->cells[i]);
    }
}

/* ---- opening further ones ---- */

static void cell_opened(void *user, unsigned generation, int err, const char *errors)
{
    struct csd_cells *c = user;
    char what[64];

    (void)generation;
    c->last = err < 0 ? FAILED : OPENED; /* the rest once its turn is over */
    if (err < 0 && !c->draining) {
        (void)snprintf(what, sizeof(what), "further cell not opened worker=%u: ", c->config.worker);
        csd_log_lines(CS_LOG_ERROR, what, errors ? errors : cs_err_text(err));
    }
}

/* A cell in the loop set. */
static int add_cell(struct csd_cells *c, char *why, size_t why_size)
{
    struct cs_cell *cell;
    int err;

    c->cell_config.primary = c->config.worker == 0 && c->count == 0;
    err = cs_cell_create(&cell, &c->cell_config, c->registry, why, why_size);

    if (err < 0) {
        return err;
    }
    err = cs_loop_set_add(c->loops, cs_cell_loop(cell));
    if (err < 0) {
        cs_cell_stop(cell); /* nothing has begun in it: that is its end */
        cs_cell_destroy(cell);
        return err;
    }
    c->cells[c->count++] = cell;
    return 0;
}

static void open_cell(struct csd_cells *c)
{
    char why[WHY_MAX] = "";
    int err = add_cell(c, why, sizeof(why));

    if (err < 0) {
        cs_log(CS_LOG_ERROR, "further cell not opened worker=%u: %s", c->config.worker,
               why[0] ? why : cs_err_text(err));
        c->retry_ms = cs_loop_now(csd_cells_loop(c)) + RETRY_MS;
        return;
    }
    c->last = OPENING;
    err = cs_cell_load(c->cells[c->count - 1], c->program, c->generation, cell_opened, c);
    if (err < 0) {
        cell_opened(c, c->generation, err, NULL);
    }
}

static bool all_filling(const struct csd_cells *c)
{
    for (unsigned i = c->count; i-- > 0;) { /* the newest is the one most likely to have room */
        if (!cs_cell_filling(c->cells[i])) {
            return false;
        }
    }
    return true;
}

static bool wants_cell(const struct csd_cells *c)
{
    return c->count < c->config.max && all_filling(c) && c->last == READY && c->program &&
           !c->loading && !c->draining && cs_loop_now(csd_cells_loop(c)) >= c->retry_ms;
}

/* ---- ending them ---- */

/* What it has counted stays. */
static void keep_counters(struct csd_cells *c, struct cs_cell *cell)
{
    struct cs_cell_status one;

    cs_cell_status(cell, &one);
    one.cells = 0;
    cs_cell_status_add(&c->past, &one);
}

/* For how long the last one has been of no use; 0: it is, or it cannot end now. */
static uint64_t spare_ms(const struct csd_cells *c)
{
    bool can_end = c->count > 1 && c->last == READY && !c->loading && !c->draining;

    return can_end ? cs_cell_spare_ms(c->cells[c->count - 1]) : 0;
}

static void remove_last(struct csd_cells *c)
{
    struct cs_cell *cell = c->cells[--c->count];

    keep_counters(c, cell);
    cs_loop_set_remove(c->loops, cs_cell_loop(cell));
    cs_cell_destroy(cell);
}

/* What cannot be done inside a cell's own turn. */
static void after_turn(struct csd_cells *c)
{
    struct cs_cell *last = c->cells[c->count - 1];

    if (c->last == OPENED && !c->draining) {
        c->last = READY;
        cs_cell_commit(last);
        cs_log(CS_LOG_INFO, "cell opened worker=%u cells=%u", c->config.worker, c->count);
    } else if (c->last == OPENED || c->last == FAILED) { /* not wanted any more, or no good */
        c->last = ENDING;
        c->retry_ms = cs_loop_now(csd_cells_loop(c)) + RETRY_MS;
        cs_cell_stop(last);
    } else if (c->last == ENDING && cs_cell_finished(last)) {
        c->last = READY;
        remove_last(c);
        cs_log(CS_LOG_INFO, "cell ended worker=%u cells=%u", c->config.worker, c->count);
    } else if (spare_ms(c) >= SPARE_MS) {
        c->last = ENDING;
        cs_cell_stop(last);
    }
    if (c->loading && !c->begun && c->last != OPENING) {
        begin_load(c);
    } else if (wants_cell(c)) {
        open_cell(c);
    }
}

/* ---- the rest, for all of them ---- */

void csd_cells_turn(struct csd_cells *c)
{
    uint64_t spare = spare_ms(c);

    (void)cs_loop_set_turn(c->loops,
                           spare > 0 ? (int64_t)(SPARE_MS - CS_MIN(spare, SPARE_MS)) : -1);
    after_turn(c);
}

void csd_cells_end_draining(struct csd_cells *c, unsigned generation)
{
    for (unsigned i = 0; i < c->count; i++) {
        cs_cell_end_draining(c->cells[i], generation);
    }
}

void csd_cells_drain(struct csd_cells *c)
{
    c->draining = true;
    cs_registry_stop(c->registry);
    for (unsigned i = 0; i < c->count; i++) {
        cs_cell_drain(c->cells[i]);
    }
}

void csd_cells_stop(struct csd_cells *c)
{
    csd_cells_drain(c);
    csd_cells_rollback(c);
    c->last = READY; /* one that is being opened or ended ends with the others */
    for (unsigned i = 0; i < c->count; i++) {
        cs_cell_stop(c->cells[i]);
    }
}

bool csd_cells_quiet(const struct csd_cells *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        if (!cs_cell_quiet(c->cells[i])) {
            return false;
        }
    }
    return true;
}

bool csd_cells_finished(const struct csd_cells *c)
{
    for (unsigned i = 0; i < c->count; i++) {
        if (!cs_cell_finished(c->cells[i])) {
            return false;
        }
    }
    return true;
}

bool csd_cells_script_done(struct csd_cells *c, int *status)
{
    return cs_cell_script_done(c->cells[0], status);
}

void csd_cells_status(struct csd_cells *c, struct cs_cell_status *out)
{
    struct cs_cell_status one;

    *out = c->past;
    c->past.loop.turn_ns_max = 0; /* of those that ended since this was last asked */
    for (unsigned i = 0; i < c->count; i++) {
        cs_cell_status(c->cells[i], &one);
        cs_cell_status_add(out, &one);
    }
}

struct cs_loop *csd_cells_loop(const struct csd_cells *c)
{
    return cs_cell_loop(c->cells[0]);
}

/* ---- life ---- */

int csd_cells_create(struct csd_cells **out, const struct csd_cells_config *config, char *why,
                     size_t why_size)
{
    struct csd_cells *c = cs_zalloc(sizeof(*c));
    int err;

    if (!c) {
        return -ENOMEM;
    }
    c->config = *config;
    c->cell_config = *config->cell;
    c->cell_config.ring.in_set = config->max > 1;
    c->loops = cs_loop_set_create();
    err = c->loops ? cs_registry_create(&c->registry, config->table, config->worker) : -ENOMEM;
    if (err == 0) {
        err = add_cell(c, why, why_size);
    }
    if (err < 0) {
        cs_registry_destroy(c->registry);
        cs_loop_set_destroy(c->loops);
        cs_free(c);
        return err;
    }
    *out = c;
    return 0;
}

void csd_cells_destroy(struct csd_cells *c)
{
    CS_ASSERT(csd_cells_finished(c));
    while (c->count > 0) {
        remove_last(c);
    }
    cs_registry_destroy(c->registry);
    cs_loop_set_destroy(c->loops);
    cs_free(c->errors);
    cs_free(c);
}
