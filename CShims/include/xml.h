#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A thin door to libxml2's push parser. Text goes in, and what the parser saw comes out as one run of
   octets, so that none of libxml2's pointers or callbacks leaves xml.c. */

/* What the parser saw. Each event begins with one of these in one octet. A number takes 4 octets, the lowest first; a string
   is the number of its octets and then the octets.
     START        line, column, name, count, (prefix, URI) × count, count, (name, value) × count
     END          nothing: it is the element that began last and has not ended
     TEXT         string; text and CDATA sections in a row are one event
     COMMENT      string
     INSTRUCTION  target, 0, or 1 and the data
   The first list of START has its namespace declarations, "" being the default one; the second its attributes. */
enum {
    FC_XML_START = 1,
    FC_XML_END = 2,
    FC_XML_TEXT = 3,
    FC_XML_COMMENT = 4,
    FC_XML_INSTRUCTION = 5,
};

/* Faults of our own, beside libxml2's xmlParserErrors. */
enum {
    FC_XML_DOCUMENT_TYPE = 100001,
    FC_XML_NO_MEMORY = 100002,
};

struct fc_xml;

struct fc_xml_fault {
    int32_t code; /* 0: none */
    int32_t line; /* from 1 */
    int32_t column;
};

/* A parser for one document. NULL when there is no memory. */
struct fc_xml *fc_xml_open(void);

/* Parses the next `count` octets of UTF-8; with `last` also what waits for more. Not to be called again after a fault.
   Returns how many octets of events wait for `fc_xml_take`; those before the fault are among them. */
size_t fc_xml_push(struct fc_xml *, const uint8_t *text, size_t count, bool last, struct fc_xml_fault *fault);

/* Moves the waiting events, all of them, to `into`, which must have room for what `fc_xml_push` returned. */
void fc_xml_take(struct fc_xml *, uint8_t *into);

void fc_xml_close(struct fc_xml *);

/* The character that an entity of HTML stands for ("nbsp"); 0 when there is none with this name. */
uint32_t fc_html_entity(const char *name);
