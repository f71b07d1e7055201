#include "aead.h"

#if !__has_include(<openssl/ssl.h>)
#error "OpenSSL headers are missing: apt-get install libssl-dev"
#else

#include <endian.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "aead_contexts.h"
#include "meter_internal.h"

struct fc_aead {
    struct fc_key key;
    uint8_t iv[FC_NONCE_LENGTH];
};

struct fc_mask {
    struct fc_key key;
};

/* Algorithms are fetched once: OpenSSL looks one up for longer than it takes to use it for a key. */
static struct {
    EVP_CIPHER *aead[3], *mask[3];
    EVP_MD *hash[2];
} fetched;
static pthread_once_t fetched_once = PTHREAD_ONCE_INIT;

static void fetch(void)
{
    static const char *aead[] = { "AES-128-GCM", "AES-256-GCM", "ChaCha20-Poly1305" };
    static const char *mask[] = { "AES-128-ECB", "AES-256-ECB", "ChaCha20" };
    for (int i = 0; i < 3; i++) {
        fetched.aead[i] = EVP_CIPHER_fetch(NULL, aead[i], NULL);
        fetched.mask[i] = EVP_CIPHER_fetch(NULL, mask[i], NULL);
    }
    fetched.hash[0] = EVP_MD_fetch(NULL, "SHA256", NULL);
    fetched.hash[1] = EVP_MD_fetch(NULL, "SHA384", NULL);
}

static int suite_index(uint16_t suite)
{
    pthread_once(&fetched_once, fetch);
    return suite >= 0x1301 && suite <= 0x1303 ? suite - 0x1301 : -1;
}

static const EVP_CIPHER *aead_cipher(uint16_t suite)
{
    int index = suite_index(suite);
    return index < 0 ? NULL : fetched.aead[index];
}

static const EVP_CIPHER *mask_cipher(uint16_t suite)
{
    int index = suite_index(suite);
    return index < 0 ? NULL : fetched.mask[index];
}

size_t fc_key_length(uint16_t suite)
{
    const EVP_CIPHER *cipher = aead_cipher(suite);
    return cipher ? (size_t)EVP_CIPHER_get_key_length(cipher) : 0;
}

fc_aead *fc_aead_new(
    uint16_t suite, int sealing, int ipsec_mb, const uint8_t *key, const uint8_t iv[FC_NONCE_LENGTH])
{
    const EVP_CIPHER *cipher = aead_cipher(suite);
    fc_aead *aead = cipher ? malloc(sizeof *aead) : NULL;
    if (!aead)
        return NULL;
    memcpy(aead->iv, iv, FC_NONCE_LENGTH);
    fc_key_init(
        &aead->key, sealing ? FC_SEALING : FC_OPENING, suite, cipher, ipsec_mb && fc_gcm_offers(suite), key);
    return aead;
}

void fc_aead_free(fc_aead *aead)
{
    if (!aead)
        return;
    fc_key_clear(&aead->key);
    OPENSSL_cleanse(aead->iv, sizeof aead->iv);
    free(aead);
}

fc_mask *fc_mask_new(uint16_t suite, const uint8_t *key)
{
    const EVP_CIPHER *cipher = mask_cipher(suite);
    fc_mask *mask = cipher ? malloc(sizeof *mask) : NULL;
    if (!mask)
        return NULL;
    fc_key_init(&mask->key, FC_MASKING, suite, cipher, 0, key);
    return mask;
}

void fc_mask_free(fc_mask *mask)
{
    if (!mask)
        return;
    fc_key_clear(&mask->key);
    free(mask);
}

/* The IV xor the path ID in the first 4 octets and the packet number in the last 8. */
static void make_nonce(const fc_aead *aead, const fc_packet *packet, uint8_t nonce[FC_NONCE_LENGTH])
{
    uint32_t path;
    uint64_t number;

    memcpy(&path, aead->iv, sizeof path);
    memcpy(&number, aead->iv + 4, sizeof number);
    path ^= htobe32(packet->path);
    number ^= htobe64(packet->number);
    memcpy(nonce, &path, sizeof path);
    memcpy(nonce + 4, &number, sizeof number);
}

static size_t header_length(const fc_packet *packet)
{
    return packet->payload_offset - packet->start;
}

static size_t text_length(const fc_packet *packet)
{
    return packet->end - packet->payload_offset - FC_TAG_LENGTH;
}

/* Sets the nonce and runs OpenSSL's cipher over header and payload: all but the tag. */
static int run_cipher(EVP_CIPHER_CTX *context, const uint8_t *nonce, uint8_t *buffer, const fc_packet *packet)
{
    uint8_t *payload = buffer + packet->payload_offset;
    int length = (int)text_length(packet), written;

    if (EVP_CipherInit_ex(context, NULL, NULL, NULL, nonce, -1) != 1)
        return -1;
    if (EVP_CipherUpdate(context, NULL, &written, buffer + packet->start, (int)header_length(packet)) != 1)
        return -1;
    if (length > 0 && EVP_CipherUpdate(context, payload, &written, payload, length) != 1)
        return -1;
    return 0;
}

