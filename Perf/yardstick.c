// The yardstick: what a source does to a packet of the flow, straight in C and nothing else. A header, one STREAM
// frame, AES-128-GCM in place, header masks for a whole run at once, 52 packets to a segmented send, four of them to a
// system call. No packet is remembered, nobody acknowledges, nothing is repaired: it is what a source cannot be
// cheaper than with the same library and the same socket.
//
// And what a receiver does: batches that the kernel has coalesced, the flow's ID compared, header masks for a whole
// message at once, each packet opened in place, its frames parsed, the octets of a stream copied once to their place in
// the item, whose size is known, and the item handed on when it is whole. Which packets came is a count of those in order.
// There is no connection: nothing is acknowledged, no window opens, nothing arrives out of order, nobody asks the time.
//
//     yardstick send|send-zc|receive openssl|ipsec-mb PACKETS [INTERFACE [GROUP PORT]]
//
// prints packets and nanoseconds of CPU per packet as JSON. `send-zc` sends by io_uring from a registered buffer, without
// a copy. `receive` sends to itself and counts the time to receive.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#if __has_include(<liburing.h>)
#include <liburing.h>
#define HAS_URING 1
#else
#define HAS_URING 0
#endif

#if __has_include(<intel-ipsec-mb.h>)
#include <intel-ipsec-mb.h>
#define HAS_IPSEC_MB 1
#else
#define HAS_IPSEC_MB 0
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

enum { packet_size = 1200, tag = 16, run = 52, runs = 4, batches = 4, header = 13, item_size = 1 << 20 };

static void must(int ok, const char *what) {
    if (ok) return;
    perror(what);
    exit(1);
}

static const uint8_t flow[8] = {1, 2, 3, 4, 5, 6, 7, 8};

struct keys {
    EVP_CIPHER_CTX *seal, *open, *mask;
    uint8_t iv[12];
#if HAS_IPSEC_MB
    IMB_MGR *manager;  // NULL: OpenSSL
    struct gcm_key_data expanded;
    struct gcm_context_data context;
#endif
};

