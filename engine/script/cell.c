/* cell - the generations of one ring, and the script phase that runs them. */
#include "script/cell.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "net/udp.h"
#include "ring/work.h"
#include "script/bind_relay.h"
#include "script/bind_shark.h"
#include "script/globals.h"
#include "script/program.h"
#include "script/task.h"
#include "script/vm.h"

#define RESUMES_MAX 1024   /* tasks a VM resumes in one turn */
#define QUIET_MS 1000      /* without activity, before the one full collection */
#define STOP_TASKS_MS 2000 /* stopped tasks get this long to end */
#define STOP_FLUSH_MS 1000 /* ... and their connections this long to flush */
#define STOP_FILES_MS 3000 /* a file call that does not come back is waited for so long */
#define STOP_LOOK_MS 20    /* how often to look whether the tasks have ended */

struct generation {
    struct cs_list node; /* in cell->draining */
    struct cs_vm *vm;
    const struct cs_cell_config *config;
    uint64_t stop_by_ms; /* STOPPING: destroyed at the latest then */
};

struct cs_cell {
    struct cs_loop *loop;
    struct cs_net net;
    struct cs_works works; /* of the scripts' files */
    struct cs_registry *registry;
    struct cs_cell_config config;
    struct generation *current, *staged;
    struct cs_list draining;
    struct cs_errors errors;   /* of the one being staged */
    cs_cell_loaded_fn *loaded; /* not NULL while loading */
    void *loaded_user;
    struct cs_timer collect, trim, stop;
    uint64_t seen_bytes;                                 /* received, when last looked at */
    uint64_t seen_activity, active_ms;                   /* when last looked at; when it changed */
    bool quiet;                                          /* the full collection is under way */
    uint64_t errors_past, overruns_past, collected_past; /* of generations that are gone */
    bool stopping, abort_next;
    uint64_t files_by_ms; /* stopping: file calls are not waited for after that */
};

/* ---- generations ---- */

static struct generation *generation_create(struct cs_cell *c, const struct cs_program *program,
                                            unsigned number)
{
    struct generation *g = cs_zalloc(sizeof(*g));
    if (!g) {
        return NULL;
    }
    g->config = program->config ? program->config : &c->config;
    g->vm = cs_vm_create(&c->net, c->registry, g->config, number, program->script_mode);
    if (!g->vm) {
        cs_free(g);
        return NULL;
    }
    g->vm->works = &c->works;
    g->vm->check_only = program->check_only;
    cs_list_init(&g->node);
    return g;
}

static void generation_destroy(struct cs_cell *c, struct generation *g)
{
    c->errors_past += g->vm->errors;
    c->overruns_past += g->vm->overruns;
    c->collected_past += g->vm->collected;
    cs_list_remove(&g->node);
    cs_relays_forget(g->vm);
    cs_sharks_forget(g->vm);
    cs_vm_destroy(g->vm);
    cs_free(g);
}

/* Its last connection is gone, or the server stops: whatever still waits hears of it. */
static void generation_stop(struct cs_cell *c, struct generation *g)
{
    g->stop_by_ms = cs_loop_now(c->loop) + STOP_TASKS_MS;
    cs_vm_stop(g->vm);
    cs_timer_set(cs_loop_wheel(c->loop), &c->stop, cs_loop_now(c->loop));
}

static void retire(struct cs_cell *c, struct generation *g)
{
    g->vm->state = CS_VM_DRAINING;
    cs_expiry_stop(&g->vm->expiry);
    cs_list_append(&c->draining, &g->node);
    cs_loop_again(c->loop);
}

/* ---- loading ---- */

int cs_cell_load(struct cs_cell *c, const struct cs_program *program, unsigned number,
                 cs_cell_loaded_fn *loaded, void *user)
{
    if (c->staged || c->stopping) {
        return -EBUSY;
    }
    c->staged = generation_create(c, program, number);
    if (!c->staged) {
        return -ENOMEM;
    }
    c->loaded = loaded;
    c->loaded_user = user;
    cs_program_start(c->staged->vm, program, c->staged->config, &c->errors);
    cs_loop_again(c->loop);
    return 0;
}

