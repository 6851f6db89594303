/* What an answer looks like that has to call: calls of declared tools in the model's own format,
 * with arguments as their schemas say. Called by chat.c.
 *
 * Where a tool's `parameters` cannot be followed, or allow other values than objects, a tool that
 * is `strict` is refused with the reason, and another may be given any object. A tool without
 * `parameters` has none. */
#ifndef SERVER_CALL_GRAMMAR_H
#define SERVER_CALL_GRAMMAR_H

#include "server/tools.h"

/* The automaton of what follows the begin that tools_begin writes: the rest of one call of the tool
 * that is named, or of any, and more calls where the format and the request allow them. tools must
 * call. Returns 0 with one reference in *grammar, or ERR_INVALID with the error in `error`. */
int call_grammar_make(const struct tools *tools, const struct call_format *format,
                      const struct automaton **grammar, struct response *error);

#endif
