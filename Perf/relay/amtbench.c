// What a relay is measured with: gateways that join and count, a source, a floor, a flood.
//
//     amtbench gateways RELAY SOURCE GROUP COUNT PORT     N endpoints on ports PORT…; counts until SIGTERM
//     amtbench send     GROUP PORT RATE SECONDS           multicast, 1200 octets, plain sendmmsg; RATE 0: all it can
//     amtbench segments GROUP PORT RATE SECONDS           the same as segmented sends of 50 packets
//     amtbench floor    HOST PORT COUNT SECONDS           plain sendmmsg of what a relay would send to COUNT endpoints
//     amtbench flood    RELAY RATE SECONDS MIX            Requests from forged addresses; MIX 1: also Discoveries and
//                                                         Updates with forged MACs
//
// Each prints one JSON object. IPv4 only. `flood` writes IP headers of its own and needs CAP_NET_RAW.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { batch = 64, payload = 1200, inner_header = 28, relay_port = 2268, gateway_limit = 256 };

static volatile sig_atomic_t is_over;
static void end(int signal) { (void)signal, is_over = 1; }

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

static struct sockaddr_in address(const char *host, int port) {
    struct sockaddr_in name = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &name.sin_addr) != 1) {
        fprintf(stderr, "%s is no IPv4 address\n", host);
        exit(64);
    }
    return name;
}

static void set(int fd, int level, int option, int value) {
    if (setsockopt(fd, level, option, &value, sizeof value) < 0) fail("setsockopt");
}

static int udp_socket(int buffer) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fail("socket");
    set(fd, SOL_SOCKET, SO_RCVBUFFORCE, buffer);
    set(fd, SOL_SOCKET, SO_SNDBUFFORCE, buffer);
    return fd;
}

static void report(const char *what, uint64_t sent, uint64_t refused, double wall, double cpu) {
    printf("{\"tool\":\"%s\",\"packets\":%llu,\"refused\":%llu,\"seconds\":%.3f,\"per_second\":%.0f,\"cpu_us\":%.3f}\n",
           what, (unsigned long long)sent, (unsigned long long)refused, wall, (double)sent / wall, cpu / (double)sent * 1e6);
    fflush(stdout);
}

/// How many packets are due; sleeps when none are.
static uint64_t due(double rate, double start, uint64_t sent, uint64_t most) {
    if (rate <= 0) return most;
    for (;;) {
        double ahead = (now(CLOCK_MONOTONIC) - start) * rate - (double)sent;
        if (ahead >= 1) return ahead < (double)most ? (uint64_t)ahead : most;
        struct timespec pause = {0, 50000};
        nanosleep(&pause, NULL);
    }
}

// MARK: gateways

static uint16_t checksum(const uint8_t *octets, size_t count) {
    uint32_t sum = 0;
    for (size_t index = 0; index + 1 < count; index += 2) sum += (uint32_t)octets[index] << 8 | octets[index + 1];
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)~sum;
}

static void put16(uint8_t *octets, uint16_t value) {
    octets[0] = (uint8_t)(value >> 8);
    octets[1] = (uint8_t)value;
}

/// Membership Update: IS_IN {source} of group, with the Query's MAC and nonce.
static size_t make_update(uint8_t *out, const uint8_t *query, struct in_addr source, struct in_addr group) {
    memset(out, 0, 12 + 24 + 20);
    out[0] = 5;
    memcpy(out + 2, query + 2, 10);
    uint8_t *ip = out + 12, *igmp = ip + 24;
    static const uint8_t header[24] = {0x46, 0xc0, 0, 44, 0, 0, 0x40, 0,  1,    2, 0, 0,
                                       0,    0,    0, 0,  224, 0, 0,   22, 0x94, 4};
    memcpy(ip, header, sizeof header);
    put16(ip + 10, checksum(ip, 24));
    igmp[0] = 0x22;
    igmp[7] = 1;
    igmp[8] = 1;
    igmp[11] = 1;
    memcpy(igmp + 12, &group, 4);
    memcpy(igmp + 16, &source, 4);
    put16(igmp + 2, checksum(igmp, 20));
    return 12 + 24 + 20;
}

