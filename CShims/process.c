#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

int fc_process_start(char *const *arguments, int input, int output, int error, pid_t *process) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int result = posix_spawn_file_actions_init(&actions);
    if (result != 0) return -result;
    result = posix_spawnattr_init(&attributes);
    if (result != 0) {
        posix_spawn_file_actions_destroy(&actions);
        return -result;
    }
    const int streams[3] = {input, output, error};
    /* What is given may have the number of another stream: moved away first, with the flag that closes it in the child. */
    int moved[3] = {-1, -1, -1};
    for (int i = 0; i < 3 && result == 0; i++) {
        if (streams[i] < 0) {
            moved[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
            if (moved[i] >= 0 && moved[i] <= 2) {
                int low = moved[i];
                moved[i] = fcntl(low, F_DUPFD_CLOEXEC, 3);
                close(low);
            }
        } else {
            moved[i] = fcntl(streams[i], F_DUPFD_CLOEXEC, 3);
        }
        result = moved[i] < 0 ? errno : posix_spawn_file_actions_adddup2(&actions, moved[i], i);
    }
    if (result == 0) result = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    if (result == 0) {
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setpgroup(&attributes, 0);
        result = posix_spawn(process, arguments[0], &actions, &attributes, arguments, environ);
    }
    for (int i = 0; i < 3; i++) {
        if (moved[i] >= 0) close(moved[i]);
    }
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    return -result;
}

int fc_process_await(pid_t process) {
    siginfo_t info;
    while (waitid(P_PID, (id_t)process, &info, WEXITED | WNOWAIT) < 0) {
        if (errno != EINTR) return -errno;
    }
    return 0;
}

int fc_process_collect(pid_t process, int *status) {
    int how;
    while (waitpid(process, &how, 0) < 0) {
        if (errno != EINTR) return -errno;
    }
    *status = WIFSIGNALED(how) ? -WTERMSIG(how) : WEXITSTATUS(how);
    return 0;
}

int fc_pipe(int ends[2]) { return pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0; }

int64_t fc_read(int descriptor, uint8_t *into, size_t room) {
    ssize_t count;
    do {
        count = read(descriptor, into, room);
    } while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

int fc_write(int descriptor, const uint8_t *bytes, size_t count) {
    while (count > 0) {
        ssize_t written = write(descriptor, bytes, count);
        if (written < 0 && errno == EAGAIN) {
            /* Another process has made the terminal or pipe that we share non-blocking. */
            struct pollfd wanted = {.fd = descriptor, .events = POLLOUT};
            poll(&wanted, 1, -1);
            continue;
        }
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -errno;
        bytes += written;
        count -= (size_t)written;
    }
    return 0;
}

void fc_close(int descriptor) { close(descriptor); }

bool fc_terminal_size(int descriptor, int *lines, int *columns) {
    struct winsize size;
    if (ioctl(descriptor, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0) return false;
    *lines = size.ws_row;
    *columns = size.ws_col;
    return true;
}
