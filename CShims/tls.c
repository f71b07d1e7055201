#include "tls.h"

#if !__has_include(<openssl/ssl.h>)
#error "OpenSSL headers are missing: apt-get install libssl-dev"
#else

#include "meter_internal.h"
#include "tls_internal.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The extension that carries QUIC's transport parameters (RFC 9001 section 8.2). */
#define TRANSPORT_PARAMETERS 0x39

struct fc_tls {
    fc_tls_context *context;
    SSL *ssl;
    BIO *records;
    void *owner;
    uint8_t *parameters;
    size_t parameters_length;
    int complete;
    uint8_t alert;
    /* The alert for a ClientHello that we refuse ourselves: OpenSSL sends an older one before the version is agreed. */
    uint8_t refusal;
    /* The fingerprint of a certificate that was not accepted; empty when none was refused. */
    char refused[FC_TLS_FINGERPRINT_TEXT];
};

void fc_tls_describe(char *text)
{
    unsigned long error = ERR_peek_error();
    const char *reason = NULL;

    if (ERR_SYSTEM_ERROR(error))
        reason = strerror(ERR_GET_REASON(error));
    else if (error)
        reason = ERR_reason_error_string(error);
    snprintf(text, FC_TLS_TEXT, "%s", reason ? reason : "OpenSSL gives no reason");
    ERR_clear_error();
}

int fc_tls_result(int succeeded, char *text)
{
    if (succeeded == 1)
        return 0;
    fc_tls_describe(text);
    return -1;
}

/* -- Callbacks ---------------------------------------------------------------------------------------------------- */

static fc_tls *owner_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

void fc_tls_refused(const SSL *ssl, const char *fingerprint)
{
    fc_tls *tls = owner_of(ssl);
    snprintf(tls->refused, sizeof tls->refused, "%s", fingerprint);
}

static int digit(char c)
{
    return c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
}

static void on_key_log(const SSL *ssl, const char *line)
{
    static const struct {
        const char *label;
        int level, from_server;
    } labels[] = {
        { "CLIENT_HANDSHAKE_TRAFFIC_SECRET ", FC_TLS_HANDSHAKE, 0 },
        { "SERVER_HANDSHAKE_TRAFFIC_SECRET ", FC_TLS_HANDSHAKE, 1 },
        { "CLIENT_TRAFFIC_SECRET_0 ", FC_TLS_APPLICATION, 0 },
        { "SERVER_TRAFFIC_SECRET_0 ", FC_TLS_APPLICATION, 1 },
    };
    fc_tls *tls = owner_of(ssl);
    const char *space = strrchr(line, ' ');

    if (!tls || !space)
        return;
    tls->context->events.key_log(tls->owner, line);
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++) {
        if (strncmp(line, labels[i].label, strlen(labels[i].label)) != 0)
            continue;
        const SSL_CIPHER *cipher = SSL_get_current_cipher(ssl);
        if (!cipher)
            cipher = SSL_get_pending_cipher(ssl);
        uint8_t secret[EVP_MAX_MD_SIZE];
        size_t length = 0;
        for (const char *hex = space + 1; hex[0] && hex[1] && length < sizeof secret; hex += 2)
            secret[length++] = (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]));
        tls->context->events.secret(
            tls->owner, labels[i].level, labels[i].from_server, cipher ? SSL_CIPHER_get_protocol_id(cipher) : 0,
            secret, length);
        OPENSSL_cleanse(secret, sizeof secret);
    }
}

static void on_message(
    int writing, int version, int content_type, const void *bytes, size_t length, SSL *ssl, void *unused)
{
    fc_tls *tls = owner_of(ssl);

    (void)version, (void)unused;
    if (!tls || !writing)
        return;
    if (content_type == SSL3_RT_HANDSHAKE)
        tls->context->events.message(tls->owner, bytes, length);
    else if (content_type == SSL3_RT_ALERT && length == 2)
        tls->alert = ((const uint8_t *)bytes)[1];
}

