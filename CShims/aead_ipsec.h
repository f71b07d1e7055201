#pragma once
// Shared by the aead*.c files; not seen by Swift.

#include <stddef.h>
#include <stdint.h>

/* An AES-GCM key of Intel's IPSec-MB library. */
struct fc_gcm;

/* NULL unless the library is there and does the suite. */
struct fc_gcm *fc_gcm_new(uint16_t suite, const uint8_t *key);
void fc_gcm_free(struct fc_gcm *gcm);

/* Encrypts or decrypts `length` octets of `text` in place and computes the 16-octet tag of both. */
void fc_gcm_seal(struct fc_gcm *gcm, const uint8_t *nonce, const uint8_t *header, size_t header_length, uint8_t *text,
    size_t length, uint8_t *tag);
void fc_gcm_open(struct fc_gcm *gcm, const uint8_t *nonce, const uint8_t *header, size_t header_length, uint8_t *text,
    size_t length, uint8_t *tag);