struct gateway {
    uint64_t received, first, last, late;
};

static void count_packet(struct gateway *gateway, const uint8_t *message, size_t size) {
    uint64_t number;
    if (size < 2 + inner_header + sizeof number) return;
    memcpy(&number, message + 2 + inner_header, sizeof number);
    if (gateway->received == 0) gateway->first = number;
    if (gateway->received > 0 && number <= gateway->last) gateway->late++;
    if (gateway->received == 0 || number > gateway->last) gateway->last = number;
    gateway->received++;
}

static void drain(int fd, struct gateway *gateway, uint8_t *arena) {
    enum { slots = 8 };
    struct mmsghdr messages[slots];
    struct iovec pieces[slots];
    uint8_t controls[slots][64];
    for (;;) {
        memset(messages, 0, sizeof messages);
        for (int index = 0; index < slots; index++) {
            pieces[index] = (struct iovec){arena + index * 65536, 65536};
            messages[index].msg_hdr = (struct msghdr){
                .msg_iov = &pieces[index], .msg_iovlen = 1, .msg_control = controls[index], .msg_controllen = 64};
        }
        int count = recvmmsg(fd, messages, slots, MSG_DONTWAIT, NULL);
        if (count <= 0) return;
        for (int index = 0; index < count; index++) {
            size_t size = messages[index].msg_len, segment = size;
            struct msghdr *header = &messages[index].msg_hdr;
            for (struct cmsghdr *each = CMSG_FIRSTHDR(header); each; each = CMSG_NXTHDR(header, each)) {
                if (each->cmsg_level != IPPROTO_UDP || each->cmsg_type != UDP_GRO) continue;
                int value;
                memcpy(&value, CMSG_DATA(each), sizeof value);
                segment = (size_t)value;
            }
            for (size_t offset = 0; offset < size; offset += segment) {
                size_t left = size - offset;
                count_packet(gateway, arena + index * 65536 + offset, left < segment ? left : segment);
            }
        }
        if (count < slots) return;
    }
}

static int gateways(char **arguments) {
    struct sockaddr_in relay = address(arguments[0], relay_port);
    struct sockaddr_in source = address(arguments[1], 0), group = address(arguments[2], 0);
    int count = atoi(arguments[3]), port = atoi(arguments[4]);
    if (count < 1 || count > gateway_limit) return 64;
    static struct pollfd sockets[gateway_limit];
    static struct gateway states[gateway_limit];
    uint8_t *arena = malloc(8 * 65536);
    for (int index = 0; index < count; index++) {
        int fd = udp_socket(64 << 20);
        sockets[index] = (struct pollfd){.fd = fd, .events = POLLIN};
        struct sockaddr_in here = address("0.0.0.0", port + index);
        if (bind(fd, (struct sockaddr *)&here, sizeof here) < 0) fail("bind");
        bool is_joined = false;
        for (int attempt = 0; attempt < 20 && !is_joined; attempt++) {
            uint8_t request[8] = {3, 0, 0, 0, 0xaa, 0xbb, (uint8_t)index, (uint8_t)attempt}, query[256], update[64];
            sendto(fd, request, sizeof request, 0, (struct sockaddr *)&relay, sizeof relay);
            if (poll(&sockets[index], 1, 500) != 1) continue;
            if (recv(fd, query, sizeof query, 0) < 48 || query[0] != 4) continue;
            size_t size = make_update(update, query, source.sin_addr, group.sin_addr);
            sendto(fd, update, size, 0, (struct sockaddr *)&relay, sizeof relay);
            is_joined = true;
        }
        if (!is_joined) {
            fprintf(stderr, "gateway %d: no answer\n", index);
            return 1;
        }
        set(fd, IPPROTO_UDP, UDP_GRO, 1);
    }
    printf("{\"tool\":\"gateways\",\"joined\":%d}\n", count);
    fflush(stdout);
    double start = now(CLOCK_PROCESS_CPUTIME_ID);
    while (!is_over) {
        if (poll(sockets, (nfds_t)count, 100) <= 0) continue;
        for (int index = 0; index < count; index++)
            if (sockets[index].revents) drain(sockets[index].fd, &states[index], arena);
    }
    uint64_t total = 0, lost = 0, late = 0, least = UINT64_MAX;
    for (int index = 0; index < count; index++) {
        drain(sockets[index].fd, &states[index], arena);
        struct gateway *state = &states[index];
        total += state->received;
        late += state->late;
        if (state->received < least) least = state->received;
        if (state->received) lost += state->last - state->first + 1 - state->received;
    }
    printf("{\"tool\":\"gateways\",\"packets\":%llu,\"least\":%llu,\"gaps\":%lld,\"late\":%llu,\"cpu_us\":%.3f}\n",
           (unsigned long long)total, (unsigned long long)least, (long long)lost, (unsigned long long)late,
           (now(CLOCK_PROCESS_CPUTIME_ID) - start) / (double)(total ? total : 1) * 1e6);
    return 0;
}

