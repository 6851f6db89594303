/* libFuzzer on JSON schemas: what compiles can be walked along, and a text that is complete is
 * JSON; what does not is refused with a sentence. The input is a schema, and behind a NUL, if there
 * is one, bytes that choose the way. */
#include <string.h>

#include <jansson.h>

#include "tests/fuzz/use_automaton.h"
#include "text/json_schema.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check(const struct automaton *a, const uint8_t *bytes, size_t size)
{
    struct positions p;
    struct buf text = {0};
    struct err err;
    if (positions_init(&p, a, &err))
        return;
    if (use_walk(&p, bytes, size, &text)) {
        json_t *json = json_loadb(text.data, text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (!json)
            abort();
        json_decref(json);
    }
    positions_release(&p);
    buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const uint8_t *nul = size ? memchr(bytes, 0, size) : NULL;
    size_t len = nul ? (size_t)(nul - bytes) : size;
    json_t *schema = json_loadb((const char *)bytes, len, JSON_DECODE_ANY, NULL);
    struct automaton *a;
    struct err err = {""};
    if (!schema)
        return 0;
    int rc = json_schema_compile(schema, &a, &err);
    if (!rc != !err.text[0] || !rc != (a != NULL))
        abort();
    if (!rc)
        check(a, bytes + len, size - len);
    automaton_release(a);
    json_decref(schema);
    return 0;
}
