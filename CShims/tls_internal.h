#pragma once

#include "include/tls.h"

#include <openssl/ssl.h>

struct fc_tls_context {
    SSL_CTX *ssl;
    fc_tls_events events;
    int server;
    uint8_t *alpn;
    size_t alpn_length;
    /* Client: SHA-256 of each certificate that is accepted, and no other is. */
    uint8_t *pins;
    size_t pin_count;
};

/* What the context wraps. */
SSL_CTX *fc_tls_context_ssl(const fc_tls_context *context);

/* Text for the oldest error in OpenSSL's queue, which is the cause of those after it. */
void fc_tls_describe(char *text);

/* 0 when it `succeeded` (1), else -1 and the reason. */
int fc_tls_result(int succeeded, char *text);

/* The peer's certificate was not accepted. */
void fc_tls_refused(const SSL *ssl, const char *fingerprint);
