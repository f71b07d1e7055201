#pragma once
#include <stdint.h>

/// What the calling thread has asked of the C library so far. Linking this target into a program, or preloading it as
/// a shared library, puts its functions before the C library's own: the counts are exact, and those of one thread.
struct perf_counts {
    uint64_t allocations;  ///< malloc, calloc, realloc, posix_memalign, aligned_alloc, memalign
    uint64_t copied;       ///< octets that memcpy and memmove moved in pieces of perf_copy_least or more
};

/// Shorter pieces are values and headers, no payloads.
enum { perf_copy_least = 128 };

struct perf_counts perf_counts_now(void);

/// The two alone, found by name where this library is preloaded.
uint64_t perf_allocations(void);
uint64_t perf_copied(void);