static int seal_one(const fc_aead *aead, const struct fc_context *context, uint8_t *buffer, const fc_packet *packet)
{
    uint8_t nonce[FC_NONCE_LENGTH];
    uint8_t *tag = buffer + packet->end - FC_TAG_LENGTH;
    int written;

    make_nonce(aead, packet, nonce);
    if (aead->key.ipsec_mb) {
        fc_gcm_run(context->gcm->seal, context->gcm, nonce, buffer + packet->start, header_length(packet),
            buffer + packet->payload_offset, text_length(packet), tag);
        return 0;
    }
    if (run_cipher(context->evp, nonce, buffer, packet) != 0)
        return -1;
    if (EVP_CipherFinal_ex(context->evp, tag, &written) != 1)
        return -1;
    /* What EVP_CIPHER_CTX_ctrl comes to after a long way. */
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, FC_TAG_LENGTH), OSSL_PARAM_END};
    return EVP_CIPHER_CTX_get_params(context->evp, parameters) == 1 ? 0 : -1;
}

/* Turns samples into blocks of which the first 5 octets are masks (RFC 9001 sections 5.4.3 and 5.4.4). */
static int encrypt_samples(fc_mask *mask, uint8_t (*blocks)[FC_TAG_LENGTH], size_t count)
{
    static const uint8_t zeros[5];
    const struct fc_context *context = fc_key_context(&mask->key);
    int written;

    if (!context)
        return -1;
    /* ChaCha20 takes each sample as its counter and nonce; AES encrypts all samples of a batch at once. */
    if (mask->key.suite != 0x1303)
        return EVP_EncryptUpdate(context->evp, *blocks, &written, *blocks, (int)(count * FC_TAG_LENGTH)) == 1 ? 0 : -1;
    for (size_t i = 0; i < count; i++)
        if (EVP_EncryptInit_ex(context->evp, NULL, NULL, NULL, blocks[i]) != 1
            || EVP_EncryptUpdate(context->evp, blocks[i], &written, zeros, sizeof zeros) != 1)
            return -1;
    return 0;
}

static int make_masks(
    fc_mask *mask, const uint8_t *buffer, const fc_packet *packets, size_t count, uint8_t (*blocks)[FC_TAG_LENGTH])
{
    for (size_t i = 0; i < count; i++)
        memcpy(blocks[i], buffer + packets[i].number_offset + 4, FC_TAG_LENGTH);
    return encrypt_samples(mask, blocks, count);
}

/* The low bits of the first octet (RFC 9001 section 5.4.1). */
static void mask_first(uint8_t *first, const uint8_t *mask)
{
    *first ^= mask[0] & (*first & 0x80 ? 0x0f : 0x1f);
}

static void mask_number(uint8_t *number, const uint8_t *mask, size_t length)
{
    uint32_t word, bits;

    if (length != 4) {
        for (size_t i = 0; i < length; i++)
            number[i] ^= mask[1 + i];
        return;
    }
    memcpy(&word, number, sizeof word);
    memcpy(&bits, mask + 1, sizeof bits);
    word ^= bits;
    memcpy(number, &word, sizeof word);
}

static void mask_header(uint8_t *buffer, const fc_packet *packet, const uint8_t *mask)
{
    mask_first(buffer + packet->start, mask);
    mask_number(buffer + packet->number_offset, mask, packet->payload_offset - packet->number_offset);
}

void fc_mask_again(uint8_t *buffer, const fc_packet *packet)
{
    mask_header(buffer, packet, (const uint8_t *)&packet->mask);
}

static int unmask_all(fc_mask *mask, uint8_t *buffer, fc_packet *packets, size_t count)
{
    uint8_t blocks[FC_BATCH_MAX][FC_TAG_LENGTH];

    if (count > FC_BATCH_MAX || make_masks(mask, buffer, packets, count, blocks) != 0)
        return -1;
    for (size_t i = 0; i < count; i++) {
        fc_packet *packet = &packets[i];
        uint8_t *first = buffer + packet->start, *number = buffer + packet->number_offset;
        mask_first(first, blocks[i]);
        size_t length = (*first & 3u) + 1;
        mask_number(number, blocks[i], length);
        packet->payload_offset = packet->number_offset + length;
        packet->number = 0;
        for (size_t k = 0; k < length; k++)
            packet->number = packet->number << 8 | number[k];
        memcpy(&packet->mask, blocks[i], sizeof packet->mask);
    }
    return 0;
}