static struct keys make_keys(int ipsec_mb) {
    static const uint8_t key[16] = {1}, mask[16] = {2};
    struct keys keys = {
        .seal = EVP_CIPHER_CTX_new(), .open = EVP_CIPHER_CTX_new(), .mask = EVP_CIPHER_CTX_new(), .iv = {3}};
    must(EVP_CipherInit_ex(keys.seal, EVP_aes_128_gcm(), NULL, key, NULL, 1) == 1, "AES-128-GCM");
    must(EVP_CipherInit_ex(keys.open, EVP_aes_128_gcm(), NULL, key, NULL, 0) == 1, "AES-128-GCM");
    must(EVP_EncryptInit_ex(keys.mask, EVP_aes_128_ecb(), NULL, mask, NULL) == 1, "AES-128-ECB");
    EVP_CIPHER_CTX_set_padding(keys.mask, 0);
#if HAS_IPSEC_MB
    if (ipsec_mb) {
        keys.manager = alloc_mb_mgr(0);
        must(keys.manager != NULL, "IPSec-MB");
        init_mb_mgr_auto(keys.manager, NULL);
        IMB_AES128_GCM_PRE(keys.manager, key, &keys.expanded);
    }
#else
    must(!ipsec_mb, "built without IPSec-MB");
#endif
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

static void make_nonce(const struct keys *keys, uint64_t number, uint8_t nonce[12]) {
    memcpy(nonce, keys->iv, 12);
    for (int i = 0; i < 8; i++) nonce[4 + i] ^= (uint8_t)(number >> (56 - 8 * i));
}

static void seal(struct keys *keys, uint8_t *packet, uint64_t number) {
    uint8_t nonce[12], *body = packet + header, *end = packet + packet_size - tag;
    int written, ok;
    make_nonce(keys, number, nonce);
#if HAS_IPSEC_MB
    if (keys->manager) {
        IMB_AES128_GCM_ENC(keys->manager, &keys->expanded, &keys->context, body, body, (uint64_t)(end - body), nonce,
            packet, header, end, tag);
        return;
    }
#endif
    ok = EVP_CipherInit_ex(keys->seal, NULL, NULL, NULL, nonce, -1) == 1
        && EVP_CipherUpdate(keys->seal, NULL, &written, packet, header) == 1
        && EVP_CipherUpdate(keys->seal, body, &written, body, (int)(end - body)) == 1
        && EVP_CipherFinal_ex(keys->seal, end, &written) == 1
        && EVP_CIPHER_CTX_ctrl(keys->seal, EVP_CTRL_AEAD_GET_TAG, tag, end) == 1;
    must(ok, "seal");
}

static void open_packet(struct keys *keys, uint8_t *packet, uint64_t number) {
    uint8_t nonce[12], *body = packet + header, *end = packet + packet_size - tag, made[tag];
    int written, ok;
    make_nonce(keys, number, nonce);
#if HAS_IPSEC_MB
    if (keys->manager) {
        IMB_AES128_GCM_DEC(keys->manager, &keys->expanded, &keys->context, body, body, (uint64_t)(end - body), nonce,
            packet, header, made, tag);
        must(CRYPTO_memcmp(made, end, tag) == 0, "open");
        return;
    }
#endif
    ok = EVP_CipherInit_ex(keys->open, NULL, NULL, NULL, nonce, -1) == 1
        && EVP_CipherUpdate(keys->open, NULL, &written, packet, header) == 1
        && EVP_CipherUpdate(keys->open, body, &written, body, (int)(end - body)) == 1
        && EVP_CIPHER_CTX_ctrl(keys->open, EVP_CTRL_AEAD_SET_TAG, tag, end) == 1
        && EVP_CipherFinal_ex(keys->open, made, &written) == 1;
    must(ok, "open");
}

/// Puts masks on the headers of a run, or takes them off.
static void mask_run(struct keys *keys, uint8_t *first, int count) {
    static uint8_t blocks[128 * 16];
    int written;
    for (int i = 0; i < count; i++) memcpy(blocks + 16 * i, first + i * packet_size + header, 16);
    must(EVP_EncryptUpdate(keys->mask, blocks, &written, blocks, count * 16) == 1, "mask");
    for (int i = 0; i < count; i++) {
        uint8_t *packet = first + i * packet_size, *mask = blocks + 16 * i;
        packet[0] ^= mask[0] & 0x1f;
        for (int k = 0; k < 4; k++) packet[9 + k] ^= mask[1 + k];
    }
}

/// The value at `*at`, which then lies behind it.
static uint64_t read_varint(const uint8_t **at, const uint8_t *end) {
    must(*at < end && end - *at >= 1 << (**at >> 6), "varint");
    int octets = 1 << (**at >> 6);
    uint64_t value = *(*at)++ & 0x3f;
    while (--octets) value = value << 8 | *(*at)++;
    return value;
}

/// The item under way.
struct item {
    uint8_t *bytes;
    uint64_t stream, count, next_packet, items;
};

/// Takes the frames of an opened packet: padding, and STREAM with a length and maybe an offset.
static void take_packet(struct item *item, uint64_t number, const uint8_t *at, const uint8_t *end) {
    must(number >= item->next_packet, "packet number");
    item->next_packet = number + 1;
    while (at < end) {
        uint8_t type = *at++;
        if (type == 0) continue;
        must((type & ~5) == 0x0a, "frame");
        uint64_t stream = read_varint(&at, end), offset = type & 4 ? read_varint(&at, end) : 0;
        uint64_t length = read_varint(&at, end);
        must(length <= (uint64_t)(end - at) && length <= item_size && offset <= item_size - length, "STREAM");
        if (!item->bytes) {
            must((item->bytes = malloc(item_size)) != NULL, "memory");
            item->stream = stream;
            item->count = 0;
        }
        must(stream == item->stream && offset == item->count, "order");
        memcpy(item->bytes + offset, at, length);
        item->count += length;
        at += length;
        if (!(type & 1)) continue;
        must(item->bytes[0] == 0x61 && item->bytes[item->count - 1] == 0x61, "item");
        item->items++;
        free(item->bytes);
        item->bytes = NULL;
    }
}

static int make_socket(const char *interface) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 4 << 20, mtu = IP_PMTUDISC_PROBE;
    unsigned char off = 0;  // lo brings back what leaves by it all the same
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

#if HAS_URING
static struct io_uring ring;

static void make_ring(int fd, uint8_t *arena) {
    struct io_uring_params parameters = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    struct iovec buffer = {.iov_base = arena, .iov_len = batches * runs << 16};
    int segment = packet_size;
    must(io_uring_queue_init_params(64, &ring, &parameters) == 0, "io_uring");
    must(io_uring_register_buffers(&ring, &buffer, 1) == 0, "registered buffers");
    must(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) == 0, "UDP_SEGMENT");
}

