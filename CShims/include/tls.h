#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * The TLS 1.3 handshake for QUIC (RFC 9001 section 4) on an OpenSSL that knows nothing of QUIC.
 *
 *   out: the message callback shows each handshake message before it becomes a record; the records themselves go to
 *        a null BIO. The key log callback shows each traffic secret at the moment it takes effect.
 *   in:  the caller wraps handshake octets in records again, sealed with the secrets from the key log, and OpenSSL
 *        reads these from a memory BIO.
 *   The transport parameters are a custom extension.
 *
 * From OpenSSL 3.5 on SSL_set_quic_tls_cbs can take the place of all this behind the same functions.
 * None of this is safe for use from two threads at once.
 */

/* Octets of room for an error text. */
#define FC_TLS_TEXT 256

/* What many connections share: certificate, trust, ALPN. */
typedef struct fc_tls_context fc_tls_context;

/* One handshake. */
typedef struct fc_tls fc_tls;

/* The secret of an encryption level; its values are those of Swift's ProtectionLevel. */
enum { FC_TLS_INITIAL = 0, FC_TLS_HANDSHAKE = 1, FC_TLS_APPLICATION = 2 };

/* Called while a function below runs, with the `owner` of the fc_tls. All memory is the library's own. */
typedef struct fc_tls_events {
    /* A handshake message to be sent at the level of the newest secret for writing. */
    void (*message)(void *owner, const uint8_t *bytes, size_t length);
    /* A secret for packets that the server (from_server != 0) or the client sends from now on. */
    void (*secret)(void *owner, int level, int from_server, uint16_t suite, const uint8_t *secret, size_t length);
    /* The peer's transport parameters. Not authenticated until the handshake is complete. */
    void (*parameters)(void *owner, const uint8_t *bytes, size_t length);
    /* Client: something to resume this session with. */
    void (*ticket)(void *owner, const uint8_t *bytes, size_t length);
    /* A line for a key log file, in NSS format, without its end. */
    void (*key_log)(void *owner, const char *line);
} fc_tls_events;

/*
 * `suites`: TLS 1.3 suite names joined by colons. `alpn`: protocol names in order of preference, each after an octet
 * with its length. NULL when OpenSSL refuses; `text` then says why, as it does for each function that takes it.
 * Functions that return int return 0 for success and -1 for failure unless they say otherwise.
 */
fc_tls_context *fc_tls_context_new(
    int server, const fc_tls_events *events, const char *suites, const uint8_t *alpn, size_t alpn_length, char *text);
void fc_tls_context_free(fc_tls_context *context);

/* Server: a PEM file with the certificate and its chain, then one with its key. */
int fc_tls_context_use_certificate(fc_tls_context *context, const char *path, char *text);
int fc_tls_context_use_key(fc_tls_context *context, const char *path, char *text);

/* Server: a certificate and its key, as PEM. */
int fc_tls_context_use_pem(fc_tls_context *context, const char *certificate_pem, const char *key_pem, char *text);

/* Octets of room for a certificate or a key as PEM. */
#define FC_CERTIFICATE_TEXT 65536

/*
 * Makes a P-256 key and a certificate signed with it. `names` is a subjectAltName in OpenSSL's notation, such
 * as "DNS:example.org,IP:192.0.2.1". Valid from an hour ago for `days` days.
 */
int fc_certificate_make(const char *names, int days, char *certificate_pem, char *key_pem, char *text);

/* The server's certificate in PEM. Returns its length, 0 when there is none or `capacity` is too small. */
size_t fc_tls_context_certificate(const fc_tls_context *context, char *out, size_t capacity);

/* Octets of a certificate's fingerprint, SHA-256 of its DER form, and of room for it as text. */
#define FC_TLS_FINGERPRINT 32
#define FC_TLS_FINGERPRINT_TEXT 72

/* The server's certificate: its fingerprint, and from when until when it is valid, in seconds since 1970. */
int fc_tls_context_facts(const fc_tls_context *context, uint8_t *fingerprint, int64_t *from, int64_t *until);

/* Server: octets of the keys that tickets are sealed with; who has them can resume what another process began. */
#define FC_TLS_TICKET_KEYS 80
int fc_tls_context_use_ticket_keys(fc_tls_context *context, const uint8_t *keys);

/*
 * Client: verify against the certificates of a PEM file, or the system's, or accept the certificates of these fingerprints
 * and no others; without any nothing is verified.
 */
int fc_tls_context_trust_file(fc_tls_context *context, const char *path, char *text);
int fc_tls_context_trust_system(fc_tls_context *context, char *text);
int fc_tls_context_trust_pins(fc_tls_context *context, const uint8_t *fingerprints, size_t count, char *text);

/* Key exchange groups by name, joined by colons, instead of OpenSSL's own choice. */
int fc_tls_context_use_groups(fc_tls_context *context, const char *groups);

/*
 * A handshake. Clients give the server's `name`, which `is_address` says to be an IP address (RFC 6066 keeps those
 * out of SNI), and may give a `ticket`. NULL when memory is short or an argument is unusable.
 */
fc_tls *fc_tls_new(
    fc_tls_context *context, void *owner, const char *name, int is_address, const uint8_t *parameters,
    size_t parameters_length, const uint8_t *ticket, size_t ticket_length);
void fc_tls_free(fc_tls *tls);

/* Hands over TLS records. */
int fc_tls_receive(fc_tls *tls, const uint8_t *records, size_t length);

/* Goes as far as the records allow: 1 when the handshake is complete, 0 when it needs more, -1 when it failed. */
int fc_tls_advance(fc_tls *tls);

/*
 * Client, after the server's hello and before the end of its flight: what both ends have agreed on, which the secrets of the
 * handshake come from. `shared` has room for FC_TLS_SHARED octets, `psk` for FC_TLS_PSK; psk_length is 0 without a
 * resumed session. -1 when OpenSSL does not tell, as for a key exchange that is no Diffie-Hellman of a curve.
 */
#define FC_TLS_SHARED 66
#define FC_TLS_PSK 256
int fc_tls_agreed(const fc_tls *tls, uint8_t *shared, size_t *shared_length, uint8_t *psk, size_t *psk_length);

/* After a failure: the TLS alert that says why, and a text. */
uint8_t fc_tls_alert(const fc_tls *tls);
void fc_tls_reason(const fc_tls *tls, char *text);

/* The negotiated protocol; length 0 when there is none. */
const uint8_t *fc_tls_alpn(const fc_tls *tls, size_t *length);
int fc_tls_resumed(const fc_tls *tls);
