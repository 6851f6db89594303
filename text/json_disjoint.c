/* Schemas without a value in common: see json_disjoint.h. */
#include "text/json_disjoint.h"

#include <string.h>

#include "text/json_compiler.h"

#define HOPS_MAX 16   /* references one after another */
#define NESTING_MAX 8 /* properties of properties */

enum { OBJECT = 1, ARRAY = 2, STRING = 4, WHOLE = 8, FRACTION = 16, TRUTH = 32, NOTHING = 64 };
#define ANY 127

/* ---- types ---- */

static int type_named(const char *name)
{
    static const struct {
        const char *name;
        int type;
    } types[] = {
        {"object", OBJECT}, {"array", ARRAY},   {"string", STRING}, {"number", WHOLE | FRACTION},
        {"integer", WHOLE}, {"boolean", TRUTH}, {"null", NOTHING}};
    for (int i = 0; name && i < 7; i++)
        if (!strcmp(name, types[i].name))
            return types[i].type;
    return ANY;
}

static int type_of(const json_t *value)
{
    static const int types[] = {
        [JSON_OBJECT] = OBJECT, [JSON_ARRAY] = ARRAY,           [JSON_STRING] = STRING,
        [JSON_INTEGER] = WHOLE, [JSON_REAL] = WHOLE | FRACTION, /* 1.0 is whole */
        [JSON_TRUE] = TRUTH,    [JSON_FALSE] = TRUTH,           [JSON_NULL] = NOTHING};
    return types[json_typeof(value)];
}

/* The values that a schema lists: there are n, the first of them value(schema, 0); 0: it lists
 * none, and -1: it does not list them. */
static long count_values(const json_t *schema)
{
    const json_t *list = json_object_get(schema, "enum");
    return json_object_get(schema, "const") ? 1 : list ? (long)json_array_size(list) : -1;
}

static const json_t *value(const json_t *schema, long i)
{
    const json_t *only = json_object_get(schema, "const");
    return only ? only : json_array_get(json_object_get(schema, "enum"), (size_t)i);
}

static int types_of(const json_t *schema, int *steps)
{
    const json_t *type = json_object_get(schema, "type");
    long n = count_values(schema);
    int types = n >= 0 || json_is_array(type) ? 0 : ANY;
    for (long i = 0; i < n && (*steps)-- > 0; i++)
        types |= type_of(value(schema, i));
    if (n >= 0)
        return *steps > 0 ? types : ANY;
    for (size_t i = 0; i < json_array_size(type); i++)
        types |= type_named(json_string_value(json_array_get(type, i)));
    return json_is_string(type) ? type_named(json_string_value(type)) : types;
}

/* ---- values ---- */

/* Lists and objects are not looked into: numbers in them may be equal and written differently. */
static bool may_be_equal(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b))
        return json_number_value(a) == json_number_value(b);
    if (json_typeof(a) != json_typeof(b))
        return false;
    return !json_is_string(a) || json_equal((json_t *)a, (json_t *)b);
}

static bool values_differ(const json_t *a, const json_t *b, int *steps)
{
    long n = count_values(a), m = count_values(b);
    if (n < 0 || m < 0)
        return false;
    for (long i = 0; i < n; i++)
        for (long j = 0; j < m; j++)
            if ((*steps)-- <= 0 || may_be_equal(value(a, i), value(b, j)))
                return false;
    return true;
}

/* ---- schemas ---- */

static bool disjoint(const json_t *root, const json_t *a, const json_t *b, int depth, int *steps);

static bool requires(const json_t *schema, const char *name, int *steps)
{
    const json_t *required = json_object_get(schema, "required");
    for (size_t i = 0; i < json_array_size(required) && (*steps)-- > 0; i++) {
        const char *other = json_string_value(json_array_get(required, i));
        if (other && !strcmp(other, name))
            return true;
    }
    return false;
}

/* By a property that both require. */
static bool properties_differ(const json_t *root, const json_t *a, const json_t *b, int depth,
                              int *steps)
{
    const json_t *other = json_object_get(b, "properties");
    const char *name;
    json_t *schema;
    json_object_foreach(json_object_get(a, "properties"), name, schema)
    {
        const json_t *same = json_object_get(other, name);
        if (same && requires(a, name, steps) && requires(b, name, steps) &&
            disjoint(root, schema, same, depth + 1, steps))
            return true;
    }
    return false;
}

static const json_t *resolve(const json_t *root, const json_t *schema)
{
    for (int hops = 0; json_object_get(schema, "$ref") && hops < HOPS_MAX; hops++) {
        const char *pointer = json_string_value(json_object_get(schema, "$ref"));
        schema = pointer ? json_find(root, pointer) : NULL;
    }
    return schema;
}

static bool disjoint(const json_t *root, const json_t *a, const json_t *b, int depth, int *steps)
{
    a = resolve(root, a);
    b = resolve(root, b);
    if (!json_is_object(a) || !json_is_object(b) || depth == NESTING_MAX || (*steps)-- <= 0)
        return false;
    int both = types_of(a, steps) & types_of(b, steps);
    return !both || values_differ(a, b, steps) ||
           (both == OBJECT && properties_differ(root, a, b, depth, steps));
}

bool json_disjoint(const json_t *root, const json_t *a, const json_t *b, int *steps)
{
    return disjoint(root, a, b, 0, steps);
}