/// Sends the batch `batch` of the arena. What the kernel holds of the batches before is waited for when there are no more.
static void send_all_zc(int fd, struct sockaddr_in *to, uint8_t *arena) {
    static unsigned held;
    unsigned sent = 0, most = (batches - 1) * runs;
    for (unsigned i = 0; i < runs; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
        io_uring_prep_send_zc_fixed(sqe, fd, arena + (i << 16), run * packet_size, MSG_NOSIGNAL, 0, 0);
        io_uring_prep_send_set_addr(sqe, (struct sockaddr *)to, sizeof *to);
        if (i + 1 < runs) sqe->flags |= IOSQE_IO_LINK;
    }
    while (sent < runs || held > most) {
        must(io_uring_submit_and_wait(&ring, sent < runs ? runs - sent : 1) >= 0, "io_uring");
        unsigned head, seen = 0;
        struct io_uring_cqe *cqe;
        io_uring_for_each_cqe(&ring, head, cqe) {
            seen++;
            if (cqe->flags & IORING_CQE_F_NOTIF) {
                held--;
                continue;
            }
            must(cqe->res == run * packet_size, "send_zc");
            held += (cqe->flags & IORING_CQE_F_MORE) != 0;
            sent++;
        }
        io_uring_cq_advance(&ring, seen);
    }
}
#endif

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

enum { messages = 16 };

struct receiver {
    int fd;
    struct mmsghdr headers[messages];
    struct iovec vectors[messages];
    struct sockaddr_in names[messages];
    _Alignas(16) char controls[messages][192];
    uint8_t *arena;
    struct item item;
};

