#include "xml.h"

#include <libxml/HTMLparser.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if LIBXML_VERSION >= 21200
typedef const xmlError *reported_error;
#else
typedef xmlError *reported_error;
#endif

struct fc_xml {
    xmlParserCtxtPtr parser;
    uint8_t *events;
    size_t count, room;
    size_t text; /* where the length of the text stands that may go on; 0: none */
    struct fc_xml_fault fault;
};

static void fail(struct fc_xml *xml, int code) {
    if (xml->fault.code != 0) return;
    xml->fault.code = code;
    xml->fault.line = xmlSAX2GetLineNumber(xml->parser);
    xml->fault.column = xmlSAX2GetColumnNumber(xml->parser);
}

static bool put(struct fc_xml *xml, const void *octets, size_t count) {
    if (count > xml->room - xml->count) {
        size_t room = 2 * (xml->count + count) + 4096;
        uint8_t *larger = realloc(xml->events, room);
        if (larger == NULL) {
            fail(xml, FC_XML_NO_MEMORY);
            return false;
        }
        xml->events = larger;
        xml->room = room;
    }
    if (count > 0) memcpy(xml->events + xml->count, octets, count);
    xml->count += count;
    return true;
}

static void store_number(uint8_t *to, size_t number) {
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(number >> (8 * i));
}

static size_t load_number(const uint8_t *from) {
    return from[0] | (size_t)from[1] << 8 | (size_t)from[2] << 16 | (size_t)from[3] << 24;
}

static void put_number(struct fc_xml *xml, size_t number) {
    uint8_t octets[4];
    store_number(octets, number);
    put(xml, octets, 4);
}

static void put_string(struct fc_xml *xml, const void *octets, size_t count) {
    put_number(xml, count);
    put(xml, octets, count);
}

static void put_text(struct fc_xml *xml, const xmlChar *text) {
    put_string(xml, text, text == NULL ? 0 : (size_t)xmlStrlen(text));
}

static void put_name(struct fc_xml *xml, const xmlChar *prefix, const xmlChar *local) {
    if (prefix == NULL) {
        put_text(xml, local);
        return;
    }
    size_t first = (size_t)xmlStrlen(prefix), second = (size_t)xmlStrlen(local);
    put_number(xml, first + 1 + second);
    put(xml, prefix, first);
    put(xml, ":", 1);
    put(xml, local, second);
}

/* Without replacement of entities libxml2 leaves each "&" of a value as "&#38;", and nothing else. */
static void put_value(struct fc_xml *xml, const xmlChar *value, size_t count) {
    static const char ampersand[] = "&#38;";
    size_t at = xml->count;
    put_number(xml, 0);
    for (size_t i = 0; i < count;) {
        const xmlChar *found = memchr(value + i, '&', count - i);
        size_t plain = found == NULL ? count - i : (size_t)(found - value) - i;
        if (!put(xml, value + i, plain)) return;
        i += plain;
        if (found == NULL) break;
        if (!put(xml, "&", 1)) return;
        i += count - i >= 5 && memcmp(found, ampersand, 5) == 0 ? 5 : 1;
    }
    if (xml->fault.code == 0) store_number(xml->events + at, xml->count - at - 4);
}

/* False once something was wrong: what is reported after that does not count. */
static bool begin(struct fc_xml *xml, uint8_t kind) {
    xml->text = 0;
    return xml->fault.code == 0 && put(xml, &kind, 1);
}

static void started(void *user, const xmlChar *local, const xmlChar *prefix, const xmlChar *uri, int namespace_count,
                    const xmlChar **namespaces, int attribute_count, int defaulted, const xmlChar **attributes) {
    (void)uri, (void)defaulted;
    struct fc_xml *xml = user;
    if (!begin(xml, FC_XML_START)) return;
    put_number(xml, (size_t)xmlSAX2GetLineNumber(xml->parser));
    put_number(xml, (size_t)xmlSAX2GetColumnNumber(xml->parser));
    put_name(xml, prefix, local);
    put_number(xml, (size_t)namespace_count);
    for (int i = 0; i < namespace_count; i++) {
        const xmlChar *uri_octets = namespaces[2 * i + 1];
        put_text(xml, namespaces[2 * i]);
        put_value(xml, uri_octets, uri_octets == NULL ? 0 : (size_t)xmlStrlen(uri_octets));
    }
    put_number(xml, (size_t)attribute_count);
    for (int i = 0; i < attribute_count; i++) {
        const xmlChar **attribute = attributes + 5 * i; /* local, prefix, URI, value, end of the value */
        put_name(xml, attribute[1], attribute[0]);
        put_value(xml, attribute[3], (size_t)(attribute[4] - attribute[3]));
    }
}

