/* Taking JSON schemas apart: see json_schema.h. */
#include "text/json_schema.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "text/json_compiler.h"
#include "text/json_disjoint.h"

#define NESTING_MAX 100
#define COUNT_MAX 1000000

/* ---- paths and refusals ---- */

size_t json_enter(struct json_compiler *c, const char *key)
{
    size_t mark = c->path.len;
    buf_puts(&c->path, "/");
    for (; *key; key++)
        buf_printf(&c->path, *key == '~' ? "~0" : *key == '/' ? "~1" : "%c", *key);
    return mark;
}

size_t json_enter_item(struct json_compiler *c, size_t index)
{
    size_t mark = c->path.len;
    buf_printf(&c->path, "/%zu", index);
    return mark;
}

void json_leave(struct json_compiler *c, size_t mark)
{
    if (!c->path.failed)
        c->path.len = mark;
}

void json_out_of_memory(struct json_compiler *c)
{
    if (!c->rc)
        c->rc = err_set(c->err, ERR_MEMORY, "no memory left for the schema");
}

void json_refuse(struct json_compiler *c, const char *keyword, const char *format, ...)
{
    char why[256];
    va_list args;
    if (c->rc)
        return;
    va_start(args, format);
    vsnprintf(why, sizeof why, format, args);
    va_end(args);
    size_t mark = c->path.len;
    if (keyword)
        json_enter(c, keyword);
    if (c->path.failed)
        json_out_of_memory(c);
    else
        c->rc =
            err_set(c->err, ERR_INVALID, "at #%.150s: %s", c->path.len ? c->path.data : "", why);
    json_leave(c, mark);
}

void json_count(struct json_compiler *c, const json_t *schema, const char *keyword, int *value)
{
    const json_t *field = json_object_get(schema, keyword);
    double x = json_number_value(field);
    if (!field)
        return;
    if (!json_is_number(field) || !(x >= 0 && x <= COUNT_MAX) || x != (int)x)
        json_refuse(c, keyword, "it must be a whole number from 0 to %d", COUNT_MAX);
    else
        *value = (int)x;
}

/* ---- keywords ---- */

enum {
    OBJECT = 1,
    ARRAY = 2,
    STRING = 4,
    DECIMAL = 8,
    WHOLE = 16,
    BOOLEAN = 32,
    NOTHING = 64,
    NUMBER = DECIMAL | WHOLE,
    SHAPE = 128, /* says alone what a value is */
    NOTE = 256,  /* changes nothing */
};

static const struct {
    const char *name;
    int of;
} keywords[] = {
    {"properties", OBJECT},
    {"required", OBJECT},
    {"additionalProperties", OBJECT},
    {"items", ARRAY},
    {"prefixItems", ARRAY},
    {"minItems", ARRAY},
    {"maxItems", ARRAY},
    {"minLength", STRING},
    {"maxLength", STRING},
    {"pattern", STRING},
    {"format", STRING},
    {"minimum", NUMBER},
    {"maximum", NUMBER},
    {"exclusiveMinimum", NUMBER},
    {"exclusiveMaximum", NUMBER},
    {"multipleOf", NUMBER},
    {"$ref", SHAPE},
    {"const", SHAPE},
    {"enum", SHAPE},
    {"anyOf", SHAPE},
    {"oneOf", SHAPE},
    {"allOf", SHAPE},
    {"type", NOTE}, /* read apart from the others */
    {"title", NOTE},
    {"description", NOTE},
    {"default", NOTE},
    {"example", NOTE},
    {"examples", NOTE},
    {"deprecated", NOTE},
    {"readOnly", NOTE},
    {"writeOnly", NOTE},
    {"$schema", NOTE},
    {"$id", NOTE},
    {"$comment", NOTE},
    {"$defs", NOTE},
    {"definitions", NOTE},
    {"discriminator", NOTE}, /* OpenAPI's, beside oneOf: says what each schema says as well */
    {"contentMediaType", NOTE},
    {"contentEncoding", NOTE},
};

#define N_KEYWORDS (sizeof keywords / sizeof *keywords)

