#define _GNU_SOURCE
#include "include/io_ring.h"

#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "io_internal.h"
#include "meter_internal.h"

enum {
    wait_entries = 256,
    wait_completions = 4096,
    buffer_count = fcio_batch_limit,  // a power of two; a batch never needs more
    // In front of the payload io_uring puts its own header, the sender's name and the control data.
    payload_offset = sizeof(struct io_uring_recvmsg_out) + fcio_name_room + fcio_control_room,
    buffer_size = fcio_message_room + 256,
    buffer_group = 1,
};

_Static_assert(payload_offset <= 256, "a buffer holds the largest message behind its headers");

struct fcio_ring {
    struct io_uring waiting;
    struct io_uring sending;
    struct io_uring_buf_ring *buffers;
    uint8_t *arena;
    struct msghdr layout;  // how multishot receives lay out name and control data
    bool has_waiting, has_sending;
};

static const size_t buffers_size = buffer_count * sizeof(struct io_uring_buf);
static const size_t ring_arena_size = (size_t)buffer_count * buffer_size;

static int queue_init(struct io_uring *ring, unsigned entries, unsigned completions) {
    struct io_uring_params parameters = {0};
    parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG |
                       IORING_SETUP_CQSIZE;
    parameters.cq_entries = completions;
    return io_uring_queue_init_params(entries, ring, &parameters);
}

/// Linux 6.1 brought the last operation of this list; multishot receives came before it.
static bool has_operations(struct io_uring *ring) {
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool has = probe && io_uring_opcode_supported(probe, IORING_OP_RECVMSG) &&
               io_uring_opcode_supported(probe, IORING_OP_POLL_ADD) &&
               io_uring_opcode_supported(probe, IORING_OP_SENDMSG_ZC);
    if (probe) io_uring_free_probe(probe);
    return has && (ring->features & IORING_FEAT_EXT_ARG) && (ring->features & IORING_FEAT_SUBMIT_STABLE);
}

static void add_buffer(struct fcio_ring *ring, uint16_t buffer, int position) {
    io_uring_buf_ring_add(
        ring->buffers, ring->arena + (size_t)buffer * buffer_size, buffer_size, buffer,
        io_uring_buf_ring_mask(buffer_count), position);
}

static int set_up(struct fcio_ring *ring, const char **stage) {
    *stage = "io_uring_setup";
    int outcome = queue_init(&ring->waiting, wait_entries, wait_completions);
    if (outcome < 0) return outcome;
    ring->has_waiting = true;
    outcome = queue_init(&ring->sending, fcio_batch_limit, 2 * fcio_batch_limit);
    if (outcome < 0) return outcome;
    ring->has_sending = true;
    *stage = "io_uring operations";
    if (!has_operations(&ring->waiting)) return -EOPNOTSUPP;

    *stage = "io_uring buffers";
    int protection = PROT_READ | PROT_WRITE;
    ring->buffers = mmap(NULL, buffers_size, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ring->arena = mmap(NULL, ring_arena_size, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ring->buffers == MAP_FAILED || ring->arena == MAP_FAILED) return -ENOMEM;
    // liburing 2.3 has no helper that does this.
    struct io_uring_buf_reg registration = {
        .ring_addr = (uint64_t)(uintptr_t)ring->buffers, .ring_entries = buffer_count, .bgid = buffer_group};
    outcome = io_uring_register_buf_ring(&ring->waiting, &registration, 0);
    if (outcome < 0) return outcome;
    io_uring_buf_ring_init(ring->buffers);
    for (uint16_t buffer = 0; buffer < buffer_count; buffer++) add_buffer(ring, buffer, buffer);
    io_uring_buf_ring_advance(ring->buffers, buffer_count);
    ring->layout.msg_namelen = fcio_name_room;
    ring->layout.msg_controllen = fcio_control_room;
    return 0;
}

int fcio_ring_create(struct fcio_ring **out, const char **stage) {
    *stage = "memory";
    struct fcio_ring *ring = calloc(1, sizeof *ring);
    if (!ring) return -ENOMEM;
    ring->buffers = MAP_FAILED;
    ring->arena = MAP_FAILED;
    int outcome = set_up(ring, stage);
    if (outcome < 0) {
        fcio_ring_destroy(ring);
        return outcome;
    }
    *out = ring;
    return 0;
}

void fcio_ring_destroy(struct fcio_ring *ring) {
    if (ring->has_waiting) io_uring_queue_exit(&ring->waiting);
    if (ring->has_sending) io_uring_queue_exit(&ring->sending);
    if (ring->buffers != MAP_FAILED) munmap(ring->buffers, buffers_size);
    if (ring->arena != MAP_FAILED) munmap(ring->arena, ring_arena_size);
    free(ring);
}

/// A free submission entry, making room if need be.
static struct io_uring_sqe *entry(struct fcio_ring *ring) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->waiting);
    if (!sqe) {
        io_uring_submit(&ring->waiting);
        sqe = io_uring_get_sqe(&ring->waiting);
    }
    return sqe;
}

