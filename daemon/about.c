/*
 * about - see about.h.
 */
#include "daemon/about.h"

#include <sys/utsname.h>

#include "build_info.h"
#include "daemon/settings.h"
#include "ring/ring.h"

void csd_about_version(FILE *out)
{
    (void)fprintf(out, "cosockd %s\n", CS_VERSION);
}

static void library(FILE *out, const char *name, const char *version)
{
    if (version[0] != '\0') {
        (void)fprintf(out, "  %-14s %s\n", name, version);
    }
}

void csd_about_build(FILE *out)
{
    struct utsname kernel;
    char text[2048];

    csd_about_version(out);
    (void)fputs("built with\n", out);
    library(out, "build type", CS_BUILD_TYPE);
    library(out, "sanitizers", CS_BUILD_SANITIZE);
    library(out, "compiler", CS_BUILD_COMPILER);
    library(out, "lua", CS_BUILD_LUA);
    library(out, "liburing", CS_BUILD_LIBURING);
    library(out, "c-ares", CS_BUILD_CARES);
    library(out, "libsystemd", CS_BUILD_SYSTEMD);
    library(out, "jemalloc", CS_BUILD_JEMALLOC);
    if (CS_BUILD_BORINGSSL_API > 0) {
        (void)fprintf(out, "  %-14s API %d\n", "boringssl", CS_BUILD_BORINGSSL_API);
    }
    library(out, "configuration", CS_CONF_FILE);
    library(out, "scripts", CS_SCRIPT_DIR);
    if (uname(&kernel) == 0) {
        (void)fprintf(out, "this kernel: %s %s\n", kernel.sysname, kernel.release);
    }
    cs_ring_describe(text, sizeof(text));
    (void)fprintf(out, "%s\n", text);
}

void csd_about_settings(FILE *out)
{
    size_t count;
    const struct csd_setting *table = csd_settings_table(&count);

    for (size_t i = 0; i < count; i++) {
        (void)fprintf(out, "%-21s %s\n%-21s default %s%s\n", table[i].name, table[i].help, "",
                      table[i].fallback ? table[i].fallback : "not set",
                      table[i].live ? "" : "; a change takes a restart");
    }
}
