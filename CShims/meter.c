#define _GNU_SOURCE
#include "meter_internal.h"

#include <dlfcn.h>
#include <malloc.h>
#include <openssl/crypto.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>

int64_t fc_thread_time(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

_Thread_local struct fc_split_state fc_split_state;

void fc_split(int on)
{
    if (on && fc_split_state.clock_cost == 0) {
        int64_t least = INT64_MAX;
        for (int i = 0; i < 100; i++) {
            int64_t start = fc_thread_time(), cost = fc_thread_time() - start;
            if (cost < least)
                least = cost;
        }
        fc_split_state.clock_cost = least;
    }
    fc_split_state.is_on = on;
}

struct fc_split_times fc_split_times(void)
{
    return fc_split_state.times;
}

typedef uint64_t counter(void);

static uint64_t none(void)
{
    return 0;
}

/* What a preloaded library counts under this name; looked for once, as turns that are measured ask each time. */
static int64_t preloaded(counter **known, const char *name)
{
    if (!*known) {
        counter *found = (counter *)dlsym(RTLD_DEFAULT, name);
        *known = found ? found : none;
    }
    return *known == none ? -1 : (int64_t)(*known)();
}

int64_t fc_allocations(void)
{
    static counter *known;
    return preloaded(&known, "perf_allocations");
}

int64_t fc_copied(void)
{
    static counter *known;
    return preloaded(&known, "perf_copied");
}

int64_t fc_heap_octets(void)
{
    struct mallinfo2 heap = mallinfo2();
    return (int64_t)(heap.uordblks + heap.hblkhd);
}

int fc_pin(int processor)
{
    cpu_set_t set;

    if (processor < 0 || processor >= CPU_SETSIZE)
        return -1;
    CPU_ZERO(&set);
    CPU_SET(processor, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

void fc_raise_file_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

void fc_keep_heap(int octets)
{
    /* One without the other would end the C library's own adjustment of both. */
    mallopt(M_MMAP_THRESHOLD, octets);
    mallopt(M_TRIM_THRESHOLD, 2 * octets);
}

void fc_processor_name(char *out, int size)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "re");

    out[0] = 0;
    if (!file)
        return;
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, "model name", 10) != 0)
            continue;
        colon[strcspn(colon, "\n")] = 0;
        snprintf(out, (size_t)size, "%s", colon + 2);
        break;
    }
    fclose(file);
}

void fc_kernel_release(char *out, int size)
{
    struct utsname names;

    out[0] = 0;
    if (uname(&names) == 0)
        snprintf(out, (size_t)size, "%s", names.release);
}

const char *fc_library_version(void)
{
    return OpenSSL_version(OPENSSL_VERSION);
}
