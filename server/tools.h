/* What a chat says of tools: `tools`, `tool_choice`, `parallel_tool_calls`. Called by chat.c.
 *
 * A model is made to call by beginning its answer for it: the prompt ends with a call's marker, and
 * with the tool's name where that is settled. How it goes on is held by call_grammar.h. */
#ifndef SERVER_TOOLS_H
#define SERVER_TOOLS_H

#include "server/api.h"
#include "text/template.h"

struct tools {
    const json_t *list; /* what the template is to see; NULL: none */
    bool must_call;
    const char *must_name; /* the tool, or NULL: any */
    bool one_call;         /* no more than one: it is named, or calls are not to be parallel */
};

/* Returns 0, or ERR_INVALID with the error in `error`. */
int tools_parse(const json_t *root, const struct api_model *model, struct tools *tools,
                struct response *error);

/* With must_call: appends the begin of a call to a prompt, and to `begun`, unless that is NULL,
 * what of it is text of the answer. */
int tools_begin(const struct tools *tools, const struct call_format *format,
                struct rendered *rendered, struct buf *begun, struct response *error);

/* What answer.c has to know. Release it in error too. */
int tools_for_answer(const struct tools *tools, const struct api_model *model,
                     struct answer_tools *to, struct response *error);
void tools_release(struct answer_tools *tools);

/* A tool's name, of a list that tools_parse has checked. */
const char *tools_name(const json_t *tool);

#endif
