/*
 * budget - the CPU budget of coroutines without a permanent hook: a timer on the thread's CPU clock
 * ticks while the thread computes (an idle one gets no signal); when a slice has lasted too many
 * ticks its state gets a hook that raises an error at the line it is at.
 */
#include <errno.h>
#include <lauxlib.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "script/task.h"
#include "script/vm.h"

#define TICK_MS 10
/* A sanitizer's build is several times as slow, and so is what a budget has to suffice for. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOW 4
#else
#define SLOW 1
#endif
#define BUDGET_SIGNAL SIGVTALRM
#define STUCK_AFTER 4 /* budgets: the hook has not come, so the script is in a C function */

/* Written by the thread, read by the handler that interrupts it. */
static _Thread_local struct {
    lua_State *volatile L;
    volatile unsigned slice;
    volatile uint32_t budget_ms;
    volatile sig_atomic_t overrun; /* this slice is over its budget */
    bool counted;                  /* ... and that has been counted */
    volatile sig_atomic_t paused;
    unsigned seen_slice, ticks; /* the handler's own */
    bool told;                  /* of this slice, that it is stuck */
    bool started;
} budget;

/* Stays on until the slice ends: a script that catches the error gets it again at once. A coroutine
 * made meanwhile has inherited the hook; later that is not its own. */
static void overrun(lua_State *L, lua_Debug *ar)
{
    struct cs_vm *vm = cs_vm_of(L);
    if (!budget.overrun) {
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    vm->overruns += !budget.counted;
    budget.counted = true;
    lua_getinfo(L, "Sl", ar);
    lua_pushfstring(L, "%s:%d: CPU budget of %d ms exceeded without a wait", ar->short_src,
                    ar->currentline, (int)vm->cpu_budget_ms);
    lua_error(L);
}

/* A pattern that backtracks for ever, a finalizer that does not end: no hook can stop them, but it
 * is said whose they are. In a signal handler: cs_log takes no lock and no memory. */
static void tell_stuck(const struct cs_vm *vm)
{
    int err = errno;
    cs_log(CS_LOG_WARN,
           "script stuck service=%s generation=%u: %u ms of CPU in one call that cannot be "
           "interrupted (a pattern match, or a finalizer); every connection waits",
           vm->current ? vm->current->name : "-", vm->generation, budget.ticks * TICK_MS);
    errno = err;
}

static void tick(int sig)
{
    (void)sig;
    lua_State *L = budget.L;
    if (budget.paused) {
        return;
    }
    if (budget.slice != budget.seen_slice) {
        budget.seen_slice = budget.slice;
        budget.ticks = 0;
        budget.told = false;
        return;
    }
    budget.ticks++;
    if (L && budget.overrun && !budget.told &&
        budget.ticks * TICK_MS >= STUCK_AFTER * budget.budget_ms) {
        budget.told = true;
        tell_stuck(cs_vm_of(L));
    }
    if (L && budget.budget_ms && budget.ticks * TICK_MS >= budget.budget_ms) {
        budget.overrun = 1;
        lua_sethook(L, overrun, LUA_MASKCOUNT, 1); /* made for signal handlers: manual, 4.7 */
    }
}

int cs_budget_start(void)
{
    if (budget.started) {
        return 0;
    }
    struct sigaction act = {.sa_handler = tick, .sa_flags = SA_RESTART};
    struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = BUDGET_SIGNAL};
    struct itimerspec every = {.it_interval.tv_nsec = TICK_MS * SLOW * 1000000,
                               .it_value.tv_nsec = TICK_MS * SLOW * 1000000};
    sigset_t set;
    timer_t timer;
    ev._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    if (sigaction(BUDGET_SIGNAL, &act, NULL) < 0 ||
        timer_create(CLOCK_THREAD_CPUTIME_ID, &ev, &timer) < 0 ||
        timer_settime(timer, 0, &every, NULL) < 0) {
        return -errno;
    }
    sigemptyset(&set);
    sigaddset(&set, BUDGET_SIGNAL);
    budget.started = true;
    return -pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void arm_if_over(lua_State *L)
{
    if (budget.overrun) { /* the one outside must not go on as if nothing had been */
        lua_sethook(L, overrun, LUA_MASKCOUNT, 1);
    }
}

lua_State *cs_budget_enter(lua_State *L, uint32_t budget_ms)
{
    lua_State *before = budget.L;
    if (!before) {
        budget.slice++;
        budget.overrun = 0;
        budget.counted = false;
    }
    budget.budget_ms = budget_ms;
    budget.L = L;
    arm_if_over(L);
    return before;
}

void cs_budget_leave(lua_State *L, lua_State *before)
{
    budget.L = before;
    if (budget.overrun && L) {
        lua_sethook(L, NULL, 0, 0);
    }
    if (before) {
        arm_if_over(before);
    }
}

void cs_budget_pause(bool paused)
{
    budget.paused = paused;
}
