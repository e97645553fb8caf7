/*
 * privs - see privs.h. setuid(2) and its kin change all threads: the C library tells each of them.
 */
#include "daemon/privs.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

uint64_t csd_raise_nofile(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 0;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        rlim_t before = limit.rlim_cur;

        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
            return before;
        }
    }
    return limit.rlim_cur;
}

bool csd_identity_find(struct csd_identity *out, const char *user, const char *group, char *why,
                       size_t why_size)
{
    const struct passwd *pw;
    const struct group *gr;

    *out = (struct csd_identity){.uid = getuid(), .gid = getgid(), .user = user};
    if (user) {
        pw = getpwnam(user);
        if (!pw) {
            (void)snprintf(why, why_size, "user \"%s\" does not exist", user);
            return false;
        }
        out->uid = pw->pw_uid;
        out->gid = pw->pw_gid;
    }
    if (group) {
        gr = getgrnam(group);
        if (!gr) {
            (void)snprintf(why, why_size, "group \"%s\" does not exist", group);
            return false;
        }
        out->gid = gr->gr_gid;
    }
    out->change = out->uid != geteuid() || out->gid != getegid();
    if (out->change && geteuid() != 0) {
        (void)snprintf(why, why_size, "cannot become %s \"%s\": cosockd was not started as root",
                       user ? "user" : "group", user ? user : group);
        return false;
    }
    return true;
}

static bool failed(const char *call, char *why, size_t why_size)
{
    (void)snprintf(why, why_size, "cannot give up root: %s: %s", call, strerror(errno));
    return false;
}

bool csd_privs_drop(const struct csd_identity *id, char *why, size_t why_size)
{
    if (!id->change) {
        return true;
    }
    if ((id->user ? initgroups(id->user, id->gid) : setgroups(1, &id->gid)) != 0) {
        return failed(id->user ? "initgroups" : "setgroups", why, why_size);
    }
    if (setresgid(id->gid, id->gid, id->gid) != 0) {
        return failed("setresgid", why, why_size);
    }
    if (setresuid(id->uid, id->uid, id->uid) != 0) {
        return failed("setresuid", why, why_size);
    }
    /* The way back must be closed; a kernel or a sandbox that left it open is an error, too. */
    if (id->uid != 0 && (setuid(0) == 0 || geteuid() == 0)) {
        (void)snprintf(why, why_size, "cannot give up root: it could be taken back");
        return false;
    }
    return true;
}
