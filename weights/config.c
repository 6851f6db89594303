/* config.json to struct config and back. One table holds every whole-number field with its range,
 * for reading, checking and writing; relations between fields are in config_check. */
#include "weights/config.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weights/file.h"

#define FORMAT "headway"
#define VERSION 1
#define CONFIG_BYTES_MAX ((size_t)1 << 20)

static const struct {
    const char *name;
    enum head_tensors tensors;
} kinds[HEAD_KINDS] = {
#define ENTRY(id, name, tensors) [HEAD_##id] = {#name, tensors},
    HEAD_KIND_TABLE(ENTRY)
#undef ENTRY
};

const char *head_kind_name(enum head_kind kind)
{
    return (unsigned)kind < HEAD_KINDS ? kinds[kind].name : "unknown";
}

enum head_tensors head_kind_tensors(enum head_kind kind)
{
    return kinds[kind].tensors;
}

int head_kind_parse(const char *name, enum head_kind *kind, struct err *err)
{
    for (int i = 0; i < HEAD_KINDS; i++) {
        if (!strcmp(name, kinds[i].name)) {
            *kind = (enum head_kind)i;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID,
                   "the kind of heads is '%.60s', but must be one of:" HEAD_KIND_NAMES, name);
}

/* ---- whole numbers ---- */

struct int_field {
    const char *name; /* as in the file; "heads." marks the object heads */
    size_t offset;    /* in struct config */
    int min, max;
    bool optional; /* 0 when it is missing */
};

#define FIELD(json, member, min, max)                                                              \
    {                                                                                              \
        json, offsetof(struct config, member), min, max, false                                     \
    }
static const struct int_field int_fields[] = {
    FIELD("dim", dim, 16, 16384),
    FIELD("n_layers", n_layers, 0, 512),
    FIELD("n_heads", n_heads, 1, 256),
    FIELD("n_kv_heads", n_kv_heads, 1, 256),
    {"head_dim", offsetof(struct config, head_dim), 0, HEAD_DIM_MAX, true},
    FIELD("hidden", hidden, 16, 65536),
    FIELD("vocab", vocab, 2, 1048576),
    FIELD("context", context, 2, 1048576),
    FIELD("heads.n", n_predict, 1, HEADS_MAX),
    FIELD("heads.layers", head_layers, 0, 8),
    FIELD("bos", bos, -1, 1048575),
    FIELD("eos", eos, -1, 1048575),
};
#define N_INT_FIELDS (sizeof int_fields / sizeof *int_fields)

/* False when they are missing. */
static const struct {
    const char *name;
    size_t offset;
} flags[] = {
    {"qkv_bias", offsetof(struct config, qkv_bias)},
    {"qk_norm", offsetof(struct config, qk_norm)},
    {"rope_factors", offsetof(struct config, rope_factors)},
    {"head_norms", offsetof(struct config, head_norms)},
    {"next_is_trunk", offsetof(struct config, next_is_trunk)},
    {"token_first", offsetof(struct config, token_first)},
    {"first_token_zero", offsetof(struct config, first_token_zero)},
    {"joined_attention", offsetof(struct config, joined_attention)},
    {"fuse_raw", offsetof(struct config, fuse_raw)},
    {"fuse_next", offsetof(struct config, fuse_next)},
    {"prefix_layer", offsetof(struct config, prefix_layer)},
    {"bigram", offsetof(struct config, bigram)},
};
#define N_FLAGS (sizeof flags / sizeof *flags)

static bool *flag_at(struct config *config, size_t i)
{
    return (bool *)((char *)config + flags[i].offset);
}

static int *int_at(struct config *config, const struct int_field *field)
{
    return (int *)((char *)config + field->offset);
}

static int check_int(const struct int_field *field, long long value, struct err *err)
{
    if (value < field->min || value > field->max)
        return err_set(err, ERR_INVALID, "field '%s' is %lld, but must lie between %d and %d",
                       field->name, value, field->min, field->max);
    return 0;
}

/* ---- checking ---- */

static int check_reals(const struct config *c, struct err *err)
{
    if (!(c->norm_eps > 0 && c->norm_eps <= 0.1f))
        return err_set(err, ERR_INVALID,
                       "field 'norm_eps' is %g, but must be above 0 and at most 0.1", c->norm_eps);
    if (!(c->rope_theta >= 1 && isfinite(c->rope_theta)))
        return err_set(err, ERR_INVALID, "field 'rope_theta' is %g, but must be at least 1",
                       c->rope_theta);
    return 0;
}

static int check_shapes(const struct config *c, struct err *err)
{
    if (c->dim % 16)
        return err_set(err, ERR_INVALID, "field 'dim' is %d, but must be a multiple of 16", c->dim);
    if (!c->head_dim && c->dim % c->n_heads)
        return err_set(
            err, ERR_INVALID,
            "field 'dim' is %d, but must be a multiple of n_heads (%d) where there is no "
            "field 'head_dim'",
            c->dim, c->n_heads);
    int head_dim = c->head_dim ? c->head_dim : c->dim / c->n_heads;
    if (head_dim % 16 || head_dim > HEAD_DIM_MAX)
        return err_set(err, ERR_INVALID,
                       "%s heads of %d numbers, but that must be a multiple of 16 and at most %d",
                       c->head_dim ? "field 'head_dim' makes" : "fields 'dim' and 'n_heads' make",
                       head_dim, HEAD_DIM_MAX);
    if (c->n_kv_heads > c->n_heads || c->n_heads % c->n_kv_heads)
        return err_set(err, ERR_INVALID, "field 'n_kv_heads' is %d, but must divide n_heads (%d)",
                       c->n_kv_heads, c->n_heads);
    if (c->hidden % 16)
        return err_set(err, ERR_INVALID, "field 'hidden' is %d, but must be a multiple of 16",
                       c->hidden);
    return 0;
}

static int check_aux(const struct config *c, struct err *err)
{
    if ((c->n_aux || c->fuse_next) &&
        (!c->next_is_trunk || c->kind == HEAD_ANTICAUSAL || c->n_predict < 2))
        return err_set(err, ERR_INVALID,
                       "fields 'aux_layers' and 'fuse_next' are for heads on a trunk that predicts "
                       "the next token");
    if (c->prefix_layer && (!c->next_is_trunk || c->kind == HEAD_RECURRENT ||
                            c->kind == HEAD_ANTICAUSAL || c->n_predict < 2))
        return err_set(err, ERR_INVALID,
                       "field 'prefix_layer' is for heads on a trunk that predicts the next token, "
                       "not for %s ones",
                       head_kind_name(c->kind));
    if (c->bigram && (!c->next_is_trunk || c->kind == HEAD_RECURRENT ||
                      c->kind == HEAD_ANTICAUSAL || c->n_predict < 3))
        return err_set(
            err, ERR_INVALID,
            "field 'bigram' is for two heads and more, on a trunk that predicts the next "
            "token, which don't know the draft before them: not for %s ones",
            head_kind_name(c->kind));
    bool own = c->joined_attention || c->draft_output;
    if ((own && (c->kind != HEAD_RECURRENT || !c->next_is_trunk || c->n_predict < 2)) ||
        (c->fuse_raw && !c->n_aux))
        return err_set(err, ERR_INVALID,
                       "fields 'joined_attention' and 'draft_output' are for recurrent heads, "
                       "'fuse_raw' for heads that have 'aux_layers'");
    for (int i = 0; i < c->n_aux; i++) {
        int least = i ? c->aux_layers[i - 1] + 1 : 1, most = c->trunk ? 511 : c->n_layers - 1;
        if (c->aux_layers[i] < least || c->aux_layers[i] > most)
            return err_set(err, ERR_INVALID,
                           "field 'aux_layers' has %d in place %d, but its layers must rise and "
                           "lie between 1 and %d",
                           c->aux_layers[i], i, most);
    }
    return 0;
}

static int check_heads(const struct config *c, struct err *err)
{
    if ((unsigned)c->kind >= HEAD_KINDS)
        return err_set(err, ERR_INVALID, "field 'heads.kind' is %d, but must lie between 0 and %d",
                       (int)c->kind, HEAD_KINDS - 1);
    if (c->trunk && (c->n_layers || !c->next_is_trunk || c->n_predict < 2))
        return err_set(
            err, ERR_INVALID,
            "heads apart from their trunk have no layers of a trunk, leave the next token "
            "to it, and are at least one: fields 'n_layers' must be 0, 'next_is_trunk' "
            "true and 'heads.n' above 1");
    enum head_tensors tensors = head_kind_tensors(c->kind);
    bool layered = tensors == HEAD_LAYERS || tensors == HEAD_SHARED;
    if (tensors == HEAD_SHARED && !c->next_is_trunk)
        return err_set(err, ERR_INVALID,
                       "heads of kind %s leave the next token to the trunk: field 'next_is_trunk' "
                       "must be true",
                       head_kind_name(c->kind));
    if (tensors == HEAD_SHARED && c->head_layers != 1)
        return err_set(err, ERR_INVALID,
                       "field 'heads.layers' is %d, but must be 1 for heads of kind %s",
                       c->head_layers, head_kind_name(c->kind));
    if (layered != (c->head_layers > 0))
        return err_set(
            err, ERR_INVALID, "field 'heads.layers' is %d, but must %s for heads of kind %s",
            c->head_layers, layered ? "lie between 1 and 8" : "be 0", head_kind_name(c->kind));
    return check_aux(c, err);
}

int config_check(struct config *config, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; i < N_INT_FIELDS && !rc; i++)
        rc = check_int(&int_fields[i], *int_at(config, &int_fields[i]), err);
    if (!rc)
        rc = check_reals(config, err);
    if (!rc)
        rc = check_shapes(config, err);
    if (!rc)
        rc = check_heads(config, err);
    if (rc)
        return rc;
    if (config->bos >= config->vocab || config->eos >= config->vocab)
        return err_set(err, ERR_INVALID, "field '%s' is %d, but must be below vocab (%d), or -1",
                       config->bos >= config->vocab ? "bos" : "eos",
                       config->bos >= config->vocab ? config->bos : config->eos, config->vocab);
    if (!config->head_dim)
        config->head_dim = config->dim / config->n_heads;
    return 0;
}

