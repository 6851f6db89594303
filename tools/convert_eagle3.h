/* Heads for other servers. */
#ifndef TOOLS_CONVERT_EAGLE3_H
#define TOOLS_CONVERT_EAGLE3_H

#include "base/err.h"
#include "weights/source.h"

/* Writes recurrent heads of EAGLE-3's structure (config: joined_attention, fuse_raw) as a folder in
 * the layout of its authors, which vLLM and SGLang read: config.json and model.safetensors, in
 * bf16. What the heads share with their trunk, its last norm and rows of its unembedding, is
 * written too. ERR_INVALID: other heads, or another trunk's; ERR_IO, ERR_MEMORY. */
int convert_eagle3(const struct source *heads, const struct source *trunk, const char *folder,
                   struct err *err);

#endif