static void check_loaded(struct cs_cell *c)
{
    if (!c->loaded || !cs_program_loaded(c->staged->vm)) {
        return;
    }
    cs_cell_loaded_fn *loaded = c->loaded;
    unsigned number = c->staged->vm->generation;
    struct cs_errors errors = c->errors;
    int err = 0;
    c->loaded = NULL;
    if (c->staged->vm->check_only && errors.count == 0) {
        cs_globals_report(c->staged->vm, &errors);
    }
    if (errors.count > 0) {
        err = c->staged->vm->bind_err < 0 ? c->staged->vm->bind_err : CS_ESCRIPT;
        cs_cell_rollback(c);
    }
    c->errors = (struct cs_errors){0};
    loaded(c->loaded_user, number, err, errors.text);
    cs_errors_free(&errors);
}

void cs_cell_commit(struct cs_cell *c)
{
    CS_ASSERT(c->staged && !c->loaded);
    struct generation *old = c->current;
    c->current = c->staged;
    c->staged = NULL;
    c->current->vm->state = CS_VM_CURRENT;
    cs_net_configure(&c->net, &c->current->config->net);
    cs_registry_commit(c->registry, &c->net, c->current->vm->generation);
    cs_udp_commit(&c->net, c->current->vm->generation);
    if (old) {
        retire(c, old);
    }
    cs_vm_release_held(c->current->vm);
    if (c->config.primary) {
        cs_expiry_start(&c->current->vm->expiry);
    }
    cs_loop_again(c->loop);
}

void cs_cell_rollback(struct cs_cell *c)
{
    if (c->staged) {
        struct generation *g = c->staged;
        c->staged = NULL;
        c->loaded = NULL;
        cs_registry_rollback(c->registry, &c->net, g->vm->generation);
        generation_destroy(c, g);
    }
}

/* ---- the script phase ---- */

static bool run_vm(struct cs_vm *vm)
{
    cs_relays_closed(vm);
    cs_sharks_choose(vm);
    return cs_task_run_ready(vm, RESUMES_MAX);
}

/* True when nothing of it is left that a peer could notice. */
static bool drained(const struct cs_vm *vm)
{
    return vm->socket_count == 0 && vm->listen_count == 0 && vm->relay_count == 0;
}

static bool run_draining(struct cs_cell *c)
{
    bool more = false;
    cs_list_each(l, next, &c->draining) {
        struct generation *g = cs_container_of(l, struct generation, node);
        more |= run_vm(g->vm);
        if (g->vm->state == CS_VM_DRAINING && drained(g->vm)) {
            generation_stop(c, g);
            more = true;
        } else if (g->vm->state == CS_VM_STOPPING && (g->vm->task_count == 0 || g->vm->exiting ||
                                                      cs_loop_now(c->loop) >= g->stop_by_ms)) {
            generation_destroy(c, g);
        }
    }
    return more;
}

/* Changes whenever something has happened that may have left garbage. */
static uint64_t activity(const struct cs_cell *c)
{
    uint64_t sum = c->net.count.accepted + c->net.count.closed;
    sum += c->current ? c->current->vm->resumes : 0;
    cs_list_each(l, next, (struct cs_list *)&c->draining) {
        sum += cs_container_of(l, struct generation, node)->vm->resumes;
    }
    return sum;
}

static bool note_activity(struct cs_cell *c)
{
    uint64_t sum = activity(c);
    if (sum == c->seen_activity) {
        return false;
    }
    c->seen_activity = sum;
    c->active_ms = cs_loop_now(c->loop);
    return true;
}

static void collect_in(struct cs_cell *c, uint64_t ms)
{
    cs_timer_set(cs_loop_wheel(c->loop), &c->collect, cs_loop_now(c->loop) + ms);
}

/* False when nothing has been received since this was last called. */
static bool trim_later(struct cs_cell *c)
{
    if (c->net.count.bytes_in == c->seen_bytes) {
        return false;
    }
    c->seen_bytes = c->net.count.bytes_in;
    cs_timer_set(cs_loop_wheel(c->loop), &c->trim, cs_loop_now(c->loop) + QUIET_MS);
    return true;
}

/* The receive buffers that a relay has touched: it leaves no garbage, so nothing else looks. */
static void trim_when_quiet(struct cs_timer *t)
{
    struct cs_cell *c = cs_container_of(t, struct cs_cell, trim);
    if (!trim_later(c)) {
        cs_ring_trim(c->net.ring);
    }
}

static bool phase_script(void *arg)
{
    struct cs_cell *c = arg;
    bool more = c->current && run_vm(c->current->vm);
    if (c->staged) {
        more |= run_vm(c->staged->vm);
        check_loaded(c);
    }
    more |= run_draining(c);
    if (!cs_timer_active(&c->collect) && note_activity(c)) {
        collect_in(c, QUIET_MS);
    }
    if (!cs_timer_active(&c->trim)) {
        trim_later(c);
    }
    return more;
}

