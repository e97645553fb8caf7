/*
 * bind_timer - ba.timer: what the VM has to know about it.
 */
#ifndef CS_SCRIPT_BIND_TIMER_H
#define CS_SCRIPT_BIND_TIMER_H

struct cs_vm;

/* Starts the timers that were set while the VM was loading; their time counts from now. */
void cs_timers_release(struct cs_vm *vm);

#endif
