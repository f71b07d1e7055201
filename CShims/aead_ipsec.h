#pragma once
// Shared by the aead*.c files; not seen by Swift.

#include <stddef.h>
#include <stdint.h>

typedef void fc_gcm_crypt(const void *expanded, void *context, uint8_t *out, const uint8_t *in, uint64_t length,
    const uint8_t *nonce, const uint8_t *header, uint64_t header_length, uint8_t *tag, uint64_t tag_length);

/* An AES-GCM key of Intel's IPSec-MB library, expanded, and the state of a message: twice what version 1.5 needs. */
struct fc_gcm {
    uint8_t expanded[2048], context[256];
    fc_gcm_crypt *seal, *open;
};

/* Whether the library is there and does the suite. */
int fc_gcm_offers(uint16_t suite);

/* Room for a key, NULL when memory is short; then the key of a suite that the library does. */
struct fc_gcm *fc_gcm_new(void);
void fc_gcm_use(struct fc_gcm *gcm, uint16_t suite, const uint8_t *key);
/* Overwrites the key. */
void fc_gcm_clear(struct fc_gcm *gcm);
void fc_gcm_free(struct fc_gcm *gcm);

/* Encrypts or decrypts `length` octets of `text` in place and computes the 16-octet tag of both. */
static inline void fc_gcm_run(fc_gcm_crypt *crypt, struct fc_gcm *gcm, const uint8_t *nonce,
    const uint8_t *header, size_t header_length, uint8_t *text, size_t length, uint8_t *tag)
{
    crypt(gcm->expanded, gcm->context, text, text, length, nonce, header, header_length, tag, 16);
}
