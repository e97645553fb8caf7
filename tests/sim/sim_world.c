/*
 * sim_world - one run of the simulation: seed, chance, clock, actors, knobs; and main() of the
 * tests, which runs many of them and says how to replay the one that failed.
 */
#include "sim_world.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* A run that computes longer than this hangs. CPU time: others may keep the machine busy. */
#define RUN_SECONDS_MAX 60

struct sim_world sim_world;
bool sim_tracing;
static const char *current_case = "";

/* Provided by the sanitizers' runtime when it is linked. */
void __sanitizer_set_death_callback(void (*fn)(void)) __attribute__((weak));
#ifdef __SANITIZE_ADDRESS__
size_t __sanitizer_get_current_allocated_bytes(void);
#endif

/* ---- failing ---- */

/* Only async-signal-safe calls: it also runs in signal handlers. */
static void print_replay(void)
{
    char line[512];
    int n = snprintf(line, sizeof line, "\nsim: replay: SIM_SEED=%llu SIM_RUNS=1 %s %s\n",
                     (unsigned long long)sim_world.seed, program_invocation_name, current_case);
    if (write(STDERR_FILENO, line, (size_t)n) < 0) {
        _exit(1);
    }
}

static void on_signal(int sig)
{
    if (sig == SIGPROF) {
        static const char text[] = "sim: this run takes too long\n";
        if (write(STDERR_FILENO, text, sizeof text - 1) < 0) {
            _exit(1);
        }
    }
    print_replay();
    signal(SIGABRT, SIG_DFL);
    abort();
}

void sim_fail(const char *format, ...)
{
    va_list args;
    fflush(stdout);
    fprintf(stderr, "sim: FAILED in case %s, turn %llu, t=%llu ms: ", current_case,
            (unsigned long long)sim_world.turns, (unsigned long long)sim_world.now_ms);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}