int fcio_ring_receive(struct fcio_ring *ring, int fd, uint64_t token) {
    struct io_uring_sqe *sqe = entry(ring);
    if (!sqe) return -EBUSY;
    io_uring_prep_recvmsg_multishot(sqe, fd, &ring->layout, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = buffer_group;
    io_uring_sqe_set_data64(sqe, token);
    return 0;
}

int fcio_ring_poll(struct fcio_ring *ring, int fd, uint32_t interest, uint64_t token) {
    struct io_uring_sqe *sqe = entry(ring);
    if (!sqe) return -EBUSY;
    unsigned mask = (interest & fcio_readable ? POLLIN : 0) | (interest & fcio_writable ? POLLOUT : 0);
    io_uring_prep_poll_add(sqe, fd, mask);
    io_uring_sqe_set_data64(sqe, token);
    return 0;
}

void fcio_ring_cancel(struct fcio_ring *ring, int fd) {
    // Requests not yet submitted must be, or they would outlive this.
    io_uring_submit(&ring->waiting);
    struct io_uring_sync_cancel_reg request = {
        .fd = fd, .flags = IORING_ASYNC_CANCEL_FD | IORING_ASYNC_CANCEL_ALL, .timeout = {-1, -1}};
    io_uring_register_sync_cancel(&ring->waiting, &request);
    // The cancelled requests hold the file until their deferred completion has run.
    io_uring_get_events(&ring->waiting);
}

static int wait_for(struct fcio_ring *ring, int64_t nanoseconds) {
    if (nanoseconds == 0) return io_uring_submit_and_get_events(&ring->waiting);
    struct __kernel_timespec time = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    struct io_uring_cqe *first;
    if (nanoseconds < 0) return io_uring_submit_and_wait(&ring->waiting, 1);
    return io_uring_submit_and_wait_timeout(&ring->waiting, &first, 1, &time, NULL);
}

int fcio_ring_wait(struct fcio_ring *ring, int64_t nanoseconds) {
    int64_t begin = fc_part_begin();
    int outcome = wait_for(ring, nanoseconds);
    fc_part_end(&fc_split_state.times.io, begin);
    return outcome;
}

bool fcio_ring_has_more(const struct fcio_ring *ring) {
    return IO_URING_READ_ONCE(*ring->waiting.sq.kflags) & IORING_SQ_TASKRUN;
}

bool fcio_ring_next(struct fcio_ring *ring, struct fcio_completion *out) {
    unsigned head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&ring->waiting, head, cqe) {
        out->token = cqe->user_data;
        out->result = cqe->res;
        out->more = cqe->flags & IORING_CQE_F_MORE;
        out->has_buffer = cqe->flags & IORING_CQE_F_BUFFER;
        out->buffer = (uint16_t)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
        io_uring_cq_advance(&ring->waiting, 1);
        return true;
    }
    return false;
}

void fcio_ring_take(struct fcio_ring *ring, const struct fcio_completion *completion, struct fcio_inbox *inbox) {
    uint8_t *start = ring->arena + (size_t)completion->buffer * buffer_size;
    struct io_uring_recvmsg_out *out = io_uring_recvmsg_validate(start, completion->result, &ring->layout);
    struct msghdr header = {.msg_flags = MSG_TRUNC};
    uint32_t count = 0;
    if (out) {
        header = (struct msghdr){
            .msg_name = io_uring_recvmsg_name(out),
            .msg_namelen = out->namelen,
            .msg_control = start + sizeof *out + fcio_name_room,
            .msg_controllen = out->controllen < fcio_control_room ? out->controllen : fcio_control_room,
            .msg_flags = (int)out->flags,
        };
        count = io_uring_recvmsg_payload_length(out, completion->result, &ring->layout);
    }
    fcio_inbox_add(inbox, &header, start + payload_offset, count, completion->buffer);
}

void fcio_ring_discard(struct fcio_ring *ring, const struct fcio_completion *completion) {
    if (!completion->has_buffer) return;
    add_buffer(ring, completion->buffer, 0);
    io_uring_buf_ring_advance(ring->buffers, 1);
}

void fcio_ring_release(struct fcio_ring *ring, struct fcio_inbox *inbox) {
    for (uint32_t index = 0; index < inbox->message_count; index++) {
        add_buffer(ring, inbox->messages[index].buffer, (int)index);
    }
    io_uring_buf_ring_advance(ring->buffers, (int)inbox->message_count);
    fcio_inbox_clear(inbox);
}

int fcio_ring_send(struct fcio_ring *ring, struct fcio_outbox *outbox, int fd, unsigned count) {
    if (count > fcio_batch_limit) count = fcio_batch_limit;
    // Linked, so that a refused message holds up those behind it: order is kept, and what was sent is a prefix.
    // MSG_DONTWAIT makes a full send buffer an answer instead of a wait inside the ring.
    for (unsigned index = 0; index < count; index++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->sending);
        io_uring_prep_sendmsg(sqe, fd, fcio_outbox_header(outbox, index), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (index + 1 < count) sqe->flags |= IOSQE_IO_LINK;
        io_uring_sqe_set_data64(sqe, index);
    }
    int results[fcio_batch_limit];
    unsigned done = 0;
    while (done < count) {
        int64_t begin = fc_part_begin();
        int outcome = io_uring_submit_and_wait(&ring->sending, count - done);
        fc_part_end(&fc_split_state.times.io, begin);
        if (outcome < 0 && outcome != -EINTR) return outcome;
        unsigned head, seen = 0;
        struct io_uring_cqe *cqe;
        io_uring_for_each_cqe(&ring->sending, head, cqe) {
            results[cqe->user_data] = cqe->res;
            seen++;
        }
        io_uring_cq_advance(&ring->sending, seen);
        done += seen;
    }
    unsigned sent = 0;
    while (sent < count && results[sent] >= 0) sent++;
    return sent > 0 ? (int)sent : results[0];
}

uint32_t fcio_ring_overflow(const struct fcio_ring *ring) {
    return *ring->waiting.cq.koverflow;
}