static int add_parameters(
    SSL *ssl, unsigned type, unsigned where, const unsigned char **out, size_t *length, X509 *certificate,
    size_t chain_index, int *alert, void *unused)
{
    fc_tls *tls = owner_of(ssl);

    (void)type, (void)where, (void)certificate, (void)chain_index, (void)alert, (void)unused;
    *out = tls->parameters;
    *length = tls->parameters_length;
    return tls->parameters_length > 0;
}

static int parse_parameters(
    SSL *ssl, unsigned type, unsigned where, const unsigned char *in, size_t length, X509 *certificate,
    size_t chain_index, int *alert, void *unused)
{
    fc_tls *tls = owner_of(ssl);

    (void)type, (void)where, (void)certificate, (void)chain_index, (void)alert, (void)unused;
    tls->context->events.parameters(tls->owner, in, length);
    return 1;
}

/* What QUIC asks of a ClientHello beyond TLS (RFC 9001 sections 8.1, 8.2 and 8.4), on resumption too. */
static int on_client_hello(SSL *ssl, int *alert, void *unused)
{
    const unsigned char *bytes;
    size_t length;

    (void)unused;
    if (SSL_client_hello_get0_session_id(ssl, &bytes) != 0)
        *alert = SSL_AD_ILLEGAL_PARAMETER;
    else if (!SSL_client_hello_get0_ext(ssl, TRANSPORT_PARAMETERS, &bytes, &length))
        *alert = SSL_AD_MISSING_EXTENSION;
    else if (!SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation, &bytes, &length))
        *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
    else
        return SSL_CLIENT_HELLO_SUCCESS;
    owner_of(ssl)->refusal = (uint8_t)*alert;
    return SSL_CLIENT_HELLO_ERROR;
}

