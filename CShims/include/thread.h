#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Threads, and what they wait on. */

/* A mutex and a condition. NULL when there is no memory. */
struct fc_condition;
struct fc_condition *fc_condition_make(void);
void fc_condition_free(struct fc_condition *);
void fc_condition_lock(struct fc_condition *);
void fc_condition_unlock(struct fc_condition *);
void fc_condition_broadcast(struct fc_condition *);
/* Lets go of the mutex while it waits. */
void fc_condition_wait(struct fc_condition *);
/* The same for at most this many nanoseconds, by the monotonic clock: false when they have passed. */
bool fc_condition_wait_for(struct fc_condition *, int64_t nanoseconds);

/* Runs `body` with `argument` on a new thread that nobody waits for. `name` is cut to 15 octets. A negative errno when it fails. */
int fc_thread_start(const char *name, void (*body)(void *), void *argument);
