#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "include/io.h"
#include "io_internal.h"
#include "meter_internal.h"

// The kernel has had it since 6.2; Debian 12's headers have not.
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif

enum {
    packet_room = 65536 + 256,  // the largest IP packet, its link header, and the next slot on other cache lines
    control_room = CMSG_SPACE(sizeof(struct tpacket_auxdata)),
};

struct fcio_capture {
    uint32_t count;
    uint32_t unusable;
    uint32_t used;  // messages that the last call filled in
    struct fcio_packet packets[fcio_batch_limit];
    struct mmsghdr messages[fcio_batch_limit];
    struct iovec pieces[fcio_batch_limit][2];
    struct virtio_net_hdr headers[fcio_batch_limit];
    _Alignas(struct cmsghdr) uint8_t control[fcio_batch_limit][control_room];
    uint8_t *arena;
};

// Multicast that leaves its link, and nothing else, wakes the process: 224/4 without 224.0.0/24, ff00::/8 without
// scopes 0 to 2.
static struct sock_filter multicast_filter[] = {
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 15, 0),  // changed to "go on" where outgoing counts
    BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x40, 0, 5),
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_NET_OFF + 16)),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0xe0000100, 0, 10),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0xf0000000, 9, 0),
    BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
    BPF_STMT(BPF_RET | BPF_K, 0),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x60, 0, 6),
    BPF_STMT(BPF_LD | BPF_H | BPF_ABS, (uint32_t)(SKF_NET_OFF + 24)),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0xff00, 0, 4),
    BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0x000f),
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 3, 0, 2),
    BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
    BPF_STMT(BPF_RET | BPF_K, 0),
    BPF_STMT(BPF_RET | BPF_K, 0),
};

int fcio_packet_socket(unsigned interface, bool outgoing, unsigned receive_buffer) {
    // Protocol 0 first: nothing arrives before filter and interface are set.
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    struct sock_filter code[sizeof multicast_filter / sizeof *multicast_filter];
    memcpy(code, multicast_filter, sizeof code);
    if (outgoing) code[1].jt = 0;
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    int on = 1;
    int size = (int)receive_buffer;
    struct sockaddr_ll name = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)interface};
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size) < 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
    if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) < 0
        || setsockopt(fd, SOL_PACKET, PACKET_AUXDATA, &on, sizeof on) < 0
        || setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &on, sizeof on) < 0
        || bind(fd, (struct sockaddr *)&name, sizeof name) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int fcio_packet_statistics(int fd, uint32_t *seen, uint32_t *dropped) {
    struct tpacket_stats statistics;
    socklen_t size = sizeof statistics;
    if (getsockopt(fd, SOL_PACKET, PACKET_STATISTICS, &statistics, &size) < 0) return -errno;
    *seen = statistics.tp_packets;
    *dropped = statistics.tp_drops;
    return 0;
}

struct fcio_capture *fcio_capture_create(void) {
    struct fcio_capture *capture = calloc(1, sizeof *capture);
    if (!capture) return NULL;
    capture->arena = malloc((size_t)fcio_batch_limit * packet_room);
    if (!capture->arena) {
        free(capture);
        return NULL;
    }
    for (unsigned index = 0; index < fcio_batch_limit; index++) {
        capture->pieces[index][0] = (struct iovec){&capture->headers[index], sizeof capture->headers[index]};
        // Link headers of 14 octets are usual: the IP header then lies aligned.
        capture->pieces[index][1] =
            (struct iovec){capture->arena + (size_t)index * packet_room + fcio_packet_headroom,
                           packet_room - fcio_packet_headroom};
        capture->messages[index].msg_hdr = (struct msghdr){
            .msg_iov = capture->pieces[index], .msg_iovlen = 2, .msg_control = capture->control[index],
            .msg_controllen = control_room};
    }
    return capture;
}

void fcio_capture_destroy(struct fcio_capture *capture) {
    if (!capture) return;
    free(capture->arena);
    free(capture);
}

static void fill_checksum(uint8_t *octets, uint32_t count, uint32_t start, uint32_t offset) {
    if (start > count || offset + 2 > count - start) return;
    // A sum of words of any width folds to that of the halves (RFC 1071 section 2).
    unsigned __int128 wide = 0;
    uint32_t index = start;
    for (uint32_t words = (count - start) / 8; words > 0; words--, index += 8) {
        uint64_t word;
        memcpy(&word, octets + index, 8);
        wide += word;
    }
    uint64_t rest = 0;
    memcpy(&rest, octets + index, count - index);
    wide += rest;
    uint64_t sum = (uint64_t)(wide & 0xffffffff) + (uint32_t)(wide >> 32) + (uint64_t)(wide >> 64);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    uint16_t checksum = (uint16_t)~sum;
    if (checksum == 0) checksum = 0xffff;
    memcpy(octets + start + offset, &checksum, 2);
}

/// Where the IP header begins, or -1 without auxiliary data.
static int network_offset(struct msghdr *header) {
    for (struct cmsghdr *item = CMSG_FIRSTHDR(header); item; item = CMSG_NXTHDR(header, item)) {
        if (item->cmsg_level != SOL_PACKET || item->cmsg_type != PACKET_AUXDATA) continue;
        struct tpacket_auxdata data;
        memcpy(&data, CMSG_DATA(item), sizeof data);
        return data.tp_net;
    }
    return -1;
}

