// AES-GCM by Intel's IPSec-MB library, which makes use of VAES and AVX-512 where OpenSSL 3.0 does not. The library is
// looked for when the program runs. Of all that it has, the kernels for a whole message are used, by their names: they take
// opaque key and context blocks, so that no layout of the library's own has to be known here.

#define _GNU_SOURCE
#include "aead_ipsec.h"

#include <dlfcn.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/aead.h"

enum { alignment = 64 };

typedef void prepare_kernel(const void *key, void *expanded);

struct kernels {
    prepare_kernel *prepare;
    fc_gcm_crypt *seal, *open;
};

static struct {
    struct kernels aes128, aes256;
    char name[96];   /* empty when it cannot be used */
    char reason[160];
} library;

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* The best kernels for this processor: how the library names them, and what they use. */
static const char *best_kernels(const char **what)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    int aes = __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
    *what = "VAES and AVX-512";
    if (aes && __builtin_cpu_supports("vaes") && __builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("bmi2")
        && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return "vaes_avx512";
    *what = "AVX2";
    if (aes && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"))
        return "avx_gen4";
    *what = "AVX";
    if (aes && __builtin_cpu_supports("avx"))
        return "avx_gen2";
    *what = "SSE";
    if (aes && __builtin_cpu_supports("sse4.2"))
        return "sse";
#endif
    return NULL;
}

static void *kernel(void *handle, const char *work, int bits, const char *suffix)
{
    char name[64];

    snprintf(name, sizeof name, "aes_gcm_%s_%d_%s", work, bits, suffix);
    return dlsym(handle, name);
}

static int find(void *handle, struct kernels *out, int bits, const char *suffix)
{
    out->prepare = (prepare_kernel *)kernel(handle, "pre", bits, suffix);
    out->seal = (fc_gcm_crypt *)kernel(handle, "enc", bits, suffix);
    out->open = (fc_gcm_crypt *)kernel(handle, "dec", bits, suffix);
    return out->prepare && out->seal && out->open;
}

/* Whether a message of `length` octets comes out as from OpenSSL, and comes back. */
static int agrees(const struct kernels *kernels, const EVP_CIPHER *cipher, size_t length)
{
    uint8_t key[32], nonce[FC_NONCE_LENGTH], header[13], text[256], ours[256], theirs[256], tag[2][FC_TAG_LENGTH];
    _Alignas(alignment) struct fc_gcm gcm;
    EVP_CIPHER_CTX *evp = EVP_CIPHER_CTX_new();
    int written;

    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(i * 7 + length);
    memcpy(key, text + 3, sizeof key);
    memcpy(nonce, text + 5, sizeof nonce);
    memcpy(header, text + 9, sizeof header);
    int ok = evp && EVP_EncryptInit_ex(evp, cipher, NULL, key, nonce) == 1
        && EVP_EncryptUpdate(evp, NULL, &written, header, sizeof header) == 1
        && EVP_EncryptUpdate(evp, theirs, &written, text, (int)length) == 1
        && EVP_EncryptFinal_ex(evp, theirs + length, &written) == 1
        && EVP_CIPHER_CTX_ctrl(evp, EVP_CTRL_AEAD_GET_TAG, FC_TAG_LENGTH, tag[0]) == 1;
    EVP_CIPHER_CTX_free(evp);
    if (!ok)
        return 0;
    kernels->prepare(key, gcm.expanded);
    kernels->seal(gcm.expanded, gcm.context, ours, text, length, nonce, header, sizeof header, tag[1], FC_TAG_LENGTH);
    if (memcmp(ours, theirs, length) != 0 || memcmp(tag[0], tag[1], FC_TAG_LENGTH) != 0)
        return 0;
    kernels->open(gcm.expanded, gcm.context, ours, ours, length, nonce, header, sizeof header, tag[1], FC_TAG_LENGTH);
    return memcmp(ours, text, length) == 0 && memcmp(tag[0], tag[1], FC_TAG_LENGTH) == 0;
}

static int all_agree(void)
{
    static const size_t lengths[] = {1, 15, 16, 17, 64, 129, 250};

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        if (!agrees(&library.aes128, EVP_aes_128_gcm(), lengths[i])
            || !agrees(&library.aes256, EVP_aes_256_gcm(), lengths[i]))
            return 0;
    return 1;
}

static void load(void)
{
    static const char file[] = "libIPSec_MB.so.1";
    const char *what, *suffix = best_kernels(&what);

    if (!suffix) {
        snprintf(library.reason, sizeof library.reason, "this processor has no AES instructions that it knows");
        return;
    }
    void *handle = dlopen(file, RTLD_NOW | RTLD_LOCAL);
    if (!handle) {
        snprintf(library.reason, sizeof library.reason, "%s is not installed (Debian: libipsec-mb1)", file);
        return;
    }
    if (!find(handle, &library.aes128, 128, suffix) || !find(handle, &library.aes256, 256, suffix)) {
        snprintf(library.reason, sizeof library.reason, "%s has no function aes_gcm_enc_128_%s", file, suffix);
        return;
    }
    if (!all_agree()) {
        snprintf(library.reason, sizeof library.reason, "%s gives other octets than OpenSSL", file);
        return;
    }
    const char *(*version)(void) = (const char *(*)(void))dlsym(handle, "imb_get_version_str");
    snprintf(library.name, sizeof library.name, "Intel IPSec-MB %s, %s", version ? version() : "", what);
}

static const struct kernels *kernels_of(uint16_t suite)
{
    return suite == 0x1301 ? &library.aes128 : suite == 0x1302 ? &library.aes256 : NULL;
}

int fc_gcm_offers(uint16_t suite)
{
    return kernels_of(suite) && fc_ipsec_mb();
}

struct fc_gcm *fc_gcm_new(void)
{
    return aligned_alloc(alignment, (sizeof(struct fc_gcm) + alignment - 1) / alignment * alignment);
}

void fc_gcm_use(struct fc_gcm *gcm, uint16_t suite, const uint8_t *key)
{
    const struct kernels *kernels = kernels_of(suite);

    gcm->seal = kernels->seal;
    gcm->open = kernels->open;
    kernels->prepare(key, gcm->expanded);
}

void fc_gcm_clear(struct fc_gcm *gcm)
{
    OPENSSL_cleanse(gcm, sizeof *gcm);
}

void fc_gcm_free(struct fc_gcm *gcm)
{
    if (!gcm)
        return;
    fc_gcm_clear(gcm);
    free(gcm);
}

const char *fc_ipsec_mb(void)
{
    pthread_once(&once, load);
    return library.name[0] ? library.name : NULL;
}

const char *fc_ipsec_mb_reason(void)
{
    pthread_once(&once, load);
    return library.reason;
}
