/* What clients, origin and parent of the load generator have in common. */
#include "load.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

void load_die(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fputs("cosock-load: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    exit(2);
}

unsigned load_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) {
        return 1000;
    }
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    rlim_t most = limit.rlim_max > 1000000 ? 1000000 : limit.rlim_max;
    return most > 200 ? (unsigned)most - 100 : 100;
}

uint64_t load_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- addresses
 * --------------------------------------------------------------------------------------- */

static void add_addr(struct load_addrs *out, const struct load_addr *a)
{
    if (out->count == LOAD_ADDRS_MAX) {
        load_die("more than %d addresses", LOAD_ADDRS_MAX);
    }
    out->at[out->count++] = *a;
}

static void parse_v6(struct load_addrs *out, const char *host, unsigned low, unsigned high)
{
    for (unsigned port = low; port <= high; port++) {
        struct load_addr a = {.len = sizeof(struct sockaddr_in6)};
        a.in6.sin6_family = AF_INET6;
        a.in6.sin6_port = htons((uint16_t)port);
        if (inet_pton(AF_INET6, host, &a.in6.sin6_addr) != 1 ||
            !IN6_IS_ADDR_LOOPBACK(&a.in6.sin6_addr)) {
            load_die("'%s': only ::1 and 127.0.0.0/8 may be loaded", host);
        }
        add_addr(out, &a);
    }
}

static uint32_t parse_v4(const char *host)
{
    struct in_addr in;
    if (inet_pton(AF_INET, host, &in) != 1 || ntohl(in.s_addr) >> 24 != 127) {
        load_die("'%s': only ::1 and 127.0.0.0/8 may be loaded", host);
    }
    return ntohl(in.s_addr);
}

static void parse_ports(const char *text, unsigned *low, unsigned *high)
{
    int used = 0;
    int n = sscanf(text, "%u%n-%u%n", low, &used, high, &used);
    if (n == 1) {
        *high = *low;
    }
    if (n < 1 || text[used] != '\0' || *high < *low || *high > 65535) {
        load_die("'%s' is neither a port nor a range of ports", text);
    }
}

void load_parse_addrs(struct load_addrs *out, const char *text, bool ports)
{
    char host[128];
    unsigned low = 0;
    unsigned high = 0;
    snprintf(host, sizeof(host), "%s", text);
    if (ports) {
        char *colon = strrchr(host, ':');
        if (colon == NULL) {
            load_die("'%s': no port", text);
        }
        *colon = '\0';
        parse_ports(colon + 1, &low, &high);
    }
    size_t len = strlen(host);
    if (len > 1 && host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        memmove(host, host + 1, len - 1);
    }
    if (strchr(host, ':') != NULL) {
        parse_v6(out, host, low, high);
        return;
    }
    char *dash = strchr(host, '-');
    if (dash != NULL) {
        *dash = '\0';
    }
    uint32_t first = parse_v4(host);
    uint32_t last = dash != NULL ? parse_v4(dash + 1) : first;
    for (uint32_t ip = first; ip <= last; ip++) {
        for (unsigned port = low; port <= high; port++) {
            struct load_addr a = {.len = sizeof(struct sockaddr_in)};
            a.in.sin_family = AF_INET;
            a.in.sin_port = htons((uint16_t)port);
            a.in.sin_addr.s_addr = htonl(ip);
            add_addr(out, &a);
        }
    }
}

/* ---- the stream
 * -------------------------------------------------------------------------------------- */

/* A prime number of bytes, so that no block size of anybody divides the period. Sending costs
 * nothing and comparing is one memcmp, which keeps the load lighter than what it measures. */
enum { STREAM_PERIOD = 1048583 };

static unsigned char stream[STREAM_PERIOD + LOAD_SLICE_MAX];

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

void load_stream_init(void)
{
    for (uint64_t i = 0; i < STREAM_PERIOD; i += 8) {
        uint64_t word = mix(i);
        size_t n = STREAM_PERIOD - i < 8 ? (size_t)(STREAM_PERIOD - i) : 8;
        memcpy(stream + i, &word, n);
    }
    memcpy(stream + STREAM_PERIOD, stream, LOAD_SLICE_MAX);
}

