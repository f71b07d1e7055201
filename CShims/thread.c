#define _GNU_SOURCE
#include "thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct fc_condition {
    pthread_mutex_t mutex;
    pthread_cond_t condition;
};

struct fc_condition *fc_condition_make(void) {
    struct fc_condition *made = calloc(1, sizeof *made);
    if (made == NULL) return NULL;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&made->mutex, NULL);
    pthread_cond_init(&made->condition, &attributes);
    pthread_condattr_destroy(&attributes);
    return made;
}

void fc_condition_free(struct fc_condition *condition) {
    if (condition == NULL) return;
    pthread_cond_destroy(&condition->condition);
    pthread_mutex_destroy(&condition->mutex);
    free(condition);
}

void fc_condition_lock(struct fc_condition *condition) { pthread_mutex_lock(&condition->mutex); }
void fc_condition_unlock(struct fc_condition *condition) { pthread_mutex_unlock(&condition->mutex); }
void fc_condition_broadcast(struct fc_condition *condition) { pthread_cond_broadcast(&condition->condition); }
void fc_condition_wait(struct fc_condition *condition) { pthread_cond_wait(&condition->condition, &condition->mutex); }

bool fc_condition_wait_for(struct fc_condition *condition, int64_t nanoseconds) {
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &end);
    if (nanoseconds < 0) nanoseconds = 0;
    end.tv_sec += nanoseconds / 1000000000;
    end.tv_nsec += nanoseconds % 1000000000;
    if (end.tv_nsec >= 1000000000) {
        end.tv_sec++;
        end.tv_nsec -= 1000000000;
    }
    return pthread_cond_timedwait(&condition->condition, &condition->mutex, &end) != ETIMEDOUT;
}

struct start {
    char name[16];
    void (*body)(void *);
    void *argument;
};

static void *run(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
    pthread_setname_np(pthread_self(), start.name);
    start.body(start.argument);
    return NULL;
}

int fc_thread_start(const char *name, void (*body)(void *), void *argument) {
    struct start *start = calloc(1, sizeof *start);
    if (start == NULL) return -ENOMEM;
    strncpy(start->name, name, sizeof start->name - 1);
    start->body = body;
    start->argument = argument;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_t thread;
    int error = pthread_create(&thread, &attributes, run, start);
    pthread_attr_destroy(&attributes);
    if (error != 0) free(start);
    return -error;
}
