#pragma once

#include <stddef.h>
#include <stdint.h>

/* A thin door to cnats, the C client of NATS JetStream, for one thread that may wait. The library is loaded when it is asked for,
   so that a program without it lacks this alone.

   Functions that return an int return one of the numbers below, and leave what was wrong in words with fc_nats_error. */

enum {
    FC_NATS_DONE = 0,
    FC_NATS_NONE = 1,    /* nothing came in time */
    FC_NATS_FAILED = 2,  /* no answer, or a server that cannot help now: try again */
    FC_NATS_REFUSED = 3, /* credentials or certificates are not accepted */
    FC_NATS_MISSING = 4, /* there is no such stream */
    FC_NATS_TAKEN = 5,   /* somebody else was faster: another revision, or another last message */
    FC_NATS_FULL = 6,    /* there is no room for it */
    FC_NATS_WRONG = 7,   /* never to be accepted as it is */
};

struct fc_nats;
struct fc_nats_messages;

/* NULL when the library can be used; else why not, in words that stay. */
const char *fc_nats_obstacle(void);

/* Who we are: a file of credentials, or user and password, or a token; NULL for what there is not. */
struct fc_nats_login {
    const char *file;
    const char *user;
    const char *password;
    const char *token;
};
/* Connects to one of the servers, `count` of nats://HOST:PORT, and again whenever that is lost. `ca`: a file, with which the connection
   is by TLS; NULL for none. `*out` is to be closed in any case; NULL when there is no memory. */
int fc_nats_open(
    const char *const *servers, int count, const char *ca, const struct fc_nats_login *login, struct fc_nats **out);
void fc_nats_close(struct fc_nats *);
/* What the latest call met that failed; stays until the next. */
const char *fc_nats_error(struct fc_nats *);

struct fc_nats_stream {
    int64_t created;  /* nanoseconds since 1970 */
    uint64_t first;   /* the lowest number kept */
    uint64_t last;    /* the highest number given out; 0 for none */
    uint64_t messages;
    uint64_t octets;
};
int fc_nats_stream(struct fc_nats *, const char *name, struct fc_nats_stream *out);
/* Makes a stream in files that forgets its oldest messages. Limits of 0 or less are none. `age`, `window`: nanoseconds;
   within `window` a message whose identity was seen is not taken again. One that is there is left as it is. */
int fc_nats_make_stream(
    struct fc_nats *, const char *name, const char *subject, int64_t messages, int64_t octets, int64_t age, int replicas,
    int64_t window);

struct fc_nats_message {
    uint64_t sequence;
    int64_t time; /* nanoseconds since 1970 */
    const uint8_t *body;
    size_t count;
    void *handle;
};
/* Appends a message. `headers` are names and values in turn, up to a NULL. `last`: it is taken only right behind this message; 0 for
   anywhere. `*sequence`: its number, or that which it got before. */
int fc_nats_append(
    struct fc_nats *, const char *subject, const char *const *headers, const uint8_t *body, size_t count,
    const char *identity, uint64_t last, uint64_t *sequence);

/* Messages of a stream from one on, in order. */
int fc_nats_read(
    struct fc_nats *, const char *stream, const char *subject, uint64_t from, int headers_only, struct fc_nats_messages **out);
/* The next message, which is to be let go of. Waits at most `patience` milliseconds. */
int fc_nats_next(struct fc_nats *, struct fc_nats_messages *, int patience, struct fc_nats_message *out);
/* A header's value; NULL when there is none. Stays as long as the message. */
const char *fc_nats_header(const struct fc_nats_message *, const char *name);
void fc_nats_let_go(struct fc_nats_message *);
void fc_nats_end_reading(struct fc_nats_messages *);

/* A lease: a key in a bucket whose values end by themselves after `life` nanoseconds. `*revision` is that of the lease that is held, 0 to
   take a free one. FC_NATS_TAKEN: another has it. */
int fc_nats_lease(
    struct fc_nats *, const char *bucket, const char *key, const char *holder, int64_t life, int replicas, uint64_t *revision);
/* Gives it back. */
void fc_nats_end_lease(struct fc_nats *, const char *key, uint64_t *revision);