void sim_trace_line(const char *format, ...)
{
    va_list args;
    fprintf(stderr, "%6llu t=%-6llu ", (unsigned long long)sim_world.turns,
            (unsigned long long)sim_world.now_ms);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

/* ---- chance ---- */

/* Spreads neighbouring seeds (splitmix64). */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* xorshift64*. */
uint64_t sim_rand(void)
{
    uint64_t x = sim_world.rng;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    sim_world.rng = x;
    return x * 0x2545f4914f6cdd1du;
}

uint64_t sim_below(uint64_t n)
{
    return (sim_rand() >> 11) % n;
}

uint64_t sim_between(uint64_t lo, uint64_t hi)
{
    return lo + sim_below(hi - lo + 1);
}

bool sim_chance(unsigned permille)
{
    return permille != 0 && sim_below(1000) < permille;
}

size_t sim_size(size_t max)
{
    size_t small = (size_t)1 << sim_between(1, 14);
    if (max <= 1) {
        return max;
    }
    switch (sim_below(8)) {
    case 0:
        return 1;
    case 1:
        return max;
    case 2:
    case 3:
        return (size_t)sim_between(1, max);
    default:
        return (size_t)sim_between(1, CS_MIN(max, small));
    }
}

/* ---- knobs ---- */

void sim_config_calm(struct sim_config *c)
{
    *c = (struct sim_config){
        .sndbuf = 64 * 1024,
        .rcvbuf = 64 * 1024,
        .progress_pm = 1000,
        .cancel_rounds = 1,
        .enfile_loses = true,
        .direct = true,
        .small_buffers = 64,
        .small_size = 4096,
        .bulk_buffers = 16,
        .bulk_size = 65536,
        .datagram_buffers = 16,
        .slots_max = 1024,
        .turns_max = 2000000,
    };
}

/* Most runs turn on a few kinds of trouble only: all at once hide each other. */
static unsigned knob(unsigned max)
{
    return sim_chance(500) ? 0 : (unsigned)sim_between(1, max);
}

void sim_config_random(struct sim_config *c)
{
    sim_config_calm(c);
    c->sndbuf = (size_t)1 << sim_between(6, 16);
    c->rcvbuf = (size_t)1 << sim_between(6, 16);
    c->recv_short_pm = knob(900);
    c->send_short_pm = knob(900);
    c->recv_end_pm = knob(300);
    c->accept_end_pm = knob(500);
    c->progress_pm = sim_chance(500) ? 1000 : (unsigned)sim_between(100, 1000);
    c->delay_pm = knob(800);
    c->delay_rounds = (unsigned)sim_between(1, 20);
    c->hold_pm = knob(700);
    c->cancel_rounds = (unsigned)sim_between(1, 20);
    c->latency_ms = knob(20);
    c->drift_ms = knob(3);
    c->interrupt_pm = knob(50);
    c->keep_refuse_pm = knob(1000);
    c->enfile_loses = sim_chance(700);
    c->direct = sim_chance(800);
    c->small_buffers = 1u << sim_between(1, 6);
    c->small_size = 1u << sim_between(6, 12);
    c->bulk_buffers = 1u << sim_between(1, 4);
    c->bulk_size = 1u << sim_between(8, 15);
    c->datagram_buffers = 1u << sim_between(1, 4);
    c->lose_pm = knob(300);
    c->full_pm = knob(500);
}

struct sim_config *sim_knobs(void)
{
    return &sim_world.config;
}

/* ---- time and actors ---- */

uint64_t sim_now_ms(void)
{
    return sim_world.now_ms;
}

uint64_t sim_turns(void)
{
    return sim_world.turns;
}

void sim_actor_add(struct sim_actor *a, bool (*step)(struct sim_actor *a))
{
    a->step = step;
    a->wake_ms = UINT64_MAX;
    a->round = 0;
    a->next = sim_world.actors;
    sim_world.actors = a;
}

void sim_actor_remove(struct sim_actor *a)
{
    for (struct sim_actor **p = &sim_world.actors; *p; p = &(*p)->next) {
        if (*p == a) {
            *p = a->next;
            return;
        }
    }
}

void sim_set_done(bool (*done)(void))
{
    sim_world.done = done;
}

/* An actor may remove itself, no other. */
static bool actors_step(unsigned permille)
{
    bool any = false;
    for (struct sim_actor *a = sim_world.actors, *next; a; a = next) {
        next = a->next;
        if (a->round != sim_world.round && sim_chance(permille)) {
            a->round = sim_world.round;
            if (a->wake_ms <= sim_world.now_ms) {
                a->wake_ms = UINT64_MAX;
            }
            any |= a->step(a);
        }
    }
    return any;
}

bool sim_world_step(void)
{
    sim_world.round++;
    bool any = actors_step(500);
    any |= sim_network_step();
    any |= sim_rings_step();
    if (!any) {
        any = actors_step(1000); /* those that chance left out */
    }
    return any;
}

uint64_t sim_world_next_ms(void)
{
    uint64_t next = sim_network_next_ms();
    for (const struct sim_actor *a = sim_world.actors; a; a = a->next) {
        next = CS_MIN(next, a->wake_ms);
    }
    return next;
}

/* ---- files ---- */

int sim_file_add(struct sim_sock *s, struct sim_listener *l)
{
    size_t i = 0;
    while (i < sim_world.files_len && (sim_world.files[i].sock || sim_world.files[i].listener)) {
        i++;
    }
    if (i == sim_world.files_len) {
        sim_world.files_len = i * 2 + 16;
        sim_world.files = realloc(sim_world.files, sim_world.files_len * sizeof *sim_world.files);
        memset(sim_world.files + i, 0, (sim_world.files_len - i) * sizeof *sim_world.files);
    }
    sim_world.files[i] = (struct sim_file){s, l};
    return SIM_FD_BASE + (int)i;
}

struct sim_file *sim_file_get(int fd)
{
    size_t i = (size_t)(fd - SIM_FD_BASE);
    if (fd < SIM_FD_BASE || i >= sim_world.files_len) {
        sim_fail("descriptor %d is not the simulator's", fd);
    }
    struct sim_file *f = &sim_world.files[i];
    if (!f->sock && !f->listener) {
        sim_fail("descriptor %d is not open", fd);
    }
    return f;
}

void sim_file_remove(int fd)
{
    *sim_file_get(fd) = (struct sim_file){NULL, NULL};
}

static void files_check_closed(void)
{
    for (size_t i = 0; i < sim_world.files_len; i++) {
        if (sim_world.files[i].sock || sim_world.files[i].listener) {
            sim_fail("descriptor %d (%s) was never closed", SIM_FD_BASE + (int)i,
                     sim_world.files[i].sock ? "a socket" : "a listener");
        }
    }
    free(sim_world.files);
    sim_world.files = NULL;
    sim_world.files_len = 0;
}

/* ---- runs ---- */

void sim_world_begin(uint64_t seed)
{
    memset(&sim_world, 0, sizeof sim_world);
    sim_world.seed = seed;
    sim_world.rng = mix(seed) | 1;
    sim_world.now_ms = 1000000 + sim_below(1000);
    sim_world.next_port = SIM_PORT_FIRST;
    cs_list_init(&sim_world.socks);
    cs_list_init(&sim_world.listeners);
    cs_list_init(&sim_world.routes);
    cs_list_init(&sim_world.rings);
    cs_list_init(&sim_world.flying);
    sim_config_random(&sim_world.config);
    cs_clock_set_source(sim_now_ms);
}

void sim_world_end(void)
{
    if (!cs_list_empty(&sim_world.rings)) {
        sim_fail("a ring was not destroyed");
    }
    if (sim_world.actors) {
        sim_fail("the test left an actor behind");
    }
    files_check_closed();
    sim_network_finish();
    cs_clock_set_source(NULL);
}

void sim_allow_seconds(unsigned seconds)
{
    struct itimerval limit = {.it_value.tv_sec = seconds};
    setitimer(ITIMER_PROF, &limit, NULL);
}

/* Bytes on the heap, or 0 where nobody counts them. (ThreadSanitizer counts what it needs itself.)
 */
static size_t heap_bytes(void)
{
#ifdef __SANITIZE_ADDRESS__
    return __sanitizer_get_current_allocated_bytes();
#else
    return 0;
#endif
}

/* The first run may fill caches that live for ever; from the second on a run gives all back. */
static void run_case(const struct sim_case *c, uint64_t first, unsigned runs)
{
    size_t before = 0;
    current_case = c->name;
    for (unsigned i = 0; i < runs; i++) {
        sim_allow_seconds(RUN_SECONDS_MAX);
        sim_world_begin(first + i);
        c->run();
        sim_world_end();
        size_t after = heap_bytes();
        if (i > 0 && after > before) {
            sim_fail("%zu bytes of heap leaked (with one run the leak checker shows them)",
                     after - before);
        }
        before = after;
    }
    sim_allow_seconds(0);
}

static uint64_t env_number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

/* Without names: all but those that wait for a cure. */
static bool case_wanted(const struct sim_case *c, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], c->name) == 0) {
            return true;
        }
    }
    return argc < 2 && c->runs > 0;
}

