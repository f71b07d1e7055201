#define _GNU_SOURCE
#include "httpd.h"

#include <microhttpd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io.h"

/* libmicrohttpd limits idle time only, which a client that sends an octet now and then escapes, and does not tell whom it turned away:
   both are kept here, in a place for each connection. */
struct place {
    bool taken, given_up;
    int fd;
    int64_t since; /* when its request may have begun */
    struct fcio_address address;
};

struct fc_httpd {
    struct MHD_Daemon *daemon;
    struct fc_httpd_limits limits;
    struct fc_httpd_counters counters;
    fc_httpd_page *page;
    void *context;
    int64_t now;
    struct place places[];
};

struct fc_httpd_exchange {
    struct MHD_Connection *connection;
    enum MHD_Result outcome;
};

static bool is_near(struct fcio_address a, struct fcio_address b) {
    return a.family == b.family && (a.family == 4 ? a.low == b.low : a.high == b.high);
}

static enum MHD_Result accepted(void *context, const struct sockaddr *address, socklen_t size) {
    struct fc_httpd *server = context;
    struct fcio_address peer = fcio_address_decode(address);
    uint32_t all = 0, near = 0;
    (void)size;
    for (uint32_t index = 0; index < server->limits.connections; index++) {
        const struct place *place = &server->places[index];
        all += place->taken;
        near += place->taken && is_near(place->address, peer);
    }
    if (all < server->limits.connections && near < server->limits.per_address) return MHD_YES;
    server->counters.turned_away++;
    return MHD_NO;
}

static void came_or_went(void *context, struct MHD_Connection *connection, void **place_of, enum MHD_ConnectionNotificationCode code) {
    struct fc_httpd *server = context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        struct place *place = *place_of;
        if (place) *place = (struct place){0};
        *place_of = NULL;
        return;
    }
    for (uint32_t index = 0; index < server->limits.connections; index++) {
        struct place *place = &server->places[index];
        if (place->taken) continue;
        const union MHD_ConnectionInfo *fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        const union MHD_ConnectionInfo *peer = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
        *place = (struct place){.taken = true, .fd = fd->connect_fd, .since = server->now,
                                .address = fcio_address_decode(peer->client_addr)};
        *place_of = place;
        return;
    }
}

static void completed(void *context, struct MHD_Connection *connection, void **request, enum MHD_RequestTerminationCode code) {
    struct fc_httpd *server = context;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct place *place = info ? info->socket_context : NULL;
    (void)code;
    *request = NULL;
    if (place) place->since = server->now;
}

static void answer(struct fc_httpd_exchange *exchange, unsigned status, const char *type, const char *allowed, const void *body, size_t count) {
    struct MHD_Response *response = MHD_create_response_from_buffer(count, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY);
    if (!response) return;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    /* A page is one file, and asks nobody but who served it. */
    MHD_add_response_header(response, "Content-Security-Policy",
                            "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
                            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
    if (allowed) MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allowed);
    if (status != MHD_HTTP_OK) MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    exchange->outcome = MHD_queue_response(exchange->connection, status, response);
    MHD_destroy_response(response);
}

void fc_httpd_answer(struct fc_httpd_exchange *exchange, unsigned status, const char *type, const uint8_t *body, size_t count) {
    answer(exchange, status, type, NULL, body, count);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *path, const char *method, const char *version,
                              const char *upload, size_t *upload_size, void **request) {
    static char headers_are_there;
    static const char refusal[] = "405 Method Not Allowed\n";
    struct fc_httpd *server = context;
    struct fc_httpd_exchange exchange = {.connection = connection, .outcome = MHD_NO};
    (void)version, (void)upload;

    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        answer(&exchange, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain; charset=utf-8", "GET, HEAD", refusal, sizeof refusal - 1);
        return exchange.outcome;
    }
    if (*request != &headers_are_there) {
        *request = &headers_are_there;
        return MHD_YES;
    }
    /* A body of a GET means nothing (RFC 9110 section 9.3.1). */
    if (*upload_size > 0) {
        *upload_size = 0;
        return MHD_YES;
    }
    struct fc_httpd_request asked = {
        .path = path,
        .from = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "from"),
        .accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT),
    };
    server->page(server->context, &asked, &exchange);
    return exchange.outcome;
}

struct fc_httpd *fc_httpd_open(int listening, const struct fc_httpd_limits *limits, fc_httpd_page *page, void *context) {
    struct fc_httpd *server = calloc(1, sizeof *server + limits->connections * sizeof server->places[0]);
    if (server) {
        server->limits = *limits;
        server->page = page;
        server->context = context;
        /* One more connection than there may be: who is too much is told from the others in `accepted`. */
        server->daemon = MHD_start_daemon(
            MHD_USE_EPOLL, 0, accepted, server, handle, server, MHD_OPTION_LISTEN_SOCKET, listening,
            MHD_OPTION_CONNECTION_LIMIT, (unsigned)limits->connections + 1, MHD_OPTION_CONNECTION_MEMORY_LIMIT, limits->memory,
            MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_CONNECTION, came_or_went, server,
            MHD_OPTION_NOTIFY_COMPLETED, completed, server, MHD_OPTION_END);
        if (server->daemon) return server;
    }
    free(server);
    close(listening);
    return NULL;
}

void fc_httpd_close(struct fc_httpd *server) {
    if (!server) return;
    MHD_stop_daemon(server->daemon);
    free(server);
}

int fc_httpd_descriptor(const struct fc_httpd *server) {
    return MHD_get_daemon_info(server->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

int64_t fc_httpd_run(struct fc_httpd *server, int64_t now) {
    int64_t next = -1;
    server->now = now;
    MHD_run(server->daemon);
    for (uint32_t index = 0; index < server->limits.connections; index++) {
        struct place *place = &server->places[index];
        if (!place->taken || place->given_up) continue;
        int64_t left = place->since + server->limits.patience - now;
        if (left > 0) {
            if (next < 0 || left < next) next = left;
            continue;
        }
        /* libmicrohttpd closes it when it finds that nobody is there any more. */
        place->given_up = true;
        server->counters.given_up++;
        shutdown(place->fd, SHUT_RDWR);
    }
    MHD_UNSIGNED_LONG_LONG milliseconds;
    if (MHD_get_timeout(server->daemon, &milliseconds) == MHD_YES) {
        int64_t wait = (int64_t)milliseconds * 1000000;
        if (next < 0 || wait < next) next = wait;
    }
    return next;
}

struct fc_httpd_counters fc_httpd_counters(const struct fc_httpd *server) { return server->counters; }
