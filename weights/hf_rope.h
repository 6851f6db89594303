/* How queries and keys are rotated, as Hugging Face's config.json says. Any thread. */
#ifndef WEIGHTS_HF_ROPE_H
#define WEIGHTS_HF_ROPE_H

#include <jansson.h>

#include "base/err.h"

enum rope_scaling {
    ROPE_NONE,
    ROPE_LINEAR, /* every frequency is divided by factor */
    /* Frequencies of wavelengths above original_context / low_freq_factor are divided by factor,
     * those below original_context / high_freq_factor are kept, between them it goes smoothly. */
    ROPE_LLAMA3
};

/* How queries and keys are rotated; in this layout always the halves (i, i + K/2) of a head. */
struct rope {
    float theta;
    enum rope_scaling scaling;
    float factor;
    float low_freq_factor, high_freq_factor; /* ROPE_LLAMA3 only, as original_context */
    int original_context;
};

/* From a whole config.json: rope_theta and rope_scaling, or, since transformers 5, rope_parameters
 * with both. `context` is max_position_embeddings. ERR_INVALID names the field; kinds of scaling
 * that are not supported are refused by name. */
int hf_rope_read(struct rope *rope, const json_t *config, int context, struct err *err);

#endif
