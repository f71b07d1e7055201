#include "include/tls_alone.h"
#include "tls_internal.h"

#include <stdlib.h>

struct fc_tls_alone {
    SSL_CTX *server, *client;
    /* Of the last handshake. */
    SSL_SESSION *session;
};

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    fc_tls_alone *alone = SSL_get_app_data(ssl);

    SSL_SESSION_free(alone->session);
    alone->session = session;
    return 1;
}

fc_tls_alone *fc_tls_alone_new(const fc_tls_context *server, const char *suites)
{
    SSL_CTX *theirs = fc_tls_context_ssl(server);
    fc_tls_alone *alone = calloc(1, sizeof *alone);

    if (!alone)
        return NULL;
    alone->server = SSL_CTX_new(TLS_server_method());
    alone->client = SSL_CTX_new(TLS_client_method());
    if (!alone->server || !alone->client
        || SSL_CTX_set_min_proto_version(alone->server, TLS1_3_VERSION) != 1
        || SSL_CTX_set_min_proto_version(alone->client, TLS1_3_VERSION) != 1
        || SSL_CTX_set_ciphersuites(alone->server, suites) != 1
        || SSL_CTX_set_ciphersuites(alone->client, suites) != 1
        || SSL_CTX_use_certificate(alone->server, SSL_CTX_get0_certificate(theirs)) != 1
        || SSL_CTX_use_PrivateKey(alone->server, SSL_CTX_get0_privatekey(theirs)) != 1) {
        fc_tls_alone_free(alone);
        return NULL;
    }
    SSL_CTX_set_session_cache_mode(alone->server, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(alone->server, SSL_CTX_get_num_tickets(theirs));
    SSL_CTX_set_session_cache_mode(alone->client, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(alone->client, on_session);
    return alone;
}

void fc_tls_alone_free(fc_tls_alone *alone)
{
    if (!alone)
        return;
    SSL_SESSION_free(alone->session);
    SSL_CTX_free(alone->server);
    SSL_CTX_free(alone->client);
    free(alone);
}

/* Goes as far as it can: 1 when the handshake is complete, 0 when it needs more, -1 when it failed. */
static int advance(SSL *ssl)
{
    int outcome = SSL_do_handshake(ssl);
    return outcome == 1 ? 1 : SSL_get_error(ssl, outcome) == SSL_ERROR_WANT_READ ? 0 : -1;
}

int fc_tls_alone_handshake(fc_tls_alone *alone, int resume)
{
    SSL *client = SSL_new(alone->client), *server = SSL_new(alone->server);
    BIO *client_end = NULL, *server_end = NULL;
    uint8_t unused[16];
    int outcome = -1, client_done = 0, server_done = 0;

    if (!client || !server || BIO_new_bio_pair(&client_end, 1 << 16, &server_end, 1 << 16) != 1)
        goto out;
    SSL_set_bio(client, client_end, client_end);
    SSL_set_bio(server, server_end, server_end);
    SSL_set_app_data(client, alone);
    SSL_set_connect_state(client);
    SSL_set_accept_state(server);
    if (resume && alone->session && SSL_set_session(client, alone->session) != 1)
        goto out;
    for (int flight = 0; flight < 4 && !(client_done && server_done); flight++) {
        if ((client_done = advance(client)) < 0 || (server_done = advance(server)) < 0)
            goto out;
    }
    if (!client_done || !server_done)
        goto out;
    /* Nothing but the ticket is there to be read. */
    SSL_read(client, unused, sizeof unused);
    outcome = SSL_session_reused(client);
    /* A session that ends without a word is not resumed. */
    SSL_set_shutdown(client, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
out:
    SSL_free(client);
    SSL_free(server);
    return outcome;
}
