#pragma once

#include <stddef.h>

/*
 * Sends a line of text to a service manager (sd_notify(3)). `path`: of its socket; with an @ in front a name in the abstract
 * namespace. Returns 0, or a negative errno. Never waits.
 */
int fc_service_tell(const char *path, const char *text, size_t length);
