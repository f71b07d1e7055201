#define _GNU_SOURCE
#include "http.h"

#include <curl/curl.h>
#include <locale.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Octets of all header lines of an answer, and of the body of one that is not 200: more is no answer of a feed's server. */
enum { HEADER_LIMIT = 256 << 10, REFUSAL_LIMIT = 64 << 10 };

struct fc_http {
    CURLM *multi;
    CURL *easy;
    atomic_bool stopped;
    locale_t locale;
    uint8_t *body;
    size_t count, room, limit;
    size_t header_octets, refusal_octets;
    int64_t announced; /* Content-Length; -1: none */
    bool too_large, refused;
    char text[CURL_ERROR_SIZE];
};

static int32_t status_of(struct fc_http *http) {
    long status = 0;
    curl_easy_getinfo(http->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int32_t)status;
}

static size_t found_header(char *line, size_t size, size_t count, void *user) {
    static const char length[] = "content-length:";
    struct fc_http *http = user;
    size_t octets = size * count;
    http->header_octets += octets;
    if (octets > 5 && memcmp(line, "HTTP/", 5) == 0) {
        http->announced = -1;
    } else if (octets > sizeof length && strncasecmp(line, length, sizeof length - 1) == 0) {
        char number[24] = "";
        size_t digits = octets - (sizeof length - 1);
        memcpy(number, line + sizeof length - 1, digits < sizeof number - 1 ? digits : sizeof number - 1);
        http->announced = strtoll(number, NULL, 10);
    } else if (line[0] == '\r' || line[0] == '\n') {
        /* The end of them. A body that is not wanted may never come, or for ever. */
        int32_t status = status_of(http);
        http->too_large = status == 200 && http->announced > 0 && (uint64_t)http->announced > http->limit;
        http->refused = status > 200 && status != 304 && http->announced > REFUSAL_LIMIT;
    }
    if (http->header_octets > HEADER_LIMIT) http->too_large = true;
    return http->too_large || http->refused ? 0 : octets;
}

static size_t refused(size_t octets) { return octets == 0 ? 1 : 0; }

/* The limit is kept here: what libcurl knows of a size is only what the server says, before it is decoded. */
static size_t found_body(char *bytes, size_t size, size_t count, void *user) {
    struct fc_http *http = user;
    size_t octets = size * count;
    if (status_of(http) != 200) {
        http->refusal_octets += octets;
        http->refused = http->refusal_octets > REFUSAL_LIMIT;
        return http->refused ? refused(octets) : octets;
    }
    if (octets > http->limit - http->count) {
        http->too_large = true;
        return refused(octets);
    }
    if (octets > http->room - http->count) {
        size_t room = 2 * (http->count + octets);
        uint8_t *larger = realloc(http->body, room);
        if (larger == NULL) return refused(octets);
        http->body = larger;
        http->room = room;
    }
    memcpy(http->body + http->count, bytes, octets);
    http->count += octets;
    return octets;
}

static const char *named(const char *variable) {
    const char *value = getenv(variable);
    return value != NULL && value[0] != 0 ? value : NULL;
}

/* libcurl does not look at the variables that OpenSSL and everything else here obeys. */
static void set_trust(CURL *easy) {
    const char *file = named("SSL_CERT_FILE"), *directory = named("SSL_CERT_DIR");
    if (file != NULL || directory != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAINFO, file);
        curl_easy_setopt(easy, CURLOPT_CAPATH, directory);
        return;
    }
    /* With both a file and a directory the file is read again at every connection. */
    char *usual = NULL;
    if (curl_easy_getinfo(easy, CURLINFO_CAINFO, &usual) == CURLE_OK && usual != NULL) {
        curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
    }
}

static pthread_once_t initialized = PTHREAD_ONCE_INIT;
static void initialize(void) { curl_global_init(CURL_GLOBAL_DEFAULT); }

