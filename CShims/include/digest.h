#pragma once

#include <stddef.h>
#include <stdint.h>

/* SHA-256 or SHA-384 of `length` octets. Returns 0, or -1 when OpenSSL refuses. */
int fc_sha256(const uint8_t *data, size_t length, uint8_t out[32]);
int fc_sha384(const uint8_t *data, size_t length, uint8_t out[48]);
