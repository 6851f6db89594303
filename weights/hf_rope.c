/* The rotation of Hugging Face's config.json: see hf_rope.h. */
#include "weights/hf_rope.h"

#include <stdbool.h>
#include <string.h>

#include "weights/json_field.h"

static int refuse_partial(const json_t *object, struct err *err)
{
    float part = 1;
    int rc = json_field_real(object, "partial_rotary_factor", 0, 1, &part, err);
    if (!rc && part != 1)
        rc = err_set(err, ERR_INVALID,
                     "field 'partial_rotary_factor' is %g: rotating a part of each head is not "
                     "supported",
                     part);
    return rc;
}

static int read_scaling_type(const json_t *object, struct rope *rope, struct err *err)
{
    const char *type = NULL, *older = NULL;
    int rc = json_field_string(object, "rope_type", &type, err);
    if (!rc)
        rc = json_field_string(object, "type", &older, err);
    if (rc)
        return rc;
    if (type && older && strcmp(type, older))
        return err_set(err, ERR_INVALID, "fields 'rope_type' and 'type' are '%.40s' and '%.40s'",
                       type, older);
    if (!type)
        type = older ? older : "default";
    if (!strcmp(type, "default"))
        rope->scaling = ROPE_NONE;
    else if (!strcmp(type, "linear"))
        rope->scaling = ROPE_LINEAR;
    else if (!strcmp(type, "llama3"))
        rope->scaling = ROPE_LLAMA3;
    else
        return err_set(err, ERR_INVALID,
                       "rope scaling of type '%.40s' is not supported yet, only default, linear "
                       "and llama3",
                       type);
    return 0;
}

static int read_scaling(struct rope *rope, const json_t *config, const json_t *object, int context,
                        struct err *err)
{
    int rc = read_scaling_type(object, rope, err);
    if (rc || rope->scaling == ROPE_NONE)
        return rc;
    rc = json_field_real(object, "factor", 0, 1e6, &rope->factor, err);
    if (!rc && rope->factor == 0)
        rc = err_set(err, ERR_INVALID, "field 'factor' is missing");
    if (rc || rope->scaling == ROPE_LINEAR)
        return rc;
    rc = json_field_real(object, "low_freq_factor", 0, 1e6, &rope->low_freq_factor, err);
    if (!rc)
        rc = json_field_real(object, "high_freq_factor", 0, 1e6, &rope->high_freq_factor, err);
    if (!rc && !(rope->low_freq_factor > 0 && rope->high_freq_factor > rope->low_freq_factor))
        rc = err_set(err, ERR_INVALID,
                     "fields 'low_freq_factor' and 'high_freq_factor' are %g and %g, but must be "
                     "above 0 and rise",
                     rope->low_freq_factor, rope->high_freq_factor);
    /* transformers: the value beside the object wins, and without any it is the context */
    rope->original_context = context;
    if (!rc)
        rc = json_field_int(object, "original_max_position_embeddings", 1, 1048576,
                            &rope->original_context, err);
    if (!rc)
        rc = json_field_int(config, "original_max_position_embeddings", 1, 1048576,
                            &rope->original_context, err);
    return rc;
}

/* A rotation for each type of layer would be an object within. */
static int refuse_nested(const json_t *object, struct err *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        if (json_is_object(value))
            return err_set(err, ERR_INVALID,
                           "a rotation that differs from layer to layer is not supported");
    }
    return 0;
}

/* Everything that stands in the object. */
static int read_object(struct rope *rope, const json_t *config, const json_t *object, int context,
                       struct err *err)
{
    int rc = refuse_nested(object, err);
    if (!rc)
        rc = json_field_real(object, "rope_theta", 0, 1e12, &rope->theta, err);
    if (!rc)
        rc = refuse_partial(object, err);
    return rc ? rc : read_scaling(rope, config, object, context, err);
}

int hf_rope_read(struct rope *rope, const json_t *config, int context, struct err *err)
{
    const json_t *older, *newer;
    *rope = (struct rope){.theta = 10000};
    int rc = json_field_object(config, "rope_scaling", &older, err);
    if (!rc)
        rc = json_field_object(config, "rope_parameters", &newer, err);
    if (!rc)
        rc = json_field_real(config, "rope_theta", 0, 1e12, &rope->theta, err);
    if (!rc)
        rc = refuse_partial(config, err);
    if (rc)
        return rc;
    bool old = json_object_size(older) > 0;
    rc = read_object(rope, config, old ? older : newer, context, err);
    if (rc)
        return err_prefix(err, rc, "field '%s'", old ? "rope_scaling" : "rope_parameters");
    if (rope->theta < 1)
        return err_set(err, ERR_INVALID, "field 'rope_theta' is %g, but must be at least 1",
                       rope->theta);
    return 0;
}
