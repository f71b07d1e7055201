#define _GNU_SOURCE
#include "testshims.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int ts_open_link(int process, const char *interface) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/ns/net", process);
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    if (namespace < 0) return -errno;
    int entered = setns(namespace, CLONE_NEWNET) < 0 ? -errno : 0;
    close(namespace);
    if (entered < 0) return entered;
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ALL));
    if (fd < 0) return -errno;
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(interface)};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int result = -errno;
        close(fd);
        return result;
    }
    return fd;
}
