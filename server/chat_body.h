/* The body of a chat, made from a body in another dialect: responses.c and anthropic.c read theirs
 * and write this. What is wrong is said in the names of the body that came. */
#ifndef SERVER_CHAT_BODY_H
#define SERVER_CHAT_BODY_H

#include <jansson.h>
#include <stdbool.h>

#include "server/response.h"

struct chat_body {
    const json_t *from;
    json_t *root, *messages; /* owned, and in root */
    bool failed;             /* memory ran out: chat_body_end says so */
    struct response *error;
};

/* "messages[2].content" */
struct place {
    char text[96];
};
struct place place_of(const char *list, size_t i, const char *field);

/* With the fields that all dialects share, for api.c to check. */
void chat_body_begin(struct chat_body *body, const json_t *from, struct response *error);
/* Returns rc, or ERR_INVALID with a 500 when memory ran out. *chat is owned by the caller, NULL in
 * error. */
int chat_body_end(struct chat_body *body, int rc, json_t **chat);

/* Sets a field, of which it takes the reference. NULL is no memory. */
void chat_body_set(struct chat_body *body, const char *name, json_t *value);
/* Sets a field to one that came, if it did. */
void chat_body_copy(struct chat_body *body, const char *from, const char *name);

/* Appends a message and returns it, borrowed; NULL when memory ran out. */
json_t *chat_body_message(struct chat_body *body, const char *role, const struct buf *text);
/* Adds a call to an assistant's message. */
void chat_body_call(struct chat_body *body, json_t *message, json_t *id, json_t *name,
                    json_t *arguments);
/* The answer of a tool. */
void chat_body_result(struct chat_body *body, json_t *id, const struct buf *text);
/* Reads `tools`, whose type is `own` if it is said, and whose parameters have that name. Others,
 * which a server would run, are refused. Returns 0, or ERR_INVALID. */
int chat_body_tools(struct chat_body *body, const char *own, const char *parameters);
/* Sets tool_choice to a function. */
void chat_body_choose(struct chat_body *body, json_t *name);

/* An object's `type`, "" for none. */
const char *chat_body_type(const json_t *object);

/* A string of `object`, which stands in place `at`. NULL with the error set when it is none. */
json_t *chat_body_string(struct chat_body *body, const json_t *object, const char *name,
                         const struct place *at);
/* Appends a string, or the texts of a list of parts, a line each; NULL is nothing. Parts are of
 * one of the types in `types`, which ends with NULL. Returns 0, or ERR_INVALID. */
int chat_body_text(struct chat_body *body, const json_t *content, const char *const *types,
                   const struct place *at, struct buf *text);
/* Appends the text of one part. */
int chat_body_part(struct chat_body *body, const json_t *part, const char *const *types,
                   const struct place *at, struct buf *text);

#endif
