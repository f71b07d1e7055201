#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/mroute.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "include/io.h"

int fcio_mroute_socket(void) {
    int fd = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_IGMP);
    if (fd < 0) return -errno;
    int on = 1;
    if (setsockopt(fd, IPPROTO_IP, MRT_INIT, &on, sizeof on) == 0) return fd;
    int error = errno;
    close(fd);
    return -error;
}

int fcio_mroute_interface(int fd, uint16_t number, unsigned interface) {
    struct vifctl request = {
        .vifc_vifi = number, .vifc_flags = VIFF_USE_IFINDEX, .vifc_threshold = 1, .vifc_lcl_ifindex = (int)interface};
    return setsockopt(fd, IPPROTO_IP, MRT_ADD_VIF, &request, sizeof request) < 0 ? -errno : 0;
}

int fcio_mroute_route(int fd, bool add, uint32_t source, uint32_t group, uint16_t from, uint16_t to) {
    struct mfcctl request = {
        .mfcc_origin.s_addr = htonl(source), .mfcc_mcastgrp.s_addr = htonl(group), .mfcc_parent = from};
    if (from >= MAXVIFS || to >= MAXVIFS) return -EINVAL;
    request.mfcc_ttls[to] = 1;
    return setsockopt(fd, IPPROTO_IP, add ? MRT_ADD_MFC : MRT_DEL_MFC, &request, sizeof request) < 0 ? -errno : 0;
}
