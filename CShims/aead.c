#include "aead.h"

#if !__has_include(<openssl/ssl.h>)
#error "OpenSSL headers are missing: apt-get install libssl-dev"
#else

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdlib.h>
#include <string.h>

struct fc_aead {
    EVP_CIPHER_CTX *context;
    uint8_t iv[FC_NONCE_LENGTH];
};

struct fc_mask {
    EVP_CIPHER_CTX *context;
    /* ChaCha20 takes each sample as its counter and nonce; AES encrypts all samples of a batch at once. */
    int is_chacha;
};

static const EVP_CIPHER *aead_cipher(uint16_t suite)
{
    switch (suite) {
    case 0x1301: return EVP_aes_128_gcm();
    case 0x1302: return EVP_aes_256_gcm();
    case 0x1303: return EVP_chacha20_poly1305();
    default: return NULL;
    }
}

static const EVP_CIPHER *mask_cipher(uint16_t suite)
{
    switch (suite) {
    case 0x1301: return EVP_aes_128_ecb();
    case 0x1302: return EVP_aes_256_ecb();
    case 0x1303: return EVP_chacha20();
    default: return NULL;
    }
}

size_t fc_key_length(uint16_t suite)
{
    const EVP_CIPHER *cipher = aead_cipher(suite);
    return cipher ? (size_t)EVP_CIPHER_get_key_length(cipher) : 0;
}

fc_aead *fc_aead_new(uint16_t suite, int sealing, const uint8_t *key, const uint8_t iv[FC_NONCE_LENGTH])
{
    const EVP_CIPHER *cipher = aead_cipher(suite);
    fc_aead *aead = cipher ? calloc(1, sizeof *aead) : NULL;
    if (!aead)
        return NULL;
    memcpy(aead->iv, iv, FC_NONCE_LENGTH);
    aead->context = EVP_CIPHER_CTX_new();
    if (!aead->context || EVP_CipherInit_ex(aead->context, cipher, NULL, key, NULL, sealing != 0) != 1) {
        fc_aead_free(aead);
        return NULL;
    }
    return aead;
}

void fc_aead_free(fc_aead *aead)
{
    if (!aead)
        return;
    EVP_CIPHER_CTX_free(aead->context);
    OPENSSL_cleanse(aead->iv, sizeof aead->iv);
    free(aead);
}

fc_mask *fc_mask_new(uint16_t suite, const uint8_t *key)
{
    const EVP_CIPHER *cipher = mask_cipher(suite);
    fc_mask *mask = cipher ? calloc(1, sizeof *mask) : NULL;
    if (!mask)
        return NULL;
    mask->is_chacha = suite == 0x1303;
    mask->context = EVP_CIPHER_CTX_new();
    if (!mask->context || EVP_EncryptInit_ex(mask->context, cipher, NULL, key, NULL) != 1
        || EVP_CIPHER_CTX_set_padding(mask->context, 0) != 1) {
        fc_mask_free(mask);
        return NULL;
    }
    return mask;
}

void fc_mask_free(fc_mask *mask)
{
    if (!mask)
        return;
    EVP_CIPHER_CTX_free(mask->context);
    free(mask);
}

/* The IV xor the path ID in the first 4 octets and the packet number in the last 8. */
static void make_nonce(const fc_aead *aead, const fc_packet *packet, uint8_t nonce[FC_NONCE_LENGTH])
{
    for (int i = 0; i < 4; i++)
        nonce[i] = aead->iv[i] ^ (uint8_t)(packet->path >> (24 - 8 * i));
    for (int i = 0; i < 8; i++)
        nonce[4 + i] = aead->iv[4 + i] ^ (uint8_t)(packet->number >> (56 - 8 * i));
}

/* Sets the nonce and runs the cipher over header and payload: all but the tag. */
static int run_cipher(fc_aead *aead, uint8_t *buffer, const fc_packet *packet)
{
    uint8_t nonce[FC_NONCE_LENGTH];
    uint8_t *payload = buffer + packet->payload_offset;
    int header_length = (int)(packet->payload_offset - packet->start);
    int length = (int)(packet->end - packet->payload_offset) - FC_TAG_LENGTH;
    int written;

    make_nonce(aead, packet, nonce);
    if (EVP_CipherInit_ex(aead->context, NULL, NULL, NULL, nonce, -1) != 1)
        return -1;
    if (EVP_CipherUpdate(aead->context, NULL, &written, buffer + packet->start, header_length) != 1)
        return -1;
    if (length > 0 && EVP_CipherUpdate(aead->context, payload, &written, payload, length) != 1)
        return -1;
    return 0;
}