struct fc_http *fc_http_open(const char *user_agent) {
    pthread_once(&initialized, initialize);
    struct fc_http *http = calloc(1, sizeof *http);
    if (http == NULL) return NULL;
    http->multi = curl_multi_init();
    http->easy = curl_easy_init();
    if (http->multi == NULL || http->easy == NULL) {
        fc_http_close(http);
        return NULL;
    }
    CURL *easy = http->easy;
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* A name server that does not answer holds up its own thread, and not the end of the request. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, user_agent);
    curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, "");
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, found_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, http);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, found_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, http);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, http->text);
    set_trust(easy);
    /* libcurl takes a host name for text in the locale's encoding, when it puts it into ASCII (RFC 5891). */
    http->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    return http;
}

void fc_http_close(struct fc_http *http) {
    if (http == NULL) return;
    if (http->easy != NULL) curl_easy_cleanup(http->easy);
    if (http->multi != NULL) curl_multi_cleanup(http->multi);
    if (http->locale != (locale_t)0) freelocale(http->locale);
    free(http->body);
    free(http);
}

void fc_http_stop(struct fc_http *http) {
    atomic_store(&http->stopped, true);
    curl_multi_wakeup(http->multi);
}

/* Returns whether the transfer came to an end of its own. */
static bool transfer(struct fc_http *http, CURLcode *code) {
    int running = 1;
    *code = CURLE_FAILED_INIT;
    if (curl_multi_add_handle(http->multi, http->easy) != CURLM_OK) return true;
    bool works = true;
    while (works && running > 0 && !atomic_load(&http->stopped)) {
        works = curl_multi_perform(http->multi, &running) == CURLM_OK;
        if (works && running > 0) works = curl_multi_poll(http->multi, NULL, 0, 1000, NULL) == CURLM_OK;
    }
    int left;
    bool ended = !works;
    for (CURLMsg *message; (message = curl_multi_info_read(http->multi, &left)) != NULL;) {
        if (message->msg != CURLMSG_DONE) continue;
        *code = message->data.result;
        ended = true;
    }
    return ended;
}

static const char *header(CURL *easy, const char *name) {
    struct curl_header *found;
    return curl_easy_header(easy, name, 0, CURLH_HEADER, -1, &found) == CURLHE_OK ? found->value : NULL;
}

void fc_http_get(struct fc_http *http, const char *url, char *const *headers, size_t limit, int64_t milliseconds,
                 int64_t connect_milliseconds, struct fc_http_answer *answer) {
    memset(answer, 0, sizeof *answer);
    http->count = http->header_octets = http->refusal_octets = 0;
    http->limit = limit;
    http->announced = -1;
    http->too_large = http->refused = false;
    http->text[0] = 0;
    if (atomic_load(&http->stopped)) {
        answer->outcome = FC_HTTP_STOPPED;
        return;
    }
    struct curl_slist *lines = NULL;
    for (size_t i = 0; headers[i] != NULL; i++) {
        struct curl_slist *longer = curl_slist_append(lines, headers[i]);
        if (longer != NULL) lines = longer;
    }
    CURL *easy = http->easy;
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, lines);
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)milliseconds);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)connect_milliseconds);

    CURLcode code;
    locale_t before = uselocale(http->locale);
    bool ended = transfer(http, &code);
    uselocale(before);
    curl_easy_getinfo(easy, CURLINFO_REDIRECT_URL, (char **)&answer->location);
    answer->status = status_of(http);
    answer->announced = http->announced;
    answer->body = http->body;
    answer->count = http->count;
    answer->etag = header(easy, "ETag");
    answer->last_modified = header(easy, "Last-Modified");
    answer->content_type = header(easy, "Content-Type");
    answer->retry_after = header(easy, "Retry-After");
    answer->text = http->text[0] != 0 ? http->text : curl_easy_strerror(code);
    if (!ended) {
        answer->outcome = FC_HTTP_STOPPED;
    } else if (code == CURLE_OK) {
        answer->outcome = FC_HTTP_ANSWERED;
    } else if (http->too_large) {
        answer->outcome = FC_HTTP_TOO_LARGE;
    } else if (http->refused) {
        answer->outcome = FC_HTTP_ANSWERED;
    } else {
        answer->outcome = code == CURLE_OPERATION_TIMEDOUT ? FC_HTTP_TIMED_OUT : FC_HTTP_FAILED;
    }
    curl_multi_remove_handle(http->multi, easy);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(lines);
}
