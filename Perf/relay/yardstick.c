// The yardstick of forwarding: what a relay does to a packet, straight in C and nothing else. A packet socket takes what
// came for a joined group, as the relay's does; a hop is taken, two octets before the IP header make it a Multicast Data
// message; each endpoint gets runs of 53 as one segmented send, gathered from where they were captured. One group, one
// source, nobody joins or leaves, nothing is fragmented, limited or told.
//
//     relay-yardstick PACKETS ENDPOINTS
//
// prints packets sent to endpoints and nanoseconds of CPU for each as JSON. The source and the endpoints are in the same
// thread, on lo, and not counted; as with `flexicast perf relay`, what lo does to deliver is counted as sending. IPv4 only.
// Takes CAP_NET_RAW.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum {
    payload = 1200, packet_size = 28 + payload, message_size = 2 + packet_size,
    batch = 64, burst = 104, run = 53, port = 5994, endpoint_limit = 1000, room = 2048,
};

static void must(int ok, const char *what) {
    if (ok) return;
    perror(what);
    exit(1);
}

static void set(int fd, int level, int option, int value) {
    must(setsockopt(fd, level, option, &value, sizeof value) == 0, "setsockopt");
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

static struct sockaddr_in group = {.sin_family = AF_INET};
static struct sockaddr_in endpoints[endpoint_limit];
static int ears[endpoint_limit];

// MARK: what is not counted

static int make_source(void) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ip_mreqn out = {.imr_ifindex = (int)if_nametoindex("lo")};
    must(fd >= 0, "socket");
    set(fd, SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20);
    set(fd, IPPROTO_IP, IP_MULTICAST_TTL, 2);
    set(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
    must(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof out) == 0, "IP_MULTICAST_IF");
    return fd;
}

/// A relay gets packets off a wire, one by one.
static void send_burst(int fd) {
    static uint8_t octets[payload];
    static struct iovec piece = {octets, payload};
    struct mmsghdr messages[burst] = {0};
    for (int i = 0; i < burst; i++) {
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &group, .msg_namelen = sizeof group, .msg_iov = &piece, .msg_iovlen = 1};
    }
    for (int sent = 0; sent < burst;) {
        int done = sendmmsg(fd, messages + sent, (unsigned)(burst - sent), 0);
        must(done > 0, "sendmmsg");
        sent += done;
    }
}

static void make_endpoint(int index) {
    socklen_t size = sizeof endpoints[index];
    ears[index] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(ears[index] >= 0, "socket");
    set(ears[index], SOL_SOCKET, SO_RCVBUFFORCE, 8 << 20);
    set(ears[index], IPPROTO_UDP, UDP_GRO, 1);
    endpoints[index] = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    must(bind(ears[index], (struct sockaddr *)&endpoints[index], size) == 0, "bind");
    must(getsockname(ears[index], (struct sockaddr *)&endpoints[index], &size) == 0, "getsockname");
}

/// How many octets have come to an endpoint.
static uint64_t hear(int fd) {
    static uint8_t arena[8][1 << 16];
    struct mmsghdr messages[8] = {0};
    struct iovec pieces[8];
    uint64_t octets = 0;
    for (;;) {
        for (int i = 0; i < 8; i++) {
            pieces[i] = (struct iovec){arena[i], sizeof arena[i]};
            messages[i].msg_hdr = (struct msghdr){.msg_iov = &pieces[i], .msg_iovlen = 1};
        }
        int count = recvmmsg(fd, messages, 8, MSG_DONTWAIT, NULL);
        for (int i = 0; i < count; i++) octets += messages[i].msg_len;
        if (count < 8) return octets;
    }
}

// MARK: what is

struct captured {
    struct mmsghdr messages[batch];
    struct iovec pieces[batch][2];
    struct virtio_net_hdr offloads[batch];
    _Alignas(struct cmsghdr) uint8_t controls[batch][CMSG_SPACE(sizeof(struct tpacket_auxdata))];
    uint8_t octets[batch][room];
};

static int make_capture(struct captured *captured) {
    // IPv4 multicast that leaves its link; what lo sends comes in by it too, and counts once.
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_AD_OFF + SKF_AD_PKTTYPE)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, PACKET_OUTGOING, 7, 0),
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, (uint32_t)SKF_NET_OFF),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xf0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0x40, 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(SKF_NET_OFF + 16)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0xe0000100, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0xf0000000, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, 0xffffffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {.len = sizeof code / sizeof *code, .filter = code};
    struct sockaddr_ll name = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex("lo")};
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
    must(fd >= 0, "packet socket");
    set(fd, SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20);
    must(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0, "SO_ATTACH_FILTER");
    set(fd, SOL_PACKET, PACKET_AUXDATA, 1);
    set(fd, SOL_PACKET, PACKET_VNET_HDR, 1);
    must(bind(fd, (struct sockaddr *)&name, sizeof name) == 0, "bind");
    for (int i = 0; i < batch; i++) {
        captured->pieces[i][0] = (struct iovec){&captured->offloads[i], sizeof captured->offloads[i]};
        captured->pieces[i][1] = (struct iovec){captured->octets[i], room};
    }
    return fd;
}

