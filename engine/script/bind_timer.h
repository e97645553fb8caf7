/*
 * bind_timer - ba.timer: what the VM has to know about it.
 */
#ifndef CS_SCRIPT_BIND_TIMER_H
#define CS_SCRIPT_BIND_TIMER_H

struct cs_vm;

/* Starts the timers that were set while the VM was loading; their time counts from now. */
void cs_timers_release(struct cs_vm *vm);

/* Before the VM's waits are ended: stops all timers between two ticks, coroutines that have yielded
 * included (for them the stop would be a tick too many). Callbacks that run or wait go on. */
void cs_timers_stop(struct cs_vm *vm);

#endif