/* ---- reading ---- */

/* The value at "name" or "heads.name"; an error when it is missing. */
static int get(const json_t *root, const char *name, const json_t **value, struct err *err)
{
    const char *dot = strchr(name, '.');
    const json_t *object = dot ? json_object_get(root, "heads") : root;
    if (dot && object && !json_is_object(object))
        return err_set(err, ERR_INVALID,
                       "field 'heads' must be an object with the fields kind, n, layers");
    *value = json_object_get(object, dot ? dot + 1 : name);
    if (!*value)
        return err_set(err, ERR_INVALID, "field '%s' is missing", name);
    return 0;
}

/* Refuses a value of the wrong type; the sentence shows it. */
static int mistyped(const char *name, const json_t *value, const char *wanted, struct err *err)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    int rc = err_set(err, ERR_INVALID, "field '%s' is %.60s, but must be %s", name,
                     text ? text : "?", wanted);
    free(text);
    return rc;
}

static int read_int(const json_t *root, const struct int_field *field, struct config *config,
                    struct err *err)
{
    const json_t *value;
    if (field->optional && !json_object_get(root, field->name))
        return 0;
    int rc = get(root, field->name, &value, err);
    if (rc)
        return rc;
    if (!json_is_integer(value)) {
        char wanted[64];
        snprintf(wanted, sizeof wanted, "a whole number between %d and %d", field->min, field->max);
        return mistyped(field->name, value, wanted, err);
    }
    rc = check_int(field, json_integer_value(value), err);
    if (!rc)
        *int_at(config, field) = (int)json_integer_value(value);
    return rc;
}

