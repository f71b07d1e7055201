#include "tls.h"

#if __has_include(<openssl/ssl.h>)

#include "tls_internal.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- A server's own ------------------------------------------------------------------------------------------------ */

int fc_tls_context_use_certificate(fc_tls_context *context, const char *path, char *text)
{
    ERR_clear_error();
    return fc_tls_result(SSL_CTX_use_certificate_chain_file(context->ssl, path), text);
}

int fc_tls_context_use_key(fc_tls_context *context, const char *path, char *text)
{
    ERR_clear_error();
    return fc_tls_result(SSL_CTX_use_PrivateKey_file(context->ssl, path, SSL_FILETYPE_PEM), text);
}

int fc_tls_context_use_pem(fc_tls_context *context, const char *certificate_pem, const char *key_pem, char *text)
{
    ERR_clear_error();
    BIO *certificate_text = BIO_new_mem_buf(certificate_pem, -1), *key_text = BIO_new_mem_buf(key_pem, -1);
    X509 *certificate = certificate_text ? PEM_read_bio_X509(certificate_text, NULL, NULL, NULL) : NULL;
    EVP_PKEY *key = key_text ? PEM_read_bio_PrivateKey(key_text, NULL, NULL, NULL) : NULL;
    int done = certificate && key && SSL_CTX_use_certificate(context->ssl, certificate) == 1
        && SSL_CTX_use_PrivateKey(context->ssl, key) == 1;

    X509_free(certificate);
    EVP_PKEY_free(key);
    BIO_free(certificate_text);
    BIO_free(key_text);
    return fc_tls_result(done, text);
}

static int add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    int added = extension && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return added;
}

/* What was written to `bio`, as text. */
static int copy_text(BIO *bio, char *out, size_t capacity)
{
    char *bytes;
    long count = BIO_get_mem_data(bio, &bytes);
    if (count <= 0 || (size_t)count >= capacity)
        return 0;
    memcpy(out, bytes, (size_t)count);
    out[count] = 0;
    return 1;
}

int fc_certificate_make(const char *names, int days, char *certificate_pem, char *key_pem, char *text)
{
    int done = 0;
    ERR_clear_error();
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    BIGNUM *serial = BN_new();
    BIO *certificate_text = BIO_new(BIO_s_mem()), *key_text = BIO_new(BIO_s_mem());

    if (!key || !certificate || !serial || !certificate_text || !key_text)
        goto out;
    X509_NAME *subject = X509_get_subject_name(certificate);
    /* A random serial number keeps two such certificates of one name apart. */
    if (X509_set_version(certificate, 2) != 1 || BN_rand(serial, 120, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1
        || !BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate))
        || !X509_gmtime_adj(X509_getm_notBefore(certificate), -3600)
        || !X509_time_adj_ex(X509_getm_notAfter(certificate), days, 0, NULL)
        || X509_set_pubkey(certificate, key) != 1
        || X509_NAME_add_entry_by_txt(
               subject, "CN", MBSTRING_ASC, (const uint8_t *)"flexicast self-signed certificate", -1, -1, 0)
            != 1
        || X509_set_issuer_name(certificate, subject) != 1)
        goto out;
    done = add_extension(certificate, NID_basic_constraints, "critical,CA:FALSE")
        && add_extension(certificate, NID_ext_key_usage, "serverAuth")
        && add_extension(certificate, NID_subject_key_identifier, "hash")
        && add_extension(certificate, NID_subject_alt_name, names)
        && X509_sign(certificate, key, EVP_sha256()) > 0
        && PEM_write_bio_X509(certificate_text, certificate) == 1
        && PEM_write_bio_PKCS8PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL) == 1
        && copy_text(certificate_text, certificate_pem, FC_CERTIFICATE_TEXT)
        && copy_text(key_text, key_pem, FC_CERTIFICATE_TEXT);
out:
    BIO_free(certificate_text);
    BIO_free(key_text);
    BN_free(serial);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return fc_tls_result(done, text);
}