/* The first of our protocols that the client offers too. */
static int select_alpn(
    SSL *ssl, const unsigned char **out, unsigned char *out_length, const unsigned char *offered,
    unsigned offered_length, void *unused)
{
    const fc_tls_context *context = owner_of(ssl)->context;

    (void)unused;
    for (size_t ours = 0; ours < context->alpn_length; ours += context->alpn[ours] + 1u) {
        for (size_t theirs = 0; theirs < offered_length; theirs += offered[theirs] + 1u) {
            uint8_t length = context->alpn[ours];
            if (offered[theirs] == length && theirs + 1 + length <= offered_length
                && memcmp(context->alpn + ours + 1, offered + theirs + 1, length) == 0) {
                *out = context->alpn + ours + 1;
                *out_length = length;
                return SSL_TLSEXT_ERR_OK;
            }
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* Client: the session goes out as octets; 0 says that no reference to it was kept. */
static int on_session(SSL *ssl, SSL_SESSION *session)
{
    fc_tls *tls = owner_of(ssl);
    unsigned char *bytes = NULL;
    int length = i2d_SSL_SESSION(session, &bytes);

    if (tls && length > 0)
        tls->context->events.ticket(tls->owner, bytes, (size_t)length);
    OPENSSL_free(bytes);
    return 0;
}

/* -- Context ------------------------------------------------------------------------------------------------------ */

fc_tls_context *fc_tls_context_new(
    int server, const fc_tls_events *events, const char *suites, const uint8_t *alpn, size_t alpn_length, char *text)
{
    fc_tls_context *context = calloc(1, sizeof *context);
    SSL_CTX *ssl = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

    ERR_clear_error();
    snprintf(text, FC_TLS_TEXT, "out of memory");
    if (!context || !ssl)
        goto failed;
    context->ssl = ssl;
    context->events = *events;
    context->server = server;
    context->alpn = malloc(alpn_length + 1);
    if (!context->alpn)
        goto failed;
    memcpy(context->alpn, alpn, alpn_length);
    context->alpn_length = alpn_length;

    /* No other version is offered or accepted (RFC 9001 section 4.2). */
    SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION);
    SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION);
    /* No session ID in the hello, no change_cipher_spec records (RFC 9001 section 8.4). */
    SSL_CTX_clear_options(ssl, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
    SSL_CTX_set_keylog_callback(ssl, on_key_log);
    SSL_CTX_set_msg_callback(ssl, on_message);
    if (SSL_CTX_set_ciphersuites(ssl, suites) != 1
        || SSL_CTX_add_custom_ext(
               ssl, TRANSPORT_PARAMETERS,
               SSL_EXT_TLS_ONLY | SSL_EXT_TLS1_3_ONLY | SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS,
               add_parameters, NULL, NULL, parse_parameters, NULL)
            != 1) {
        fc_tls_describe(text);
        goto failed;
    }
    if (server) {
        SSL_CTX_set_client_hello_cb(ssl, on_client_hello, NULL);
        SSL_CTX_set_alpn_select_cb(ssl, select_alpn, NULL);
        SSL_CTX_set_session_id_context(ssl, (const uint8_t *)"quic", 4);
        /* Sessions live in their tickets alone; early data stays off, the default: QUIC has no EndOfEarlyData. */
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_num_tickets(ssl, 1);
    } else {
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ssl, on_session);
        if (SSL_CTX_set_alpn_protos(ssl, alpn, (unsigned)alpn_length) != 0)
            goto failed;
    }
    return context;

failed:
    if (context)
        free(context->alpn);
    free(context);
    SSL_CTX_free(ssl);
    return NULL;
}

void fc_tls_context_free(fc_tls_context *context)
{
    if (!context)
        return;
    SSL_CTX_free(context->ssl);
    free(context->alpn);
    free(context->pins);
    free(context);
}

SSL_CTX *fc_tls_context_ssl(const fc_tls_context *context)
{
    return context->ssl;
}

int fc_tls_context_use_groups(fc_tls_context *context, const char *groups)
{
    return SSL_CTX_set1_groups_list(context->ssl, groups) == 1 ? 0 : -1;
}

/* -- Handshake ---------------------------------------------------------------------------------------------------- */

static int expect_name(SSL *ssl, const char *name, int is_address)
{
    if (is_address)
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name);
    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set_tlsext_host_name(ssl, name) == 1 && SSL_set1_host(ssl, name) == 1;
}

/* A ticket that cannot be read is as good as none: the handshake is then a full one. */
static void use_ticket(SSL *ssl, const uint8_t *ticket, size_t length)
{
    SSL_SESSION *session = d2i_SSL_SESSION(NULL, &ticket, (long)length);
    if (session)
        SSL_set_session(ssl, session);
    SSL_SESSION_free(session);
}

fc_tls *fc_tls_new(
    fc_tls_context *context, void *owner, const char *name, int is_address, const uint8_t *parameters,
    size_t parameters_length, const uint8_t *ticket, size_t ticket_length)
{
    fc_tls *tls = calloc(1, sizeof *tls);
    BIO *sink = BIO_new(BIO_s_null());

    ERR_clear_error();
    if (!tls || !sink)
        goto failed;
    tls->context = context;
    tls->owner = owner;
    tls->ssl = SSL_new(context->ssl);
    tls->records = BIO_new(BIO_s_mem());
    tls->parameters = malloc(parameters_length + 1);
    if (!tls->ssl || !tls->records || !tls->parameters) {
        BIO_free(tls->records);
        goto failed;
    }
    memcpy(tls->parameters, parameters, parameters_length);
    tls->parameters_length = parameters_length;
    /* An empty BIO asks for more instead of ending the connection. */
    BIO_set_mem_eof_return(tls->records, -1);
    SSL_set_bio(tls->ssl, tls->records, sink);
    sink = NULL;
    SSL_set_app_data(tls->ssl, tls);
    if (context->server) {
        SSL_set_accept_state(tls->ssl);
    } else {
        SSL_set_connect_state(tls->ssl);
        if (name && !expect_name(tls->ssl, name, is_address))
            goto failed;
        if (ticket_length > 0)
            use_ticket(tls->ssl, ticket, ticket_length);
    }
    ERR_clear_error();
    return tls;

failed:
    BIO_free(sink);
    fc_tls_free(tls);
    return NULL;
}

