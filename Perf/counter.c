// Counts what each thread asks of the C library. Preloaded (LD_PRELOAD), its functions stand before the C library's own:
// the counts are exact. `flexicast perf` finds them by name.

#include <errno.h>
#include <stddef.h>
#include <stdint.h>

/// Shorter copies are values and headers, no payloads.
enum { copy_least = 128 };

// glibc keeps its own allocator reachable under these names for exactly this.
extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);

// Not found by a call, which would allocate.
static _Thread_local struct {
    uint64_t allocations, copied;
} counts __attribute__((tls_model("initial-exec")));

/// Heap allocations of the calling thread so far.
uint64_t perf_allocations(void) {
    return counts.allocations;
}

/// Octets that memcpy and memmove have moved for the calling thread, in pieces as large as a payload.
uint64_t perf_copied(void) {
    return counts.copied;
}

void *malloc(size_t size) {
    counts.allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
    counts.allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
    counts.allocations++;
    return __libc_realloc(old, size);
}

void *memalign(size_t alignment, size_t size) {
    counts.allocations++;
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) {
    counts.allocations++;
    return __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    counts.allocations++;
    void *memory = __libc_memalign(alignment, size);
    if (!memory) return ENOMEM;
    *out = memory;
    return 0;
}

static void copy_up(unsigned char *to, const unsigned char *from, size_t count) {
#ifdef __x86_64__
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
#else
    while (count--) {
        *to++ = *from++;
        __asm__ volatile("" : : : "memory");  // or the compiler calls memcpy for it
    }
#endif
}

static void note(size_t count) {
    if (count >= copy_least) counts.copied += count;
}

void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    note(count);
    copy_up(to, from, count);
    return to;
}

void *memmove(void *to, const void *from, size_t count) {
    note(count);
    unsigned char *target = to;
    const unsigned char *source = from;
    if ((uintptr_t)target - (uintptr_t)source >= count) {
        copy_up(target, source, count);
    } else {
        while (count--) {
            target[count] = source[count];
            __asm__ volatile("" : : : "memory");
        }
    }
    return to;
}
