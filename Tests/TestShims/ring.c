#define _GNU_SOURCE
#include <dlfcn.h>
#include <liburing.h>

#include "testshims.h"

// The linker takes these before those of liburing, which they go on to.

static _Thread_local struct {
    enum ts_ring_fault fault;
    int code;
    bool silent;
} plan;

void ts_ring_fail(enum ts_ring_fault fault, int code) {
    plan.fault = fault;
    plan.code = code;
}

void ts_ring_silence(bool silent) { plan.silent = silent; }

static bool sends_without_copy(struct io_uring *ring) {
    if (io_uring_sq_ready(ring) == 0) return false;
    return ring->sq.sqes[*ring->sq.khead & *ring->sq.kring_mask].opcode == IORING_OP_SEND_ZC;
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait) {
    int (*next)(struct io_uring *, unsigned) =
        (int (*)(struct io_uring *, unsigned))dlsym(RTLD_NEXT, "io_uring_submit_and_wait");
    if (plan.fault == ts_ring_works || !sends_without_copy(ring)) return next(ring, wait);
    enum ts_ring_fault fault = plan.fault;
    plan.fault = ts_ring_works;
    if (fault == ts_ring_takes_nothing) return plan.code;
    if (fault == ts_ring_takes_and_fails) {
        io_uring_submit(ring);
        return plan.code;
    }
    int outcome = next(ring, wait);
    unsigned head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(ring, head, cqe) {
        if (!(cqe->flags & IORING_CQE_F_NOTIF)) cqe->res = plan.code;
    }
    return outcome;
}

int io_uring_get_events(struct io_uring *ring) {
    int (*next)(struct io_uring *) = (int (*)(struct io_uring *))dlsym(RTLD_NEXT, "io_uring_get_events");
    return plan.silent ? 0 : next(ring);
}
