/* What OpenAI's completions and chat completions have in common as JSON: the object around the
 * choices, chunks, usage, the end of a stream. For completion_json.c and chat_json.c. Every string
 * goes through json_text, numbers are printed. */
#ifndef SERVER_OPENAI_JSON_H
#define SERVER_OPENAI_JSON_H

#include "server/completion.h"

/* ---- parts of a choice ---- */

/* What follows its text, from logprobs on; `reason` is the finish reason or NULL. With `logprobs`
 * those that came since the last call. */
void openai_add_rest(struct choice *choice, bool logprobs, const char *reason, struct buf *out);
void openai_add_prompt_ids(const struct api_prompt *prompt, struct buf *out);

/* ---- streams ---- */

/* An event up to its choices' opening bracket. Returns where its object begins. */
size_t openai_chunk_begin(struct completion *completion);
/* What stands behind the choices' closing bracket. */
void openai_chunk_end(struct completion *completion, size_t start);
void openai_end(struct completion *completion);
void openai_error(struct completion *completion, int status, const char *code, const char *message);

/* ---- whole ---- */

/* The object with all choices, each made by `add`; behind it the caller may add members and closes
 * it with openai_whole_end. */
struct buf *openai_whole(struct completion *completion,
                         void (*add)(struct choice *choice, struct buf *out));
void openai_whole_end(struct buf *out);

#endif
