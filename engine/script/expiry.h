/*
 * expiry - which certificates a VM's scripts use, and a warning in the log 30, 7 and 1 days before
 * each of them ends, and once it has.
 *
 * A timer sleeps until the next of these moments (a day at most, in case the wall clock is set).
 */
#ifndef CS_SCRIPT_EXPIRY_H
#define CS_SCRIPT_EXPIRY_H

#include "base/timer.h"
#include "codec/cert.h"

struct cs_vm;

struct cs_expiry {
    struct cs_list certs;
    struct cs_timer timer;
    struct cs_wheel *wheel;
    bool started;
};

void cs_expiry_init(struct cs_expiry *e, struct cs_wheel *wheel);

/* Drops everything. */
void cs_expiry_finish(struct cs_expiry *e);

/* Watches a certificate for as long as somebody else refers to it too. file: where it came from,
 * for logs; "" if from no file. 0 or -ENOMEM. */
CS_MUST_CHECK int cs_expiry_add(struct cs_vm *vm, struct cs_cert *c, const char *file);

/* The scripts are in force: warn now and from now on. */
void cs_expiry_start(struct cs_expiry *e);

/* Other scripts are in force now: no more warnings. */
void cs_expiry_stop(struct cs_expiry *e);

struct cs_cert_status {
    char name[64];   /* whom it is for */
    char file[128];  /* "": from no file */
    int64_t expires; /* seconds since 1970 */
};

/* Fills at most max entries, those that end first, in that order; returns how many. */
unsigned cs_expiry_status(struct cs_expiry *e, struct cs_cert_status *out, unsigned max);

#endif
