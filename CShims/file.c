#define _GNU_SOURCE
#include "file.h"
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(FC_WORKING_DIRECTORY == AT_FDCWD, "the working directory has another name here");

int fc_directory_open(const char *path, bool lock) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return -errno;
    if (lock && flock(fd, LOCK_EX | LOCK_NB) < 0) {
        int error = -errno;
        close(fd);
        return error;
    }
    return fd;
}

void fc_directory_unlock(int directory) { flock(directory, LOCK_UN); }

void fc_directory_close(int directory) { close(directory); }

static int sync_descriptor(int fd) {
    while (fsync(fd) < 0) {
        // Some file systems cannot sync a directory; there is nothing more to be done for it there.
        if (errno == EINVAL || errno == EROFS) return 0;
        if (errno != EINTR) return -errno;
    }
    return 0;
}

int fc_directory_sync(int directory) { return sync_descriptor(directory); }

int fc_file_write(int directory, const char *name, const uint8_t *bytes, size_t count, bool private) {
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, private ? 0600 : 0666);
    if (fd < 0) return -errno;
    // It may be there already, for others to read.
    int result = private && fchmod(fd, 0600) < 0 ? -errno : 0;
    if (result == 0) result = fc_write(fd, bytes, count);
    if (result == 0) result = sync_descriptor(fd);
    if (close(fd) < 0 && result == 0) result = -errno;
    if (result < 0) unlinkat(directory, name, 0);
    return result;
}

int fc_file_rename(int directory, const char *from, const char *to) {
    return renameat(directory, from, directory, to) < 0 ? -errno : 0;
}

int fc_file_remove(int directory, const char *name) { return unlinkat(directory, name, 0) < 0 ? -errno : 0; }

static void describe(const struct stat *from, struct fc_file_status *out) {
    out->size = (uint64_t)from->st_size;
    out->inode = (uint64_t)from->st_ino;
    out->modified = (int64_t)from->st_mtim.tv_sec * 1000000000 + from->st_mtim.tv_nsec;
    out->regular = S_ISREG(from->st_mode);
    out->mode = (uint32_t)from->st_mode & 07777;
}

int fc_file_status(int directory, const char *name, struct fc_file_status *out) {
    struct stat status;
    if (fstatat(directory, name, &status, 0) < 0) return -errno;
    describe(&status, out);
    return 0;
}

int64_t fc_file_read(int directory, const char *name, uint8_t *into, size_t room) {
    // A pipe without a writer would hold up an ordinary open.
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return -errno;
    struct stat status;
    int64_t result = 0;
    if (fstat(fd, &status) < 0) {
        result = -errno;
    } else if (!S_ISREG(status.st_mode)) {
        result = S_ISDIR(status.st_mode) ? -EISDIR : -EINVAL;
    }
    while (result >= 0 && (size_t)result < room) {
        ssize_t got = read(fd, into + result, room - (size_t)result);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) result = -errno;
        if (got <= 0) break;
        result += got;
    }
    close(fd);
    return result;
}
