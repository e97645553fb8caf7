/*
 * bind_relay - what the cell needs of ba.socket.relay besides its binding.
 */
#ifndef CS_SCRIPT_BIND_RELAY_H
#define CS_SCRIPT_BIND_RELAY_H

#include "script/vm.h"

/* Starts the on_close functions of relays that have ended: from the script phase. */
void cs_relays_closed(struct cs_vm *vm);

/* The VM ends: its relays go on, nobody is told. Before cs_vm_destroy. */
void cs_relays_forget(struct cs_vm *vm);

/* Tells where the on_close functions of relays are defined ("script.lua:12"); looks at max relays.
 */
void cs_relays_places(struct cs_vm *vm, unsigned max, void (*tell)(void *user, const char *place),
                      void *user);

#endif
