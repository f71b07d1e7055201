#define _GNU_SOURCE
#include "include/io.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "io_internal.h"
#include "meter_internal.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

// MARK: receive

/// Where recvmmsg puts its messages. One slot takes the largest coalesced message; untouched pages cost nothing.
struct fcio_slots {
    struct mmsghdr headers[fcio_batch_limit];
    struct iovec vectors[fcio_batch_limit];
    _Alignas(16) uint8_t names[fcio_batch_limit][fcio_name_room];
    _Alignas(16) uint8_t controls[fcio_batch_limit][fcio_control_room];
    uint8_t *arena;
};

static const size_t arena_size = (size_t)fcio_batch_limit * fcio_message_room;

static void slot_reset(struct fcio_slots *slots, unsigned index) {
    slots->headers[index].msg_hdr = (struct msghdr){
        .msg_name = slots->names[index],
        .msg_namelen = fcio_name_room,
        .msg_iov = &slots->vectors[index],
        .msg_iovlen = 1,
        .msg_control = slots->controls[index],
        .msg_controllen = fcio_control_room,
    };
}

static struct fcio_slots *slots_create(void) {
    struct fcio_slots *slots = aligned_alloc(64, (sizeof *slots + 63) / 64 * 64);
    if (!slots) return NULL;
    slots->arena = mmap(NULL, arena_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slots->arena == MAP_FAILED) {
        free(slots);
        return NULL;
    }
    for (unsigned index = 0; index < fcio_batch_limit; index++) {
        slots->vectors[index].iov_base = slots->arena + (size_t)index * fcio_message_room;
        slots->vectors[index].iov_len = fcio_message_room;
        slot_reset(slots, index);
    }
    return slots;
}

struct fcio_inbox *fcio_inbox_create(void) {
    struct fcio_inbox *inbox = calloc(1, sizeof *inbox);
    if (!inbox) return NULL;
    inbox->messages = calloc(fcio_batch_limit, sizeof *inbox->messages);
    inbox->datagrams = calloc((size_t)fcio_batch_limit * fcio_segment_limit, sizeof *inbox->datagrams);
    if (!inbox->messages || !inbox->datagrams) {
        fcio_inbox_destroy(inbox);
        return NULL;
    }
    return inbox;
}

void fcio_inbox_destroy(struct fcio_inbox *inbox) {
    if (inbox->slots) {
        munmap(inbox->slots->arena, arena_size);
        free(inbox->slots);
    }
    free(inbox->messages);
    free(inbox->datagrams);
    free(inbox);
}

void fcio_inbox_clear(struct fcio_inbox *inbox) {
    inbox->message_count = 0;
    inbox->datagram_count = 0;
    inbox->truncated = 0;
    inbox->octets = 0;
    inbox->has_drops = false;
    inbox->is_split = false;
}

bool fcio_inbox_is_full(const struct fcio_inbox *inbox) {
    return inbox->message_count == fcio_batch_limit;
}

/// Reads one integer control message; ECN comes as one octet (IPv4) or as an int (IPv6).
static int control_value(const struct cmsghdr *control) {
    int value = 0;
    size_t size = control->cmsg_len - CMSG_LEN(0);
    memcpy(&value, CMSG_DATA(control), size < sizeof value ? size : sizeof value);
    return value;
}

static uint32_t read_controls(
    struct fcio_inbox *inbox, struct fcio_message *message, struct msghdr *header, uint32_t count) {
    uint32_t segment = count;
    for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control)) {
        int level = control->cmsg_level, type = control->cmsg_type;
        if (level == IPPROTO_UDP && type == UDP_GRO) {
            segment = (uint32_t)control_value(control);
        } else if (level == IPPROTO_IP && type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(control), sizeof info);
            message->local.family = 4;
            message->local.low = ntohl(info.ipi_addr.s_addr);
            message->interface = (uint32_t)info.ipi_ifindex;
        } else if (level == IPPROTO_IPV6 && type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(control), sizeof info);
            message->local = fcio_decode_ipv6(&info.ipi6_addr);
            message->interface = info.ipi6_ifindex;
        } else if ((level == IPPROTO_IP && type == IP_TOS) || (level == IPPROTO_IPV6 && type == IPV6_TCLASS)) {
            message->ecn = (uint8_t)control_value(control) & 3;
        } else if (level == SOL_SOCKET && type == SO_RXQ_OVFL) {
            inbox->drops = (uint32_t)control_value(control);
            inbox->has_drops = true;
        }
    }
    return segment;
}

