/* What can stand behind "is". */
#include <string.h>

#include "text/template_lex.h"
#include "text/template_run.h"

#define TEST(name, condition)                                                                      \
    static struct value name(struct run *r, const struct call *call)                               \
    {                                                                                              \
        (void)r;                                                                                   \
        struct value v = call->self;                                                               \
        return BOOL(condition);                                                                    \
    }

TEST(is_defined, v.kind != VALUE_UNDEFINED)
TEST(is_undefined, v.kind == VALUE_UNDEFINED)
TEST(is_none, v.kind == VALUE_NONE)
TEST(is_boolean, v.kind == VALUE_BOOL)
TEST(is_true, v.kind == VALUE_BOOL && v.truth)
TEST(is_false, v.kind == VALUE_BOOL && !v.truth)
TEST(is_integer, v.kind == VALUE_INT)
TEST(is_float, v.kind == VALUE_FLOAT)
TEST(is_number, v.kind >= VALUE_BOOL && v.kind <= VALUE_FLOAT)
TEST(is_string, v.kind == VALUE_STRING)
TEST(is_mapping, v.kind == VALUE_DICT)
TEST(is_iterable, value_iterable(v))
TEST(is_escaped, v.kind == VALUE_STRING && v.safe)
TEST(is_callable, v.kind == VALUE_MACRO || v.kind == VALUE_FUNCTION || v.kind == VALUE_METHOD ||
                      v.kind == VALUE_LOOP || v.kind == VALUE_UNDEFINED)
/* Of undefined values Python finds the length and the way to their items. */
TEST(is_sequence, v.kind == VALUE_UNDEFINED || (v.kind >= VALUE_STRING && v.kind <= VALUE_RANGE) ||
                      v.kind == VALUE_DICT)

#define COMPARE(name, op)                                                                          \
    static struct value name(struct run *r, const struct call *call)                               \
    {                                                                                              \
        return BOOL(op_compare(r, op, call->self, call->a[0]));                                    \
    }

COMPARE(is_equal, LEX_EQ)
COMPARE(is_unequal, LEX_NE)
COMPARE(is_less, LEX_LT)
COMPARE(is_at_most, LEX_LE)
COMPARE(is_greater, LEX_GT)
COMPARE(is_at_least, LEX_GE)
COMPARE(is_in, LEX_IN)

static struct value rest_is(struct run *r, struct value v, struct value by, int64_t rest)
{
    return BOOL(value_equal(r, op_binary(r, LEX_MOD, v, by), INT(rest)));
}

static struct value is_odd(struct run *r, const struct call *call)
{
    return rest_is(r, call->self, INT(2), 1);
}

static struct value is_even(struct run *r, const struct call *call)
{
    return rest_is(r, call->self, INT(2), 0);
}

static struct value is_divisible(struct run *r, const struct call *call)
{
    return rest_is(r, call->self, call->a[0], 0);
}

static struct value is_case(struct run *r, const struct call *call, const char *method)
{
    struct call on_text = {.self = value_str(r, call->self)};
    return r->rc ? NONE : builtin_find(text_methods, method)->fn(r, &on_text);
}

static struct value is_lower(struct run *r, const struct call *call)
{
    return is_case(r, call, "islower");
}

static struct value is_upper(struct run *r, const struct call *call)
{
    return is_case(r, call, "isupper");
}

static struct value is_same(struct run *r, const struct call *call)
{
    struct value a = call->self, b = call->a[0];
    return BOOL(a.kind == b.kind && (a.kind >= VALUE_LIST ? a.seq == b.seq : value_equal(r, a, b)));
}

const struct builtin jinja_tests[] = {
    {"defined", is_defined, {0}, 0, false},     {"undefined", is_undefined, {0}, 0, false},
    {"none", is_none, {0}, 0, false},           {"boolean", is_boolean, {0}, 0, false},
    {"true", is_true, {0}, 0, false},           {"false", is_false, {0}, 0, false},
    {"integer", is_integer, {0}, 0, false},     {"float", is_float, {0}, 0, false},
    {"number", is_number, {0}, 0, false},       {"string", is_string, {0}, 0, false},
    {"mapping", is_mapping, {0}, 0, false},     {"iterable", is_iterable, {0}, 0, false},
    {"sequence", is_sequence, {0}, 0, false},   {"callable", is_callable, {0}, 0, false},
    {"escaped", is_escaped, {0}, 0, false},     {"odd", is_odd, {0}, 0, false},
    {"even", is_even, {0}, 0, false},           {"divisibleby", is_divisible, {"num"}, 1, false},
    {"lower", is_lower, {0}, 0, false},         {"upper", is_upper, {0}, 0, false},
    {"sameas", is_same, {"other"}, 1, false},   {"in", is_in, {"seq"}, 1, false},
    {"eq", is_equal, {"other"}, 1, false},      {"equalto", is_equal, {"other"}, 1, false},
    {"==", is_equal, {"other"}, 1, false},      {"ne", is_unequal, {"other"}, 1, false},
    {"!=", is_unequal, {"other"}, 1, false},    {"lt", is_less, {"other"}, 1, false},
    {"lessthan", is_less, {"other"}, 1, false}, {"<", is_less, {"other"}, 1, false},
    {"le", is_at_most, {"other"}, 1, false},    {"<=", is_at_most, {"other"}, 1, false},
    {"gt", is_greater, {"other"}, 1, false},    {"greaterthan", is_greater, {"other"}, 1, false},
    {">", is_greater, {"other"}, 1, false},     {"ge", is_at_least, {"other"}, 1, false},
    {">=", is_at_least, {"other"}, 1, false},   {0},
};

const struct builtin *test_find(const char *name)
{
    return builtin_find(jinja_tests, name);
}
