#pragma once
/*
 * Shared by the aead*.c files; not seen by Swift.
 *
 * An expanded key with its context takes a kilobyte of OpenSSL and two of IPSec-MB, and a key is expanded in a fraction of
 * a microsecond. So a key is kept as it is, and each thread has a few contexts that hold the keys it used last: thousands
 * of idle connections have none.
 */

#include <openssl/evp.h>
#include <stdint.h>

#include "aead_ipsec.h"

/* What contexts are for: they are not mixed, because another cipher or direction would take a new set-up. */
enum fc_context_kind { FC_SEALING, FC_OPENING, FC_MASKING, FC_CONTEXT_KINDS };

/* What a context is made from. */
struct fc_key {
    uint64_t serial; /* no other key of this process has it */
    const EVP_CIPHER *cipher;
    uint16_t suite;
    uint8_t kind;
    uint8_t ipsec_mb;
    uint8_t slot; /* where its context was last */
    uint8_t octets[32];
};

/* One of the two is there. */
struct fc_context {
    EVP_CIPHER_CTX *evp;
    struct fc_gcm *gcm;
};

/* Copies the key, which is as long as the cipher's are. With `ipsec_mb`, the library must do the suite. */
void fc_key_init(
    struct fc_key *key, enum fc_context_kind kind, uint16_t suite, const EVP_CIPHER *cipher, int ipsec_mb,
    const uint8_t *octets);
/* Forgets it, in the calling thread's contexts too. */
void fc_key_clear(struct fc_key *key);

/* The context that holds the key, valid until the thread asks for another one; NULL when memory is short. */
const struct fc_context *fc_key_context(struct fc_key *key);
