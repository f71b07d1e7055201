#define _GNU_SOURCE
#include "include/io.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io_internal.h"

// Debian 12's libc headers lack these two; the kernel has had them since 5.0 and 4.20.
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef IPV6_MULTICAST_ALL
#define IPV6_MULTICAST_ALL 29
#endif

static int result(int value) {
    return value < 0 ? -errno : value;
}

struct fcio_address fcio_address_decode(const struct sockaddr *address) {
    struct fcio_address out = {0};
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        out.family = 4;
        out.low = ntohl(v4.sin_addr.s_addr);
        out.port = ntohs(v4.sin_port);
    } else if (address->sa_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, address, sizeof v6);
        out = fcio_decode_ipv6(&v6.sin6_addr);
        out.port = ntohs(v6.sin6_port);
        out.scope = v6.sin6_scope_id;
    }
    return out;
}

struct fcio_address fcio_decode_ipv6(const struct in6_addr *address) {
    struct fcio_address out = {0};
    uint64_t words[2];
    memcpy(words, address, sizeof words);
    out.high = be64toh(words[0]);
    out.low = be64toh(words[1]);
    out.family = 6;
    if (out.high == 0 && out.low >> 32 == 0xffff) {
        out.low &= 0xffffffff;
        out.family = 4;
    }
    return out;
}

struct in6_addr fcio_encode_ipv6(struct fcio_address address) {
    struct in6_addr out;
    uint64_t mapped = 0xffff00000000 | address.low;
    uint64_t words[2] = {htobe64(address.high), htobe64(address.low)};
    if (address.family == 4) {
        words[0] = 0;
        words[1] = htobe64(mapped);
    }
    memcpy(&out, words, sizeof out);
    return out;
}

socklen_t fcio_encode_address(struct sockaddr_storage *out, int family, struct fcio_address address) {
    if (family == 4) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(address.port)};
        v4.sin_addr.s_addr = htonl((uint32_t)address.low);
        memcpy(out, &v4, sizeof v4);
        return sizeof v4;
    }
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(address.port)};
    v6.sin6_addr = fcio_encode_ipv6(address);
    v6.sin6_scope_id = address.scope;
    memcpy(out, &v6, sizeof v6);
    return sizeof v6;
}

int fcio_udp_socket(int family) {
    return result(socket(family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

int fcio_adopt_udp(int fd, struct fcio_address *out) {
    int type = 0;
    socklen_t size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0) return -errno;
    if (type != SOCK_DGRAM) return -EPROTOTYPE;
    struct sockaddr_storage name = {0};
    size = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0) return -errno;
    if (name.ss_family != AF_INET && name.ss_family != AF_INET6) return -EAFNOSUPPORT;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) return -errno;
    *out = fcio_address_decode((struct sockaddr *)&name);
    return name.ss_family == AF_INET ? 4 : 6;
}

int fcio_bind(int fd, int family, struct fcio_address to) {
    struct sockaddr_storage name;
    socklen_t size = fcio_encode_address(&name, family, to);
    return result(bind(fd, (struct sockaddr *)&name, size));
}

int fcio_local_address(int fd, struct fcio_address *out) {
    struct sockaddr_storage name = {0};
    socklen_t size = sizeof name;
    if (getsockname(fd, (struct sockaddr *)&name, &size) < 0) return -errno;
    *out = fcio_address_decode((struct sockaddr *)&name);
    return 0;
}

