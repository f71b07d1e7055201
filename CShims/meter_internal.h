#pragma once
// Shared by the files whose time measurements tell apart; not seen by Swift.

#include <stdbool.h>
#include <stdint.h>

#include "include/meter.h"

extern _Thread_local struct fc_split_state {
    bool is_on;
    int64_t clock_cost;
    struct fc_split_times times;
} fc_split_state;

/// What follows is to be measured, if anything is: what `fc_part_end` wants.
static inline int64_t fc_part_begin(void) {
    return __builtin_expect(fc_split_state.is_on, 0) ? fc_thread_time() : 0;
}

static inline void fc_part_end(int64_t *part, int64_t begin) {
    if (__builtin_expect(begin == 0, 1)) return;
    *part += fc_thread_time() - begin - fc_split_state.clock_cost;
    fc_split_state.times.clock += 2 * fc_split_state.clock_cost;
}
