#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Files that survive a crash whole. Functions return a negative errno when they fail. `directory` is a descriptor of
 * fc_directory_open, or FC_WORKING_DIRECTORY where a path is meant.
 */

#define FC_WORKING_DIRECTORY (-100)

struct fc_file_status {
    uint64_t size;
    uint64_t inode;
    int64_t modified; /* nanoseconds since 1970 */
    bool regular;
    uint32_t mode; /* permissions, as chmod takes them */
};

/* A descriptor of an existing directory. With `lock`, -EWOULDBLOCK when another process holds it locked. */
int fc_directory_open(const char *path, bool lock);
void fc_directory_unlock(int directory);
void fc_directory_close(int directory);

/* Makes the directory's own entries durable. */
int fc_directory_sync(int directory);

/* Writes a file's whole content and makes it durable. Leaves no file behind when it fails. `private`: mode 0600. */
int fc_file_write(int directory, const char *name, const uint8_t *bytes, size_t count, bool private);

/* Renames within the directory, over what is there. */
int fc_file_rename(int directory, const char *from, const char *to);
int fc_file_remove(int directory, const char *name);

int fc_file_status(int directory, const char *name, struct fc_file_status *out);

/* Reads at most `room` octets from the start of a regular file: how many there were. -EINVAL for another kind. */
int64_t fc_file_read(int directory, const char *name, uint8_t *into, size_t room);
