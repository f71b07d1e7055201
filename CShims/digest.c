#include "digest.h"

#include <openssl/evp.h>

int fc_sha256(const uint8_t *data, size_t length, uint8_t out[32]) {
    return EVP_Q_digest(NULL, "SHA256", NULL, data, length, out, NULL) == 1 ? 0 : -1;
}

int fc_sha384(const uint8_t *data, size_t length, uint8_t out[48]) {
    return EVP_Q_digest(NULL, "SHA384", NULL, data, length, out, NULL) == 1 ? 0 : -1;
}
