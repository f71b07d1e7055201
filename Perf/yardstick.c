// The yardstick: what a source does to a packet of the flow, straight in C and nothing else. A header, one STREAM
// frame, AES-128-GCM in place, header masks for a whole run at once, 52 packets to a segmented send, four of them to a
// system call. No packet is remembered, nobody acknowledges, nothing is repaired: it is what a source cannot be
// cheaper than with the same library and the same socket.
//
//     yardstick PACKETS [INTERFACE [GROUP PORT]]      prints packets and nanoseconds of CPU per packet as JSON

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { packet_size = 1200, tag = 16, run = 52, runs = 4, header = 13, item_size = 1 << 20 };

static void must(int ok, const char *what) {
    if (ok) return;
    perror(what);
    exit(1);
}

struct keys {
    EVP_CIPHER_CTX *aead, *mask;
    uint8_t iv[12];
};

static struct keys make_keys(void) {
    static const uint8_t key[16] = {1}, mask[16] = {2};
    struct keys keys = {.aead = EVP_CIPHER_CTX_new(), .mask = EVP_CIPHER_CTX_new(), .iv = {3}};
    must(EVP_CipherInit_ex(keys.aead, EVP_aes_128_gcm(), NULL, key, NULL, 1) == 1, "AES-128-GCM");
    must(EVP_EncryptInit_ex(keys.mask, EVP_aes_128_ecb(), NULL, mask, NULL) == 1, "AES-128-ECB");
    EVP_CIPHER_CTX_set_padding(keys.mask, 0);
    return keys;
}

static uint8_t *varint(uint8_t *at, uint64_t value) {
    if (value < 1 << 6) {
        *at = (uint8_t)value;
        return at + 1;
    }
    if (value < 1 << 14) {
        uint16_t wide = htons((uint16_t)(value | 0x4000));
        memcpy(at, &wide, sizeof wide);
        return at + sizeof wide;
    }
    if (value < 1 << 30) {
        uint32_t wide = htonl((uint32_t)value | 0x80000000);
        memcpy(at, &wide, sizeof wide);
        return at + sizeof wide;
    }
    uint64_t wide = __builtin_bswap64(value | 0xc000000000000000);
    memcpy(at, &wide, sizeof wide);
    return at + sizeof wide;
}

struct source {
    uint8_t *item;
    uint64_t stream, offset, number;
};

/// One packet in the clear, full to the last octet.
static void write_packet(struct source *source, uint8_t *packet) {
    static const uint8_t flow[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t *at = packet, *end = packet + packet_size - tag;
    *at++ = 0x43;
    memcpy(at, flow, sizeof flow);
    at += sizeof flow;
    uint32_t number = htonl((uint32_t)source->number++);
    memcpy(at, &number, sizeof number);
    at += sizeof number;
    while (at < end) {
        uint8_t *type = at++;
        at = varint(at, source->stream * 4 + 3);
        if (source->offset) at = varint(at, source->offset);
        uint64_t room = (uint64_t)(end - at) - 2, left = item_size - source->offset;
        uint64_t count = left < room ? left : room;
        *type = (uint8_t)(0x0a | (source->offset ? 4 : 0) | (count == left));
        uint16_t length = htons((uint16_t)(count | 0x4000));
        memcpy(at, &length, sizeof length);
        memcpy(at + 2, source->item + source->offset, count);
        at += 2 + count;
        source->offset += count;
        if (count == left) {
            source->stream++;
            source->offset = 0;
            // No room for another frame worth its header.
            if (end - at < 24) {
                memset(at, 0, (size_t)(end - at));
                at = end;
            }
        }
    }
}

static void seal(struct keys *keys, uint8_t *packet, uint64_t number) {
    uint8_t nonce[12], *body = packet + header, *end = packet + packet_size - tag;
    int written, ok;
    memcpy(nonce, keys->iv, sizeof nonce);
    for (int i = 0; i < 8; i++) nonce[4 + i] ^= (uint8_t)(number >> (56 - 8 * i));
    ok = EVP_CipherInit_ex(keys->aead, NULL, NULL, NULL, nonce, -1) == 1
        && EVP_CipherUpdate(keys->aead, NULL, &written, packet, header) == 1
        && EVP_CipherUpdate(keys->aead, body, &written, body, (int)(end - body)) == 1
        && EVP_CipherFinal_ex(keys->aead, end, &written) == 1
        && EVP_CIPHER_CTX_ctrl(keys->aead, EVP_CTRL_AEAD_GET_TAG, tag, end) == 1;
    must(ok, "seal");
}

static void mask_run(struct keys *keys, uint8_t *first) {
    uint8_t blocks[run * 16];
    int written;
    for (int i = 0; i < run; i++) memcpy(blocks + 16 * i, first + i * packet_size + header, 16);
    must(EVP_EncryptUpdate(keys->mask, blocks, &written, blocks, sizeof blocks) == 1, "mask");
    for (int i = 0; i < run; i++) {
        uint8_t *packet = first + i * packet_size, *mask = blocks + 16 * i;
        packet[0] ^= mask[0] & 0x1f;
        for (int k = 0; k < 4; k++) packet[9 + k] ^= mask[1 + k];
    }
}

static int make_socket(const char *interface) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 4 << 20, mtu = IP_PMTUDISC_PROBE;
    unsigned char off = 0;
    struct ip_mreqn out = {.imr_ifindex = (int)if_nametoindex(interface)};
    must(fd >= 0 && out.imr_ifindex > 0, interface);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &mtu, sizeof mtu);
    setsockopt(fd, IPPROTO_IP, IP_MULTICAST_LOOP, &off, sizeof off);
    must(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &out, sizeof out) == 0, "IP_MULTICAST_IF");
    return fd;
}

