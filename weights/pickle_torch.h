/* What the names in a state dict's pickle mean: storages, tensors, and how they are called.
 * Internal to pickle.c. */
#ifndef WEIGHTS_PICKLE_TORCH_H
#define WEIGHTS_PICKLE_TORCH_H

#include "weights/pickle.h"
#include "weights/pickle_machine.h"

/* Pushes the value of MODULE.NAME, or refuses it. */
int torch_global(struct machine *m, const char *module, size_t module_len, const char *name,
                 size_t name_len);
/* Takes a storage's tuple off the stack and pushes the storage. */
int torch_storage(struct machine *m);
/* Takes arguments and function off the stack and pushes what the call would give. */
int torch_call(struct machine *m);

/* Fills everything of a VALUE_TENSOR but its name; *storage_len bytes at *storage are the key. */
void torch_tensor(const struct machine *m, const struct value *value, struct pickle_tensor *t,
                  const char **storage, size_t *storage_len);

#endif
