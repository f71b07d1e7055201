#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Child processes and what is read from and written to them. Functions return a negative errno when they fail. */

/* Starts `arguments[0]`, a path, with these descriptors as its standard input, output and error, -1 for /dev/null, and no other. Its
   signals act as if nobody had touched them, and those of our terminal do not reach it. `arguments` ends with NULL. */
int fc_process_start(char *const *arguments, int input, int output, int error, pid_t *process);
/* Waits until it has ended, and leaves it to be collected. */
int fc_process_await(pid_t process);
/* Collects what has ended. `status`: the exit status, or less than 0 the signal that ended it. */
int fc_process_collect(pid_t process, int *status);

/* [0] is read from, [1] written to; no other child process inherits them. */
int fc_pipe(int ends[2]);
/* How many octets there were, 0 at the end. */
int64_t fc_read(int descriptor, uint8_t *into, size_t room);
/* Writes all of them, and waits for that. */
int fc_write(int descriptor, const uint8_t *bytes, size_t count);
void fc_close(int descriptor);

/* Lines and columns of the terminal; false when it is none, or does not know. */
bool fc_terminal_size(int descriptor, int *lines, int *columns);