static void ended(void *user, const xmlChar *local, const xmlChar *prefix, const xmlChar *uri) {
    (void)local, (void)prefix, (void)uri;
    begin(user, FC_XML_END);
}

static void found_text(void *user, const xmlChar *text, int count) {
    struct fc_xml *xml = user;
    if (xml->text != 0 && xml->fault.code == 0) {
        size_t length = load_number(xml->events + xml->text);
        if (put(xml, text, (size_t)count)) store_number(xml->events + xml->text, length + (size_t)count);
        return;
    }
    if (!begin(xml, FC_XML_TEXT)) return;
    size_t at = xml->count;
    put_string(xml, text, (size_t)count);
    xml->text = at;
}

static void found_comment(void *user, const xmlChar *text) {
    if (begin(user, FC_XML_COMMENT)) put_text(user, text);
}

static void found_instruction(void *user, const xmlChar *target, const xmlChar *data) {
    if (!begin(user, FC_XML_INSTRUCTION)) return;
    put_text(user, target);
    put_number(user, data != NULL);
    if (data != NULL) put_text(user, data);
}

static void found_document_type(void *user, const xmlChar *name, const xmlChar *external, const xmlChar *system) {
    (void)name, (void)external, (void)system;
    struct fc_xml *xml = user;
    fail(xml, FC_XML_DOCUMENT_TYPE);
    /* Before it reads any declaration of an entity. */
    xmlStopParser(xml->parser);
}

static void found_error(void *user, reported_error error) {
    /* A namespace's name need not be a URI for a document to be well-formed. */
    if (error->code == XML_WAR_NS_URI || error->code == XML_WAR_NS_URI_RELATIVE) return;
    if (error->level >= XML_ERR_ERROR) fail(user, error->code);
}

/* Some errors are written to standard error even though there is a handler for errors. */
static void say_nothing(void *user, const char *format, ...) { (void)user, (void)format; }

static pthread_once_t initialized = PTHREAD_ONCE_INIT;

struct fc_xml *fc_xml_open(void) {
    pthread_once(&initialized, xmlInitParser);
    xmlSetGenericErrorFunc(NULL, say_nothing);
    struct fc_xml *xml = calloc(1, sizeof *xml);
    if (xml == NULL) return NULL;
    /* There are no handlers for entities: none is ever declared, found or fetched. */
    xmlSAXHandler handlers = {
        .initialized = XML_SAX2_MAGIC,
        .internalSubset = found_document_type,
        .startElementNs = started,
        .endElementNs = ended,
        .characters = found_text,
        .ignorableWhitespace = found_text,
        .cdataBlock = found_text,
        .comment = found_comment,
        .processingInstruction = found_instruction,
        .serror = found_error,
    };
    xml->parser = xmlCreatePushParserCtxt(&handlers, xml, NULL, 0, NULL);
    if (xml->parser == NULL) {
        free(xml);
        return NULL;
    }
    /* Never NOENT, DTDLOAD or DTDATTR: with NOENT files are read in spite of NONET. The text is UTF-8 whatever it says. */
    xmlCtxtUseOptions(xml->parser, XML_PARSE_NONET | XML_PARSE_IGNORE_ENC);
    xmlSwitchToEncoding(xml->parser, xmlFindCharEncodingHandler("UTF-8"));
    return xml;
}

size_t fc_xml_push(struct fc_xml *xml, const uint8_t *text, size_t count, bool last, struct fc_xml_fault *fault) {
    if (count > INT_MAX) fail(xml, FC_XML_NO_MEMORY);
    if (xml->fault.code == 0) {
        int code = xmlParseChunk(xml->parser, (const char *)text, (int)count, last);
        /* A stop without a word to the handler, which happens when memory runs out. */
        if (xml->fault.code == 0 && (code < 0 || xml->parser->disableSAX)) fail(xml, code > 0 ? code : FC_XML_NO_MEMORY);
    }
    if (xml->fault.code == FC_XML_NO_MEMORY) xml->count = 0; /* an event may be unfinished */
    *fault = xml->fault;
    return xml->count;
}

void fc_xml_take(struct fc_xml *xml, uint8_t *into) {
    if (xml->count > 0) memcpy(into, xml->events, xml->count);
    xml->count = 0;
    xml->text = 0;
}

void fc_xml_close(struct fc_xml *xml) {
    if (xml->parser->myDoc != NULL) xmlFreeDoc(xml->parser->myDoc);
    xmlFreeParserCtxt(xml->parser);
    free(xml->events);
    free(xml);
}

uint32_t fc_html_entity(const char *name) {
    const htmlEntityDesc *entity = htmlEntityLookup((const xmlChar *)name);
    return entity == NULL ? 0 : entity->value;
}
