/* Token ids as JSON: see token_list.h. */
#include "server/token_list.h"

#include <stdlib.h>

int token_list_parse(const json_t *json, int vocab, const char *param, int32_t **tokens, size_t *n,
                     struct response *error)
{
    *n = json_array_size(json);
    *tokens = *n ? malloc(*n * sizeof **tokens) : NULL;
    if (*n && !*tokens)
        return response_error(error, 500, NULL, NULL, "The server has no memory left.");
    for (size_t i = 0; i < *n; i++) {
        const json_t *id = json_array_get(json, i);
        if (!json_is_integer(id))
            return response_error(error, 400, param, NULL, "Token %zu of '%s' is no whole number.",
                                  i, param);
        json_int_t token = json_integer_value(id);
        if (token < 0 || token >= vocab)
            return response_error(error, 400, param, NULL,
                                  "Token %zu of '%s' is %" JSON_INTEGER_FORMAT
                                  ", but ids run from 0 to %d.",
                                  i, param, token, vocab - 1);
        (*tokens)[i] = (int32_t)token;
    }
    return 0;
}

void token_list_write(struct buf *out, const int32_t *tokens, size_t n)
{
    buf_puts(out, "[");
    for (size_t i = 0; i < n; i++)
        buf_printf(out, i ? ",%d" : "%d", tokens[i]);
    buf_puts(out, "]");
}
