#pragma once

#include <stddef.h>
#include <stdint.h>

/* Writes the UTF-8 of `count` octets in `encoding`, one of iconv's names, to `into` while there is room. An octet that the
   encoding has no meaning for becomes U+FFFD. Returns how many octets all of it takes, or -1 when iconv does not know the
   encoding on this machine. */
int64_t fc_text_to_utf8(const char *encoding, const uint8_t *text, size_t count, uint8_t *into, size_t room);