void fc_tls_free(fc_tls *tls)
{
    if (!tls)
        return;
    SSL_free(tls->ssl);
    free(tls->parameters);
    free(tls);
}

int fc_tls_receive(fc_tls *tls, const uint8_t *records, size_t length)
{
    return BIO_write(tls->records, records, (int)length) == (int)length ? 0 : -1;
}

static int advance(fc_tls *tls)
{
    uint8_t unused[16];
    int outcome;

    ERR_clear_error();
    if (!tls->complete) {
        outcome = SSL_do_handshake(tls->ssl);
        if (outcome != 1)
            return SSL_get_error(tls->ssl, outcome) == SSL_ERROR_WANT_READ ? 0 : -1;
        tls->complete = 1;
    }
    /* Reading takes in what follows a handshake, such as tickets. No application data ever comes as records. */
    outcome = SSL_read(tls->ssl, unused, sizeof unused);
    return outcome <= 0 && SSL_get_error(tls->ssl, outcome) == SSL_ERROR_WANT_READ ? 1 : -1;
}

int fc_tls_advance(fc_tls *tls)
{
    int64_t begin = fc_part_begin();
    int outcome = advance(tls);
    fc_part_end(&fc_split_state.times.cryptography, begin);
    return outcome;
}

int fc_tls_agreed(const fc_tls *tls, uint8_t *shared, size_t *shared_length, uint8_t *psk, size_t *psk_length)
{
    EVP_PKEY *ours = NULL, *theirs = NULL;
    EVP_PKEY_CTX *exchange = NULL;
    int outcome = -1;

    *shared_length = FC_TLS_SHARED;
    *psk_length = 0;
    if (SSL_get_tmp_key(tls->ssl, &ours) != 1 || SSL_get_peer_tmp_key(tls->ssl, &theirs) != 1)
        goto out;
    exchange = EVP_PKEY_CTX_new(ours, NULL);
    if (!exchange || EVP_PKEY_derive_init(exchange) != 1 || EVP_PKEY_derive_set_peer(exchange, theirs) != 1
        || EVP_PKEY_derive(exchange, shared, shared_length) != 1)
        goto out;
    if (SSL_session_reused(tls->ssl))
        *psk_length = SSL_SESSION_get_master_key(SSL_get_session(tls->ssl), psk, FC_TLS_PSK);
    outcome = 0;
out:
    ERR_clear_error();
    EVP_PKEY_CTX_free(exchange);
    EVP_PKEY_free(ours);
    EVP_PKEY_free(theirs);
    return outcome;
}

uint8_t fc_tls_alert(const fc_tls *tls)
{
    if (tls->refusal)
        return tls->refusal;
    return tls->alert ? tls->alert : SSL_AD_INTERNAL_ERROR;
}

void fc_tls_reason(const fc_tls *tls, char *text)
{
    long verified = SSL_get_verify_result(tls->ssl);

    if (verified != X509_V_OK && (SSL_get_verify_mode(tls->ssl) & SSL_VERIFY_PEER)) {
        snprintf(text, FC_TLS_TEXT, "certificate: %s%s%s", X509_verify_cert_error_string(verified),
            tls->refused[0] ? "; it is " : "", tls->refused);
        ERR_clear_error();
    } else {
        fc_tls_describe(text);
    }
}

const uint8_t *fc_tls_alpn(const fc_tls *tls, size_t *length)
{
    const unsigned char *name = NULL;
    unsigned count = 0;

    SSL_get0_alpn_selected(tls->ssl, &name, &count);
    *length = count;
    return name;
}

int fc_tls_resumed(const fc_tls *tls)
{
    return SSL_session_reused(tls->ssl);
}

#endif
