/*
 * bind_errh - ba.seterrh (ba-api C.5): a function that is told of every error no pcall has caught.
 */
#ifndef CS_SCRIPT_BIND_ERRH_H
#define CS_SCRIPT_BIND_ERRH_H

#include "script/task.h"

/* Starts a job that calls the handler, if there is one, with the text on top of the main state. Of
 * errors of the handler itself it is not told. Raises nothing. */
void cs_errh_report(const struct cs_task *failed);

#endif
