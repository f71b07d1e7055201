#pragma once
// io_uring as the Reactor uses it: one ring that waits (multishot receives into a ring of buffers, polls) and one
// that sends, so that a flush in the middle of a turn meets its own completions only. Needs Linux 6.1.

#if !__has_include(<liburing.h>)
#error "liburing is missing: install liburing-dev (Debian, Ubuntu) or liburing-devel (Fedora)"
#endif

#include "io.h"

struct fcio_ring;

/// Both rings, ready for the calling thread only. On failure a negative errno, and in `stage` the step that failed.
int fcio_ring_create(struct fcio_ring **out, const char **stage);
void fcio_ring_destroy(struct fcio_ring *ring);

/// Receives datagrams until cancelled; a completion without `more` ends it and it has to be asked for again.
/// Requests take effect with the next wait.
int fcio_ring_receive(struct fcio_ring *ring, int fd, uint64_t token);
/// Completes once, when `fd` is readable or writable (`interest`).
int fcio_ring_poll(struct fcio_ring *ring, int fd, uint32_t interest, uint64_t token);
/// Ends everything asked for on `fd` and lets go of it before it returns. Completions may still come out of the queue.
void fcio_ring_cancel(struct fcio_ring *ring, int fd);

struct fcio_completion {
    uint64_t token;
    int32_t result;
    uint16_t buffer;
    bool has_buffer;
    bool more;
};

/// Submits what was asked for and waits for at most `nanoseconds` (negative: for ever) until something completes.
int fcio_ring_wait(struct fcio_ring *ring, int64_t nanoseconds);
/// Whether the last wait left something that it could have reported: one takes no more than the kernel does in one go.
bool fcio_ring_has_more(const struct fcio_ring *ring);
/// Takes the next completion off the queue; false when there is none.
bool fcio_ring_next(struct fcio_ring *ring, struct fcio_completion *out);

/// Adds a completed receive's message to `inbox`, which must have room. The inbox then holds the buffer.
void fcio_ring_take(struct fcio_ring *ring, const struct fcio_completion *completion, struct fcio_inbox *inbox);
/// Gives a completion's buffer back unseen.
void fcio_ring_discard(struct fcio_ring *ring, const struct fcio_completion *completion);
/// Gives the inbox's buffers back and clears it.
void fcio_ring_release(struct fcio_ring *ring, struct fcio_inbox *inbox);

/// Sends the first `count` messages in order, in one submission: how many went, or the negative errno of the first
/// when none did.
int fcio_ring_send(struct fcio_ring *ring, struct fcio_outbox *outbox, int fd, unsigned count);

/// Completions the kernel dropped because the queue was full.
uint32_t fcio_ring_overflow(const struct fcio_ring *ring);
