#pragma once
// Shared by the aead*.c files; not seen by Swift.

#include <stddef.h>
#include <stdint.h>

/* An AES-GCM key of Intel's IPSec-MB library, expanded, and the state of a message. */
struct fc_gcm;

/* Whether the library is there and does the suite. */
int fc_gcm_offers(uint16_t suite);

/* Room for a key, NULL when memory is short; then the key of a suite that the library does. */
struct fc_gcm *fc_gcm_new(void);
void fc_gcm_use(struct fc_gcm *gcm, uint16_t suite, const uint8_t *key);
/* Overwrites the key. */
void fc_gcm_clear(struct fc_gcm *gcm);
void fc_gcm_free(struct fc_gcm *gcm);

/* Encrypts or decrypts `length` octets of `text` in place and computes the 16-octet tag of both. */
void fc_gcm_seal(struct fc_gcm *gcm, const uint8_t *nonce, const uint8_t *header, size_t header_length, uint8_t *text,
    size_t length, uint8_t *tag);
void fc_gcm_open(struct fc_gcm *gcm, const uint8_t *nonce, const uint8_t *header, size_t header_length, uint8_t *text,
    size_t length, uint8_t *tag);
