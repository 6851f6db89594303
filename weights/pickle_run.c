/* The instructions of a pickle: see pickle_run.h. Each is a function of the machine. */
#include "weights/pickle_run.h"

#include <stdbool.h>
#include <string.h>

#include "weights/pickle_torch.h"

/* ---- what follows an instruction ---- */

static int take(struct machine *m, size_t n, const unsigned char **bytes)
{
    *bytes = m->at;
    if ((size_t)(m->end - m->at) < n)
        return machine_refuse(m, "the pickle is cut off");
    m->at += n;
    return 0;
}

/* An unsigned number of n <= 8 bytes, the lowest first. */
static int take_number(struct machine *m, size_t n, uint64_t *number)
{
    const unsigned char *bytes;
    int rc = take(m, n, &bytes);
    *number = 0;
    for (size_t i = n; i-- > 0 && !rc;)
        *number = *number << 8 | bytes[i];
    return rc;
}

/* A line, without its end. */
static int take_line(struct machine *m, const char **line, size_t *len)
{
    const unsigned char *bytes, *end = memchr(m->at, '\n', (size_t)(m->end - m->at));
    *line = (const char *)m->at;
    *len = 0;
    if (!end)
        return machine_refuse(m, "the pickle is cut off in a name");
    *len = (size_t)(end - m->at);
    return take(m, *len + 1, &bytes);
}

/* ---- plain values ---- */

static int push_bool(struct machine *m, bool truth)
{
    return machine_push_new(m, (struct value){.kind = VALUE_BOOL, .number = truth});
}

static int op_none(struct machine *m)
{
    return machine_push_new(m, (struct value){.kind = VALUE_NONE});
}

static int op_true(struct machine *m)
{
    return push_bool(m, true);
}

static int op_false(struct machine *m)
{
    return push_bool(m, false);
}

/* n bytes, of which the highest bit is a sign if is_signed. */
static int push_int(struct machine *m, size_t n, bool is_signed)
{
    uint64_t bits;
    int rc = take_number(m, n, &bits);
    if (rc)
        return rc;
    if (is_signed && n > 0 && n < 8 && bits >> (8 * n - 1))
        bits |= UINT64_MAX << 8 * n;
    return machine_push_new(m, (struct value){.kind = VALUE_INT, .number = (int64_t)bits});
}

static int op_int1(struct machine *m)
{
    return push_int(m, 1, false);
}

static int op_int2(struct machine *m)
{
    return push_int(m, 2, false);
}

static int op_int4(struct machine *m)
{
    return push_int(m, 4, true);
}

static int op_long(struct machine *m)
{
    uint64_t n;
    int rc = take_number(m, 1, &n);
    if (!rc && n > 8)
        rc = machine_refuse(m, "the pickle has a number of %d bytes, at most 8 go", (int)n);
    return rc ? rc : push_int(m, (size_t)n, true);
}

static int op_float(struct machine *m)
{
    const unsigned char *bytes;
    int rc = take(m, 8, &bytes);
    return rc ? rc : machine_push_new(m, (struct value){.kind = VALUE_FLOAT});
}

static int op_string(struct machine *m)
{
    const unsigned char *bytes = NULL;
    uint64_t len;
    int rc = take_number(m, 4, &len);
    if (!rc)
        rc = take(m, (size_t)len, &bytes);
    if (rc)
        return rc;
    struct value v = {.kind = VALUE_STRING};
    v.string.text = (const char *)bytes;
    v.string.len = (uint32_t)len;
    return machine_push_new(m, v);
}

static int op_global(struct machine *m)
{
    const char *module, *name = NULL;
    size_t module_len, name_len = 0;
    int rc = take_line(m, &module, &module_len);
    if (!rc)
        rc = take_line(m, &name, &name_len);
    return rc ? rc : torch_global(m, module, module_len, name, name_len);
}

/* ---- tuples, lists, dictionaries ---- */

static int op_mark(struct machine *m)
{
    return machine_push(m, MARK);
}

static int op_empty_tuple(struct machine *m)
{
    return machine_push_tuple(m, NULL, 0);
}

static int op_tuple(struct machine *m)
{
    const value_id *ids;
    size_t n;
    int rc = machine_pop_marked(m, &ids, &n);
    return rc ? rc : machine_push_tuple(m, ids, n);
}

static int tuple_of(struct machine *m, size_t n)
{
    value_id ids[3];
    int rc = 0;
    for (size_t i = n; i-- > 0 && !rc;)
        rc = machine_pop(m, &ids[i]);
    return rc ? rc : machine_push_tuple(m, ids, n);
}

static int op_tuple1(struct machine *m)
{
    return tuple_of(m, 1);
}

static int op_tuple2(struct machine *m)
{
    return tuple_of(m, 2);
}

static int op_tuple3(struct machine *m)
{
    return tuple_of(m, 3);
}

static int op_list(struct machine *m)
{
    return machine_push_new(m, (struct value){.kind = VALUE_LIST});
}

static int op_dict(struct machine *m)
{
    return machine_push_new(m, (struct value){.kind = VALUE_DICT});
}

