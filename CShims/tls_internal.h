#pragma once

#include "include/tls.h"

#include <openssl/ssl.h>

/* What the context wraps. */
SSL_CTX *fc_tls_context_ssl(const fc_tls_context *context);
