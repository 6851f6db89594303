/* JSON schemas become automata: texts that are in them and texts that are not, keyword by keyword;
 * random texts of the automata are JSON; what is not supported is refused with its place. */
#include "tests/unit/unit.h"

#include "base/rng.h"
#include "text/choices.h"
#include "text/json_pattern.h"
#include "text/json_schema.h"
#include "text/positions.h"

static struct automaton *compile(const char *schema)
{
    struct automaton *a;
    struct err err;
    json_t *json = json_loads(schema, JSON_DECODE_ANY, NULL);
    assert_non_null(json);
    if (json_schema_compile(json, &a, &err))
        fail_msg("%s: %s", schema, err.text);
    json_decref(json);
    return a;
}

static bool follows(struct positions *p, const char *text)
{
    int32_t at = positions_start(p);
    for (; *text && at >= 0; text++)
        at = positions_step(p, at, (uint8_t)*text);
    assert_int_not_equal(at, POSITION_FULL);
    return positions_accepts(p, at);
}

static bool takes(const struct automaton *a, const char *text)
{
    struct positions p;
    struct err err;
    assert_ok(positions_init(&p, a, &err), err);
    bool accepted = follows(&p, text);
    positions_release(&p);
    return accepted;
}

#define KIND(value, required)                                                                      \
    "{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"" value                               \
    "\"}},\"required\":[" required "]}"
#define NULLABLE(value)                                                                            \
    "{\"type\":[\"object\",\"null\"],\"properties\":{\"k\":{\"const\":\"" value                    \
    "\"}},\"required\":[\"k\"]}"