/* ---- collecting ---- */

/* One step. True when all VMs are done. */
static bool collect_step(struct cs_cell *c)
{
    if (!cs_loop_may_hold_up(c->loop) || (c->current && !cs_vm_collect_step(c->current->vm))) {
        return false;
    }
    cs_list_each(l, next, &c->draining) {
        if (!cs_vm_collect_step(cs_container_of(l, struct generation, node)->vm)) {
            return false;
        }
    }
    return true;
}

static void collect_begin(struct cs_cell *c)
{
    if (c->current) {
        cs_vm_collect_begin(c->current->vm);
    }
    cs_list_each(l, next, &c->draining) {
        cs_vm_collect_begin(cs_container_of(l, struct generation, node)->vm);
    }
}

static void repack(struct cs_cell *c)
{
    if (c->current) {
        cs_task_repack(c->current->vm);
    }
    cs_list_each(l, next, &c->draining) {
        cs_task_repack(cs_container_of(l, struct generation, node)->vm);
    }
}

/* Steps a second for a cell that is never quiet: as the VM wants that has most to look for. */
static unsigned collect_rate(const struct cs_cell *c)
{
    unsigned rate = c->current ? cs_vm_collect_rate(c->current->vm) : 0;
    cs_list_each(l, next, (struct cs_list *)&c->draining) {
        rate = CS_MAX(rate, cs_vm_collect_rate(cs_container_of(l, struct generation, node)->vm));
    }
    return rate;
}

/* Looks for what was abandoned while there is activity; a second after the last one collects, gives
 * memory back and sleeps. */
static void collect_when_quiet(struct cs_timer *t)
{
    struct cs_cell *c = cs_container_of(t, struct cs_cell, collect);
    unsigned rate;
    if (!c->quiet && (note_activity(c) || cs_loop_now(c->loop) - c->active_ms < QUIET_MS)) {
        rate = collect_rate(c);
        if (rate > 0 && collect_step(c)) {
            collect_begin(c);
        }
        collect_in(c, QUIET_MS / CS_MAX(rate, 1u));
        return;
    }
    if (!c->quiet) {
        c->quiet = true;
        repack(c);
        collect_begin(c);
    }
    if (!collect_step(c)) {
        collect_in(c, 1);
        return;
    }
    c->quiet = false;
    cs_net_trim(&c->net);
    cs_mem_trim();
}

/* ---- ending ---- */

/* The steps of the end, each once the one before is over: tasks, then flushing, then aborting. */
static void stop_by(struct cs_timer *t)
{
    struct cs_cell *c = cs_container_of(t, struct cs_cell, stop);
    uint64_t wait_ms = STOP_LOOK_MS; /* run_draining destroys what is late */
    if (!c->stopping && cs_list_empty(&c->draining)) {
        return;
    }
    if (cs_list_empty(&c->draining)) {
        cs_net_close_all(&c->net, c->abort_next, CS_ESHUTDOWN);
        c->abort_next = true;
        wait_ms = STOP_FLUSH_MS;
    }
    cs_timer_set(cs_loop_wheel(c->loop), t, cs_loop_now(c->loop) + wait_ms);
}

void cs_cell_end_draining(struct cs_cell *c, unsigned generation)
{
    cs_list_each(l, next, &c->draining) {
        struct generation *g = cs_container_of(l, struct generation, node);
        if (g->vm->state == CS_VM_DRAINING && g->vm->generation <= generation) {
            cs_holds_log(g->vm);
            generation_stop(c, g);
        }
    }
}

void cs_cell_drain(struct cs_cell *c)
{
    cs_udp_stop(&c->net);
}

void cs_cell_stop(struct cs_cell *c)
{
    c->stopping = true;
    c->files_by_ms = cs_loop_now(c->loop) + STOP_FILES_MS;
    cs_cell_rollback(c);
    cs_registry_leave(c->registry, &c->net);
    if (c->current) {
        retire(c, c->current);
        c->current = NULL;
    }
    cs_list_each(l, next, &c->draining) {
        generation_stop(c, cs_container_of(l, struct generation, node));
    }
    cs_timer_set(cs_loop_wheel(c->loop), &c->stop, cs_loop_now(c->loop));
}

bool cs_cell_quiet(const struct cs_cell *c)
{
    return cs_pool_count(c->net.conns) == 0 && cs_registry_idle(c->registry);
}