static int read_flag(const json_t *root, size_t i, struct config *config, struct err *err)
{
    const json_t *value = json_object_get(root, flags[i].name);
    if (value && !json_is_boolean(value))
        return mistyped(flags[i].name, value, "true or false", err);
    *flag_at(config, i) = json_is_true(value);
    return 0;
}

/* "trunk" is a number, in 16 hexadecimal digits, because JSON's are too short for it. */
static int read_trunk(const json_t *root, struct config *config, struct err *err)
{
    const json_t *value = json_object_get(root, "trunk");
    const char *text = json_string_value(value);
    if (!value)
        return 0;
    if (text && strlen(text) == 16 && strspn(text, "0123456789abcdef") == 16)
        config->trunk = strtoull(text, NULL, 16);
    if (!config->trunk)
        return mistyped("trunk", value, "16 hexadecimal digits, not all 0", err);
    return 0;
}

static int read_draft_output(const json_t *root, struct config *config, struct err *err)
{
    const json_t *value = json_object_get(root, "draft_output");
    json_int_t rows = json_integer_value(value);
    if (value && (!json_is_integer(value) || rows < 1 || rows > config->vocab))
        return mistyped("draft_output", value, "a number of tokens of the vocabulary", err);
    config->draft_output = (int)rows;
    return 0;
}

