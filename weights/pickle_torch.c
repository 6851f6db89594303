/* Storages and tensors in a pickle: see pickle_torch.h. Calls are told apart and checked; nothing
 * is called. */
#include "weights/pickle_torch.h"

#include <string.h>

enum meaning { ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER, STORAGE };

static const struct {
    const char *module, *name;
    enum meaning meaning;
    enum dtype dtype; /* of a storage */
} globals[] = {
    {"collections", "OrderedDict", ORDERED_DICT, 0},
    {"torch._utils", "_rebuild_tensor_v2", REBUILD_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", REBUILD_PARAMETER, 0},
    {"torch", "FloatStorage", STORAGE, DTYPE_F32},
    {"torch", "BFloat16Storage", STORAGE, DTYPE_BF16},
    {"torch", "HalfStorage", STORAGE, DTYPE_F16},
    {"torch", "IntStorage", STORAGE, DTYPE_I32},
    {"torch", "LongStorage", STORAGE, DTYPE_I64},
    {"torch", "ByteStorage", STORAGE, DTYPE_U8},
    {"torch", "BoolStorage", STORAGE, DTYPE_U8},
};
#define N_GLOBALS (sizeof globals / sizeof *globals)

static int same(const char *text, size_t len, const char *word)
{
    return strlen(word) == len && !memcmp(text, word, len);
}

/* Shown in an error: cut, and without what a terminal might obey. */
static void show(char *to, size_t size, const char *text, size_t len)
{
    size_t n = len < size - 1 ? len : size - 1;
    for (size_t i = 0; i < n; i++)
        to[i] = text[i] >= ' ' && text[i] < 127 ? text[i] : '?';
    to[n] = '\0';
}

int torch_global(struct machine *m, const char *module, size_t module_len, const char *name,
                 size_t name_len)
{
    for (size_t i = 0; i < N_GLOBALS; i++)
        if (same(module, module_len, globals[i].module) && same(name, name_len, globals[i].name))
            return machine_push_new(m, (struct value){.kind = VALUE_GLOBAL, .number = (int64_t)i});
    char shown[2][80];
    show(shown[0], sizeof shown[0], module, module_len);
    show(shown[1], sizeof shown[1], name, name_len);
    return machine_refuse(m,
                          "the pickle needs Python's %s.%s, but only tensors of 32-bit floats, "
                          "bf16, f16, int32, int64, uint8 and bool are read, and nothing is run: "
                          "save the state dict alone, in one of these types",
                          shown[0], shown[1]);
}

/* ---- storages: ("storage", class, key, location, number of elements) ---- */

static int is_storage_class(const struct value *v)
{
    return v->kind == VALUE_GLOBAL && globals[v->number].meaning == STORAGE;
}

static int is_size(const struct value *v)
{
    return v->kind == VALUE_INT && v->number >= 0;
}

int torch_storage(struct machine *m)
{
    value_id id;
    int rc = machine_pop(m, &id);
    if (rc)
        return rc;
    struct value v = *machine_value(m, id);
    if (v.kind != VALUE_TUPLE || v.tuple.n != 5 || machine_item(m, &v, 0)->kind != VALUE_STRING ||
        !same(machine_item(m, &v, 0)->string.text, machine_item(m, &v, 0)->string.len, "storage") ||
        !is_storage_class(machine_item(m, &v, 1)) || machine_item(m, &v, 2)->kind != VALUE_STRING ||
        machine_item(m, &v, 3)->kind != VALUE_STRING || !is_size(machine_item(m, &v, 4)))
        return machine_refuse(m, "the pickle has a persistent id that is not (\"storage\", class, "
                                 "key, location, number of elements)");
    const struct value *key = machine_item(m, &v, 2);
    for (uint32_t i = 0; i < key->string.len; i++)
        if (key->string.text[i] <= ' ' || key->string.text[i] >= 127)
            return machine_refuse(m, "the key of a storage holds a space or an unusual character");
    v.kind = VALUE_STORAGE;
    return machine_push_new(m, v);
}

/* ---- calls ---- */

/* "tensor 'layers.0.w'": its key lies on the stack below the call. */
static void describe(const struct machine *m, char *to, size_t size)
{
    value_id top = m->n_stack ? m->stack[m->n_stack - 1] : MARK;
    if (top == MARK || machine_value(m, top)->kind != VALUE_STRING) {
        show(to, size, "a tensor", 8);
        return;
    }
    const struct value *key = machine_value(m, top);
    size_t n = strlen("tensor '");
    memcpy(to, "tensor '", n);
    show(to + n, size - n - 1, key->string.text, key->string.len);
    strcat(to, "'");
}

static int is_sizes(const struct machine *m, const struct value *v)
{
    if (v->kind != VALUE_TUPLE)
        return 0;
    for (uint32_t i = 0; i < v->tuple.n; i++)
        if (!is_size(machine_item(m, v, i)))
            return 0;
    return 1;
}

/* (storage, offset, shape, strides, requires_grad, hooks) */
static int call_rebuild_tensor(struct machine *m, struct value args)
{
    char about[120];
    describe(m, about, sizeof about);
    if (args.tuple.n == 7)
        return machine_refuse(m,
                              "%s carries extra properties, such as being a view of negated "
                              "values: save a plain copy of it",
                              about);
    if (args.tuple.n != 6 || machine_item(m, &args, 0)->kind != VALUE_STORAGE ||
        !is_size(machine_item(m, &args, 1)) || !is_sizes(m, machine_item(m, &args, 2)) ||
        !is_sizes(m, machine_item(m, &args, 3)) || machine_item(m, &args, 4)->kind != VALUE_BOOL ||
        machine_item(m, &args, 5)->kind != VALUE_DICT)
        return machine_refuse(m, "%s is not described by storage, offset, shape and strides",
                              about);
    uint32_t n = machine_item(m, &args, 2)->tuple.n;
    if (n != machine_item(m, &args, 3)->tuple.n)
        return machine_refuse(m, "%s has %u dimensions, but %u strides", about, n,
                              machine_item(m, &args, 3)->tuple.n);
    if (n > TENSOR_DIMS_MAX)
        return machine_refuse(m, "%s has %u dimensions, at most %d go", about, n, TENSOR_DIMS_MAX);
    args.kind = VALUE_TENSOR;
    return machine_push_new(m, args);
}

/* (tensor, requires_grad, hooks): the same tensor */
static int call_rebuild_parameter(struct machine *m, struct value args)
{
    char about[120];
    describe(m, about, sizeof about);
    if (args.tuple.n != 3 || machine_item(m, &args, 0)->kind != VALUE_TENSOR)
        return machine_refuse(m, "%s is a parameter, but not one made of a tensor", about);
    return machine_push(m, m->items[args.tuple.first]);
}

int torch_call(struct machine *m)
{
    value_id args_id, function_id;
    int rc = machine_pop(m, &args_id);
    if (!rc)
        rc = machine_pop(m, &function_id);
    if (rc)
        return rc;
    struct value args = *machine_value(m, args_id);
    const struct value *function = machine_value(m, function_id);
    if (function->kind != VALUE_GLOBAL || args.kind != VALUE_TUPLE)
        return machine_refuse(m, "the pickle calls something that is not a function");
    switch (globals[function->number].meaning) {
    case ORDERED_DICT:
        if (args.tuple.n)
            return machine_refuse(m, "the pickle makes an OrderedDict with arguments");
        return machine_push_new(m, (struct value){.kind = VALUE_DICT});
    case REBUILD_TENSOR:
        return call_rebuild_tensor(m, args);
    case REBUILD_PARAMETER:
        return call_rebuild_parameter(m, args);
    case STORAGE:
        break;
    }
    return machine_refuse(m, "the pickle calls torch.%s", globals[function->number].name);
}

/* ---- the result ---- */

void torch_tensor(const struct machine *m, const struct value *value, struct pickle_tensor *t,
                  const char **storage, size_t *storage_len)
{
    const struct value *s = machine_item(m, value, 0);
    const struct value *shape = machine_item(m, value, 2), *strides = machine_item(m, value, 3);
    *storage = machine_item(m, s, 2)->string.text;
    *storage_len = machine_item(m, s, 2)->string.len;
    t->dtype = globals[machine_item(m, s, 1)->number].dtype;
    t->storage_elements = (uint64_t)machine_item(m, s, 4)->number;
    t->offset = (uint64_t)machine_item(m, value, 1)->number;
    t->n_dims = (int)shape->tuple.n;
    for (uint32_t i = 0; i < shape->tuple.n; i++) {
        t->shape[i] = (uint64_t)machine_item(m, shape, i)->number;
        t->strides[i] = (uint64_t)machine_item(m, strides, i)->number;
    }
}
