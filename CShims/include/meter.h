#pragma once

#include <stdint.h>

/* For measurements of our own work. */

/* Nanoseconds of CPU that the calling thread has used. */
int64_t fc_thread_time(void);

/* Where a thread's CPU time goes, in nanoseconds. */
struct fc_split_times {
    int64_t io;           /* calls into the kernel to wait, receive and send */
    int64_t cryptography; /* packet protection (sealing, opening, header masks) and TLS */
    int64_t clock;        /* the measuring itself */
};

/* Measures where the calling thread's time goes from now on, or no more. Reading the clock costs a system call. */
void fc_split(int on);

/* Totals of the calling thread, of the time that was measured. */
struct fc_split_times fc_split_times(void);

/* Heap allocations of the calling thread so far; -1 unless Perf/counter.c is preloaded. */
int64_t fc_allocations(void);

/* Octets that memcpy and memmove have moved in pieces as large as a payload; -1 likewise. */
int64_t fc_copied(void);

/* Octets of heap that the process has in use, in all of its arenas. */
int64_t fc_heap_octets(void);

/* Keeps the calling thread on one processor. 0, or -1 when there is no such processor for it. */
int fc_pin(int processor);

/* As many open files as the process may have. */
void fc_raise_file_limit(void);

/* Memory that was freed is kept for what is allocated next, for allocations of up to so many octets (32 MiB at the most). */
void fc_keep_heap(int octets);

/* The processor's name into `out`, cut to `size` octets and ended by 0; empty when the kernel does not tell. */
void fc_processor_name(char *out, int size);

/* The running kernel's release into `out`, likewise. */
void fc_kernel_release(char *out, int size);

/* OpenSSL's name and version. */
const char *fc_library_version(void);
