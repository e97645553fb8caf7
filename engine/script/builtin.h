/*
 * builtin - the folder behind ba.openio"vm" (ba-api C.3, C.4): on the original server its built-in
 * resources, here what this installation has for itself. It holds `.certificate/MakoServer.pem` and
 * `.key`: a certificate for this host that nobody else has, made when it is first asked for and
 * kept.
 *
 * A daemon's folder is `vm` in its data folder. A single script's is that of its user:
 * $STATE_DIRECTORY, $XDG_STATE_HOME/cosockd or ~/.local/state/cosockd.
 */
#ifndef CS_SCRIPT_BUILTIN_H
#define CS_SCRIPT_BUILTIN_H

#include "script/vm.h"

/* Writes the folder's path, which need not exist. False: there is none, or it does not fit. */
CS_MUST_CHECK bool cs_builtin_dir(const struct cs_vm *vm, char *path, size_t size);

/* Makes the folder and the pair if they are not there. What goes wrong is logged: whoever opens the
 * files then finds none. */
void cs_builtin_make(struct cs_vm *vm);

#endif
