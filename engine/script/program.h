/*
 * program - loads the parts of a program (services, or one script) into a VM as start-up tasks.
 */
#ifndef CS_SCRIPT_PROGRAM_H
#define CS_SCRIPT_PROGRAM_H

#include "script/cell.h"
#include "script/vm.h"

/* Compiles every part and queues a start-up task for each. What is wrong goes to errors; errors of
 * the chunks themselves, and of whatever they start, follow as it runs, while the VM is loading. In
 * script mode a failed chunk also sets the exit status. errors must stay until the VM has left
 * CS_VM_LOADING. */
void cs_program_start(struct cs_vm *vm, const struct cs_program *program,
                      const struct cs_cell_config *config, struct cs_errors *errors);

/* True when every start-up task has ended or waits. */
bool cs_program_loaded(const struct cs_vm *vm);

#endif