/* The value on top, which stays there. */
static int peek(struct machine *m, enum value_kind kind, value_id *id)
{
    int rc = machine_pop(m, id);
    if (!rc && machine_value(m, *id)->kind != kind)
        rc = machine_refuse(m, "the pickle fills something that is not a %s",
                            kind == VALUE_DICT ? "dictionary" : "list");
    return rc ? rc : machine_push(m, *id);
}

static int op_append(struct machine *m)
{
    value_id item, list;
    int rc = machine_pop(m, &item);
    return rc ? rc : peek(m, VALUE_LIST, &list);
}

static int op_appends(struct machine *m)
{
    const value_id *ids;
    size_t n;
    value_id list;
    int rc = machine_pop_marked(m, &ids, &n);
    return rc ? rc : peek(m, VALUE_LIST, &list);
}

static int op_set(struct machine *m)
{
    value_id key, value, dict;
    int rc = machine_pop(m, &value);
    if (!rc)
        rc = machine_pop(m, &key);
    if (!rc)
        rc = peek(m, VALUE_DICT, &dict);
    return rc ? rc : machine_assign(m, dict, key, value);
}

static int op_sets(struct machine *m)
{
    const value_id *ids;
    size_t n;
    value_id dict;
    int rc = machine_pop_marked(m, &ids, &n);
    /* the dictionary goes back to where it was, below the ids, so these stay */
    if (!rc)
        rc = peek(m, VALUE_DICT, &dict);
    if (!rc && n % 2)
        rc = machine_refuse(m, "the pickle gives a dictionary a key without a value");
    for (size_t i = 0; i < n && !rc; i += 2)
        rc = machine_assign(m, dict, ids[i], ids[i + 1]);
    return rc;
}

/* Attributes of an OrderedDict (_metadata): of no interest. */
static int op_build(struct machine *m)
{
    value_id state, dict;
    int rc = machine_pop(m, &state);
    return rc ? rc : peek(m, VALUE_DICT, &dict);
}

/* ---- the memo ---- */

static int memo_put(struct machine *m, size_t width)
{
    uint64_t place;
    int rc = take_number(m, width, &place);
    if (!rc && (!m->n_stack || m->stack[m->n_stack - 1] == MARK))
        rc = machine_refuse(m, "the pickle remembers a value when there is none");
    return rc ? rc : machine_memo_put(m, (size_t)place, m->stack[m->n_stack - 1]);
}

static int memo_get(struct machine *m, size_t width)
{
    uint64_t place;
    int rc = take_number(m, width, &place);
    return rc ? rc : machine_memo_get(m, (size_t)place);
}

static int op_put1(struct machine *m)
{
    return memo_put(m, 1);
}

static int op_put4(struct machine *m)
{
    return memo_put(m, 4);
}

static int op_get1(struct machine *m)
{
    return memo_get(m, 1);
}

static int op_get4(struct machine *m)
{
    return memo_get(m, 4);
}

/* ---- running ---- */

static int op_protocol(struct machine *m)
{
    uint64_t protocol;
    int rc = take_number(m, 1, &protocol);
    if (!rc && protocol != 2)
        rc = machine_refuse(m,
                            "the pickle is of protocol %d, but only 2 is read, which torch.save "
                            "writes: save it again without pickle_protocol",
                            (int)protocol);
    return rc;
}

#define STOP '.'

static int (*const instructions[256])(struct machine *) = {
    [0x80] = op_protocol,   ['('] = op_mark,    ['N'] = op_none,    [0x88] = op_true,
    [0x89] = op_false,      ['K'] = op_int1,    ['M'] = op_int2,    ['J'] = op_int4,
    [0x8a] = op_long,       ['G'] = op_float,   ['X'] = op_string,  ['c'] = op_global,
    [')'] = op_empty_tuple, ['t'] = op_tuple,   [0x85] = op_tuple1, [0x86] = op_tuple2,
    [0x87] = op_tuple3,     [']'] = op_list,    ['a'] = op_append,  ['e'] = op_appends,
    ['}'] = op_dict,        ['s'] = op_set,     ['u'] = op_sets,    ['b'] = op_build,
    ['q'] = op_put1,        ['r'] = op_put4,    ['h'] = op_get1,    ['j'] = op_get4,
    ['Q'] = torch_storage,  ['R'] = torch_call,
};

int pickle_run(struct machine *m, value_id *result)
{
    const unsigned char *op;
    int rc;
    while (!(rc = take(m, 1, &op)) && *op != STOP) {
        if (!instructions[*op])
            return machine_refuse(m,
                                  "the pickle has instruction 0x%02x, which no state dict needs, "
                                  "and nothing else is read: save the state dict alone with "
                                  "torch.save",
                                  *op);
        rc = instructions[*op](m);
        if (rc)
            return rc;
    }
    if (!rc)
        rc = machine_pop(m, result);
    if (!rc && m->n_stack)
        rc = machine_refuse(m, "the pickle ends with more than one value");
    if (!rc && m->at != m->end)
        rc = machine_refuse(m, "the pickle ends before its file does");
    return rc;
}