int fcio_capture_receive(struct fcio_capture *capture, int fd) {
    capture->count = 0;
    capture->unusable = 0;
    for (unsigned index = 0; index < capture->used; index++) {
        capture->messages[index].msg_hdr.msg_controllen = control_room;
        capture->messages[index].msg_hdr.msg_flags = 0;
    }
    capture->used = 0;
    int64_t begin = fc_part_begin();
    int received = recvmmsg(fd, capture->messages, fcio_batch_limit, MSG_DONTWAIT, NULL);
    fc_part_end(&fc_split_state.times.io, begin);
    if (received < 0) return -errno;
    capture->used = (uint32_t)received;
    for (int index = 0; index < received; index++) {
        struct msghdr *header = &capture->messages[index].msg_hdr;
        struct virtio_net_hdr *offload = &capture->headers[index];
        uint32_t length = capture->messages[index].msg_len;
        int network = network_offset(header);
        if (length < sizeof *offload || network < 0 || header->msg_flags & (MSG_TRUNC | MSG_CTRUNC)
            || (uint32_t)network >= length - sizeof *offload) {
            capture->unusable++;
            continue;
        }
        uint8_t *frame = capture->pieces[index][1].iov_base;
        uint32_t octets = length - (uint32_t)sizeof *offload;
        struct fcio_packet packet = {.octets = frame + network, .count = octets - (uint32_t)network};
        switch (offload->gso_type & ~VIRTIO_NET_HDR_GSO_ECN) {
        case VIRTIO_NET_HDR_GSO_NONE:
            if (offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
                fill_checksum(frame, octets, offload->csum_start, offload->csum_offset);
            break;
        case VIRTIO_NET_HDR_GSO_UDP_L4: packet.segment = offload->gso_size; break;
        default: capture->unusable++; continue;
        }
        capture->packets[capture->count++] = packet;
    }
    return received;
}

uint32_t fcio_capture_count(const struct fcio_capture *capture) {
    return capture->count;
}

struct fcio_packet fcio_capture_packet(const struct fcio_capture *capture, uint32_t index) {
    return capture->packets[index];
}

uint32_t fcio_capture_unusable(const struct fcio_capture *capture) {
    return capture->unusable;
}

int fcio_icmp_socket(int family) {
    int fd = socket(family == 4 ? AF_INET : AF_INET6, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC,
        family == 4 ? IPPROTO_ICMP : (int)IPPROTO_ICMPV6);
    if (fd < 0) return -errno;
    int outcome;
    if (family == 4) {
        // ICMP_FILTER of linux/icmp.h, which does not go with net/if.h: a set bit blocks a type; 3 is "unreachable".
        uint32_t filter = ~(1u << 3);
        outcome = setsockopt(fd, SOL_RAW, 1, &filter, sizeof filter);
    } else {
        struct icmp6_filter filter;
        ICMP6_FILTER_SETBLOCKALL(&filter);
        ICMP6_FILTER_SETPASS(ICMP6_DST_UNREACH, &filter);
        ICMP6_FILTER_SETPASS(ICMP6_PACKET_TOO_BIG, &filter);
        outcome = setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof filter);
    }
    if (outcome < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

int fcio_icmp_send(int fd, const uint8_t *octets, size_t count, struct fcio_address to) {
    struct sockaddr_storage name;
    to.port = 0;
    socklen_t size = fcio_encode_address(&name, to.family, to);
    ssize_t sent = sendto(fd, octets, count, MSG_DONTWAIT, (struct sockaddr *)&name, size);
    return sent < 0 ? -errno : 0;
}

int fcio_tun(const char *name) {
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return -errno;
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool is_up = control >= 0 && ioctl(fd, TUNSETIFF, &request) == 0 && ioctl(control, SIOCGIFFLAGS, &request) == 0;
    if (is_up) {
        request.ifr_flags |= IFF_UP | IFF_MULTICAST;
        is_up = ioctl(control, SIOCSIFFLAGS, &request) == 0;
    }
    int error = errno;
    if (control >= 0) close(control);
    if (is_up) return fd;
    close(fd);
    return -error;
}

int fcio_write_packet(int fd, const uint8_t *octets, size_t count) {
    ssize_t written = write(fd, octets, count);
    return written < 0 ? -errno : (int)written;
}

int fcio_link_socket(void) {
    // Protocol 0: it receives nothing.
    int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

int fcio_link_send(int fd, unsigned interface, const uint8_t *octets, size_t count) {
    bool ipv4 = count >= 20 && octets[0] >> 4 == 4;
    if (!ipv4 && (count < 40 || octets[0] >> 4 != 6)) return -EINVAL;
    struct sockaddr_ll to = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ipv4 ? ETH_P_IP : ETH_P_IPV6), .sll_ifindex = (int)interface,
        .sll_halen = 6};
    if (ipv4) {  // RFC 1112 section 6.4: the low 23 bits of the group
        memcpy(to.sll_addr, "\x01\x00\x5e", 3);
        memcpy(to.sll_addr + 3, octets + 17, 3);
        to.sll_addr[3] &= 0x7f;
    } else {  // RFC 2464 section 7: the low 32 bits
        memcpy(to.sll_addr, "\x33\x33", 2);
        memcpy(to.sll_addr + 2, octets + 36, 4);
    }
    ssize_t sent = sendto(fd, octets, count, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to);
    return sent < 0 ? -errno : 0;
}