static int kind_of(const char *name)
{
    for (size_t i = 0; i < N_KEYWORDS; i++)
        if (!strcmp(name, keywords[i].name))
            return keywords[i].of;
    return 0;
}

/* The types that keywords are for, with SHAPE where there is one of those, in *shape. */
static int keyword_types(struct json_compiler *c, const json_t *schema, const char **shape)
{
    const char *name;
    json_t *value;
    int types = 0;
    *shape = NULL;
    json_object_foreach((json_t *)schema, name, value)
    {
        int of = kind_of(name);
        if (!of && !strcmp(name, "uniqueItems") && json_is_false(value))
            continue;
        if (!of)
            json_refuse(c, name, "this keyword is not supported");
        else if (of == SHAPE && *shape)
            json_refuse(c, name, "this keyword is not supported beside '%.40s'", *shape);
        else if (of == SHAPE)
            *shape = name;
        else if (of != NOTE)
            types |= of;
    }
    for (size_t i = 0; *shape && types && i < N_KEYWORDS; i++)
        if (keywords[i].of < SHAPE && json_object_get(schema, keywords[i].name))
            json_refuse(c, keywords[i].name, "this keyword is not supported beside '%.40s'",
                        *shape);
    return types;
}

static int type_named(struct json_compiler *c, const json_t *name)
{
    static const struct {
        const char *name;
        int type;
    } types[] = {{"object", OBJECT}, {"array", ARRAY},     {"string", STRING}, {"number", DECIMAL},
                 {"integer", WHOLE}, {"boolean", BOOLEAN}, {"null", NOTHING}};
    const char *text = json_string_value(name);
    for (int i = 0; text && i < 7; i++)
        if (!strcmp(text, types[i].name))
            return types[i].type;
    json_refuse(c, "type",
                "it must be \"object\", \"array\", \"string\", \"number\", \"integer\", "
                "\"boolean\", \"null\", or a list of these");
    return 0;
}

/* 0 where there is no type. */
static int types_of(struct json_compiler *c, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type");
    int types = 0;
    if (!json_is_array(type))
        return type ? type_named(c, type) : 0;
    for (size_t i = 0; i < json_array_size(type); i++)
        types |= type_named(c, json_array_get(type, i));
    if (!types)
        json_refuse(c, "type", "the list is empty");
    return types;
}

/* ---- values as they are ---- */

static bool has_type(const json_t *value, int types)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return types & OBJECT;
    case JSON_ARRAY:
        return types & ARRAY;
    case JSON_STRING:
        return types & STRING;
    case JSON_INTEGER:
        return types & NUMBER;
    case JSON_REAL:
        return types & DECIMAL;
    case JSON_NULL:
        return types & NOTHING;
    default:
        return types & BOOLEAN;
    }
}

static int32_t draw_enum(struct json_compiler *c, const json_t *schema, const char *shape,
                         int32_t from)
{
    const json_t *list = json_object_get(schema, shape);
    int types = types_of(c, schema);
    bool one = !strcmp(shape, "const");
    size_t n = one ? 1 : json_array_size(list), kept = 0;
    json_t **values = calloc(n + 1, sizeof *values);
    if (!values) {
        json_out_of_memory(c);
        return from;
    }
    for (size_t i = 0; i < n; i++) {
        json_t *value = one ? json_object_get(schema, shape) : json_array_get(list, i);
        if (!types || has_type(value, types))
            values[kept++] = value;
    }
    if (!kept)
        json_refuse(c, shape, "it names no value%s", n ? " of the type" : "");
    else
        from = json_values_draw(c, values, kept, from);
    free(values);
    return from;
}

/* ---- schemas of schemas ---- */

/* Where no two can hold at once, any one of them that holds is the only one. */
static void check_one(struct json_compiler *c, const json_t *list)
{
    int steps = JSON_DISJOINT_STEPS;
    for (size_t i = 0; i < json_array_size(list) && !c->rc; i++)
        for (size_t j = 0; j < i && !c->rc; j++)
            if (!json_disjoint(c->root, json_array_get(list, j), json_array_get(list, i), &steps))
                json_refuse(c, "oneOf",
                            "both %zu and %zu may hold for a value: it is supported where types, "
                            "or a property that both require, tell them apart by 'const' or "
                            "'enum'; else use 'anyOf'",
                            j, i);
}

