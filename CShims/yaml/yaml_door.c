#include "yaml_door.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

struct fc_yaml {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
};

struct fc_yaml *fc_yaml_open(const uint8_t *text, size_t count) {
    struct fc_yaml *yaml = calloc(1, sizeof *yaml);
    if (yaml == NULL) return NULL;
    if (!yaml_parser_initialize(&yaml->parser)) {
        free(yaml);
        return NULL;
    }
    yaml_parser_set_input_string(&yaml->parser, text, count);
    return yaml;
}

static struct fc_yaml_event fault(const char *text, size_t line) {
    return (struct fc_yaml_event){
        .kind = FC_YAML_FAULT,
        .line = (int32_t)line + 1,
        .text = (const uint8_t *)text,
        .count = strlen(text),
    };
}

static struct fc_yaml_event next(struct fc_yaml *yaml) {
    if (!yaml_parser_parse(&yaml->parser, &yaml->event)) {
        const yaml_parser_t *parser = &yaml->parser;
        /* What cannot be read at all has no line, but an offset. */
        return fault(parser->problem == NULL ? "there is no memory to read it" : parser->problem, parser->problem_mark.line);
    }
    yaml->has_event = true;
    struct fc_yaml_event event = {.line = (int32_t)yaml->event.start_mark.line + 1};
    switch (yaml->event.type) {
    case YAML_STREAM_END_EVENT: event.kind = FC_YAML_END; break;
    case YAML_DOCUMENT_START_EVENT: event.kind = FC_YAML_DOCUMENT; break;
    case YAML_SEQUENCE_START_EVENT: event.kind = FC_YAML_SEQUENCE; break;
    case YAML_MAPPING_START_EVENT: event.kind = FC_YAML_MAPPING; break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: event.kind = FC_YAML_CLOSE; break;
    case YAML_ALIAS_EVENT: event.kind = FC_YAML_ALIAS; break;
    case YAML_SCALAR_EVENT:
        event.kind = FC_YAML_SCALAR;
        event.is_plain = yaml->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        event.text = yaml->event.data.scalar.value;
        event.count = yaml->event.data.scalar.length;
        break;
    default: event.kind = -1; /* where streams and documents begin and end */
    }
    return event;
}

struct fc_yaml_event fc_yaml_next(struct fc_yaml *yaml) {
    struct fc_yaml_event event;
    do {
        if (yaml->has_event) yaml_event_delete(&yaml->event);
        yaml->has_event = false;
        event = next(yaml);
    } while (event.kind < 0);
    return event;
}

void fc_yaml_close(struct fc_yaml *yaml) {
    if (yaml->has_event) yaml_event_delete(&yaml->event);
    yaml_parser_delete(&yaml->parser);
    free(yaml);
}