/* A schema, texts that it takes up to the first NULL, texts that it does not up to the second. */
static const char *const cases[][16] = {
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":"
     "\"null\"}},"
     "\"required\":[\"a\",\"b\"],\"additionalProperties\":false}",
     "{\"a\": 1, \"b\": null}", "{\"a\":1,\"b\":null}", "{ \"a\": 1, \"b\": null }",
     "{\n  \"a\": -12,\n  \"b\": null\n}", NULL, "{\"b\": null, \"a\": 1}", "{\"a\": 1}",
     "{\"a\": 1, \"b\": null, }", "{\"a\": 1.5, \"b\": null}", "{\"a\":  1, \"b\": null}",
     "{\"a\": 1, \"b\": null}\n", " {\"a\": 1, \"b\": null}", "{\"a\": 01, \"b\": null}", NULL},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"const\":1},\"b\":{\"const\":2},\"c\":{"
     "\"const\":3}},\"required\":[\"b\"],\"additionalProperties\":false}",
     "{\"b\": 2}", "{\"a\": 1, \"b\": 2}", "{\"b\": 2, \"c\": 3}", "{\"a\": 1, \"b\": 2, \"c\": 3}",
     NULL, "{}", "{\"a\": 1}", "{\"a\": 1, \"c\": 3}", "{, \"b\": 2}", NULL},
    {"{\"properties\":{\"ab\":{\"const\":1}},\"additionalProperties\":{\"const\":0}}", "{}",
     "{\"ab\": 1}", "{\"a\": 0}", "{\"abc\": 0, \"\": 0}", "{\"ab\": 1, \"x\": 0}", NULL,
     "{\"ab\": 0}", "{\"a\": 1}", "{\"x\": 0, \"ab\": 1}", "{\"\\u0061b\": 0}", NULL},
    {"{\"type\":\"object\"}", "{}", "{\"a\": [1, {\"b\": \"\\ud83d\\ude00\"}], \"c\": 1e5}", NULL,
     "[]", "{\"a\"}", "{\"a\": \"\\ud83d\"}", "{\"a\": \"\n\"}", "{\"a\": \"\\x\"}", "{\"a\": .5}",
     NULL},
    {"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1,\"maxItems\":3}",
     "[true]", "[true, false,true]", "[\n\ttrue\n]", NULL, "[]", "[true true]", "[true,]",
     "[true, true, true, true]", "[1]", NULL},
    {"{\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},\"minItems\":1}",
     "[1]", "[1, 2]", "[1, 2, 3, 3, 3]", NULL, "[]", "[2]", "[1, 3]", "[1, 2, 2]", NULL},
    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}", "\"ab\"", "\"\xc3\xa9\\n\\u00e9\"",
     "\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\"", NULL, "\"a\"", "\"abcd\"", "ab", "\"a\\\"", NULL},
    {"{\"type\":\"string\",\"pattern\":\"b+\"}", "\"b\"", "\"abbc\"", "\"\\nb\"", NULL, "\"\"",
     "\"ac\"", NULL},
    {"{\"type\":\"string\",\"pattern\":\"^a\\\"|b$\"}", "\"a\\\"\"", "\"a\\\"x\"", "\"xb\"", NULL,
     "\"xa\\\"\"", "\"bx\"", NULL},
    {"{\"enum\":[\"a\",\"a\\\"b\",1,0.1,null,[1,{\"b\":2}]]}", "\"a\"", "\"a\\\"b\"", "1", "0.1",
     "null", "[1, {\"b\": 2}]", NULL, "a", "2", "0.10", NULL},
    {"{\"type\":\"integer\",\"minimum\":-12,\"exclusiveMaximum\":1035}", "-12", "-1", "0", "9",
     "10", "1034", "999", NULL, "-13", "1035", "01", "1.0", "+1", NULL},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":2}", "0.1", "1", "1.99", "2", "2.000",
     "0.000001", NULL, "0", "0.0", "-1", "2.1", "2.0001", "3", NULL},
    {"{\"multipleOf\":0.25}", "0", "0.25", "-0.5", "-0.50", "12345.75", "7", "7.0", "7.00", NULL,
     "0.1", "0.255", "1e2", "-0", "1.250", NULL},
    {"{\"type\":\"integer\",\"multipleOf\":1.5,\"minimum\":-3.5}", "-3", "0", "3",
     "999999999999999", NULL, "-6", "1", "2", "1.5", "1000000000000002", NULL},
    {"{\"multipleOf\":1e6,\"exclusiveMinimum\":1e6}", "2000000", "17000000", NULL, "1000000",
     "2000001", "0", "2500000", NULL},
    {"{\"multipleOf\":997}", "997", "-1994", "996999003", "0", NULL, "998", "996999004", NULL},
    {"{\"type\":[\"integer\",\"null\",\"string\"],\"maxLength\":1}", "null", "7", "\"x\"", NULL,
     "\"xy\"", "1.5", NULL},
    {"{\"anyOf\":[{\"const\":\"x\"},{\"type\":\"array\",\"maxItems\":0}]}", "\"x\"", "[]", NULL,
     "\"y\"", "[1]", NULL},
    {"{\"discriminator\":{\"propertyName\":\"k\"},\"oneOf\":[{\"$ref\":\"#/$defs/a\"}," KIND(
         "b", "\"k\"") ",{\"type\":\"integer\"},{\"enum\":[\"x\",null]}],\"$defs\":{"
                       "\"a\":" KIND("a", "\"k\"") "}}",
     "{\"k\": \"a\"}", "{\"k\": \"b\"}", "7", "\"x\"", "null", NULL, "{\"k\": \"c\"}", "{}", "1.5",
     "\"y\"", NULL},
    {"{\"$ref\":\"#/$defs/"
     "n\",\"$defs\":{\"n\":{\"properties\":{\"n\":{\"anyOf\":[{\"$ref\":\"#/"
     "$defs/n\"},{\"type\":\"null\"}]}},\"required\":[\"n\"]}}}",
     "{\"n\": null}", "{\"n\": {\"n\": {\"n\": null}}}", NULL, "{\"n\": {\"n\": null}", "null",
     "{\"n\": {\"n\": null}}}", NULL},
    {"{\"type\":\"string\",\"format\":\"date\"}", "\"2026-08-31\"", "\"2024-02-29\"",
     "\"2000-02-29\"", NULL, "\"2026-02-29\"", "\"1900-02-29\"", "\"2026-04-31\"", "\"2026-13-01\"",
     NULL},
    {"{\"type\":\"string\",\"format\":\"ipv4\"}", "\"255.0.10.199\"", NULL, "\"256.1.1.1\"",
     "\"1.1.1\"", "\"01.1.1.1\"", NULL},
};