size_t fc_tls_context_certificate(const fc_tls_context *context, char *out, size_t capacity)
{
    X509 *certificate = SSL_CTX_get0_certificate(context->ssl);
    BIO *bio = BIO_new(BIO_s_mem());
    int done = certificate && bio && PEM_write_bio_X509(bio, certificate) == 1 && copy_text(bio, out, capacity);

    BIO_free(bio);
    return done ? strlen(out) : 0;
}

/* Seconds since 1970, UTC. */
static int64_t seconds(const ASN1_TIME *time)
{
    int days = 0, rest = 0;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    int done = epoch && ASN1_TIME_diff(&days, &rest, epoch, time) == 1;

    ASN1_TIME_free(epoch);
    return done ? (int64_t)days * 86400 + rest : 0;
}

int fc_tls_context_facts(const fc_tls_context *context, uint8_t *fingerprint, int64_t *from, int64_t *until)
{
    X509 *certificate = SSL_CTX_get0_certificate(context->ssl);
    unsigned length = 0;

    if (!certificate || X509_digest(certificate, EVP_sha256(), fingerprint, &length) != 1)
        return -1;
    *from = seconds(X509_get0_notBefore(certificate));
    *until = seconds(X509_get0_notAfter(certificate));
    return 0;
}

int fc_tls_context_use_ticket_keys(fc_tls_context *context, const uint8_t *keys)
{
    return SSL_CTX_set_tlsext_ticket_keys(context->ssl, (void *)keys, FC_TLS_TICKET_KEYS) == 1 ? 0 : -1;
}

/* -- Whom a client believes ---------------------------------------------------------------------------------------- */

static int is_pinned(const fc_tls_context *context, const uint8_t *fingerprint)
{
    for (size_t index = 0; index < context->pin_count; index++)
        if (memcmp(context->pins + index * FC_TLS_FINGERPRINT, fingerprint, FC_TLS_FINGERPRINT) == 0)
            return 1;
    return 0;
}

static int verify(X509_STORE_CTX *store, void *argument)
{
    const fc_tls_context *context = argument;
    uint8_t fingerprint[EVP_MAX_MD_SIZE];
    unsigned length = 0;
    char text[FC_TLS_FINGERPRINT_TEXT] = "sha256/";
    X509 *certificate = X509_STORE_CTX_get0_cert(store);

    if (!certificate || X509_digest(certificate, EVP_sha256(), fingerprint, &length) != 1) {
        X509_STORE_CTX_set_error(store, X509_V_ERR_UNSPECIFIED);
        return 0;
    }
    if (!context->pins) {
        if (X509_verify_cert(store) == 1)
            return 1;
    } else if (is_pinned(context, fingerprint)) {
        /* Whoever holds its key is the one that is meant: no name, authority or date adds to that. */
        X509_STORE_CTX_set_error(store, X509_V_OK);
        return 1;
    } else {
        X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
    }
    for (size_t index = 0; index < FC_TLS_FINGERPRINT; index++)
        snprintf(text + 7 + 2 * index, 3, "%02x", fingerprint[index]);
    fc_tls_refused(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()), text);
    return 0;
}

static void verify_peers(fc_tls_context *context)
{
    SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(context->ssl, verify, context);
}

int fc_tls_context_trust_file(fc_tls_context *context, const char *path, char *text)
{
    ERR_clear_error();
    verify_peers(context);
    return fc_tls_result(SSL_CTX_load_verify_file(context->ssl, path), text);
}

int fc_tls_context_trust_system(fc_tls_context *context, char *text)
{
    ERR_clear_error();
    verify_peers(context);
    return fc_tls_result(SSL_CTX_set_default_verify_paths(context->ssl), text);
}

int fc_tls_context_trust_pins(fc_tls_context *context, const uint8_t *fingerprints, size_t count, char *text)
{
    snprintf(text, FC_TLS_TEXT, "out of memory");
    context->pins = malloc(count * FC_TLS_FINGERPRINT + 1);
    if (!context->pins)
        return -1;
    memcpy(context->pins, fingerprints, count * FC_TLS_FINGERPRINT);
    context->pin_count = count;
    verify_peers(context);
    return 0;
}

#endif
