#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * QUIC packet protection (RFC 9001 section 5) on OpenSSL's EVP, AES-GCM also on Intel's IPSec-MB. Contexts and fetched ciphers are kept for the life of
 * a key, and one call seals a whole batch, because the fixed cost of an EVP call is as dear as the encryption.
 *
 * Suites are TLS code points: 0x1301 AES-128-GCM, 0x1302 AES-256-GCM, 0x1303 ChaCha20-Poly1305.
 * Functions that return int return 0 for success and -1 for failure.
 */

/* Octets of an authentication tag, and of a header protection sample. */
#define FC_TAG_LENGTH 16
/* Octets of an AEAD nonce. */
#define FC_NONCE_LENGTH 12
/* Most packets in one call. */
#define FC_BATCH_MAX 64

/* An AEAD key and IV of one direction. Not safe for use from two threads at once. */
typedef struct fc_aead fc_aead;

/* A header protection key of one direction. Not safe for use from two threads at once. */
typedef struct fc_mask fc_mask;

/* Where one packet lies in a buffer. All offsets count from the start of the buffer. */
typedef struct fc_packet {
    size_t start;          /* first octet of the header */
    size_t number_offset;  /* first octet of the packet number */
    size_t payload_offset; /* first octet of the payload */
    size_t end;            /* just after the tag */
    uint64_t number;       /* the whole packet number */
    uint32_t path;         /* path ID, 0 outside multipath (draft-ietf-quic-multipath-21 section 4) */
    uint64_t mask;         /* what fc_unmask took off the header, in memory order */
} fc_packet;

/* Packets back to back with consecutive numbers, all of one size but for the last. */
typedef struct fc_run {
    size_t start;         /* first octet of the first packet */
    size_t end;           /* just after the last packet */
    size_t packet_size;   /* octets of each packet, tag included; the last may have fewer */
    size_t header_length; /* octets before a packet number */
    uint64_t number;      /* of the first packet */
    uint32_t path;
} fc_run;

/* Octets of the suite's AEAD and header protection key, 0 for an unknown suite. */
size_t fc_key_length(uint16_t suite);

/* What IPSec-MB calls itself, and the instructions it uses here; NULL when it cannot be used. */
const char *fc_ipsec_mb(void);
/* Why not. */
const char *fc_ipsec_mb_reason(void);

/*
 * A key that seals (sealing != 0) or opens. With `ipsec_mb` it is IPSec-MB's where that can be used and does the suite.
 * NULL when OpenSSL does not offer the cipher.
 */
fc_aead *fc_aead_new(
    uint16_t suite, int sealing, int ipsec_mb, const uint8_t *key, const uint8_t iv[FC_NONCE_LENGTH]);
void fc_aead_free(fc_aead *aead);

fc_mask *fc_mask_new(uint16_t suite, const uint8_t *key);
void fc_mask_free(fc_mask *mask);

/*
 * Seals `count` (at most FC_BATCH_MAX) packets of `buffer` in place and writes their tags, then masks all their
 * headers. Each packet has at least 20 octets from its packet number to its end. With a NULL mask the headers stay
 * as they are.
 */
int fc_seal(fc_aead *aead, fc_mask *mask, uint8_t *buffer, const fc_packet *packets, size_t count);

/* The same for a run of any number of packets with packet numbers of four octets. */
int fc_seal_run(fc_aead *aead, fc_mask *mask, uint8_t *buffer, const fc_run *run);

/*
 * Takes the masks off the headers of `count` (at most FC_BATCH_MAX) packets, of which `start`, `number_offset` and `end`
 * are given, with at least 20 octets between the last two. Sets `payload_offset`, `mask`, and `number` to the truncated
 * packet number.
 */
int fc_unmask(fc_mask *mask, uint8_t *buffer, fc_packet *packets, size_t count);

/* Puts back what fc_unmask took off. */
void fc_mask_again(uint8_t *buffer, const fc_packet *packet);

/*
 * Opens one packet in place, whose header is unmasked already. When authentication fails the buffer is as before.
 */
int fc_open(fc_aead *aead, uint8_t *buffer, const fc_packet *packet);

/*
 * Opens a run in place, of at most FC_BATCH_MAX packets whose numbers have four octets: those whose bit is set in `wanted`.
 * `number` of the run is the one to expect, near which all of them are. Returns the bits of the packets that are
 * authentic, whose numbers `numbers` gets; the others are as before.
 */
uint64_t fc_open_run(
    fc_aead *aead, fc_mask *mask, uint8_t *buffer, const fc_run *run, uint64_t wanted, uint64_t *numbers);

/* HMAC with SHA-384 when `sha384` is set and SHA-256 otherwise; `out` has room for 48 or 32 octets. */
int fc_hmac(int sha384, const uint8_t *key, size_t key_length, const uint8_t *data, size_t length, uint8_t *out);

/* Whether `length` octets are the same, in time that does not depend on where they differ. */
int fc_equal(const uint8_t *a, const uint8_t *b, size_t length);