static void test_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct automaton *a = compile(cases[i][0]);
        int k = 1;
        for (; cases[i][k]; k++)
            if (!takes(a, cases[i][k]))
                fail_msg("%s does not take %s", cases[i][0], cases[i][k]);
        for (k++; cases[i][k]; k++)
            if (takes(a, cases[i][k]))
                fail_msg("%s takes %s", cases[i][0], cases[i][k]);
        automaton_release(a);
    }
}

static void test_refusals(void **state)
{
    static const char *const list[][2] = {
        {"{\"not\":{}}", "#/not: this keyword is not supported"},
        {"{\"oneOf\":[]}", "#/oneOf: it must be a list of schemas"},
        {"{\"oneOf\":[{\"type\":\"null\"},{\"type\":\"integer\"},{\"type\":\"number\"}]}",
         "#/oneOf: both 1 and 2 may hold"},
        {"{\"oneOf\":[{\"enum\":[1,2]},{\"enum\":[\"x\",2.0]}]}", "#/oneOf: both 0 and 1"},
        {"{\"oneOf\":[{\"enum\":[[1]]},{\"enum\":[[1.0]]}]}", "#/oneOf: both 0 and 1"},
        {"{\"oneOf\":[" KIND("a", "") "," KIND("a", "") "]}", "#/oneOf: both 0 and 1"},
        /* One may leave the property out, ... */
        {"{\"oneOf\":[" KIND("a", "\"k\"") ",{\"type\":\"object\",\"properties\":{\"k\":{"
                                           "\"const\":\"b\"}}}]}",
         "#/oneOf: both 0 and 1"},
        /* ... and null has none. */
        {"{\"oneOf\":[" NULLABLE("a") "," NULLABLE("b") "]}", "#/oneOf: both 0 and 1"},
        {"{\"oneOf\":[{},{\"type\":\"null\"}]}", "#/oneOf: both 0 and 1"},
        {"{\"oneOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", "#/oneOf: both 0 and 1"},
        {"{\"properties\":{\"a/b~\":{\"not\":{}}}}", "#/properties/a~1b~0/not: "},
        {"{\"anyOf\":[{},{\"items\":{\"uniqueItems\":true}}]}", "#/anyOf/1/items/uniqueItems: "},
        {"{\"$ref\":\"#/$defs/x\",\"$defs\":{\"x\":{\"dependentRequired\":{}}}}",
         "#/$defs/x/dependentRequired: "},
        {"{\"$ref\":\"#/$defs/x\"}", "#/$ref: '#/$defs/x' leads to nothing"},
        {"{\"$ref\":\"#\",\"type\":\"null\"}",
         "#/type: this keyword is not supported beside '$ref'"},
        {"{\"anyOf\":[{}],\"minimum\":1}", "#/minimum: "},
        {"{\"anyOf\":[{}],\"enum\":[1]}", "beside"},
        {"{\"type\":\"string\",\"minimum\":1}", "#/minimum: this keyword is for another type"},
        {"{\"type\":\"number\",\"multipleOf\":0}", "#/multipleOf: it must be above 0"},
        {"{\"multipleOf\":\"2\"}", "#/multipleOf: it must be a number"},
        {"{\"multipleOf\":1009}", "#/multipleOf: it leaves 1009 remainders"},
        {"{\"multipleOf\":1e-16}", "#/multipleOf: beside 'multipleOf'"},
        {"{\"multipleOf\":0.1,\"minimum\":1e15}", "#/minimum: beside 'multipleOf'"},
        {"{\"multipleOf\":0.5,\"minimum\":0.1,\"maximum\":0.4}", "#: no multiple is within"},
        {"{\"multipleOf\":7,\"exclusiveMinimum\":7,\"exclusiveMaximum\":14}", "no multiple"},
        {"{\"type\":\"string\",\"multipleOf\":2}", "#/multipleOf: this keyword is for another"},
        {"{\"type\":\"number\",\"minimum\":0.5}", "#/minimum: "},
        {"{\"type\":\"number\",\"minimum\":1e16}", "#/minimum: "},
        {"{\"type\":\"integer\",\"minimum\":2,\"maximum\":1}", "no number is within"},
        {"{\"type\":\"integer\",\"exclusiveMinimum\":1,\"exclusiveMaximum\":2}", "no number"},
        {"{\"type\":\"string\",\"format\":\"iri\"}", "#/format: 'iri' is not supported"},
        {"{\"type\":\"string\",\"format\":\"date\",\"maxLength\":3}", "#/format: "},
        {"{\"type\":\"string\",\"pattern\":\"(\"}", "#/pattern: a group is not closed"},
        {"{\"type\":\"string\",\"minLength\":-1}", "#/minLength: "},
        {"{\"type\":\"string\",\"maxLength\":1.5}", "#/maxLength: "},
        {"{\"required\":[\"x\"]}", "#/required: 'x' is not among"},
        {"{\"properties\":{\"x\":false}}", "#/properties/x: no value is allowed"},
        {"{\"properties\":[]}", "#/properties: "},
        {"{\"type\":\"any\"}", "#/type: "},
        {"{\"type\":[]}", "#/type: the list is empty"},
        {"{\"type\":\"string\",\"enum\":[1]}", "#/enum: it names no value of the type"},
        {"{\"items\":[{}]}", "#/items: "},
        {"{\"allOf\":[{},{}]}", "#/allOf: "},
        {"[]", "#: a schema must be an object"},
        {"{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", "no finite text"},
        {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", "refers to itself"},
        {"{\"minItems\":1000000,\"items\":{\"type\":\"null\"}}", "too large"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        struct automaton *a = NULL;
        struct err err = {{0}};
        json_t *json = json_loads(list[i][0], JSON_DECODE_ANY, NULL);
        assert_non_null(json);
        int rc = json_schema_compile(json, &a, &err);
        json_decref(json);
        if (rc != ERR_INVALID || !strstr(err.text, list[i][1]))
            fail_msg("%s: %d, %s", list[i][0], rc, err.text);
        assert_null(a);
    }
}

/* From the start along bytes that may follow: there are no dead ends, and what comes is JSON. */
static void walk(const struct automaton *a, uint64_t seed)
{
    struct positions p;
    struct err err;
    struct buf text = {0};
    uint64_t count = 0;
    assert_ok(positions_init(&p, a, &err), err);
    int32_t at = positions_start(&p);
    while (positions_goes_on(&p, at) &&
           !(positions_accepts(&p, at) && rng_below(seed, 1, count++, 3) == 0)) {
        /* What ends things is likelier, or few texts would end. */
        static const char ends[] = "\"]}0";
        int32_t next = POSITION_NONE;
        uint8_t byte = 0;
        for (int tries = 0; next < 0; tries++) {
            assert_true(tries < 20000);
            byte = (uint8_t)(rng_below(seed, 2, count, text.len < 200 ? 5 : 2)
                                 ? rng_below(seed, 3, count, 256)
                                 : (uint8_t)ends[rng_below(seed, 4, count, 4)]);
            count++;
            next = positions_step(&p, at, byte);
            if (next == POSITION_FULL) {
                assert_true(positions_collect(&p, &at, 1));
                next = positions_step(&p, at, byte);
            }
        }
        at = next;
        buf_append(&text, &byte, 1);
        if (text.len > 5000)
            break;
    }
    if (text.len <= 5000) {
        json_t *json = json_loadb(text.data, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (!json)
            fail_msg("no JSON: %.*s", (int)text.len, text.data);
        json_decref(json);
    }
    buf_release(&text);
    positions_release(&p);
}

static void test_walks(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct automaton *a = compile(cases[i][0]);
        for (uint64_t seed = 0; seed < 20; seed++)
            walk(a, seed);
        automaton_release(a);
    }
}

/* Expressions for ranges, against numbers. */
static void test_ranges(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        int64_t span = i % 2 ? 40 : 4000, low = (int64_t)rng_below(1, 1, i, 3000) - 1500;
        int64_t high = low + (int64_t)rng_below(1, 2, i, (uint64_t)span);
        char schema[200], text[32];
        bool open = i % 3 == 0, decimal = i % 5 == 0;
        snprintf(schema, sizeof schema, "{\"type\":\"%s\",\"%s\":%d,\"maximum\":%d}",
                 decimal ? "number" : "integer", open ? "exclusiveMinimum" : "minimum",
                 (int)(open ? low - 1 : low), (int)high);
        struct automaton *a = compile(schema);
        for (int64_t n = low - 30; n <= high + 30;
             n += 1 + (int64_t)rng_below(1, 3, (uint64_t)(n + 9999), 20)) {
            snprintf(text, sizeof text, "%d", (int)n);
            if (takes(a, text) != (n >= low && n <= high))
                fail_msg("%s and %s", schema, text);
            double x = (double)n + 0.25;
            snprintf(text, sizeof text, "%.2f", x);
            if (takes(a, text) !=
                (decimal && x > (double)(open ? low - 1 : low) - (open ? 0 : 1e-9) &&
                 x <= (double)high))
                fail_msg("%s and %s", schema, text);
        }
        automaton_release(a);
    }
}

static const struct multiple {
    const char *text;
    int of, ten, places; /* of / ten, ten = 10^places */
} multiples[] = {{"0.01", 1, 100, 2},  {"0.25", 25, 100, 2}, {"5", 5, 1, 0},     {"3", 3, 1, 0},
                 {"0.5", 5, 10, 1},    {"1.5", 15, 10, 1},   {"7", 7, 1, 0},     {"100", 100, 1, 0},
                 {"1e-3", 1, 1000, 3}, {"0.06", 6, 100, 2},  {"365", 365, 1, 0}, {"12", 12, 1, 0},
                 {"250", 250, 1, 0},   {"2.5", 25, 10, 1}};

/* n / ten as text: with all zeros behind the point, without them, and with more. */
static void check_multiple(struct positions *p, const char *schema, const struct multiple *m, int n,
                           bool want)
{
    char text[40];
    snprintf(text, sizeof text, "%.*f", m->places, (double)n / m->ten);
    if (follows(p, text) != want)
        fail_msg("%s and %s", schema, text);
    if (m->places) {
        while (text[strlen(text) - 1] == '0')
            text[strlen(text) - 1] = 0;
        text[strlen(text) - (text[strlen(text) - 1] == '.')] = 0;
        if (follows(p, text) != want)
            fail_msg("%s and %s", schema, text);
    }
    strcat(text, strchr(text, '.') ? "0000" : ".0000");
    if (follows(p, text))
        fail_msg("%s and %s", schema, text);
}

/* Multiples between bounds, against numbers in units of their last place. */
static void test_multiples(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 140; i++) {
        const struct multiple *m = &multiples[i % (sizeof multiples / sizeof *multiples)];
        int low = (int)rng_below(2, 1, i, 4000) - 2000, taken = 0;
        int high = low + (int)rng_below(2, 2, i, i % 4 ? 400 : 4000), step = 1 + (high - low) / 200;
        bool open = i % 3 == 0;
        char schema[200];
        snprintf(schema, sizeof schema, "{\"multipleOf\":%s,\"%s\":%.3f,\"%s\":%.3f}", m->text,
                 open ? "exclusiveMinimum" : "minimum", (double)low / m->ten,
                 open ? "exclusiveMaximum" : "maximum", (double)high / m->ten);
        low += open;
        high -= open;
        for (int n = low; n <= high; n++)
            taken += n % m->of == 0;
        if (!taken)
            continue;
        struct automaton *a = compile(schema);
        struct positions p;
        struct err err;
        assert_ok(positions_init(&p, a, &err), err);
        for (int n = low - 30; n <= high + 30; n += n > low + 2 && n < high - 2 * step ? step : 1)
            check_multiple(&p, schema, m, n, n % m->of == 0 && n >= low && n <= high);
        positions_release(&p);
        automaton_release(a);
    }
}