int sim_main(int argc, char **argv, const struct sim_case *cases, size_t n)
{
    uint64_t seed = env_number("SIM_SEED", (uint64_t)time(NULL) % 1000000 * 1000);
    unsigned runs = (unsigned)env_number("SIM_RUNS", 0);
    sim_tracing = env_number("SIM_TRACE", 0) != 0;
    signal(SIGABRT, on_signal);
    signal(SIGPROF, on_signal);
    if (__sanitizer_set_death_callback) {
        __sanitizer_set_death_callback(print_replay);
    }
    printf("sim: SIM_SEED=%llu\n", (unsigned long long)seed);
    fflush(stdout);
    for (size_t i = 0; i < n; i++) {
        if (case_wanted(&cases[i], argc, argv)) {
            struct timespec a, b;
            clock_gettime(CLOCK_MONOTONIC, &a);
            unsigned count = runs ? runs : CS_MAX(cases[i].runs, 1u);
            run_case(&cases[i], seed, count);
            clock_gettime(CLOCK_MONOTONIC, &b);
            printf("sim: ok %-16s %5u runs %6.2f s\n", cases[i].name, count,
                   (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9);
            fflush(stdout);
        }
    }
    return 0;
}

/* ---- pseudo-random streams ---- */

static uint64_t stream_word(uint64_t id, uint64_t index)
{
    return mix(id * 0x9e3779b97f4a7c15u ^ mix(index));
}

uint8_t sim_stream_byte(uint64_t id, uint64_t offset)
{
    return (uint8_t)(stream_word(id, offset / 8) >> (offset % 8 * 8));
}

void sim_stream_fill(uint64_t id, uint64_t offset, void *buf, size_t len)
{
    uint8_t *out = buf;
    uint64_t word = stream_word(id, offset / 8);
    for (size_t i = 0; i < len; i++, offset++) {
        if (offset % 8 == 0) {
            word = stream_word(id, offset / 8);
        }
        out[i] = (uint8_t)(word >> (offset % 8 * 8));
    }
}

void sim_stream_verify(uint64_t id, uint64_t offset, const void *buf, size_t len)
{
    const uint8_t *in = buf;
    uint64_t word = stream_word(id, offset / 8);
    for (size_t i = 0; i < len; i++, offset++) {
        if (offset % 8 == 0) {
            word = stream_word(id, offset / 8);
        }
        if (in[i] != (uint8_t)(word >> (offset % 8 * 8))) {
            sim_fail("stream %llu differs at byte %llu: %02x, not %02x", (unsigned long long)id,
                     (unsigned long long)offset, in[i], sim_stream_byte(id, offset));
        }
    }
}
