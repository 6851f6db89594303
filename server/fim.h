/* Fill in the middle: a prompt of what stands before the gap and what stands behind it, in the
 * shape of models that were trained for it (prefix, suffix, middle: Bavarian et al. 2022, arXiv
 * 2207.14255, "PSM"), and behind other files of a repository (Hui et al. 2024, arXiv 2409.12186,
 * section 3). Called by prompt.c and infill.c, on any thread. */
#ifndef SERVER_FIM_H
#define SERVER_FIM_H

#include "server/api.h"

/* Texts are borrowed; control tokens that are written out in them are text. */
struct fim {
    const char *before, *behind; /* the gap */
    size_t before_len, behind_len;
    const char *before_param, *behind_param; /* the fields to blame */
    const json_t *files; /* other files, the one that matters most last: a list of objects with
                            "text" and perhaps "filename", strings both; NULL: none */
    size_t room;         /* tokens that the prompt may have: whole files are left out first, the
                            first ones before the others, then what is farthest from the gap */
    bool add_special;    /* a bos where the model wants one */
};

/* Whether the model has the tokens for it. */
bool fim_known(const struct api_model *model);

/* Fills an empty prompt, whose `cut` says whether something was left out. Returns 0, or ERR_INVALID
 * with the error in `error`: the model has no tokens for it, or a text cannot be encoded. */
int fim_encode(struct api_prompt *prompt, const struct api_model *model, const struct fim *fim,
               struct response *error);

#endif