static void send_all(int fd, struct sockaddr_in *to, uint8_t *arena) {
    struct mmsghdr messages[runs];
    struct iovec vectors[runs];
    _Alignas(16) char controls[runs][CMSG_SPACE(sizeof(uint16_t))];
    for (int i = 0; i < runs; i++) {
        vectors[i] = (struct iovec){.iov_base = arena + (i << 16), .iov_len = run * packet_size};
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = to, .msg_namelen = sizeof *to, .msg_iov = &vectors[i], .msg_iovlen = 1,
            .msg_control = controls[i], .msg_controllen = sizeof controls[i]};
        struct cmsghdr *control = CMSG_FIRSTHDR(&messages[i].msg_hdr);
        uint16_t segment = packet_size;
        control->cmsg_level = IPPROTO_UDP;
        control->cmsg_type = UDP_SEGMENT;
        control->cmsg_len = CMSG_LEN(sizeof segment);
        memcpy(CMSG_DATA(control), &segment, sizeof segment);
    }
    must(sendmmsg(fd, messages, runs, MSG_NOSIGNAL) == runs, "sendmmsg");
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

int main(int count, char **arguments) {
    if (count < 2) {
        fprintf(stderr, "usage: %s PACKETS [INTERFACE [GROUP PORT]]\n", arguments[0]);
        return 64;
    }
    uint64_t packets = strtoull(arguments[1], NULL, 10), done = 0;
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_port = htons(count > 4 ? (uint16_t)atoi(arguments[4]) : 5999);
    must(inet_pton(AF_INET, count > 3 ? arguments[3] : "239.10.0.1", &to.sin_addr) == 1, "group");
    int fd = make_socket(count > 2 ? arguments[2] : "lo");
    struct keys keys = make_keys();
    struct source source = {.item = malloc(item_size)};
    uint8_t *arena = malloc(runs << 16);
    must(source.item && arena, "memory");
    memset(source.item, 0x61, item_size);
    memset(arena, 0, runs << 16);

    double start = now();
    while (done < packets) {
        for (int i = 0; i < runs; i++) {
            uint8_t *first = arena + (i << 16);
            uint64_t number = source.number;
            for (int k = 0; k < run; k++) write_packet(&source, first + k * packet_size);
            for (int k = 0; k < run; k++) seal(&keys, first + k * packet_size, number + (uint64_t)k);
            mask_run(&keys, first);
        }
        send_all(fd, &to, arena);
        done += run * runs;
    }
    printf("{\"packets\":%llu,\"cpu_ns_per_packet\":%.1f}\n", (unsigned long long)done, (now() - start) / (double)done);
    return 0;
}