/* Lists in lists, as deep as there may be calls; at the bottom they can still be closed. */
static void test_depth(void **state)
{
    struct automaton *a = compile("true");
    struct positions p;
    struct err err;
    int depth = 0;
    (void)state;
    assert_true(takes(a, "[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]"));
    assert_ok(positions_init(&p, a, &err), err);
    int32_t at = positions_start(&p);
    for (int32_t next; (next = positions_step(&p, at, '[')) >= 0; depth++)
        at = next;
    printf("%d lists in each other\n", depth);
    assert_true(depth >= 25 && depth <= AUTOMATON_DEPTH_MAX);
    while (depth--) {
        at = positions_step(&p, at, ']');
        assert_true(at >= 0);
    }
    assert_true(positions_accepts(&p, at));
    positions_release(&p);
    automaton_release(a);
}

/* Behind bytes, where they may follow. */
static bool feed(struct positions *p, int32_t *at, const char *text)
{
    int32_t next = *at;
    for (; *text && next >= 0; text++)
        next = positions_step(p, next, (uint8_t)*text);
    *at = next >= 0 ? next : *at;
    return next >= 0;
}

/* What is begun at the bottom must still have room for the calls that end it. */
static void test_room_to_end(void **state)
{
    struct automaton *a = compile(
        "{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"properties\":{\"n\":{\"anyOf\":[{\"$ref\":"
        "\"#/$defs/"
        "n\"},{\"properties\":{\"x\":{\"type\":\"array\",\"items\":{\"type\":\"string\","
        "\"minLength\":1},"
        "\"minItems\":1}},\"required\":[\"x\"]}]}},\"required\":[\"n\"]}}}");
    struct positions p;
    struct err err;
    int depth = 0;
    (void)state;
    assert_ok(positions_init(&p, a, &err), err);
    int32_t at = positions_start(&p);
    while (feed(&p, &at, "{\"n\": "))
        depth++;
    printf("%d objects in each other\n", depth);
    assert_true(depth > 20);
    assert_true(feed(&p, &at, "{\"x\": [\"y\"]}"));
    while (depth--)
        assert_true(feed(&p, &at, "}"));
    assert_true(positions_accepts(&p, at));
    positions_release(&p);
    automaton_release(a);
}

static void test_choices(void **state)
{
    struct choice_text list[] = {{"ab", 2}, {"abc", 3}, {"ab", 2}, {"b", 1}, {"a\0b", 3}};
    struct automaton *a;
    struct err err;
    (void)state;
    assert_ok(choices_compile(list, 5, &a, &err), err);
    assert_true(takes(a, "ab") && takes(a, "abc") && takes(a, "b"));
    assert_false(takes(a, "a") || takes(a, "abcd") || takes(a, "") || takes(a, "bb"));
    automaton_release(a);
    assert_int_equal(choices_compile(list, 0, &a, &err), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),     cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_walks),     cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_multiples), cmocka_unit_test(test_choices),
        cmocka_unit_test(test_depth),     cmocka_unit_test(test_room_to_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
