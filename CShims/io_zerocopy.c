#define _GNU_SOURCE
#include "include/io_zerocopy.h"

#include <errno.h>
#include <limits.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "io_internal.h"
#include "meter_internal.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
// Newer than liburing 2.3's headers.
#ifndef IORING_SEND_ZC_REPORT_USAGE
#define IORING_SEND_ZC_REPORT_USAGE (1U << 3)
#endif
#ifndef IORING_NOTIF_USAGE_ZC_COPIED
#define IORING_NOTIF_USAGE_ZC_COPIED (1U << 31)
#endif

enum {
    entries = fcio_batch_limit,
    completions = 2 * (fcio_batch_limit + fcio_zerocopy_flight),
    unknown = INT_MIN,
    least = 8192,  // octets below which a copy is cheaper than a notification
};

struct fcio_zerocopy {
    struct io_uring ring;
    uint16_t segment;  // the socket's UDP_SEGMENT
    // Sends under way by number, which completions bear: the chunk each lies in, and whether it is known to have gone.
    uint16_t chunks[fcio_zerocopy_flight];
    bool sent[fcio_zerocopy_flight];
    uint16_t unused[fcio_zerocopy_flight];
    unsigned unused_count;
    unsigned held;
    uint16_t returned[fcio_zerocopy_flight];
    unsigned returned_count;
    uint64_t done, copied;
    int failure;  // of the ring, after which nothing is sent any more
    struct sockaddr_storage names[fcio_batch_limit];
};

int fcio_zerocopy_create(struct fcio_zerocopy **out, uint8_t *arena, size_t octets, const char **stage) {
    *stage = "memory";
    struct fcio_zerocopy *zerocopy = calloc(1, sizeof *zerocopy);
    if (!zerocopy) return -ENOMEM;
    for (uint16_t number = 0; number < fcio_zerocopy_flight; number++) zerocopy->unused[number] = number;
    zerocopy->unused_count = fcio_zerocopy_flight;
    *stage = "io_uring_setup";
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = completions};
    int outcome = io_uring_queue_init_params(entries, &zerocopy->ring, &parameters);
    if (outcome < 0) {
        free(zerocopy);
        return outcome;
    }
    *stage = "registering buffers";
    struct iovec buffer = {.iov_base = arena, .iov_len = octets};
    outcome = io_uring_register_buffers(&zerocopy->ring, &buffer, 1);
    if (outcome < 0) {
        fcio_zerocopy_destroy(zerocopy);
        return outcome;
    }
    *out = zerocopy;
    return 0;
}

void fcio_zerocopy_destroy(struct fcio_zerocopy *zerocopy) {
    io_uring_queue_exit(&zerocopy->ring);
    free(zerocopy);
}

bool fcio_zerocopy_takes(const struct fcio_run *run) {
    return run->from.family == 0 && run->ecn == 0 && !run->plain;
}

static int set_segment(struct fcio_zerocopy *zerocopy, int fd, uint16_t segment, uint64_t *calls) {
    if (zerocopy->segment == segment) return 0;
    int value = segment;
    ++*calls;
    if (setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &value, sizeof value) < 0) return -errno;
    zerocopy->segment = segment;
    return 0;
}

void fcio_zerocopy_leave(struct fcio_zerocopy *zerocopy, int fd, uint64_t *calls) {
    set_segment(zerocopy, fd, 0, calls);
}

static void give_back(struct fcio_zerocopy *zerocopy, uint16_t number) {
    zerocopy->held--;
    zerocopy->returned[zerocopy->returned_count++] = zerocopy->chunks[number];
}

/// Takes what has completed: chunks to give back are kept, and results of sends that are waited for go to `results`, how
/// many. Without `results` a send that completes is one that was abandoned, and counted as held then.
static unsigned collect(struct fcio_zerocopy *zerocopy, struct fcio_run *runs, int *results) {
    unsigned head, seen = 0, sends = 0;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&zerocopy->ring, head, cqe) {
        seen++;
        uint16_t number = (uint16_t)cqe->user_data, index = (uint16_t)(cqe->user_data >> 16);
        bool more = cqe->flags & IORING_CQE_F_MORE;
        if (cqe->flags & IORING_CQE_F_NOTIF) {
            bool copied = (uint32_t)cqe->res & IORING_NOTIF_USAGE_ZC_COPIED;
            zerocopy->done += zerocopy->sent[number];
            zerocopy->copied += zerocopy->sent[number] && copied;
            give_back(zerocopy, number);
        } else if (results) {
            sends++;
            results[index] = cqe->res;
            zerocopy->sent[number] = cqe->res >= 0;
            runs[index].held = more;
            zerocopy->held += more;
        } else if (!more) {
            give_back(zerocopy, number);
        }
        if (!more) zerocopy->unused[zerocopy->unused_count++] = number;
    }
    io_uring_cq_advance(&zerocopy->ring, seen);
    return sends;
}

