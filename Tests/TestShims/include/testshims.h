// What tests need of Linux that Swift's Glibc module does not have.
#ifndef TESTSHIMS_H
#define TESTSHIMS_H

#include <stdbool.h>

/// Opens `interface` for whole Ethernet frames, in the network namespace of `process`. The calling thread stays in that
/// namespace, so it should end. Returns a descriptor, or -errno.
int ts_open_link(int process, const char *interface);

/// What becomes of the next sends without a copy that the calling thread submits to a ring: they fail with `code`, a
/// negative errno, where the fault says, and those after them work.
enum ts_ring_fault {
    ts_ring_works,
    /// The call fails, and the kernel has taken nothing.
    ts_ring_takes_nothing,
    /// The call fails after the kernel has taken all of them.
    ts_ring_takes_and_fails,
    /// The call works, and each of them has failed.
    ts_ring_answers,
};
void ts_ring_fail(enum ts_ring_fault fault, int code);
/// Whether the kernel keeps to itself what it is done with when it is asked.
void ts_ring_silence(bool silent);

/// Gives the system back what the heap does not need.
void ts_trim_heap(void);

#endif
