/*
 * status - see status.h.
 */
#include "daemon/status.h"

#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "build_info.h"
#include "daemon/json.h"
#include "daemon/units.h"

/* Bytes for people: "1.4 GiB". */
static const char *format_bytes(uint64_t n, char *buf, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    double value = (double)n;
    size_t u = 0;

    while (value >= 1024 && u + 1 < CS_ARRAY_LEN(units)) {
        value /= 1024;
        u++;
    }
    (void)snprintf(buf, size, u == 0 ? "%.0f %s" : "%.1f %s", value, units[u]);
    return buf;
}

static void generation_text(const struct cs_generation_status *g, FILE *out)
{
    char age[CSD_UNITS_TEXT_MAX], memory[CSD_UNITS_TEXT_MAX];

    (void)fprintf(out,
                  "generation %-5u %s for %s: %u sockets, %u tasks, %u relays, %u timers, %s\n",
                  g->generation, g->state, csd_format_age(g->age_ms, age, sizeof(age)), g->sockets,
                  g->tasks, g->relays, g->timers, format_bytes(g->memory, memory, sizeof(memory)));
    for (unsigned i = 0; i < g->hold_count; i++) {
        (void)fprintf(out, "                 held by %u x %s at %s\n", g->holds[i].count,
                      g->holds[i].waits, g->holds[i].place);
    }
}

static void certificate_text(const struct cs_cert_status *c, FILE *out)
{
    int64_t left = c->expires - time(NULL);
    char age[CSD_UNITS_TEXT_MAX];

    if (left > 0) {
        (void)fprintf(out, "certificate      %s ends in %s %s\n", c->name,
                      csd_format_age((uint64_t)left * 1000, age, sizeof(age)), c->file);
    } else {
        (void)fprintf(out, "certificate      %s HAS EXPIRED %s\n", c->name, c->file);
    }
}

/* In all, then each service. */
static void admission_text(void *user, const struct cs_admit_count *c)
{
    FILE *out = user;

    (void)fprintf(out, "%s%-8s %u open", c->name ? "service " : "accepted", c->name ? c->name : "",
                  c->open);
    if (c->limits.max > 0) {
        (void)fprintf(out, " of %u", c->limits.max);
    }
    if (c->limits.max_client > 0) {
        (void)fprintf(out, ", %u of a client", c->limits.max_client);
    }
    (void)fprintf(out, "; paused %" PRIu64 " times, %" PRIu64 " refused", c->paused, c->refused);
    if (c->udp > 0) {
        (void)fprintf(out, "; %u UDP sockets", c->udp);
    }
    (void)fputc('\n', out);
}

void csd_status_text(const struct csd_status *s, FILE *out)
{
    const struct cs_cell_status *c = s->cell;
    char a[CSD_UNITS_TEXT_MAX], b[CSD_UNITS_TEXT_MAX];

    (void)fprintf(out, "cosockd %s        %s, pid %ld, up %s\n", CS_VERSION, s->phase,
                  (long)getpid(), csd_format_age(s->up_ms, a, sizeof(a)));
    if (s->configuration) {
        (void)fprintf(out, "configuration    %s\n", s->configuration);
        (void)fprintf(out, "reloads          %u accepted, %u refused\n", s->reloads, s->refused);
    }
    (void)fprintf(out,
                  "connections      %zu open; %" PRIu64 " accepted, %" PRIu64 " connected, %" PRIu64
                  " closed, %" PRIu64 " lost\n",
                  c->connections, c->net.accepted, c->net.connected, c->net.closed,
                  c->net.accept_lost);
    (void)fprintf(out, "short            %" PRIu64 " pauses for want of descriptors or memory\n",
                  c->net.accept_pauses);
    cs_admit_counts(s->admit, admission_text, out);
    for (unsigned i = 0; s->worker_count > 1 && i < s->worker_count; i++) {
        const struct cs_cell_status *w = csd_workers_status(s->workers, i);

        (void)fprintf(out, "worker %-9u %zu connections, %" PRIu64 " accepted, %u cells\n", i,
                      w->connections, w->net.accepted, w->cells);
    }
    if (s->worker_count == 1 && c->cells > 1) {
        (void)fprintf(out, "cells            %u\n", c->cells);
    }
    (void)fprintf(out, "detached relays  %u\n", c->relays);
    (void)fprintf(out, "traffic          %s in, %s out\n",
                  format_bytes(c->net.bytes_in, a, sizeof(a)),
                  format_bytes(c->net.bytes_out, b, sizeof(b)));
    (void)fprintf(out, "datagrams        %" PRIu64 " in, %" PRIu64 " out, %" PRIu64 " dropped\n",
                  c->net.datagrams_in, c->net.datagrams_out, c->net.datagrams_dropped);
    (void)fprintf(out,
                  "scripts          %" PRIu64 " errors, %" PRIu64 " CPU overruns, %" PRIu64
                  " abandoned sockets\n",
                  c->script_errors, c->cpu_overruns, c->sockets_collected);
    (void)fprintf(out,
                  "loop             %" PRIu64 " turns, %" PRIu64 " events, longest turn %.3f ms\n",
                  c->loop.turns, c->loop.events, (double)c->loop.turn_ns_max / 1e6);
    for (unsigned i = 0; i < c->generation_count; i++) {
        generation_text(&c->generations[i], out);
    }
    for (unsigned i = 0; i < c->cert_count; i++) {
        certificate_text(&c->certs[i], out);
    }
}