/// The ring has failed. What it took and has not answered is held until it is: its octets may be read at any time. What it
/// did not take it never will.
static void abandon(
    struct fcio_zerocopy *zerocopy, int failure, struct fcio_run *runs, unsigned count, const int *results) {
    zerocopy->failure = failure;
    unsigned taken = count - io_uring_sq_ready(&zerocopy->ring);
    for (unsigned index = 0; index < taken; index++) {
        if (results[index] != unknown) continue;
        runs[index].held = true;
        zerocopy->held++;
    }
}

int fcio_zerocopy_send(
    struct fcio_zerocopy *zerocopy, int fd, int family, struct fcio_run *runs, unsigned count, uint64_t *calls) {
    if (zerocopy->failure) return zerocopy->failure;
    if (count > entries) count = entries;
    // Room for every chunk that may come back.
    if (zerocopy->returned_count + count > zerocopy->unused_count) return -ENOBUFS;
    uint16_t segment = runs[0].segment;
    unsigned fitting = 0;
    while (fitting < count && runs[fitting].segment <= segment
           && (runs[fitting].segments == 1 || runs[fitting].segment == segment))
        fitting++;
    int outcome = set_segment(zerocopy, fd, segment, calls);
    if (outcome < 0) return outcome;
    int results[entries];
    for (unsigned index = 0; index < fitting; index++) {
        struct fcio_run *run = &runs[index];
        uint16_t number = zerocopy->unused[--zerocopy->unused_count];
        zerocopy->chunks[number] = run->chunk;
        zerocopy->sent[number] = false;
        struct io_uring_sqe *sqe = io_uring_get_sqe(&zerocopy->ring);
        if (run->count >= least)
            io_uring_prep_send_zc_fixed(
                sqe, fd, run->octets, run->count, MSG_DONTWAIT | MSG_NOSIGNAL, IORING_SEND_ZC_REPORT_USAGE, 0);
        else
            io_uring_prep_send(sqe, fd, run->octets, run->count, MSG_DONTWAIT | MSG_NOSIGNAL);
        socklen_t size = fcio_encode_address(&zerocopy->names[index], family, run->to);
        io_uring_prep_send_set_addr(sqe, (struct sockaddr *)&zerocopy->names[index], (uint16_t)size);
        if (index + 1 < fitting) sqe->flags |= IOSQE_IO_LINK;
        io_uring_sqe_set_data64(sqe, number | (uint64_t)index << 16);
        run->held = false;
        results[index] = unknown;
    }
    unsigned done = 0;
    while (done < fitting) {
        ++*calls;
        int64_t begin = fc_part_begin();
        outcome = io_uring_submit_and_wait(&zerocopy->ring, fitting - done);
        fc_part_end(&fc_split_state.times.io, begin);
        if (outcome < 0 && outcome != -EINTR) {
            abandon(zerocopy, outcome, runs, fitting, results);
            break;
        }
        done += collect(zerocopy, runs, results);
    }
    unsigned sent = 0;
    while (sent < fitting && results[sent] >= 0) sent++;
    if (sent > 0) return (int)sent;
    return results[0] == unknown ? zerocopy->failure : results[0];
}

int fcio_zerocopy_failure(const struct fcio_zerocopy *zerocopy) {
    return zerocopy->failure;
}

int fcio_zerocopy_next(struct fcio_zerocopy *zerocopy, bool look, uint64_t *calls) {
    if (zerocopy->returned_count == 0 && zerocopy->held > 0) {
        if (look && io_uring_cq_ready(&zerocopy->ring) == 0) {
            ++*calls;
            io_uring_get_events(&zerocopy->ring);
        }
        collect(zerocopy, NULL, NULL);
    }
    if (zerocopy->returned_count == 0) return -1;
    return zerocopy->returned[--zerocopy->returned_count];
}

unsigned fcio_zerocopy_held(const struct fcio_zerocopy *zerocopy) {
    return zerocopy->held;
}

void fcio_zerocopy_usage(const struct fcio_zerocopy *zerocopy, uint64_t *done, uint64_t *copied) {
    *done = zerocopy->done;
    *copied = zerocopy->copied;
}

uint8_t *fcio_arena_create(size_t octets) {
    void *arena = mmap(NULL, octets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return arena == MAP_FAILED ? NULL : arena;
}

void fcio_arena_destroy(uint8_t *arena, size_t octets) {
    munmap(arena, octets);
}
