#include "text.h"

#include <errno.h>
#include <iconv.h>
#include <stdbool.h>
#include <string.h>

struct sink {
    uint8_t *into;
    size_t room, count;
};

static void put(struct sink *sink, const char *octets, size_t count) {
    if (count > 0 && sink->count + count <= sink->room) memcpy(sink->into + sink->count, octets, count);
    sink->count += count;
}

int64_t fc_text_to_utf8(const char *encoding, const uint8_t *text, size_t count, uint8_t *into, size_t room) {
    iconv_t converter = iconv_open("UTF-8", encoding);
    if (converter == (iconv_t)-1) return -1;
    struct sink sink = {.into = into, .room = room};
    char *from = (char *)text;
    char buffer[4096];
    for (;;) {
        char *to = buffer;
        size_t left = sizeof buffer;
        bool is_end = count == 0;
        /* At the end it gives what it holds back because a mark could have followed. */
        size_t result = iconv(converter, is_end ? NULL : &from, is_end ? NULL : &count, &to, &left);
        int error = result == (size_t)-1 ? errno : 0;
        put(&sink, buffer, (size_t)(to - buffer));
        if (error == E2BIG) continue;
        if (error != 0 && count > 0) {
            /* EILSEQ, or EINVAL: the text ends within a character. */
            put(&sink, "\xEF\xBF\xBD", 3);
            from++;
            count--;
        } else if (is_end) {
            break;
        }
    }
    iconv_close(converter);
    return (int64_t)sink.count;
}