static struct receiver *make_receiver(struct sockaddr_in *to, const char *interface) {
    struct receiver *receiver = calloc(1, sizeof *receiver);
    struct ip_mreqn group = {.imr_multiaddr = to->sin_addr, .imr_ifindex = (int)if_nametoindex(interface)};
    int size = 4 << 20, on = 1;
    must(receiver != NULL && (receiver->arena = malloc(messages << 16)) != NULL, "memory");
    memset(receiver->arena, 0, messages << 16);
    receiver->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    setsockopt(receiver->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
    setsockopt(receiver->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(receiver->fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    setsockopt(receiver->fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);
    setsockopt(receiver->fd, IPPROTO_IP, IP_RECVTOS, &on, sizeof on);
    must(bind(receiver->fd, (struct sockaddr *)to, sizeof *to) == 0, "bind");
    must(setsockopt(receiver->fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &group, sizeof group) == 0, "IP_ADD_MEMBERSHIP");
    return receiver;
}

/// Takes what is there: how many packets came.
static uint64_t receive_all(struct receiver *receiver, struct keys *keys) {
    uint64_t total = 0;
    for (int i = 0; i < messages; i++) {
        receiver->vectors[i] = (struct iovec){.iov_base = receiver->arena + (i << 16), .iov_len = 1 << 16};
        receiver->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &receiver->names[i], .msg_namelen = sizeof receiver->names[i],
            .msg_iov = &receiver->vectors[i], .msg_iovlen = 1,
            .msg_control = receiver->controls[i], .msg_controllen = sizeof receiver->controls[i]};
    }
    int count = recvmmsg(receiver->fd, receiver->headers, messages, MSG_DONTWAIT, NULL);
    for (int i = 0; i < count; i++) {
        uint8_t *first = receiver->arena + (i << 16);
        int packets = (int)receiver->headers[i].msg_len / packet_size;
        for (int k = 0; k < packets; k++) must(memcmp(first + k * packet_size + 1, flow, sizeof flow) == 0, "ID");
        mask_run(keys, first, packets);
        for (int k = 0; k < packets; k++) {
            uint32_t number;
            uint8_t *packet = first + k * packet_size;
            memcpy(&number, packet + 9, sizeof number);
            open_packet(keys, packet, ntohl(number));
            take_packet(&receiver->item, ntohl(number), packet + header, packet + packet_size - tag);
        }
        total += (uint64_t)packets;
    }
    return total;
}

int main(int count, char **arguments) {
    if (count < 4) {
        fprintf(stderr, "usage: %s send|send-zc|receive openssl|ipsec-mb PACKETS [INTERFACE [GROUP PORT]]\n", arguments[0]);
        return 64;
    }
    int receives = strcmp(arguments[1], "receive") == 0, zero_copy = strcmp(arguments[1], "send-zc") == 0;
    uint64_t packets = strtoull(arguments[3], NULL, 10), done = 0, received = 0;
    const char *interface = count > 4 ? arguments[4] : "lo";
    struct sockaddr_in to = {.sin_family = AF_INET};
    to.sin_port = htons(count > 6 ? (uint16_t)atoi(arguments[6]) : 5999);
    must(inet_pton(AF_INET, count > 5 ? arguments[5] : "239.10.0.1", &to.sin_addr) == 1, "group");
    int fd = make_socket(interface);
    struct keys keys = make_keys(strcmp(arguments[2], "ipsec-mb") == 0);
    struct receiver *receiver = receives ? make_receiver(&to, interface) : NULL;
    struct source source = {.item = malloc(item_size)};
    // Batches take turns when the kernel may still read the last one.
    size_t room = (size_t)(zero_copy ? batches : 1) * runs << 16;
    uint8_t *arenas = aligned_alloc(4096, room), *arena = arenas;
    must(source.item && arenas, "memory");
    memset(source.item, 0x61, item_size);
    memset(arenas, 0, room);
#if HAS_URING
    if (zero_copy) make_ring(fd, arenas);
#else
    must(!zero_copy, "built without liburing");
#endif

    double start = now(), receiving = 0;
    while (done < packets || (receives && received < done)) {
        for (int i = 0; i < runs; i++) {
            uint8_t *first = arena + (i << 16);
            uint64_t number = source.number;
            for (int k = 0; k < run; k++) write_packet(&source, first + k * packet_size);
            for (int k = 0; k < run; k++) seal(&keys, first + k * packet_size, number + (uint64_t)k);
            mask_run(&keys, first, run);
        }
#if HAS_URING
        if (zero_copy) {
            send_all_zc(fd, &to, arena);
            arena = arenas + (done / (run * runs) + 1) % batches * ((size_t)runs << 16);
        } else
#endif
            send_all(fd, &to, arena);
        done += run * runs;
        // As many as our source sends in a turn.
        if (!receives || done % (4 * run * runs) != 0) continue;
        double before = now();
        received += receive_all(receiver, &keys);
        receiving += now() - before;
    }
    double time = receives ? receiving : now() - start;
    if (receives) {
        must(received >= done && receiver->item.items > 0, "all packets");
        done = received;
    }
    printf("{\"packets\":%llu,\"cpu_ns_per_packet\":%.1f}\n", (unsigned long long)done, time / (double)done);
    return 0;
}