int fc_unmask(fc_mask *mask, uint8_t *buffer, fc_packet *packets, size_t count)
{
    int64_t begin = fc_part_begin();
    int outcome = unmask_all(mask, buffer, packets, count);

    fc_part_end(&fc_split_state.times.cryptography, begin);
    return outcome;
}

static int seal_all(fc_aead *aead, fc_mask *mask, uint8_t *buffer, const fc_packet *packets, size_t count)
{
    uint8_t blocks[FC_BATCH_MAX][FC_TAG_LENGTH];

    const struct fc_context *context = fc_key_context(&aead->key);

    if (!context || count > FC_BATCH_MAX)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (seal_one(aead, context, buffer, &packets[i]) != 0)
            return -1;
    if (!mask)
        return 0;
    if (make_masks(mask, buffer, packets, count, blocks) != 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        mask_header(buffer, &packets[i], blocks[i]);
    return 0;
}

int fc_seal(fc_aead *aead, fc_mask *mask, uint8_t *buffer, const fc_packet *packets, size_t count)
{
    int64_t begin = fc_part_begin();
    int outcome = seal_all(aead, mask, buffer, packets, count);

    fc_part_end(&fc_split_state.times.cryptography, begin);
    return outcome;
}

static int seal_run(fc_aead *aead, fc_mask *mask, uint8_t *buffer, const fc_run *run)
{
    uint8_t blocks[FC_BATCH_MAX][FC_TAG_LENGTH];
    uint8_t *first = buffer + run->start;
    size_t number = run->header_length;
    fc_packet packet = {
        .start = run->start, .payload_offset = run->start + number + 4, .number = run->number, .path = run->path};
    const struct fc_context *context = fc_key_context(&aead->key);

    if (!context)
        return -1;
    while (packet.start < run->end) {
        size_t count = 0;
        for (; packet.start < run->end && count < FC_BATCH_MAX; count++) {
            size_t rest = run->end - packet.start;
            packet.end = packet.start + (rest < run->packet_size ? rest : run->packet_size);
            if (seal_one(aead, context, buffer, &packet) != 0)
                return -1;
            memcpy(blocks[count], buffer + packet.payload_offset, FC_TAG_LENGTH);
            packet.start += run->packet_size;
            packet.payload_offset += run->packet_size;
            packet.number++;
        }
        if (encrypt_samples(mask, blocks, count) != 0)
            return -1;
        for (size_t i = 0; i < count; i++, first += run->packet_size) {
            mask_first(first, blocks[i]);
            mask_number(first + number, blocks[i], 4);
        }
    }
    return 0;
}

int fc_seal_run(fc_aead *aead, fc_mask *mask, uint8_t *buffer, const fc_run *run)
{
    int64_t begin = fc_part_begin();
    int outcome = seal_run(aead, mask, buffer, run);

    fc_part_end(&fc_split_state.times.cryptography, begin);
    return outcome;
}

static int open_one(
    const fc_aead *aead, const struct fc_context *context, uint8_t *buffer, const fc_packet *packet)
{
    uint8_t nonce[FC_NONCE_LENGTH];
    uint8_t *tag = buffer + packet->end - FC_TAG_LENGTH;
    uint8_t made[FC_TAG_LENGTH];
    int written;

    make_nonce(aead, packet, nonce);
    /* Both ciphers xor a key stream: a second run with the same nonce gives the ciphertext back. */
    if (aead->key.ipsec_mb) {
        uint8_t *header = buffer + packet->start, *text = buffer + packet->payload_offset;
        fc_gcm_run(context->gcm->open, context->gcm, nonce, header, header_length(packet), text, text_length(packet), made);
        if (CRYPTO_memcmp(made, tag, FC_TAG_LENGTH) == 0)
            return 0;
        fc_gcm_run(context->gcm->seal, context->gcm, nonce, header, header_length(packet), text, text_length(packet), made);
        return -1;
    }
    if (run_cipher(context->evp, nonce, buffer, packet) == 0
        && EVP_CIPHER_CTX_ctrl(context->evp, EVP_CTRL_AEAD_SET_TAG, FC_TAG_LENGTH, tag) == 1
        && EVP_CipherFinal_ex(context->evp, made, &written) == 1)
        return 0;
    run_cipher(context->evp, nonce, buffer, packet);
    return -1;
}

int fc_open(fc_aead *aead, uint8_t *buffer, const fc_packet *packet)
{
    int64_t begin = fc_part_begin();
    const struct fc_context *context = fc_key_context(&aead->key);
    int outcome = context ? open_one(aead, context, buffer, packet) : -1;

    fc_part_end(&fc_split_state.times.cryptography, begin);
    return outcome;
}

/* The number nearest to `expected` that ends with these 32 bits (RFC 9000 appendix A.3). */
static uint64_t decode_number(uint32_t truncated, uint64_t expected)
{
    const uint64_t window = (uint64_t)1 << 32, most = ((uint64_t)1 << 62) - 1;
    uint64_t ahead = (uint32_t)(truncated - (uint32_t)expected);

    if (ahead <= window / 2 ? expected + ahead <= most : expected + ahead < window)
        return expected + ahead;
    return expected + ahead - window;
}

static uint64_t open_run(
    fc_aead *aead, fc_mask *mask, uint8_t *buffer, const fc_run *run, uint64_t wanted, uint64_t *numbers)
{
    uint8_t blocks[FC_BATCH_MAX][FC_TAG_LENGTH];
    const struct fc_context *context = fc_key_context(&aead->key);
    const size_t length = run->header_length;
    size_t count = (run->end - run->start + run->packet_size - 1) / run->packet_size;
    uint8_t *first = buffer + run->start;
    uint64_t opened = 0;

    if (!context || count > FC_BATCH_MAX)
        return 0;
    for (size_t i = 0; i < count; i++)
        memcpy(blocks[i], first + i * run->packet_size + length + 4, FC_TAG_LENGTH);
    if (encrypt_samples(mask, blocks, count) != 0)
        return 0;
    fc_packet packet = {.start = run->start, .payload_offset = run->start + length + 4, .path = run->path};
    for (size_t i = 0; i < count; i++, first += run->packet_size) {
        if (wanted >> i & 1) {
            size_t rest = run->end - packet.start;
            uint32_t truncated;
            packet.end = packet.start + (rest < run->packet_size ? rest : run->packet_size);
            mask_first(first, blocks[i]);
            mask_number(first + length, blocks[i], 4);
            memcpy(&truncated, first + length, sizeof truncated);
            packet.number = numbers[i] = decode_number(be32toh(truncated), run->number);
            if ((*first & 3) == 3 && open_one(aead, context, buffer, &packet) == 0) {
                opened |= (uint64_t)1 << i;
            } else {
                mask_first(first, blocks[i]);
                mask_number(first + length, blocks[i], 4);
            }
        }
        packet.start += run->packet_size;
        packet.payload_offset += run->packet_size;
    }
    return opened;
}

uint64_t fc_open_run(
    fc_aead *aead, fc_mask *mask, uint8_t *buffer, const fc_run *run, uint64_t wanted, uint64_t *numbers)
{
    int64_t begin = fc_part_begin();
    uint64_t opened = open_run(aead, mask, buffer, run, wanted, numbers);

    fc_part_end(&fc_split_state.times.cryptography, begin);
    return opened;
}

/* One half of RFC 2104: the hash of the padded key and of the data. */
static int hash_padded(
    EVP_MD_CTX *context, const EVP_MD *hash, const uint8_t *key, size_t block, uint8_t pad, const uint8_t *data,
    size_t length, uint8_t *out)
{
    uint8_t padded[128];
    for (size_t i = 0; i < block; i++)
        padded[i] = key[i] ^ pad;
    int done = EVP_DigestInit_ex(context, hash, NULL) == 1 && EVP_DigestUpdate(context, padded, block) == 1
        && EVP_DigestUpdate(context, data, length) == 1 && EVP_DigestFinal_ex(context, out, NULL) == 1;
    OPENSSL_cleanse(padded, sizeof padded);
    return done;
}

/* OpenSSL's own HMAC sets up a method, a context and a hash each time, for longer than it hashes a label. */
int fc_hmac(int sha384, const uint8_t *key, size_t key_length, const uint8_t *data, size_t length, uint8_t *out)
{
    static _Thread_local EVP_MD_CTX *context;
    uint8_t block_key[128] = { 0 }, inner[EVP_MAX_MD_SIZE];
    const size_t size = sha384 ? 48 : 32, block = sha384 ? 128 : 64;
    pthread_once(&fetched_once, fetch);
    const EVP_MD *hash = fetched.hash[sha384 ? 1 : 0];
    if (!hash || (!context && !(context = EVP_MD_CTX_new())))
        return -1;
    if (key_length <= block)
        memcpy(block_key, key, key_length);
    else if (EVP_Digest(key, key_length, block_key, NULL, hash, NULL) != 1)
        return -1;
    int done = hash_padded(context, hash, block_key, block, 0x36, data, length, inner)
        && hash_padded(context, hash, block_key, block, 0x5c, inner, size, out);
    OPENSSL_cleanse(block_key, sizeof block_key);
    OPENSSL_cleanse(inner, sizeof inner);
    return done ? 0 : -1;
}

int fc_equal(const uint8_t *a, const uint8_t *b, size_t length)
{
    return CRYPTO_memcmp(a, b, length) == 0;
}

#endif
