#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

// After time.h, which it does not include.
#include <linux/errqueue.h>

#include "include/io.h"
#include "io_internal.h"

int fcio_next_error(int fd, struct fcio_error *out, uint8_t *quoted, size_t room) {
    _Alignas(struct cmsghdr) uint8_t control[512];
    struct sockaddr_storage name = {0};
    struct iovec piece = {.iov_base = quoted, .iov_len = room};
    struct msghdr header = {
        .msg_name = &name, .msg_namelen = sizeof name, .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control,
        .msg_controllen = sizeof control};
    ssize_t count = recvmsg(fd, &header, MSG_ERRQUEUE | MSG_DONTWAIT);
    if (count < 0) return errno == EAGAIN ? 0 : -errno;
    *out = (struct fcio_error){.count = (uint32_t)count};
    if (header.msg_namelen) out->to = fcio_address_decode((struct sockaddr *)&name);
    for (struct cmsghdr *item = CMSG_FIRSTHDR(&header); item; item = CMSG_NXTHDR(&header, item)) {
        bool is_error = (item->cmsg_level == IPPROTO_IP && item->cmsg_type == IP_RECVERR)
            || (item->cmsg_level == IPPROTO_IPV6 && item->cmsg_type == IPV6_RECVERR);
        // The reporter's address follows the error itself.
        if (!is_error || item->cmsg_len < CMSG_LEN(sizeof(struct sock_extended_err) + sizeof(struct sockaddr_in))) continue;
        struct sock_extended_err error;
        memcpy(&error, CMSG_DATA(item), sizeof error);
        out->family = error.ee_origin == SO_EE_ORIGIN_ICMP ? 4 : error.ee_origin == SO_EE_ORIGIN_ICMP6 ? 6 : 0;
        out->type = error.ee_type;
        out->code = error.ee_code;
        out->info = error.ee_info;
        struct sockaddr_storage reporter = {0};
        size_t size = item->cmsg_len - CMSG_LEN(sizeof error);
        memcpy(&reporter, CMSG_DATA(item) + sizeof error, size < sizeof reporter ? size : sizeof reporter);
        out->reporter = fcio_address_decode((struct sockaddr *)&reporter);
    }
    return 1;
}
