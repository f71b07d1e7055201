#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A thin door to libyaml's parser: what a document consists of, one piece after the other. */

enum {
    FC_YAML_END = 0,
    FC_YAML_DOCUMENT = 1,
    FC_YAML_SCALAR = 2,
    FC_YAML_SEQUENCE = 3,
    FC_YAML_MAPPING = 4,
    FC_YAML_CLOSE = 5, /* of the sequence or mapping that began last and has not closed */
    FC_YAML_ALIAS = 6,
    FC_YAML_FAULT = 7, /* nothing follows; the text says what is wrong */
};

struct fc_yaml_event {
    int32_t kind;
    int32_t line; /* from 1 */
    bool is_plain; /* a scalar without quotes */
    const uint8_t *text; /* until the next call */
    size_t count;
};

struct fc_yaml;

/* Reads `count` octets, which must stay where they are. NULL when there is no memory. */
struct fc_yaml *fc_yaml_open(const uint8_t *text, size_t count);
struct fc_yaml_event fc_yaml_next(struct fc_yaml *);
void fc_yaml_close(struct fc_yaml *);