static int read_aux(const json_t *root, struct config *config, struct err *err)
{
    const json_t *value = json_object_get(root, "aux_layers");
    size_t n = json_array_size(value);
    bool fits = json_is_array(value) && n <= AUX_LAYERS_MAX;
    for (size_t i = 0; fits && i < n; i++) {
        json_int_t layer = json_integer_value(json_array_get(value, i));
        fits = layer > 0 && layer < 512;
        config->aux_layers[i] = (int)layer;
    }
    config->n_aux = (int)n;
    return value && !fits ? mistyped("aux_layers", value, "a list of at most 4 layers", err) : 0;
}

static int read_real(const json_t *root, const char *name, float *out, struct err *err)
{
    const json_t *value;
    int rc = get(root, name, &value, err);
    if (rc)
        return rc;
    if (!json_is_number(value))
        return mistyped(name, value, "a number", err);
    *out = (float)json_number_value(value);
    return 0;
}

static int read_string(const json_t *root, const char *name, const char **out, struct err *err)
{
    const json_t *value;
    int rc = get(root, name, &value, err);
    if (rc)
        return rc;
    if (!json_is_string(value))
        return mistyped(name, value, "a string", err);
    *out = json_string_value(value);
    return 0;
}

/* Whether this is our kind of file at all: before any other field can be wrong. */
static int read_format(const json_t *root, struct err *err)
{
    const char *format = "";
    const json_t *version;
    if (!json_is_object(root))
        return err_set(err, ERR_INVALID, "the file must hold one JSON object");
    int rc = read_string(root, "format", &format, err);
    if (rc)
        return rc;
    if (strcmp(format, FORMAT))
        return err_set(err, ERR_INVALID,
                       "field 'format' is '%.60s', but must be '%s': convert the model first",
                       format, FORMAT);
    rc = get(root, "version", &version, err);
    if (!rc && json_integer_value(version) != VERSION)
        rc = mistyped("version", version, "1, the only version this program knows", err);
    return rc;
}

static int read_fields(const json_t *root, struct config *config, struct err *err)
{
    const char *kind = "";
    const json_t *tied;
    int rc = read_format(root, err);
    for (size_t i = 0; i < N_INT_FIELDS && !rc; i++)
        rc = read_int(root, &int_fields[i], config, err);
    for (size_t i = 0; i < N_FLAGS && !rc; i++)
        rc = read_flag(root, i, config, err);
    if (!rc)
        rc = read_real(root, "norm_eps", &config->norm_eps, err);
    if (!rc)
        rc = read_real(root, "rope_theta", &config->rope_theta, err);
    if (!rc)
        rc = read_string(root, "heads.kind", &kind, err);
    if (!rc && (rc = head_kind_parse(kind, &config->kind, err)))
        err_prefix(err, rc, "field 'heads.kind'");
    if (!rc)
        rc = get(root, "tied", &tied, err);
    if (!rc && !json_is_boolean(tied))
        rc = mistyped("tied", tied, "true or false", err);
    if (rc)
        return rc;
    config->tied = json_is_true(tied);
    rc = read_trunk(root, config, err);
    if (!rc)
        rc = read_aux(root, config, err);
    if (!rc)
        rc = read_draft_output(root, config, err);
    return rc ? rc : config_check(config, err);
}

