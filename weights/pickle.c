/* What is left at a pickle's end: see pickle.h. The instructions are in pickle_run.c. */
#include "weights/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "weights/pickle_machine.h"
#include "weights/pickle_run.h"
#include "weights/pickle_torch.h"

#define NAME_MAX_LEN 400

static int check_name(struct machine *m, const struct value *key)
{
    if (key->kind != VALUE_STRING || key->string.len == 0 || key->string.len > NAME_MAX_LEN)
        return machine_refuse(m,
                              "a key of the state dict is not a string of 1 to %d bytes, as names "
                              "of tensors are",
                              NAME_MAX_LEN);
    for (uint32_t i = 0; i < key->string.len; i++)
        if (key->string.text[i] < ' ' || key->string.text[i] >= 127)
            return machine_refuse(m, "a tensor's name holds a character that is not plain ASCII");
    return 0;
}

static int add_tensor(struct pickle *pickle, struct machine *m, const struct value *key,
                      const struct value *value)
{
    const char *storage;
    size_t storage_len;
    if (pickle->n_tensors == PICKLE_TENSORS_MAX)
        return machine_refuse(m, "the state dict has more than %zu tensors", PICKLE_TENSORS_MAX);
    struct pickle_tensor *t = &pickle->tensors[pickle->n_tensors++];
    torch_tensor(m, value, t, &storage, &storage_len);
    t->name = strndup(key->string.text, key->string.len);
    t->storage = strndup(storage, storage_len);
    return t->name && t->storage ? 0 : err_set(m->err, ERR_MEMORY, "%s: no memory left", m->where);
}

static int add_pair(struct pickle *pickle, struct machine *m, const struct pair *pair)
{
    const struct value *key = machine_value(m, pair->key), *value = machine_value(m, pair->value);
    int rc = check_name(m, key);
    if (rc)
        return rc;
    switch (value->kind) {
    case VALUE_TENSOR:
        return add_tensor(pickle, m, key, value);
    case VALUE_NONE:
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_FLOAT:
    case VALUE_STRING:
        return 0;
    default:
        return machine_refuse(m,
                              "'%.*s' is not a tensor but something that may hold some: save the "
                              "state dict alone, flat, with torch.save",
                              (int)(key->string.len < 100 ? key->string.len : 100),
                              key->string.text);
    }
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct pickle_tensor *)a)->name, ((const struct pickle_tensor *)b)->name);
}

static int collect(struct pickle *pickle, struct machine *m, value_id result)
{
    size_t n = 0;
    if (machine_value(m, result)->kind != VALUE_DICT)
        return machine_refuse(m, "the pickle is not a dictionary of tensors: save the state dict");
    for (size_t i = 0; i < m->n_pairs; i++)
        n += m->pairs[i].dict == result;
    pickle->tensors =
        calloc((n < PICKLE_TENSORS_MAX ? n : PICKLE_TENSORS_MAX) + 1, sizeof *pickle->tensors);
    if (!pickle->tensors)
        return err_set(m->err, ERR_MEMORY, "%s: no memory left", m->where);
    for (size_t i = 0; i < m->n_pairs; i++) {
        int rc = m->pairs[i].dict == result ? add_pair(pickle, m, &m->pairs[i]) : 0;
        if (rc)
            return rc;
    }
    qsort(pickle->tensors, pickle->n_tensors, sizeof *pickle->tensors, by_name);
    for (size_t i = 1; i < pickle->n_tensors; i++)
        if (!by_name(&pickle->tensors[i - 1], &pickle->tensors[i]))
            return machine_refuse(m, "the state dict has two tensors '%.100s'",
                                  pickle->tensors[i].name);
    return 0;
}

int pickle_parse(struct pickle *pickle, const void *bytes, size_t size, const char *where,
                 struct err *err)
{
    struct machine m = {.where = where, .begin = bytes, .at = bytes, .err = err};
    value_id result = 0;
    *pickle = (struct pickle){0};
    if (size > PICKLE_BYTES_MAX)
        return err_set(err, ERR_INVALID, "%s: the pickle has %zu bytes, at most %zu are read",
                       where, size, PICKLE_BYTES_MAX);
    if (size == 0)
        return err_set(err, ERR_INVALID, "%s: the pickle is empty", where);
    m.end = m.begin + size;
    int rc = pickle_run(&m, &result);
    if (!rc)
        rc = collect(pickle, &m, result);
    if (rc)
        pickle_release(pickle);
    machine_release(&m);
    return rc;
}

void pickle_release(struct pickle *pickle)
{
    for (size_t i = 0; i < pickle->n_tensors; i++) {
        free(pickle->tensors[i].name);
        free(pickle->tensors[i].storage);
    }
    free(pickle->tensors);
    *pickle = (struct pickle){0};
}