bool cs_cell_filling(const struct cs_cell *c)
{
    return cs_ring_accept_room(c->net.ring) <= cs_ring_accept_max(c->net.ring) / 4;
}

/* Nothing but coroutines that wait in accept: whatever else there may be, a timer, a sleep, a file,
 * a script would miss. */
static bool only_accepts(const struct cs_vm *vm)
{
    if (vm->socket_count > 0 || vm->relay_count > 0 || vm->timer_count > 0) {
        return false;
    }
    cs_list_each(l, next, (struct cs_list *)&vm->tasks) {
        const struct cs_task *t = cs_container_of(l, struct cs_task, all);
        if (t->state != CS_TASK_PARKED || t->waiting != CS_WAIT_ACCEPT) {
            return false;
        }
    }
    return true;
}

uint64_t cs_cell_spare_ms(struct cs_cell *c)
{
    bool quiet = cs_net_idle(&c->net) && !cs_timer_active(&c->collect) && c->works.busy == 0;
    bool spare = quiet && c->current && !c->staged && cs_list_empty(&c->draining) &&
                 only_accepts(c->current->vm) && cs_registry_spare(c->registry, &c->net);
    return spare ? cs_clock_ms() - c->active_ms : 0;
}

bool cs_cell_finished(const struct cs_cell *c)
{
    return c->stopping && !c->current && !c->staged && cs_list_empty(&c->draining) &&
           cs_net_idle(&c->net) && cs_registry_left(c->registry, &c->net) &&
           (c->works.busy == 0 || cs_loop_now(c->loop) >= c->files_by_ms);
}

bool cs_cell_script_done(struct cs_cell *c, int *status)
{
    const struct cs_vm *vm = c->current ? c->current->vm : NULL;
    if (!vm) {
        return false;
    }
    *status = vm->exit_status;
    return vm->exiting || (vm->task_count == 0 && vm->timer_count == 0 && vm->relay_count == 0 &&
                           c->net.relays == 0);
}

/* ---- status ---- */

static void describe(const struct cs_cell *c, const struct generation *g,
                     struct cs_generation_status *out)
{
    static const char *const states[] = {"staged", "current", "draining", "stopping"};
    const struct cs_vm *vm = g->vm;
    *out = (struct cs_generation_status){
        .generation = vm->generation,
        .state = states[vm->state],
        .vms = 1,
        .age_ms = cs_loop_now(c->loop) - vm->born_ms,
        .tasks = vm->task_count,
        .sockets = vm->socket_count,
        .relays = vm->relay_count,
        .timers = vm->timer_count,
        .memory = vm->memory,
    };
    if (vm->state == CS_VM_DRAINING) {
        out->hold_count = cs_holds(g->vm, out->holds);
    }
}

static void add_generation(const struct cs_cell *c, const struct generation *g,
                           struct cs_cell_status *out)
{
    if (!g) {
        return;
    }
    out->script_errors += g->vm->errors;
    out->cpu_overruns += g->vm->overruns;
    out->sockets_collected += g->vm->collected;
    if (out->generation_count < CS_ARRAY_LEN(out->generations)) {
        describe(c, g, &out->generations[out->generation_count++]);
    }
}

void cs_cell_status(struct cs_cell *c, struct cs_cell_status *out)
{
    *out = (struct cs_cell_status){
        .cells = 1,
        .net = c->net.count,
        .connections = cs_pool_count(c->net.conns),
        .relays = c->net.relays,
        .script_errors = c->errors_past,
        .cpu_overruns = c->overruns_past,
        .sockets_collected = c->collected_past,
    };
    cs_loop_stats(c->loop, &out->loop, true);
    add_generation(c, c->current, out);
    if (c->current) {
        out->cert_count =
            cs_expiry_status(&c->current->vm->expiry, out->certs, CS_ARRAY_LEN(out->certs));
    }
    add_generation(c, c->staged, out);
    cs_list_each(l, next, &c->draining) {
        add_generation(c, cs_container_of(l, struct generation, node), out);
    }
}

static void add_counters(struct cs_net_counters *sum, const struct cs_net_counters *one)
{
    sum->accepted += one->accepted;
    sum->connected += one->connected;
    sum->closed += one->closed;
    sum->accept_lost += one->accept_lost;
    sum->accept_pauses += one->accept_pauses;
    sum->bytes_in += one->bytes_in;
    sum->bytes_out += one->bytes_out;
    sum->bytes_spliced += one->bytes_spliced;
    sum->datagrams_in += one->datagrams_in;
    sum->datagrams_out += one->datagrams_out;
    sum->datagrams_dropped += one->datagrams_dropped;
    sum->enobufs += one->enobufs;
    sum->cancels += one->cancels;
}

