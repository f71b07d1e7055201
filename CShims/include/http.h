#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A thin door to libcurl: one client with one kept connection per server, one request at a time. It follows no redirect, sends no
   cookie and speaks nothing but http and https. */
struct fc_http;

/* How a request ended. */
enum {
    FC_HTTP_ANSWERED = 0,
    FC_HTTP_STOPPED = 1,
    FC_HTTP_TIMED_OUT = 2,
    FC_HTTP_TOO_LARGE = 3,
    FC_HTTP_FAILED = 4,
};

/* All of it is valid until the next call for the same client. Strings may be NULL. */
struct fc_http_answer {
    int outcome;
    int32_t status; /* 0: there was no answer */
    const uint8_t *body;
    size_t count;
    int64_t announced; /* Content-Length; -1: none */
    const char *location; /* where a redirect leads, resolved; with any user information that it names */
    const char *etag, *last_modified, *content_type, *retry_after;
    const char *text; /* libcurl's words for a failure */
};

/* NULL when there is no memory. Trusts what the environment's SSL_CERT_FILE and SSL_CERT_DIR name, else what the system trusts. */
struct fc_http *fc_http_open(const char *user_agent);
void fc_http_close(struct fc_http *);

/* Blocks until the answer is complete, or has more than `limit` octets when decoded, or the time is over. Of a status other than 200 the
   body is dropped. `headers`: whole lines, ends with NULL. */
void fc_http_get(struct fc_http *, const char *url, char *const *headers, size_t limit, int64_t milliseconds,
                 int64_t connect_milliseconds, struct fc_http_answer *answer);

/* From any thread: ends the request that is under way, and every later one. */
void fc_http_stop(struct fc_http *);
