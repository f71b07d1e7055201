#define _GNU_SOURCE
#include "include/io.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "meter_internal.h"

int64_t fcio_now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

void fcio_sleep(int64_t nanoseconds) {
    struct timespec time = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    int64_t begin = fc_part_begin();
    nanosleep(&time, NULL);
    fc_part_end(&fc_split_state.times.io, begin);
}

void fcio_precise_timers(void) {
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

// MARK: epoll

int fcio_epoll_create(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

int fcio_epoll_set(int epoll, int fd, uint32_t interest, uint64_t token, bool change) {
    struct epoll_event event = {.data.u64 = token};
    if (interest & fcio_readable) event.events |= EPOLLIN;
    if (interest & fcio_writable) event.events |= EPOLLOUT;
    return epoll_ctl(epoll, change ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int fcio_epoll_remove(int epoll, int fd) {
    struct epoll_event event = {0};
    return epoll_ctl(epoll, EPOLL_CTL_DEL, fd, &event) < 0 ? -errno : 0;
}

int fcio_epoll_wait(int epoll, struct fcio_event *events, unsigned limit, int64_t nanoseconds) {
    static _Atomic bool coarse;  // a kernel before 5.11 has no epoll_pwait2: milliseconds then, rounded up
    struct epoll_event ready[64];
    if (limit > 64) limit = 64;
    struct timespec time = {.tv_sec = nanoseconds / 1000000000, .tv_nsec = nanoseconds % 1000000000};
    int count = -1;
    int64_t begin = fc_part_begin();
    if (!coarse) {
        count = epoll_pwait2(epoll, ready, (int)limit, nanoseconds < 0 ? NULL : &time, NULL);
        if (count < 0 && (errno == ENOSYS || errno == EPERM)) coarse = true;
    }
    if (coarse) {
        int64_t milliseconds = (nanoseconds + 999999) / 1000000;
        if (milliseconds > 1 << 30) milliseconds = 1 << 30;
        count = epoll_wait(epoll, ready, (int)limit, nanoseconds < 0 ? -1 : (int)milliseconds);
    }
    fc_part_end(&fc_split_state.times.io, begin);
    if (count < 0) return -errno;
    for (int index = 0; index < count; index++) {
        uint32_t flags = ready[index].events;
        events[index].token = ready[index].data.u64;
        events[index].interest = (flags & (EPOLLIN | EPOLLERR | EPOLLHUP) ? fcio_readable : 0) |
                                 (flags & EPOLLOUT ? fcio_writable : 0);
    }
    return count;
}

// MARK: eventfd

int fcio_eventfd(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

void fcio_eventfd_signal(int fd) {
    // The write fails only when the counter is full, and then the descriptor is readable anyhow.
    uint64_t one = 1;
    ssize_t ignored = write(fd, &one, sizeof one);
    (void)ignored;
}

void fcio_eventfd_drain(int fd) {
    uint64_t count;
    ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
}

// MARK: signals
//
// A handler that writes to an eventfd, rather than a signalfd: a signalfd needs the signal blocked in every thread,
// and child processes inherit that block.

enum { signal_limit = 65 };
static _Atomic int signal_descriptors[signal_limit];  // eventfd + 1; 0 when nobody watches
static struct sigaction signal_actions[signal_limit];

static void on_signal(int number) {
    int saved = errno;
    int fd = atomic_load(&signal_descriptors[number]) - 1;
    if (fd >= 0) fcio_eventfd_signal(fd);
    errno = saved;
}

int fcio_signal_watch(int number, int fd) {
    if (number <= 0 || number >= signal_limit) return -EINVAL;
    int nobody = 0;
    if (!atomic_compare_exchange_strong(&signal_descriptors[number], &nobody, fd + 1)) return -EBUSY;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    if (sigaction(number, &action, &signal_actions[number]) < 0) {
        int error = errno;
        atomic_store(&signal_descriptors[number], 0);
        return -error;
    }
    // A process inherits its parent's mask: started with the signal blocked, it would never hear of it.
    sigset_t watched;
    sigemptyset(&watched);
    sigaddset(&watched, number);
    pthread_sigmask(SIG_UNBLOCK, &watched, NULL);
    return 0;
}

void fcio_signal_unwatch(int number) {
    if (number <= 0 || number >= signal_limit || !atomic_load(&signal_descriptors[number])) return;
    sigaction(number, &signal_actions[number], NULL);
    atomic_store(&signal_descriptors[number], 0);
}

// MARK: processes and files

int fcio_pidfd(pid_t process) {
    long fd = syscall(SYS_pidfd_open, process, 0);
    return fd < 0 ? -errno : (int)fd;
}

int fcio_reap(int pidfd, int *code, bool *by_signal) {
    siginfo_t info;
    memset(&info, 0, sizeof info);
    if (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED | WNOHANG) < 0) return -errno;
    if (info.si_pid == 0) return -EAGAIN;
    *code = info.si_status;
    *by_signal = info.si_code != CLD_EXITED;
    return 0;
}

ssize_t fcio_read_now(int fd, void *into, size_t limit) {
    // O_NONBLOCK belongs to the open file, which other processes may share (a terminal): poll leaves it alone.
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    int count = poll(&ready, 1, 0);
    if (count < 0) return -errno;
    if (count == 0) return -EAGAIN;
    ssize_t octets = read(fd, into, limit);
    return octets < 0 ? -errno : octets;
}
