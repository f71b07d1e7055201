#pragma once
// Sends straight from registered buffers (IORING_OP_SEND_ZC): no octet is copied on the way to an interface that takes
// segmented packets. The kernel holds what it was given until it says otherwise, long after the send is done.

#include "io.h"

struct fcio_zerocopy;

enum { fcio_zerocopy_flight = 256 };  // sends that the kernel may hold at once

/// Registers `octets` at `arena`, whole pages, which are locked in memory from now on. On failure a negative errno, and in
/// `stage` the step that failed.
int fcio_zerocopy_create(struct fcio_zerocopy **out, uint8_t *arena, size_t octets, const char **stage);
/// The arena may be unmapped afterwards, and unmapped only: the kernel's pages stay until the last send has let go of them.
void fcio_zerocopy_destroy(struct fcio_zerocopy *zerocopy);

/// Sends the first `count` runs in order by socket `fd`, whose UDP_SEGMENT becomes what they want; large ones without a
/// copy. How many went, or the negative errno of the first when none did. A run that is `held` then, sent or not, has to
/// stay as it is until `fcio_zerocopy_next` gives its chunk back, once for each such run. `calls` is raised by the system
/// calls this took.
int fcio_zerocopy_send(
    struct fcio_zerocopy *zerocopy, int fd, int family, struct fcio_run *runs, unsigned count, uint64_t *calls);
/// The negative errno that the ring itself has failed with, or 0. Nothing can be sent after that, and what it holds may
/// never be given back.
int fcio_zerocopy_failure(const struct fcio_zerocopy *zerocopy);
/// Whether a run can go this way: what takes a control message cannot.
bool fcio_zerocopy_takes(const struct fcio_run *run);
/// The next chunk that the kernel gives back, or -1. With `look` it is asked, which is a system call.
int fcio_zerocopy_next(struct fcio_zerocopy *zerocopy, bool look, uint64_t *calls);
/// Undoes what sends did to the socket, so that it can be used in other ways again.
void fcio_zerocopy_leave(struct fcio_zerocopy *zerocopy, int fd, uint64_t *calls);
/// Sends that the kernel holds.
unsigned fcio_zerocopy_held(const struct fcio_zerocopy *zerocopy);
/// Sends given back so far, and those of them that the kernel had to copy after all.
void fcio_zerocopy_usage(const struct fcio_zerocopy *zerocopy, uint64_t *done, uint64_t *copied);

/// Whole zeroed pages for an arena; NULL when there are none.
uint8_t *fcio_arena_create(size_t octets);
void fcio_arena_destroy(uint8_t *arena, size_t octets);