static int32_t draw_choice(struct json_compiler *c, const json_t *list, const char *keyword,
                           int32_t from)
{
    size_t n = json_array_size(list);
    int32_t to = automaton_state(&c->draft);
    if (!n)
        json_refuse(c, keyword, "it must be a list of schemas");
    if (n > 1 && !strcmp(keyword, "allOf"))
        json_refuse(c, keyword, "more than one schema is not supported here");
    if (!strcmp(keyword, "oneOf"))
        check_one(c, list);
    size_t mark = json_enter(c, keyword);
    for (size_t i = 0; i < n && !c->rc; i++) {
        size_t inner = json_enter_item(c, i);
        automaton_empty(&c->draft, json_value_draw(c, json_array_get(list, i), from), to);
        json_leave(c, inner);
    }
    json_leave(c, mark);
    return to;
}

/* One step of a pointer: the name, with ~0 and ~1 undone, up to the next slash. NULL when it leads
 * nowhere. */
static const json_t *follow(const json_t *at, const char *name, size_t len)
{
    char key[256];
    size_t n = 0;
    for (size_t i = 0; i < len && n + 1 < sizeof key; i++) {
        bool tilde = name[i] == '~' && i + 1 < len && (name[i + 1] == '0' || name[i + 1] == '1');
        key[n++] = !tilde ? name[i] : name[++i] == '0' ? '~' : '/';
    }
    key[n] = '\0';
    if (len >= sizeof key)
        return NULL;
    if (json_is_array(at))
        return json_array_get(at, strtoul(key, NULL, 10));
    return json_object_get(at, key);
}

const json_t *json_find(const json_t *root, const char *pointer)
{
    const json_t *at = root;
    if (*pointer++ != '#')
        return NULL;
    while (at && *pointer) {
        size_t len = strcspn(++pointer, "/");
        if (pointer[-1] != '/')
            return NULL;
        at = follow(at, pointer, len);
        pointer += len;
    }
    return at;
}

/* The rule of what is referred to, drawn later. */
static int rule_of(struct json_compiler *c, const json_t *schema, const char *pointer)
{
    for (int i = 0; i < c->n_references; i++)
        if (c->references[i].schema == schema)
            return c->references[i].rule;
    if (c->n_references == c->room_references) {
        int room = c->room_references ? 2 * c->room_references : 16;
        struct json_reference *more = realloc(c->references, (size_t)room * sizeof *more);
        if (!more) {
            json_out_of_memory(c);
            return 0;
        }
        c->references = more;
        c->room_references = room;
    }
    char *path = strdup(pointer + 1);
    if (!path)
        json_out_of_memory(c);
    else
        c->references[c->n_references++] =
            (struct json_reference){schema, automaton_rule(&c->draft), path};
    return path ? c->references[c->n_references - 1].rule : 0;
}

static int32_t draw_reference(struct json_compiler *c, const json_t *reference, int32_t from)
{
    const char *pointer = json_string_value(reference);
    int32_t to = automaton_state(&c->draft);
    const json_t *schema = pointer ? json_find(c->root, pointer) : NULL;
    if (!schema)
        json_refuse(c, "$ref", "'%.80s' leads to nothing in this schema", pointer ? pointer : "");
    else
        automaton_call(&c->draft, from, to, rule_of(c, schema, pointer));
    return to;
}

/* ---- any schema ---- */

static int32_t draw_types(struct json_compiler *c, const json_t *schema, int types, int32_t from)
{
    int32_t to = automaton_state(&c->draft);
    for (int type = 1; type <= NOTHING && !c->rc; type <<= 1) {
        int32_t end = from;
        if (!(types & type))
            continue;
        if (type == OBJECT)
            end = json_object_draw(c, schema, from);
        else if (type == ARRAY)
            end = json_array_draw(c, schema, from);
        else if (type == STRING)
            end = json_string_draw(c, schema, from);
        else if (type & NUMBER)
            end = type == WHOLE && types & DECIMAL
                      ? -1 /* is a number as well */
                      : json_number_draw(c, schema, type == WHOLE, from);
        else if (type == BOOLEAN)
            end = json_lexis_regex(&c->lexis, "true|false", false, from);
        else
            end = json_lexis_text(&c->lexis, "null", from);
        if (end >= 0)
            automaton_empty(&c->draft, end, to);
    }
    return to;
}

