/*
 * privs - limits raised at the start, and root given up once everything is bound.
 */
#ifndef CSD_PRIVS_H
#define CSD_PRIVS_H

#include <sys/types.h>

#include "base/base.h"

/* Whom to become. */
struct csd_identity {
    bool change; /* false: stay who we are */
    uid_t uid;
    gid_t gid;
    const char *user; /* for setgroups; NULL: only the group changes */
};

/* The soft limit of open files becomes the hard one. Returns the limit. */
uint64_t csd_raise_nofile(void);

/* user, group: names or NULL. Fails when they do not exist, or when this process may not change to
 * them. False: one line in `why`. */
CS_MUST_CHECK bool csd_identity_find(struct csd_identity *out, const char *user, const char *group,
                                     char *why, size_t why_size);

/* Groups, group and user of all threads, irrevocably. False: one line in `why`, and the process
 * must not go on. */
CS_MUST_CHECK bool csd_privs_drop(const struct csd_identity *id, char *why, size_t why_size);

#endif