static void fill_checksum(uint8_t *octets, size_t count, size_t start, size_t offset) {
    uint64_t sum = 0;
    size_t index = start;
    uint32_t rest = 0;
    for (; index + 3 < count; index += 4) {
        uint32_t word;
        memcpy(&word, octets + index, 4);
        sum += word;
    }
    memcpy(&rest, octets + index, count - index);
    sum += rest;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    uint16_t checksum = (uint16_t)~sum;
    if (!checksum) checksum = 0xffff;
    memcpy(octets + start + offset, &checksum, 2);
}

/// Takes what is there, as messages that are ready to be sent: how many. `more` is whether more may wait.
static int capture(struct captured *captured, int fd, struct iovec *out, int *more) {
    int count = 0;
    for (int i = 0; i < batch; i++) {
        captured->messages[i].msg_hdr = (struct msghdr){
            .msg_iov = captured->pieces[i], .msg_iovlen = 2, .msg_control = captured->controls[i],
            .msg_controllen = sizeof captured->controls[i]};
    }
    int received = recvmmsg(fd, captured->messages, batch, MSG_DONTWAIT, NULL);
    *more = received == batch;
    for (int i = 0; i < received; i++) {
        struct cmsghdr *control = CMSG_FIRSTHDR(&captured->messages[i].msg_hdr);
        if (!control || control->cmsg_level != SOL_PACKET || control->cmsg_type != PACKET_AUXDATA) continue;
        struct tpacket_auxdata data;
        memcpy(&data, CMSG_DATA(control), sizeof data);
        struct virtio_net_hdr *offload = &captured->offloads[i];
        uint8_t *frame = captured->octets[i], *packet = frame + data.tp_net;
        size_t octets = captured->messages[i].msg_len - sizeof *offload, end = (size_t)data.tp_net + packet_size;
        if (end > octets || offload->gso_type != VIRTIO_NET_HDR_GSO_NONE) continue;
        if (offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
            fill_checksum(frame, octets, offload->csum_start, offload->csum_offset);
        struct iphdr header;
        memcpy(&header, packet, sizeof header);
        if (header.daddr != group.sin_addr.s_addr || ntohs(header.tot_len) != packet_size || header.ttl <= 1) continue;
        // A hop less; the checksum follows (RFC 1624).
        uint32_t sum = (uint32_t)ntohs(header.check) + 0x100;
        header.check = htons((uint16_t)(sum + (sum >> 16)));
        header.ttl--;
        memcpy(packet, &header, sizeof header);
        packet[-2] = 6;
        packet[-1] = 0;
        out[count++] = (struct iovec){packet - 2, message_size};
    }
    return count;
}

static void forward(int fd, struct iovec *pieces, int count, int endpoint_count) {
    struct mmsghdr messages[batch];
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    uint16_t segment = message_size;
    struct cmsghdr *item = (struct cmsghdr *)control;
    *item = (struct cmsghdr){.cmsg_level = IPPROTO_UDP, .cmsg_type = UDP_SEGMENT, .cmsg_len = CMSG_LEN(sizeof segment)};
    memcpy(CMSG_DATA(item), &segment, sizeof segment);
    int filled = 0;
    for (int index = 0; index < endpoint_count; index++) {
        for (int first = 0; first < count; first += run) {
            int length = count - first < run ? count - first : run;
            messages[filled++].msg_hdr = (struct msghdr){
                .msg_name = &endpoints[index], .msg_namelen = sizeof endpoints[index], .msg_iov = pieces + first,
                .msg_iovlen = (size_t)length, .msg_control = control, .msg_controllen = sizeof control};
            if (filled < batch) continue;
            must(sendmmsg(fd, messages, batch, MSG_NOSIGNAL) == batch, "sendmmsg");
            filled = 0;
        }
    }
    if (filled) must(sendmmsg(fd, messages, (unsigned)filled, MSG_NOSIGNAL) == filled, "sendmmsg");
}

int main(int count, char **arguments) {
    uint64_t packets = count == 3 ? strtoull(arguments[1], NULL, 10) : 0;
    int endpoint_count = count == 3 ? atoi(arguments[2]) : 0;
    if (packets == 0 || endpoint_count < 1 || endpoint_count > endpoint_limit) {
        fprintf(stderr, "usage: %s PACKETS ENDPOINTS (1 to %d)\n", arguments[0], endpoint_limit);
        return 64;
    }
    group.sin_port = htons(port);
    inet_pton(AF_INET, "239.10.0.1", &group.sin_addr);
    struct captured *captured = calloc(1, sizeof *captured);
    must(captured != NULL, "memory");
    int source = make_source(), packet_socket = make_capture(captured), out = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(out >= 0, "socket");
    set(out, SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20);
    for (int index = 0; index < endpoint_count; index++) make_endpoint(index);

    double time = 0;
    uint64_t sent = 0, received = 0;
    for (uint64_t offered = 0; offered < packets; offered += burst) {
        send_burst(source);
        double start = now();
        int more = 1;
        while (more) {
            struct iovec pieces[batch];
            int ready = capture(captured, packet_socket, pieces, &more);
            forward(out, pieces, ready, endpoint_count);
            sent += (uint64_t)ready * (uint64_t)endpoint_count;
        }
        time += now() - start;
        for (int index = 0; index < endpoint_count; index++) received += hear(ears[index]);
    }
    printf("{\"packets\":%llu,\"received\":%llu,\"cpu_ns_per_packet\":%.1f}\n", (unsigned long long)sent,
        (unsigned long long)(received / message_size), time / (double)(sent ? sent : 1));
    return sent ? 0 : 1;
}
