#define _GNU_SOURCE
#include "service.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int fc_service_tell(const char *path, const char *text, size_t length)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t name = strlen(path);

    if (name < 2 || name >= sizeof address.sun_path)
        return -EINVAL;
    memcpy(address.sun_path, path, name);
    if (path[0] == '@')
        address.sun_path[0] = 0;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    ssize_t sent = sendto(fd, text, length, MSG_NOSIGNAL, (const struct sockaddr *)&address,
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + name));
    int result = sent < 0 ? -errno : 0;
    close(fd);
    return result;
}