static int seal_one(fc_aead *aead, uint8_t *buffer, const fc_packet *packet)
{
    uint8_t *tag = buffer + packet->end - FC_TAG_LENGTH;
    int written;

    if (run_cipher(aead, buffer, packet) != 0)
        return -1;
    if (EVP_CipherFinal_ex(aead->context, tag, &written) != 1)
        return -1;
    return EVP_CIPHER_CTX_ctrl(aead->context, EVP_CTRL_AEAD_GET_TAG, FC_TAG_LENGTH, tag) == 1 ? 0 : -1;
}

/* RFC 9001 section 5.4.1: the low bits of the first octet, then each octet of the packet number. */
static void apply_mask(uint8_t *buffer, const fc_packet *packet, const uint8_t *mask)
{
    uint8_t *first = buffer + packet->start;
    uint8_t *number = buffer + packet->number_offset;
    size_t length = packet->payload_offset - packet->number_offset;

    *first ^= mask[0] & (*first & 0x80 ? 0x0f : 0x1f);
    for (size_t i = 0; i < length; i++)
        number[i] ^= mask[1 + i];
}

int fc_mask_make(fc_mask *mask, const uint8_t sample[FC_TAG_LENGTH], uint8_t out[5])
{
    static const uint8_t zeros[5];
    uint8_t block[FC_TAG_LENGTH];
    int written;

    if (mask->is_chacha) {
        if (EVP_EncryptInit_ex(mask->context, NULL, NULL, NULL, sample) != 1)
            return -1;
        return EVP_EncryptUpdate(mask->context, out, &written, zeros, sizeof zeros) == 1 ? 0 : -1;
    }
    if (EVP_EncryptUpdate(mask->context, block, &written, sample, FC_TAG_LENGTH) != 1)
        return -1;
    memcpy(out, block, 5);
    return 0;
}

static int mask_headers(fc_mask *mask, uint8_t *buffer, const fc_packet *packets, size_t count)
{
    uint8_t blocks[FC_SEAL_MAX * FC_TAG_LENGTH];
    int written;

    for (size_t i = 0; i < count; i++)
        memcpy(blocks + i * FC_TAG_LENGTH, buffer + packets[i].number_offset + 4, FC_TAG_LENGTH);
    if (mask->is_chacha) {
        for (size_t i = 0; i < count; i++) {
            uint8_t *block = blocks + i * FC_TAG_LENGTH;
            uint8_t out[5];
            if (fc_mask_make(mask, block, out) != 0)
                return -1;
            memcpy(block, out, sizeof out);
        }
    } else if (EVP_EncryptUpdate(mask->context, blocks, &written, blocks, (int)(count * FC_TAG_LENGTH)) != 1) {
        return -1;
    }
    for (size_t i = 0; i < count; i++)
        apply_mask(buffer, &packets[i], blocks + i * FC_TAG_LENGTH);
    return 0;
}

int fc_seal(fc_aead *aead, fc_mask *mask, uint8_t *buffer, const fc_packet *packets, size_t count)
{
    if (count > FC_SEAL_MAX)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (seal_one(aead, buffer, &packets[i]) != 0)
            return -1;
    return mask ? mask_headers(mask, buffer, packets, count) : 0;
}

int fc_open(fc_aead *aead, uint8_t *buffer, const fc_packet *packet)
{
    uint8_t *tag = buffer + packet->end - FC_TAG_LENGTH;
    uint8_t unused[FC_TAG_LENGTH];
    int written;

    if (run_cipher(aead, buffer, packet) == 0
        && EVP_CIPHER_CTX_ctrl(aead->context, EVP_CTRL_AEAD_SET_TAG, FC_TAG_LENGTH, tag) == 1
        && EVP_CipherFinal_ex(aead->context, unused, &written) == 1)
        return 0;
    /* Both ciphers xor a key stream: a second run with the same nonce gives the ciphertext back. */
    run_cipher(aead, buffer, packet);
    return -1;
}

int fc_hmac(int sha384, const uint8_t *key, size_t key_length, const uint8_t *data, size_t length, uint8_t *out)
{
    const EVP_MD *hash = sha384 ? EVP_sha384() : EVP_sha256();
    unsigned written;
    return HMAC(hash, key, (int)key_length, data, length, out, &written) ? 0 : -1;
}

int fc_equal(const uint8_t *a, const uint8_t *b, size_t length)
{
    return CRYPTO_memcmp(a, b, length) == 0;
}

#endif
