/* What a run leaves on disk: a checkpoint to resume from, and the model to serve. Both are written
 * beside their place and renamed, so that a kill at any moment leaves the old or the new one. */
#ifndef TRAIN_CHECKPOINT_H
#define TRAIN_CHECKPOINT_H

#include "train/trainer.h"
#include "weights/safetensors.h"

/* FOLDER/checkpoint.safetensors: parameters, both moments, the number of steps done, and
 * `settings`: text that must be the same when the run is resumed. ERR_IO, ERR_MEMORY. */
int checkpoint_write(const struct trainer *trainer, const char *folder, int step,
                     const char *settings, struct err *err);
/* Fills the trainer and *step. ERR_INVALID when the settings differ, with the first difference. */
int checkpoint_read(struct trainer *trainer, const char *folder, int *step, const char *settings,
                    struct err *err);

/* FOLDER/config.json and FOLDER/model.safetensors, in f32 or bf16. */
int checkpoint_export(const struct trainer *trainer, const char *folder, enum dtype type,
                      struct err *err);
/* Reads the parameters of FOLDER/model.safetensors, which must have the trainer's shape. */
int checkpoint_import(struct trainer *trainer, const char *folder, struct err *err);
/* The draft vocabulary of exported heads, rising, into ids (vocab), n of them; 0: they have none.
 * What the texts that have come since would make of it is another. */
int checkpoint_draft_ids(const char *folder, int vocab, int32_t *ids, int *n, struct err *err);
/* The same of heads on a frozen trunk, of the same kind and for the same trunk, in any type. */
int checkpoint_import_heads(struct trainer *trainer, const char *folder, struct err *err);

#endif
