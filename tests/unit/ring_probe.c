/*
 * ring_probe - what the kernel offers less what COSOCKD_WITHOUT names, and the sentence for each
 * way in which a set-up fails.
 */
#include "unit/ring_support.h"

#include <sys/utsname.h>

#include "base/err.h"
#include "ring/probe.h"
#include "ring/ring.h"
#include "ring/sys.h"

static unsigned features_without(const char *list)
{
    struct io_uring ring;
    if (list) {
        setenv("COSOCKD_WITHOUT", list, 1);
    } else {
        unsetenv("COSOCKD_WITHOUT");
    }
    int err = io_uring_queue_init(8, &ring, 0);
    if (err < 0) {
        fprintf(stderr, "skipped: io_uring is not to be had (%d)\n", err);
        exit(77);
    }
    unsigned features = cs_probe_features(&ring);
    io_uring_queue_exit(&ring);
    unsetenv("COSOCKD_WITHOUT");
    return features;
}

static void test_masked(void **state)
{
    const char *lists[] = {"direct",       "direct,",      ",direct",
                           "other,direct", "direct,other", ",,direct,,"};
    (void)state;
    for (unsigned i = 0; i < CS_ARRAY_LEN(lists); i++) {
        assert_int_equal(features_without(lists[i]) & CS_RING_DIRECT, 0);
        assert_true(features_without(lists[i]) & CS_RING_SPLICE);
    }
    assert_int_equal(features_without("splice,direct"), 0);
}

/* Neither a part of a name nor a longer one. */
static void test_not_masked(void **state)
{
    const char *lists[] = {"",       ",",       "dir",     "directly",     "indirect",
                           "Direct", "dir,ect", "direct ", "directly,dir", "direct=1"};
    unsigned offered = features_without(NULL);
    (void)state;
    if (!offered) {
        skip();
    }
    for (unsigned i = 0; i < CS_ARRAY_LEN(lists); i++) {
        assert_int_equal(features_without(lists[i]), offered);
    }
}

/* ---- sentences ---- */

static void explained(int err, const char *cause, const char *cure)
{
    char why[256];
    memset(why, 'x', sizeof(why));
    cs_probe_explain(err, why, sizeof(why));
    assert_non_null(memchr(why, '\0', sizeof(why)));
    assert_non_null(strstr(why, cause));
    assert_non_null(strstr(why, cure));
    assert_null(strchr(why, '\n'));
}

static void test_kernel_without(void **state)
{
    struct utsname u;
    (void)state;
    assert_int_equal(uname(&u), 0);
    explained(-ENOSYS, "has no io_uring", "Linux 6.1 or newer");
    explained(-ENOSYS, u.release, "Linux 6.1 or newer");
    explained(-EINVAL, "too old", "Linux 6.1 or newer");
    explained(-EINVAL, u.release, "Linux 6.1 or newer");
}

static bool switched_off(void)
{
    FILE *f = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    int c = f ? fgetc(f) : '0';
    if (f) {
        fclose(f);
    }
    return c != '0';
}

static void test_not_permitted(void **state)
{
    const int errs[] = {-EPERM, -EACCES};
    (void)state;
    for (unsigned i = 0; i < CS_ARRAY_LEN(errs); i++) {
        if (switched_off()) {
            explained(errs[i], "switched off", "kernel.io_uring_disabled=0");
        } else {
            explained(errs[i], "seccomp", "io_uring_setup, io_uring_enter and io_uring_register");
        }
    }
}

static void test_other_errors(void **state)
{
    const int errs[] = {-EMFILE, -ENFILE, -EEXIST, -EFAULT};
    (void)state;
    for (unsigned i = 0; i < CS_ARRAY_LEN(errs); i++) {
        explained(errs[i], "io_uring could not be set up", cs_err_text(errs[i]));
    }
}

static void test_short_buffer(void **state)
{
    char why[8];
    (void)state;
    memset(why, 'x', sizeof(why));
    cs_probe_explain(-ENOSYS, why, sizeof(why) - 1);
    assert_string_equal(why, "this k");
    assert_int_equal(why[7], 'x');
}

/* ---- describing ---- */

static void test_describe(void **state)
{
    char text[512], masked[512];
    (void)state;
    setenv("COSOCKD_WITHOUT", "direct", 1);
    cs_ring_describe(masked, sizeof(masked));
    unsetenv("COSOCKD_WITHOUT");
    cs_ring_describe(text, sizeof(text));
    assert_non_null(strstr(text, "io_uring: yes"));
    assert_non_null(strstr(masked, "direct descriptors: no"));
    bool direct = features_without(NULL) & CS_RING_DIRECT;
    assert_non_null(strstr(text, direct ? "direct descriptors: yes" : "direct descriptors: no"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masked),         cmocka_unit_test(test_not_masked),
        cmocka_unit_test(test_kernel_without), cmocka_unit_test(test_not_permitted),
        cmocka_unit_test(test_other_errors),   cmocka_unit_test(test_short_buffer),
        cmocka_unit_test(test_describe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