// MARK: senders

/// A batch of messages, each of `size` octets; `number` is where the sequence number goes.
static struct mmsghdr messages[batch];
static struct iovec pieces[batch];
static struct sockaddr_in names[batch];

static int send_multicast(char **arguments, bool is_segmented) {
    struct sockaddr_in group = address(arguments[0], atoi(arguments[1]));
    double rate = atof(arguments[2]), seconds = atof(arguments[3]);
    int fd = udp_socket(8 << 20);
    set(fd, IPPROTO_IP, IP_MULTICAST_TTL, 8);
    set(fd, IPPROTO_IP, IP_MULTICAST_LOOP, 0);
    uint64_t per_message = is_segmented ? 50 : 1;
    if (is_segmented) set(fd, IPPROTO_UDP, UDP_SEGMENT, payload);
    uint64_t at_once = is_segmented ? 1 : batch;
    uint8_t *arena = calloc(batch, payload * per_message);
    for (uint64_t index = 0; index < batch; index++) {
        pieces[index] = (struct iovec){arena + index * payload * per_message, payload * per_message};
        messages[index].msg_hdr = (struct msghdr){
            .msg_name = &group, .msg_namelen = sizeof group, .msg_iov = &pieces[index], .msg_iovlen = 1};
    }
    double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t sent = 0, refused = 0;
    while (!is_over && now(CLOCK_MONOTONIC) - start < seconds) {
        uint64_t count = due(rate / (double)per_message, start, sent / per_message, at_once);
        for (uint64_t index = 0; index < count * per_message; index++) {
            uint64_t number = sent + index;
            memcpy(arena + index * payload, &number, sizeof number);
        }
        int done = sendmmsg(fd, messages, (unsigned)count, 0);
        if (done < 0) refused++;
        else sent += (uint64_t)done * per_message;
    }
    report(is_segmented ? "segments" : "send", sent, refused, now(CLOCK_MONOTONIC) - start,
           now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return 0;
}

static int send_floor(char **arguments) {
    int port = atoi(arguments[1]), count = atoi(arguments[2]);
    double seconds = atof(arguments[3]);
    int fd = udp_socket(8 << 20);
    enum { size = 2 + inner_header + payload };
    uint8_t *arena = calloc(batch, size);
    for (int index = 0; index < batch; index++) {
        names[index] = address(arguments[0], port + index % count);
        pieces[index] = (struct iovec){arena + index * size, size};
        messages[index].msg_hdr = (struct msghdr){
            .msg_name = &names[index], .msg_namelen = sizeof names[index], .msg_iov = &pieces[index], .msg_iovlen = 1};
    }
    double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t sent = 0, refused = 0;
    while (!is_over && now(CLOCK_MONOTONIC) - start < seconds) {
        int done = sendmmsg(fd, messages, batch, 0);
        if (done < 0) refused++;
        else sent += (uint64_t)done;
    }
    report("floor", sent, refused, now(CLOCK_MONOTONIC) - start, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return 0;
}

static uint64_t random_state = 0x9e3779b97f4a7c15;
static uint32_t random32(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state >> 16);
}

static int flood(char **arguments) {
    struct sockaddr_in relay = address(arguments[0], 0);
    double rate = atof(arguments[1]), seconds = atof(arguments[2]);
    bool is_mixed = atoi(arguments[3]) != 0;
    int fd = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
    if (fd < 0) fail("raw socket");
    set(fd, SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20);
    static uint8_t packets[batch][128];
    for (int index = 0; index < batch; index++) {
        pieces[index] = (struct iovec){packets[index], 0};
        messages[index].msg_hdr = (struct msghdr){
            .msg_name = &relay, .msg_namelen = sizeof relay, .msg_iov = &pieces[index], .msg_iovlen = 1};
    }
    double start = now(CLOCK_MONOTONIC), cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    uint64_t sent = 0, refused = 0;
    while (!is_over && now(CLOCK_MONOTONIC) - start < seconds) {
        uint64_t count = due(rate, start, sent, batch);
        for (uint64_t index = 0; index < count; index++) {
            uint8_t *packet = packets[index], *message = packet + 28;
            memset(packet, 0, sizeof packets[index]);
            size_t size = 8;
            int kind = is_mixed ? (int)(random32() % 4) : 0;
            message[0] = kind == 3 ? 1 : kind == 2 ? 5 : 3;
            uint32_t nonce = random32();
            memcpy(message + 4, &nonce, 4);
            if (kind == 2) {
                uint8_t forged[12];
                for (int octet = 0; octet < 12; octet++) forged[octet] = (uint8_t)random32();
                struct in_addr source = {.s_addr = random32()};
                struct in_addr group = {.s_addr = htonl(0xe8000000 | (random32() & 0xffff))};
                size = make_update(message, forged, source, group);
            }
            // 11.0.0.0/8, any port but 0. UDP without a checksum is good enough over IPv4.
            struct iphdr *ip = (struct iphdr *)packet;
            *ip = (struct iphdr){.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP,
                                 .saddr = htonl(11u << 24 | (random32() & 0xffffff)), .daddr = relay.sin_addr.s_addr};
            struct udphdr *udp = (struct udphdr *)(packet + 20);
            udp->source = htons((uint16_t)(1024 + random32() % 60000));
            udp->dest = htons(relay_port);
            udp->len = htons((uint16_t)(8 + size));
            pieces[index].iov_len = 28 + size;
        }
        int done = sendmmsg(fd, messages, (unsigned)count, 0);
        if (done < 0) refused++;
        else sent += (uint64_t)done;
    }
    report("flood", sent, refused, now(CLOCK_MONOTONIC) - start, now(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    return 0;
}

int main(int count, char **arguments) {
    // Whoever started this may have had signals blocked, and that is inherited.
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    struct sigaction action = {.sa_handler = end};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    const char *what = count > 1 ? arguments[1] : "";
    if (!strcmp(what, "gateways") && count == 7) return gateways(arguments + 2);
    if (!strcmp(what, "send") && count == 6) return send_multicast(arguments + 2, false);
    if (!strcmp(what, "segments") && count == 6) return send_multicast(arguments + 2, true);
    if (!strcmp(what, "floor") && count == 6) return send_floor(arguments + 2);
    if (!strcmp(what, "flood") && count == 6) return flood(arguments + 2);
    fprintf(stderr, "usage: amtbench gateways|send|segments|floor|flood …, see the head of amtbench.c\n");
    return 64;
}