int config_parse(struct config *config, const char *text, size_t size, const char *where,
                 struct err *err)
{
    json_error_t error;
    memset(config, 0, sizeof *config);
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    if (!root)
        return err_set(err, ERR_INVALID, "%s is not JSON: line %d: %s", where, error.line,
                       error.text);
    int rc = read_fields(root, config, err);
    json_decref(root);
    return rc ? err_prefix(err, rc, "%s", where) : 0;
}

int config_read(struct config *config, const char *folder, struct err *err)
{
    struct buf text = {0};
    char *path = file_join(folder, "config.json");
    if (!path)
        return err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    int rc = file_read(&text, path, CONFIG_BYTES_MAX, err);
    if (!rc)
        rc = config_parse(config, text.data ? text.data : "", text.len, path, err);
    buf_release(&text);
    free(path);
    return rc;
}

/* ---- writing ---- */

/* 1e-5f becomes the double 1e-5, not 9.9999997e-6, when that reads back the same. */
static json_t *real(float x)
{
    char text[32];
    snprintf(text, sizeof text, "%.6g", x);
    return json_real(strtof(text, NULL) == x ? strtod(text, NULL) : x);
}

static json_t *config_json(const struct config *config)
{
    struct config copy = *config;
    json_t *root = json_object(), *heads = json_object();
    int bad = json_object_set_new(root, "format", json_string(FORMAT)) |
              json_object_set_new(root, "version", json_integer(VERSION)) |
              json_object_set_new(heads, "kind", json_string(head_kind_name(config->kind)));
    for (size_t i = 0; i < N_INT_FIELDS; i++) {
        const char *name = int_fields[i].name, *dot = strchr(name, '.');
        bad |= json_object_set_new(dot ? heads : root, dot ? dot + 1 : name,
                                   json_integer(*int_at(&copy, &int_fields[i])));
    }
    for (size_t i = 0; i < N_FLAGS; i++)
        if (*flag_at(&copy, i))
            bad |= json_object_set_new(root, flags[i].name, json_true());
    bad |= json_object_set_new(root, "norm_eps", real(config->norm_eps)) |
           json_object_set_new(root, "rope_theta", real(config->rope_theta)) |
           json_object_set_new(root, "tied", json_boolean(config->tied)) |
           json_object_set_new(root, "heads", heads);
    json_t *aux = config->n_aux ? json_array() : NULL;
    for (int i = 0; i < config->n_aux; i++)
        bad |= json_array_append_new(aux, json_integer(config->aux_layers[i]));
    if (config->n_aux)
        bad |= json_object_set_new(root, "aux_layers", aux);
    if (config->draft_output)
        bad |= json_object_set_new(root, "draft_output", json_integer(config->draft_output));
    if (config->trunk)
        bad |= json_object_set_new(root, "trunk", json_sprintf("%016" PRIx64, config->trunk));
    if (!bad)
        return root;
    json_decref(root);
    return NULL;
}

int config_write(const struct config *config, const char *folder, struct err *err)
{
    struct config copy = *config;
    struct file_out out = {0};
    int rc = config_check(&copy, err);
    if (rc)
        return rc;
    char *path = file_join(folder, "config.json");
    json_t *root = config_json(config);
    if (!path || !root)
        rc = err_set(err, ERR_MEMORY, "%s: no memory left", folder);
    if (!rc)
        rc = file_create(&out, path, err);
    if (!rc) {
        /* 9 digits bring every float back; a failed write stays in the stream's error flag */
        json_dumpf(root, out.stream, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
        fputc('\n', out.stream);
        rc = file_commit(&out, err);
    }
    json_decref(root);
    free(path);
    return rc;
}