uint64_t load_stream_base(uint64_t id)
{
    return mix(id ^ 0x636f736f636bu) % STREAM_PERIOD;
}

const unsigned char *load_stream_at(uint64_t base, uint64_t position)
{
    return stream + (base + position) % STREAM_PERIOD;
}

/* ---- latencies
 * --------------------------------------------------------------------------------------- */

static unsigned bucket_of(uint64_t ns)
{
    if (ns < 64) {
        return (unsigned)ns;
    }
    unsigned shift = 57u - (unsigned)__builtin_clzll(ns);
    uint64_t bucket = (uint64_t)shift * 64 + (ns >> shift);
    return bucket < LOAD_HIST_BUCKETS ? (unsigned)bucket : LOAD_HIST_BUCKETS - 1;
}

static uint64_t middle_of(unsigned bucket)
{
    if (bucket < 128) {
        return bucket;
    }
    unsigned shift = bucket / 64 - 1;
    uint64_t low = (uint64_t)(bucket - shift * 64) << shift;
    return low + ((uint64_t)1 << shift) / 2;
}

void load_hist_add(struct load_hist *h, uint64_t ns)
{
    h->at[bucket_of(ns)]++;
}

void load_hist_merge(struct load_hist *into, const struct load_hist *from)
{
    for (unsigned i = 0; i < LOAD_HIST_BUCKETS; i++) {
        into->at[i] += from->at[i];
    }
}

uint64_t load_hist_total(const struct load_hist *h)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < LOAD_HIST_BUCKETS; i++) {
        total += h->at[i];
    }
    return total;
}

uint64_t load_hist_percentile(const struct load_hist *h, double percent)
{
    uint64_t total = load_hist_total(h);
    uint64_t rank = (uint64_t)((double)total * percent / 100.0);
    uint64_t seen = 0;
    for (unsigned i = 0; i < LOAD_HIST_BUCKETS; i++) {
        seen += h->at[i];
        if (h->at[i] != 0 && (seen > rank || seen == total)) {
            return middle_of(i);
        }
    }
    return 0;
}

/* ---- processes
 * --------------------------------------------------------------------------------------- */

static uint64_t thread_cpu_ns(int pid, const char *tid)
{
    char path[300];
    unsigned long long ns = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", pid, tid);
    FILE *f = fopen(path, "re");
    if (f == NULL) {
        return 0;
    }
    if (fscanf(f, "%llu", &ns) != 1) {
        ns = 0;
    }
    fclose(f);
    return ns;
}

static uint64_t threads_cpu_ns(int pid)
{
    char path[64];
    uint64_t ns = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", pid);
    DIR *dir = opendir(path);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e != NULL; e = readdir(dir)) {
        if (e->d_name[0] != '.') {
            ns += thread_cpu_ns(pid, e->d_name);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return ns;
}

/* Of children that have ended, in steps of 10 ms. */
static uint64_t ended_cpu_ns(int pid)
{
    char path[64];
    unsigned long user = 0, system = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        if (fscanf(f, "%*d (%*[^)]) %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %lu %lu",
                   &user, &system) != 2) {
            user = system = 0;
        }
        fclose(f);
    }
    return (user + system) * 1000000000u / (unsigned long)sysconf(_SC_CLK_TCK);
}

static uint64_t family_cpu_ns(int pid)
{
    char path[64];
    int child;
    uint64_t ns = threads_cpu_ns(pid) + ended_cpu_ns(pid);
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
    FILE *f = fopen(path, "re");
    while (f != NULL && fscanf(f, "%d", &child) == 1) {
        ns += family_cpu_ns(child);
    }
    if (f != NULL) {
        fclose(f);
    }
    return ns;
}

uint64_t load_cpu_ns(const int *pids, unsigned count)
{
    uint64_t ns = 0;
    for (unsigned i = 0; i < count; i++) {
        ns += family_cpu_ns(pids[i]);
    }
    return ns;
}

void load_note(struct load_child *child, const char *format, ...)
{
    if (child->note[0] != '\0') {
        return;
    }
    va_list ap;
    va_start(ap, format);
    vsnprintf(child->note, sizeof(child->note), format, ap);
    va_end(ap);
    for (char *c = child->note; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ') {
            *c = '\'';
        }
    }
}
