#pragma once

#include <stddef.h>
#include <stdint.h>

/* A thin door to libmicrohttpd: a server of pages for GET and HEAD that runs on its caller's loop, without a thread of its own. */
struct fc_httpd;
/* A request that is being answered. */
struct fc_httpd_exchange;

/* Strings are valid during the call. */
struct fc_httpd_request {
    const char *path;   /* decoded, without the query */
    const char *from;   /* of the query `from=…`; NULL without one */
    const char *accept; /* what the client takes; NULL when it does not say */
};

struct fc_httpd_limits {
    uint32_t connections; /* at once */
    uint32_t per_address; /* at once, of one IPv4 address or IPv6 /64 */
    size_t memory;        /* octets per connection: what a request's head may take, and what waits to be sent */
    int64_t patience;     /* nanoseconds in which a request must have come and its answer gone, from the end of the one before */
};

struct fc_httpd_counters {
    uint64_t turned_away; /* connections above a limit */
    uint64_t given_up;    /* connections whose time was over */
};

/* Must call fc_httpd_answer once. */
typedef void fc_httpd_page(void *context, const struct fc_httpd_request *request, struct fc_httpd_exchange *exchange);

/* Takes `listening`, a TCP socket, and closes it in the end. NULL when it cannot be. */
struct fc_httpd *fc_httpd_open(int listening, const struct fc_httpd_limits *limits, fc_httpd_page *page, void *context);
void fc_httpd_close(struct fc_httpd *);

/* A descriptor that is readable when there is something to do. */
int fc_httpd_descriptor(const struct fc_httpd *);

/* Does what there is to do; `now` is of the monotonic clock. Returns in how many nanoseconds it is to be called again in any case, or -1. */
int64_t fc_httpd_run(struct fc_httpd *, int64_t now);

struct fc_httpd_counters fc_httpd_counters(const struct fc_httpd *);

/* Copies `body`. Of another status than 200 the connection is closed. */
void fc_httpd_answer(struct fc_httpd_exchange *, unsigned status, const char *type, const uint8_t *body, size_t count);
