#include "aead_contexts.h"

#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Keys in use at the same time for which none has to be expanded again. */
enum { slot_count = 8 };

struct slot {
    uint64_t serial; /* of the key it holds, 0 for none */
    const EVP_CIPHER *cipher;
    struct fc_context context;
};

struct slots {
    struct slot of[FC_CONTEXT_KINDS][slot_count];
    /* IPSec-MB's contexts know no direction. */
    struct slot ipsec_mb[slot_count];
    uint8_t next[FC_CONTEXT_KINDS + 1];
};

static _Thread_local struct slots *slots;
static pthread_key_t at_exit;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Atomic uint64_t serials = 1;

static void free_slots(void *memory)
{
    struct slots *all = memory;

    for (size_t i = 0; i < slot_count; i++) {
        for (size_t kind = 0; kind < FC_CONTEXT_KINDS; kind++)
            EVP_CIPHER_CTX_free(all->of[kind][i].context.evp);
        fc_gcm_free(all->ipsec_mb[i].context.gcm);
    }
    free(all);
}

static void prepare(void)
{
    pthread_key_create(&at_exit, free_slots);
}

static struct slots *slots_of_thread(void)
{
    if (!slots && (slots = calloc(1, sizeof *slots))) {
        pthread_once(&once, prepare);
        pthread_setspecific(at_exit, slots);
    }
    return slots;
}

static struct slot *kind_of(struct slots *all, const struct fc_key *key)
{
    return key->ipsec_mb ? all->ipsec_mb : all->of[key->kind];
}

void fc_key_init(
    struct fc_key *key, enum fc_context_kind kind, uint16_t suite, const EVP_CIPHER *cipher, int ipsec_mb,
    const uint8_t *octets)
{
    *key = (struct fc_key){
        .serial = atomic_fetch_add_explicit(&serials, 1, memory_order_relaxed),
        .cipher = cipher,
        .suite = suite,
        .kind = (uint8_t)kind,
        .ipsec_mb = ipsec_mb != 0,
    };
    memcpy(key->octets, octets, (size_t)EVP_CIPHER_get_key_length(cipher));
}

void fc_key_clear(struct fc_key *key)
{
    if (slots) {
        struct slot *slot = &kind_of(slots, key)[key->slot];
        if (slot->serial == key->serial) {
            slot->serial = 0;
            slot->cipher = NULL;
            if (key->ipsec_mb)
                fc_gcm_clear(slot->context.gcm);
            else
                EVP_CIPHER_CTX_reset(slot->context.evp);
        }
    }
    OPENSSL_cleanse(key, sizeof *key);
}

static int hold(struct slot *slot, const struct fc_key *key)
{
    if (key->ipsec_mb) {
        if (!slot->context.gcm && !(slot->context.gcm = fc_gcm_new()))
            return -1;
        fc_gcm_use(slot->context.gcm, key->suite, key->octets);
        return 0;
    }
    if (!slot->context.evp && !(slot->context.evp = EVP_CIPHER_CTX_new()))
        return -1;
    /* The same cipher again only takes another key. */
    if (slot->cipher == key->cipher)
        return EVP_CipherInit_ex(slot->context.evp, NULL, NULL, key->octets, NULL, -1) == 1 ? 0 : -1;
    slot->cipher = key->cipher;
    if (EVP_CipherInit_ex(slot->context.evp, key->cipher, NULL, key->octets, NULL, key->kind != FC_OPENING) != 1)
        return -1;
    return key->kind != FC_MASKING || EVP_CIPHER_CTX_set_padding(slot->context.evp, 0) == 1 ? 0 : -1;
}

const struct fc_context *fc_key_context(struct fc_key *key)
{
    struct slots *all = slots_of_thread();

    if (!all)
        return NULL;
    struct slot *held = kind_of(all, key), *slot = &held[key->slot];
    if (slot->serial == key->serial)
        return &slot->context;
    uint8_t *next = &all->next[key->ipsec_mb ? FC_CONTEXT_KINDS : key->kind];
    key->slot = *next;
    *next = (uint8_t)((*next + 1) % slot_count);
    slot = &held[key->slot];
    slot->serial = 0;
    if (hold(slot, key) != 0) {
        slot->cipher = NULL;
        return NULL;
    }
    slot->serial = key->serial;
    return &slot->context;
}