static void generation_json(struct csd_json *j, const struct cs_generation_status *g)
{
    csd_json_open(j, NULL, '{');
    csd_json_uint(j, "generation", g->generation);
    csd_json_string(j, "state", g->state);
    csd_json_uint(j, "age_ms", g->age_ms);
    csd_json_uint(j, "sockets", g->sockets);
    csd_json_uint(j, "tasks", g->tasks);
    csd_json_uint(j, "relays", g->relays);
    csd_json_uint(j, "timers", g->timers);
    csd_json_uint(j, "memory", g->memory);
    csd_json_uint(j, "cells", g->vms);
    csd_json_open(j, "held_by", '[');
    for (unsigned i = 0; i < g->hold_count; i++) {
        csd_json_open(j, NULL, '{');
        csd_json_uint(j, "count", g->holds[i].count);
        csd_json_string(j, "waits", g->holds[i].waits);
        csd_json_string(j, "place", g->holds[i].place);
        csd_json_close(j, '}');
    }
    csd_json_close(j, ']');
    csd_json_close(j, '}');
}

static void admission_json(void *user, const struct cs_admit_count *c)
{
    struct csd_json *j = user;

    csd_json_open(j, NULL, '{');
    if (c->name) {
        csd_json_string(j, "service", c->name);
    }
    csd_json_uint(j, "connections", c->open);
    csd_json_uint(j, "maxconn", c->limits.max);
    csd_json_uint(j, "limit_conn", c->limits.max_client);
    csd_json_uint(j, "udp_sockets", c->udp);
    csd_json_uint(j, "paused", c->paused);
    csd_json_uint(j, "refused", c->refused);
    csd_json_close(j, '}');
}

static void certificate_json(struct csd_json *j, const struct cs_cert_status *c)
{
    csd_json_open(j, NULL, '{');
    csd_json_string(j, "name", c->name);
    csd_json_string(j, "file", c->file);
    csd_json_uint(j, "expires", (uint64_t)CS_MAX(c->expires, 0));
    csd_json_uint(j, "seconds_left", (uint64_t)CS_MAX(c->expires - time(NULL), 0));
    csd_json_close(j, '}');
}

static void counters_json(struct csd_json *j, const struct cs_cell_status *c)
{
    csd_json_open(j, "counters", '{');
    csd_json_uint(j, "accepted", c->net.accepted);
    csd_json_uint(j, "connected", c->net.connected);
    csd_json_uint(j, "closed", c->net.closed);
    csd_json_uint(j, "accept_lost", c->net.accept_lost);
    csd_json_uint(j, "accept_pauses", c->net.accept_pauses);
    csd_json_uint(j, "bytes_in", c->net.bytes_in);
    csd_json_uint(j, "bytes_out", c->net.bytes_out);
    csd_json_uint(j, "bytes_spliced", c->net.bytes_spliced);
    csd_json_uint(j, "datagrams_in", c->net.datagrams_in);
    csd_json_uint(j, "datagrams_out", c->net.datagrams_out);
    csd_json_uint(j, "datagrams_dropped", c->net.datagrams_dropped);
    csd_json_uint(j, "enobufs", c->net.enobufs);
    csd_json_uint(j, "cancels", c->net.cancels);
    csd_json_uint(j, "script_errors", c->script_errors);
    csd_json_uint(j, "cpu_overruns", c->cpu_overruns);
    csd_json_uint(j, "sockets_collected", c->sockets_collected);
    csd_json_uint(j, "turns", c->loop.turns);
    csd_json_uint(j, "events", c->loop.events);
    csd_json_uint(j, "turn_ns_max", c->loop.turn_ns_max);
    csd_json_close(j, '}');
}

static void workers_json(struct csd_json *j, const struct csd_status *s)
{
    csd_json_open(j, "workers", '[');
    for (unsigned i = 0; i < s->worker_count; i++) {
        const struct cs_cell_status *w = csd_workers_status(s->workers, i);

        csd_json_open(j, NULL, '{');
        csd_json_uint(j, "cells", w->cells);
        csd_json_uint(j, "connections", w->connections);
        csd_json_uint(j, "accepted", w->net.accepted);
        csd_json_close(j, '}');
    }
    csd_json_close(j, ']');
}

void csd_status_json(const struct csd_status *s, FILE *out)
{
    struct csd_json j;

    csd_json_begin(&j, out);
    csd_json_open(&j, NULL, '{');
    csd_json_string(&j, "version", CS_VERSION);
    csd_json_uint(&j, "pid", (uint64_t)getpid());
    csd_json_string(&j, "phase", s->phase);
    csd_json_uint(&j, "up_ms", s->up_ms);
    csd_json_string(&j, "configuration", s->configuration);
    csd_json_uint(&j, "generation", s->generation);
    csd_json_uint(&j, "reloads", s->reloads);
    csd_json_uint(&j, "reloads_refused", s->refused);
    csd_json_uint(&j, "connections", s->cell->connections);
    csd_json_uint(&j, "detached_relays", s->cell->relays);
    csd_json_uint(&j, "cells", s->cell->cells);
    workers_json(&j, s);
    counters_json(&j, s->cell);
    csd_json_open(&j, "admission", '[');
    cs_admit_counts(s->admit, admission_json, &j);
    csd_json_close(&j, ']');
    csd_json_open(&j, "generations", '[');
    for (unsigned i = 0; i < s->cell->generation_count; i++) {
        generation_json(&j, &s->cell->generations[i]);
    }
    csd_json_close(&j, ']');
    csd_json_open(&j, "certificates", '[');
    for (unsigned i = 0; i < s->cell->cert_count; i++) {
        certificate_json(&j, &s->cell->certs[i]);
    }
    csd_json_close(&j, ']');
    csd_json_close(&j, '}');
}

const char *csd_status_line(const struct csd_status *s, char *buf, size_t size)
{
    (void)snprintf(buf, size, "%s: generation %u, %zu connections", s->phase, s->generation,
                   s->cell->connections);
    return buf;
}