/* Keywords for types that the schema does not have would do nothing: they are a mistake. */
static void check_keywords(struct json_compiler *c, const json_t *schema, int types)
{
    for (size_t i = 0; i < N_KEYWORDS; i++)
        if (keywords[i].of < SHAPE && !(keywords[i].of & types) &&
            json_object_get(schema, keywords[i].name))
            json_refuse(c, keywords[i].name, "this keyword is for another type");
}

static int32_t draw_object_schema(struct json_compiler *c, const json_t *schema, int32_t from)
{
    const char *shape;
    int of_keywords = keyword_types(c, schema, &shape), types = types_of(c, schema);
    if (c->rc)
        return from;
    const json_t *field = shape ? json_object_get(schema, shape) : NULL;
    if (shape && (!strcmp(shape, "enum") || !strcmp(shape, "const")))
        return draw_enum(c, schema, shape, from);
    if (shape && types)
        json_refuse(c, "type", "this keyword is not supported beside '%.40s'", shape);
    if (shape && !strcmp(shape, "$ref"))
        return draw_reference(c, field, from);
    if (shape)
        return draw_choice(c, field, shape, from);
    if (!types)
        types = of_keywords;
    check_keywords(c, schema, types);
    return types ? draw_types(c, schema, types, from) : json_lexis_draw(&c->lexis, JSON_ANY, from);
}

int32_t json_value_draw(struct json_compiler *c, const json_t *schema, int32_t from)
{
    if (c->rc || c->draft.full)
        return from;
    if (json_is_true(schema))
        return json_lexis_draw(&c->lexis, JSON_ANY, from);
    if (!json_is_object(schema))
        json_refuse(c, NULL,
                    json_is_false(schema) ? "no value is allowed here"
                                          : "a schema must be an object or true");
    else if (c->depth == NESTING_MAX)
        json_refuse(c, NULL, "schemas are nested more than %d deep", NESTING_MAX);
    if (c->rc)
        return from;
    c->depth++;
    from = draw_object_schema(c, schema, from);
    c->depth--;
    return from;
}

/* ---- the whole ---- */

static void draw_rule(struct json_compiler *c, const json_t *schema, int rule)
{
    if (c->draft.full)
        return;
    struct automaton_rule r = c->draft.rules[rule];
    int32_t end = json_value_draw(c, schema, r.start);
    automaton_empty(&c->draft, end, r.final);
}

static void compiler_release(struct json_compiler *c)
{
    for (int i = 0; i < c->n_references; i++)
        free(c->references[i].path);
    free(c->references);
    buf_release(&c->path);
    automaton_draft_release(&c->draft);
}

int json_schema_compile(const json_t *schema, struct automaton **automaton, struct err *err)
{
    struct json_compiler c = {.root = schema, .err = err};
    *automaton = NULL;
    c.lexis.draft = &c.draft;
    draw_rule(&c, schema, automaton_rule(&c.draft));
    for (int i = 0; i < c.n_references && !c.rc && !c.draft.full; i++) {
        json_leave(&c, 0);
        buf_puts(&c.path, c.references[i].path);
        draw_rule(&c, c.references[i].schema, c.references[i].rule);
    }
    int rc = c.rc ? c.rc : automaton_finish(&c.draft, automaton, err);
    if (rc && !c.rc)
        err_prefix(err, rc, "the schema cannot be followed");
    compiler_release(&c);
    return rc;
}

int json_object_compile(struct automaton **automaton, struct err *err)
{
    struct automaton_draft draft = {0};
    struct json_lexis lexis = {.draft = &draft};
    automaton_rule(&draft);
    if (!draft.full)
        automaton_empty(&draft, json_lexis_draw(&lexis, JSON_OBJECT_ANY, draft.rules[0].start),
                        draft.rules[0].final);
    return automaton_finish(&draft, automaton, err);
}