/* Where the sum has this generation, or has room for it; NULL: neither. */
static struct cs_generation_status *generation_in(struct cs_cell_status *sum, unsigned number)
{
    for (unsigned i = 0; i < sum->generation_count; i++) {
        if (sum->generations[i].generation == number) {
            return &sum->generations[i];
        }
    }
    return sum->generation_count < CS_ARRAY_LEN(sum->generations)
               ? &sum->generations[sum->generation_count++]
               : NULL;
}

static void add_generation_status(struct cs_generation_status *sum,
                                  const struct cs_generation_status *one)
{
    if (sum->vms == 0) {
        *sum = *one;
        return;
    }
    sum->vms += one->vms;
    sum->age_ms = CS_MAX(sum->age_ms, one->age_ms);
    sum->tasks += one->tasks;
    sum->sockets += one->sockets;
    sum->relays += one->relays;
    sum->timers += one->timers;
    sum->memory += one->memory;
    sum->hold_count = cs_holds_merge(sum->holds, sum->hold_count, one->holds, one->hold_count);
}

void cs_cell_status_add(struct cs_cell_status *sum, const struct cs_cell_status *one)
{
    sum->cells += one->cells;
    add_counters(&sum->net, &one->net);
    sum->connections += one->connections;
    sum->relays += one->relays;
    sum->loop.turns += one->loop.turns;
    sum->loop.events += one->loop.events;
    sum->loop.turn_ns_max = CS_MAX(sum->loop.turn_ns_max, one->loop.turn_ns_max);
    sum->script_errors += one->script_errors;
    sum->cpu_overruns += one->cpu_overruns;
    sum->sockets_collected += one->sockets_collected;
    for (unsigned i = 0; i < one->generation_count; i++) {
        struct cs_generation_status *g = generation_in(sum, one->generations[i].generation);
        if (g) {
            add_generation_status(g, &one->generations[i]);
        }
    }
    if (sum->cert_count == 0) { /* all cells have the same */
        sum->cert_count = one->cert_count;
        memcpy(sum->certs, one->certs, sizeof(sum->certs));
    }
}

/* ---- life ---- */

struct cs_loop *cs_cell_loop(struct cs_cell *c)
{
    return c->loop;
}

static int open_loop(struct cs_cell *c, char *why, size_t why_size)
{
    struct cs_ring *ring;
    int err = cs_ring_create(&ring, &c->config.ring, why, why_size);
    if (err < 0) {
        return err;
    }
    c->loop = cs_loop_create(ring);
    if (!c->loop) {
        cs_ring_destroy(ring);
        return -ENOMEM;
    }
    return 0;
}

int cs_cell_create(struct cs_cell **out, const struct cs_cell_config *config,
                   struct cs_registry *registry, char *why, size_t why_size)
{
    struct cs_cell *c = cs_zalloc(sizeof(*c));
    if (!c) {
        return -ENOMEM;
    }
    c->config = *config;
    c->registry = registry;
    cs_list_init(&c->draining);
    cs_timer_init(&c->collect, collect_when_quiet);
    cs_timer_init(&c->trim, trim_when_quiet);
    cs_timer_init(&c->stop, stop_by);
    int err = open_loop(c, why, why_size);
    if (err < 0) {
        goto fail;
    }
    cs_works_init(&c->works, c->loop);
    err = cs_net_init(&c->net, c->loop, &config->net);
    if (err < 0) {
        goto fail;
    }
    err = cs_budget_start();
    if (err < 0) {
        cs_net_finish(&c->net);
        goto fail;
    }
    cs_loop_set_phase(c->loop, CS_PHASE_SCRIPT, phase_script, c);
    *out = c;
    return 0;
fail:
    cs_loop_destroy(c->loop);
    cs_free(c);
    return err;
}

void cs_cell_destroy(struct cs_cell *c)
{
    CS_ASSERT(cs_cell_finished(c));
    cs_timer_stop(cs_loop_wheel(c->loop), &c->collect);
    cs_timer_stop(cs_loop_wheel(c->loop), &c->trim);
    cs_timer_stop(cs_loop_wheel(c->loop), &c->stop);
    cs_net_finish(&c->net);
    cs_errors_free(&c->errors);
    if (c->works.busy > 0) {
        return; /* a helper still has the loop; the process is about to end */
    }
    cs_loop_destroy(c->loop);
    cs_free(c);
}
