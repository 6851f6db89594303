/* libFuzzer on the config files of others: what is accepted keeps the promises of the headers. */
#include <stdint.h>
#include <stdlib.h>

#include "weights/hf_config.h"
#include "weights/meta_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_rope(const struct rope *r)
{
    if (!(r->theta >= 1) || (r->scaling != ROPE_NONE && !(r->factor > 0)))
        abort();
    if (r->scaling == ROPE_LLAMA3 &&
        (!(r->low_freq_factor > 0) || !(r->high_freq_factor > r->low_freq_factor) ||
         r->original_context < 1))
        abort();
}

static void check_hf(const char *text, size_t size)
{
    struct hf_config c;
    struct err err;
    if (hf_config_parse(&c, text, size, "fuzz", &err))
        return;
    if ((unsigned)c.model >= HF_MODELS || c.dim < 16 || c.n_layers < 1 || c.n_heads < 1 ||
        c.n_kv_heads < 1 || c.n_heads % c.n_kv_heads || c.head_dim < 2 || c.head_dim % 2 ||
        c.head_dim > HEAD_DIM_MAX || c.hidden < 16 || c.vocab < 2 || c.context < 2 ||
        !(c.norm_eps > 0) || c.n_predict < 1 || c.n_predict > HEADS_MAX)
        abort();
    check_rope(&c.rope);
    hf_config_add_generation(&c, text, size, "fuzz", &err);
    if (c.bos < -1 || c.bos >= c.vocab || c.n_eos < 0 || c.n_eos > HF_EOS_MAX)
        abort();
    for (int i = 0; i < c.n_eos; i++)
        if (c.eos[i] < 0 || c.eos[i] >= c.vocab)
            abort();
}

static void check_meta(const char *text, size_t size)
{
    struct meta_config m;
    struct err err;
    if (meta_config_parse(&m, text, size, "fuzz", &err))
        return;
    if (m.dim < 16 || m.n_layers < 1 || m.n_heads < 1 || m.n_kv_heads < 1 || m.hidden < 16 ||
        m.hidden > 65536 || m.vocab < -1 || m.n_predict < 1 || m.n_predict > m.n_layers ||
        !(m.norm_eps > 0) || !(m.rope_theta > 0))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    check_hf((const char *)bytes, size);
    check_meta((const char *)bytes, size);
    return 0;
}
