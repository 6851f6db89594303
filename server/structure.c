/* Structured answers: see structure.h. */
#include "server/structure.h"

#include <stdlib.h>
#include <string.h>

#include "server/field.h"
#include "text/choices.h"
#include "text/json_schema.h"
#include "text/regex.h"

/* One structure, and the field that asks for it. */
struct structure {
    const char *field;
    const struct automaton *automaton;
};

static int follow_error(int rc, const char *field, const struct err *err, struct response *error)
{
    if (!rc)
        return 0;
    if (rc != ERR_INVALID)
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    return response_error(error, 400, field, NULL, "'%s' cannot be followed: %s.", field,
                          err->text);
}

/* ---- kinds of structures ---- */

/* vLLM also takes a schema as the text of one. */
static int take_schema(const json_t *value, struct structure *s, struct response *error)
{
    struct automaton *automaton = NULL;
    json_error_t fault;
    struct err err;
    json_t *parsed = NULL;
    if (json_is_string(value)) {
        parsed = json_loadb(json_string_value(value), json_string_length(value),
                            JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &fault);
        if (!parsed)
            return response_error(error, 400, s->field, NULL, "The schema in '%s' is no JSON: %s.",
                                  s->field, fault.text);
        value = parsed;
    }
    int rc = json_schema_compile(value, &automaton, &err);
    json_decref(parsed);
    s->automaton = automaton;
    return follow_error(rc, s->field, &err, error);
}

static int take_object(struct structure *s, struct response *error)
{
    struct automaton *automaton = NULL;
    struct err err;
    int rc = json_object_compile(&automaton, &err);
    s->automaton = automaton;
    return follow_error(rc, s->field, &err, error);
}

static int take_regex(const json_t *value, struct structure *s, struct response *error)
{
    struct automaton *automaton = NULL;
    struct err err;
    if (!json_is_string(value))
        return response_error(error, 400, s->field, NULL,
                              "'%s' must have a regular expression, which is a string.", s->field);
    int rc = regex_compile(json_string_value(value), json_string_length(value), &automaton, &err);
    s->automaton = automaton;
    return follow_error(rc, s->field, &err, error);
}

static int take_choice(const json_t *value, struct structure *s, struct response *error)
{
    size_t n = json_array_size(value);
    struct automaton *automaton = NULL;
    struct err err;
    bool strings = n > 0 && n <= CHOICES_MAX;
    for (size_t i = 0; i < n; i++)
        strings &= json_string_length(json_array_get(value, i)) > 0;
    if (!strings)
        return response_error(error, 400, s->field, NULL,
                              "'%s' must have a list of 1 to %d texts to choose from.", s->field,
                              CHOICES_MAX);
    struct choice_text *list = calloc(n, sizeof *list);
    if (!list)
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    for (size_t i = 0; i < n; i++)
        list[i] = (struct choice_text){json_string_value(json_array_get(value, i)),
                                       json_string_length(json_array_get(value, i))};
    int rc = choices_compile(list, (int)n, &automaton, &err);
    free(list);
    s->automaton = automaton;
    return follow_error(rc, s->field, &err, error);
}

/* ---- fields ---- */

static int take_format(const json_t *format, struct structure *s, struct response *error)
{
    const char *type = json_string_value(field_get(format, "type"));
    const json_t *schema = field_get(format, "schema");
    if (!type)
        return response_error(error, 400, s->field, NULL,
                              "'response_format' must be an object with a 'type'.");
    if (!strcmp(type, "text"))
        return 0;
    if (!strcmp(type, "json_object"))
        return schema ? take_schema(schema, s, error) : take_object(s, error);
    if (strcmp(type, "json_schema"))
        return response_error(error, 400, s->field, NULL,
                              "'response_format' of type '%.40s' is not supported, only \"text\", "
                              "\"json_object\" and \"json_schema\".",
                              type);
    schema = schema ? schema : field_get(field_get(format, "json_schema"), "schema");
    if (!schema)
        return response_error(error, 400, s->field, NULL,
                              "'response_format' must have the schema in 'json_schema', like "
                              "{\"type\": \"json_schema\", \"json_schema\": {\"name\": \"...\", "
                              "\"schema\": {...}}}.");
    return take_schema(schema, s, error);
}

/* structured_outputs: an object with one of a few names. */
static int take_outputs(json_t *outputs, struct structure *s, struct response *error)
{
    const char *name;
    json_t *value;
    int rc = 0;
    if (!json_is_object(outputs))
        return response_error(error, 400, s->field, NULL,
                              "'structured_outputs' must be an object.");
    json_object_foreach(outputs, name, value)
    {
        if (json_is_null(value) || json_is_false(value))
            continue;
        if (s->automaton)
            rc = response_error(error, 400, s->field, NULL,
                                "'structured_outputs' must have one of 'json', 'regex' and "
                                "'choice', not several.");
        else if (!strcmp(name, "json"))
            rc = take_schema(value, s, error);
        else if (!strcmp(name, "json_object"))
            rc = take_object(s, error);
        else if (!strcmp(name, "regex"))
            rc = take_regex(value, s, error);
        else if (!strcmp(name, "choice"))
            rc = take_choice(value, s, error);
        else
            rc = response_error(error, 400, s->field, NULL,
                                "'%.40s' in 'structured_outputs' is not supported, only 'json', "
                                "'json_object', 'regex' and 'choice'.",
                                name);
        if (rc)
            return rc;
    }
    return 0;
}

static int take(const char *field, json_t *value, struct structure *s, struct response *error)
{
    s->field = field;
    if (!strcmp(field, "response_format"))
        return take_format(value, s, error);
    if (!strcmp(field, "structured_outputs"))
        return take_outputs(value, s, error);
    if (!strcmp(field, "guided_regex"))
        return take_regex(value, s, error);
    if (!strcmp(field, "guided_choice"))
        return take_choice(value, s, error);
    return take_schema(value, s, error);
}

static bool demands_call(const json_t *root)
{
    const json_t *choice = field_get(root, "tool_choice");
    const char *word = json_string_value(choice);
    return choice && !(word && (!strcmp(word, "auto") || !strcmp(word, "none")));
}

int structure_parse(struct api_request *request, struct response *error)
{
    static const char *const fields[] = {"response_format", "json_schema",   "guided_json",
                                         "guided_regex",    "guided_choice", "structured_outputs"};
    struct structure first = {0};
    int rc = 0;
    for (size_t i = 0; i < sizeof fields / sizeof *fields && !rc; i++) {
        json_t *value = field_get(request->json, fields[i]);
        struct structure s = {0};
        if (!value)
            continue;
        rc = take(fields[i], value, &s, error);
        if (!rc && s.automaton && first.automaton)
            rc = response_error(error, 400, s.field, NULL,
                                "'%s' and '%s' both say what the answer is to look like: leave "
                                "one out.",
                                first.field, s.field);
        if (!first.automaton)
            first = s;
        else
            automaton_release(s.automaton);
    }
    request->engine.grammar = first.automaton;
    if (!rc && first.automaton && demands_call(request->json))
        rc = response_error(error, 400, "tool_choice", NULL,
                            "'tool_choice' makes the answer a call, but '%s' says what it is to "
                            "look like: leave one out.",
                            first.field);
    return rc;
}