int fcio_address_toward(struct fcio_address to, struct fcio_address *out) {
    int fd = socket(to.family == 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    to.port = 9;  // Any but 0. To connect a UDP socket sends nothing.
    struct sockaddr_storage name;
    socklen_t size = fcio_encode_address(&name, to.family, to);
    int outcome = connect(fd, (struct sockaddr *)&name, size) < 0 ? -errno : fcio_local_address(fd, out);
    close(fd);
    return outcome;
}

static int set(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

// On an IPv6 socket the IPv4 half may be switched off (IPV6_V6ONLY), so that its refusal is no error.
static int set_both(int fd, int family, int name4, int name6, int value) {
    int outcome = set(fd, IPPROTO_IP, name4, value);
    return family == 4 ? outcome : set(fd, IPPROTO_IPV6, name6, value);
}

static int set_interface(int fd, int family, int index) {
    struct ip_mreqn request = {.imr_ifindex = index};
    int outcome = setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &request, sizeof request) < 0 ? -errno : 0;
    return family == 4 ? outcome : set(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, index);
}

int fcio_set_option(int fd, int family, enum fcio_option option, int value) {
    int outcome;
    switch (option) {
    case fcio_reuse_address: return set(fd, SOL_SOCKET, SO_REUSEADDR, value);
    case fcio_reuse_port: return set(fd, SOL_SOCKET, SO_REUSEPORT, value);
    case fcio_receive_buffer:
        if (set(fd, SOL_SOCKET, SO_RCVBUFFORCE, value) == 0) return 0;
        return set(fd, SOL_SOCKET, SO_RCVBUF, value);
    case fcio_send_buffer:
        if (set(fd, SOL_SOCKET, SO_SNDBUFFORCE, value) == 0) return 0;
        return set(fd, SOL_SOCKET, SO_SNDBUF, value);
    case fcio_receive_coalescing: return set(fd, IPPROTO_UDP, UDP_GRO, value);
    case fcio_only_ipv6: return family == 4 ? 0 : set(fd, IPPROTO_IPV6, IPV6_V6ONLY, value);
    case fcio_unicast_ttl: return set_both(fd, family, IP_TTL, IPV6_UNICAST_HOPS, value);
    case fcio_multicast_ttl: return set_both(fd, family, IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS, value);
    case fcio_multicast_loop: return set_both(fd, family, IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP, value);
    case fcio_multicast_interface: return set_interface(fd, family, value);
    case fcio_multicast_all: return set_both(fd, family, IP_MULTICAST_ALL, IPV6_MULTICAST_ALL, value);
    case fcio_dont_fragment:
        outcome = set_both(
            fd, family, IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, value ? IP_PMTUDISC_PROBE : IP_PMTUDISC_DONT);
        if (outcome == 0 && family == 6) outcome = set(fd, IPPROTO_IPV6, IPV6_DONTFRAG, value);
        return outcome;
    case fcio_receive_details:
        outcome = set_both(fd, family, IP_PKTINFO, IPV6_RECVPKTINFO, value);
        if (outcome == 0) outcome = set_both(fd, family, IP_RECVTOS, IPV6_RECVTCLASS, value);
        if (outcome == 0) outcome = set(fd, SOL_SOCKET, SO_RXQ_OVFL, value);
        return outcome;
    case fcio_receive_errors: return set_both(fd, family, IP_RECVERR, IPV6_RECVERR, value);
    }
    return -EINVAL;
}

int fcio_buffer_size(int fd, bool receive) {
    int size = 0;
    socklen_t width = sizeof size;
    if (getsockopt(fd, SOL_SOCKET, receive ? SO_RCVBUF : SO_SNDBUF, &size, &width) < 0) return -errno;
    return size;
}

int fcio_membership(int fd, bool join, struct fcio_address group, struct fcio_address source, unsigned interface) {
    int level = group.family == 4 ? IPPROTO_IP : IPPROTO_IPV6;
    if (source.family == 0) {
        struct group_req request = {.gr_interface = interface};
        fcio_encode_address(&request.gr_group, group.family, group);
        int name = join ? MCAST_JOIN_GROUP : MCAST_LEAVE_GROUP;
        return result(setsockopt(fd, level, name, &request, sizeof request));
    }
    struct group_source_req request = {.gsr_interface = interface};
    fcio_encode_address(&request.gsr_group, group.family, group);
    fcio_encode_address(&request.gsr_source, group.family, source);
    int name = join ? MCAST_JOIN_SOURCE_GROUP : MCAST_LEAVE_SOURCE_GROUP;
    return result(setsockopt(fd, level, name, &request, sizeof request));
}

int fcio_tcp_connect(struct fcio_address to) {
    int fd = socket(to.family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    struct sockaddr_storage name;
    socklen_t size = fcio_encode_address(&name, to.family, to);
    if (connect(fd, (struct sockaddr *)&name, size) == 0 || errno == EINPROGRESS) return fd;
    int error = errno;
    close(fd);
    return -error;
}

int fcio_tcp_listen(struct fcio_address at) {
    int fd = socket(at.family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    struct sockaddr_storage name;
    socklen_t size = fcio_encode_address(&name, at.family, at);
    if (set(fd, SOL_SOCKET, SO_REUSEADDR, 1) == 0 && bind(fd, (struct sockaddr *)&name, size) == 0
        && listen(fd, 64) == 0)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

int fcio_tcp_adopt(int fd) {
    int type = 0, listens = 0;
    socklen_t size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0) return -errno;
    size = sizeof listens;
    if (type != SOCK_STREAM || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0 || !listens) return -EINVAL;
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    int flags = copy < 0 ? -1 : fcntl(copy, F_GETFL);
    if (flags >= 0 && fcntl(copy, F_SETFL, flags | O_NONBLOCK) == 0) return copy;
    int error = errno;
    if (copy >= 0) close(copy);
    return -error;
}

int fcio_network_watch(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) return -errno;
    struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK | RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR};
    if (bind(fd, (struct sockaddr *)&name, sizeof name) == 0) return fd;
    int error = -errno;
    close(fd);
    return error;
}

ssize_t fcio_tcp_send(int fd, const uint8_t *octets, size_t count) {
    ssize_t sent = send(fd, octets, count, MSG_NOSIGNAL | MSG_DONTWAIT);
    return sent < 0 ? -errno : sent;
}

int fcio_interface_mtu(const char *name) {
    struct ifreq request = {0};
    strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    int fd = fcio_udp_socket(4);
    if (fd < 0) return fd;
    int outcome = ioctl(fd, SIOCGIFMTU, &request) < 0 ? -errno : request.ifr_mtu;
    close(fd);
    return outcome;
}
