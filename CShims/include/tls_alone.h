#pragma once

#include "tls.h"

/*
 * TLS 1.3 handshakes as OpenSSL does them by itself, both ends in memory: what a QUIC handshake is measured against.
 * Certificate, key, suites and the number of tickets are those of a server's context.
 */
typedef struct fc_tls_alone fc_tls_alone;

/* NULL when OpenSSL refuses. `server` must live as long. */
fc_tls_alone *fc_tls_alone_new(const fc_tls_context *server, const char *suites);
void fc_tls_alone_free(fc_tls_alone *alone);

/*
 * One handshake, until the client holds a ticket. With `resume` the client resumes the session of the one before.
 * 1 when it was resumed, 0 when it was a full one, -1 when it failed.
 */
int fc_tls_alone_handshake(fc_tls_alone *alone, int resume);
