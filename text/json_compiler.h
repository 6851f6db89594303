/* Between the files that compile JSON schemas (json_schema.h): json_schema.c takes a schema apart,
 * json_object.c and json_scalar.c draw what it says of values of one type. One thread. */
#ifndef TEXT_JSON_COMPILER_H
#define TEXT_JSON_COMPILER_H

#include <jansson.h>

#include "base/buf.h"
#include "text/json_lexis.h"

struct json_reference {
    const json_t *schema; /* what it points to */
    int rule;
    char *path; /* owned */
};

struct json_compiler {
    const json_t *root;
    struct automaton_draft draft;
    struct json_lexis lexis;
    struct buf path; /* of the schema that is looked at, as a JSON pointer */
    int depth;
    struct json_reference *references;
    int n_references, room_references;
    int rc; /* of the first thing that was wrong; nothing more is done then */
    struct err *err;
};

/* Each draws values behind `from` and returns the state behind them. */
int32_t json_value_draw(struct json_compiler *compiler, const json_t *schema, int32_t from);
int32_t json_object_draw(struct json_compiler *compiler, const json_t *schema, int32_t from);
int32_t json_array_draw(struct json_compiler *compiler, const json_t *schema, int32_t from);
int32_t json_string_draw(struct json_compiler *compiler, const json_t *schema, int32_t from);
int32_t json_number_draw(struct json_compiler *compiler, const json_t *schema, bool whole,
                         int32_t from);
/* The value as it is, once or one of several. */
int32_t json_values_draw(struct json_compiler *compiler, json_t *const *values, size_t n,
                         int32_t from);

/* What a JSON pointer ("#/$defs/x") leads to, NULL: nothing. */
const json_t *json_find(const json_t *root, const char *pointer);

/* Goes to a part of the schema, and back with what it returned. */
size_t json_enter(struct json_compiler *compiler, const char *key);
size_t json_enter_item(struct json_compiler *compiler, size_t index);
void json_leave(struct json_compiler *compiler, size_t mark);

/* Notes what is wrong at the path, with `keyword` behind it unless NULL. */
void json_refuse(struct json_compiler *compiler, const char *keyword, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void json_out_of_memory(struct json_compiler *compiler);

/* A keyword that counts something: absent leaves the value as it is. */
void json_count(struct json_compiler *compiler, const json_t *schema, const char *keyword,
                int *value);

#endif