void fcio_inbox_add(
    struct fcio_inbox *inbox, struct msghdr *header, uint8_t *octets, uint32_t count, uint16_t buffer) {
    struct fcio_message *message = &inbox->messages[inbox->message_count++];
    *message = (struct fcio_message){.buffer = buffer};
    uint32_t segment = read_controls(inbox, message, header, count);
    bool cut = (header->msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 || header->msg_namelen == 0;
    if (cut || (count && (segment == 0 || (count - 1) / segment >= fcio_segment_limit))) {
        inbox->truncated++;
        return;
    }
    message->source = fcio_address_decode(header->msg_name);
    message->octets = octets;
    message->count = count;
    message->segment = segment;
    inbox->octets += count;
    inbox->datagram_count += count ? (count - 1) / segment + 1 : 1;
}

void fcio_inbox_split(struct fcio_inbox *inbox) {
    struct fcio_datagram *next = inbox->datagrams;
    inbox->is_split = true;
    for (uint32_t index = 0; index < inbox->message_count; index++) {
        struct fcio_message *message = &inbox->messages[index];
        if (!message->octets) continue;  // given up
        uint32_t offset = 0;
        do {  // once even for an empty datagram
            uint32_t left = message->count - offset, size = left < message->segment ? left : message->segment;
            *next++ = (struct fcio_datagram){.octets = message->octets + offset, .count = size, .message = index};
            offset += size;
        } while (offset < message->count);
    }
}

int fcio_receive(struct fcio_inbox *inbox, int fd, unsigned limit) {
    if (!inbox->slots && !(inbox->slots = slots_create())) return -ENOMEM;
    struct fcio_slots *slots = inbox->slots;
    if (limit > fcio_batch_limit) limit = fcio_batch_limit;
    int64_t begin = fc_part_begin();
    int count = recvmmsg(fd, slots->headers, limit, MSG_DONTWAIT, NULL);
    fc_part_end(&fc_split_state.times.io, begin);
    if (count < 0) return -errno;
    for (int index = 0; index < count; index++) {
        struct mmsghdr *header = &slots->headers[index];
        fcio_inbox_add(inbox, &header->msg_hdr, slots->vectors[index].iov_base, header->msg_len, 0);
        slot_reset(slots, (unsigned)index);
    }
    return count;
}

// MARK: send

enum { send_control_room = 96 };  // IPV6_PKTINFO, IPV6_TCLASS and UDP_SEGMENT together take 88

struct fcio_outbox {
    struct mmsghdr headers[fcio_batch_limit];
    struct iovec vectors[fcio_batch_limit];
    struct sockaddr_storage names[fcio_batch_limit];
    _Alignas(16) uint8_t controls[fcio_batch_limit][send_control_room];
};

struct fcio_outbox *fcio_outbox_create(void) {
    struct fcio_outbox *outbox = aligned_alloc(64, (sizeof *outbox + 63) / 64 * 64);
    if (outbox) memset(outbox, 0, sizeof *outbox);
    return outbox;
}

void fcio_outbox_destroy(struct fcio_outbox *outbox) {
    free(outbox);
}

static size_t put_control(uint8_t *room, size_t used, int level, int type, const void *value, size_t size) {
    struct cmsghdr *control = (struct cmsghdr *)(room + used);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(control), value, size);
    return used + CMSG_SPACE(size);
}

static void put_message(
    struct fcio_outbox *outbox, unsigned index, int family, const struct fcio_run *run, uint32_t offset, uint32_t size,
    bool segmented) {
    outbox->vectors[index] = (struct iovec){.iov_base = run->octets + offset, .iov_len = size};
    struct msghdr *header = &outbox->headers[index].msg_hdr;
    *header = (struct msghdr){.msg_iov = &outbox->vectors[index], .msg_iovlen = 1};
    header->msg_name = &outbox->names[index];
    header->msg_namelen = fcio_encode_address(&outbox->names[index], family, run->to);

    uint8_t *room = outbox->controls[index];
    size_t used = 0;
    bool ipv4 = run->to.family == 4;  // an IPv4 destination takes IPv4's control messages on a dual socket too
    if (run->from.family == 4 && ipv4) {
        struct in_pktinfo info = {.ipi_spec_dst.s_addr = htonl((uint32_t)run->from.low)};
        used = put_control(room, used, IPPROTO_IP, IP_PKTINFO, &info, sizeof info);
    } else if (run->from.family == 6 && !ipv4) {
        struct in6_pktinfo info = {.ipi6_addr = fcio_encode_ipv6(run->from), .ipi6_ifindex = run->from.scope};
        used = put_control(room, used, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof info);
    }
    if (run->ecn) {
        int mark = run->ecn;
        used = ipv4 ? put_control(room, used, IPPROTO_IP, IP_TOS, &mark, sizeof mark)
                    : put_control(room, used, IPPROTO_IPV6, IPV6_TCLASS, &mark, sizeof mark);
    }
    if (segmented) {
        used = put_control(room, used, IPPROTO_UDP, UDP_SEGMENT, &run->segment, sizeof run->segment);
    }
    header->msg_control = used ? room : NULL;
    header->msg_controllen = used;
}

unsigned fcio_outbox_fill(
    struct fcio_outbox *outbox, int family, const struct fcio_run *runs, unsigned count, unsigned skip) {
    unsigned filled = 0;
    for (unsigned index = 0; index < count && filled < fcio_batch_limit; index++, skip = 0) {
        const struct fcio_run *run = &runs[index];
        if (!run->plain || run->segments == 1) {
            put_message(outbox, filled++, family, run, 0, run->count, run->segments > 1);
            continue;
        }
        for (unsigned part = skip; part < run->segments && filled < fcio_batch_limit; part++) {
            uint32_t offset = part * run->segment;
            uint32_t left = run->count - offset;
            put_message(outbox, filled++, family, run, offset, left < run->segment ? left : run->segment, false);
        }
    }
    return filled;
}

int fcio_outbox_send(struct fcio_outbox *outbox, int fd, unsigned count) {
    int sent;
    int64_t begin = fc_part_begin();
    do {
        sent = sendmmsg(fd, outbox->headers, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    fc_part_end(&fc_split_state.times.io, begin);
    return sent < 0 ? -errno : sent;
}

struct msghdr *fcio_outbox_header(struct fcio_outbox *outbox, unsigned index) {
    return &outbox->headers[index].msg_hdr;
}
