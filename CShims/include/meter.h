#pragma once

#include <stdint.h>

/* For measurements of our own work. */

/* Nanoseconds of CPU that the calling thread has used. */
int64_t fc_thread_time(void);

/* Heap allocations of the calling thread so far; -1 unless Perf/counter.c is preloaded. */
int64_t fc_allocations(void);

/* Octets that memcpy and memmove have moved in pieces as large as a payload; -1 likewise. */
int64_t fc_copied(void);

/* The processor's name into `out`, cut to `size` octets and ended by 0; empty when the kernel does not tell. */
void fc_processor_name(char *out, int size);

/* The running kernel's release into `out`, likewise. */
void fc_kernel_release(char *out, int size);

/* OpenSSL's name and version. */
const char *fc_library_version(void);
