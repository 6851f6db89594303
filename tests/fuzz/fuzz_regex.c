/* libFuzzer on regular expressions: what compiles can be walked along to an end, without dead ends,
 * plain and as the pattern of a JSON string; what does not is refused with a sentence. The input is
 * an expression, and behind a NUL, if there is one, bytes that choose the way. */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/use_automaton.h"
#include "text/regex.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void pattern(const char *text, size_t len)
{
    struct automaton_draft draft = {0};
    struct regex_options options = {.json = true, .search = true};
    struct automaton *a;
    struct err err = {""};
    int32_t to;
    automaton_rule(&draft);
    int rc = regex_draw(&draft, text, len, &options, draft.rules[0].start, &to, &err);
    if (rc) {
        automaton_draft_release(&draft);
        return;
    }
    automaton_empty(&draft, to, draft.rules[0].final);
    rc = automaton_finish(&draft, &a, &err);
    if (!rc != !err.text[0] || !rc != (a != NULL))
        abort();
    automaton_release(a);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const uint8_t *nul = size ? memchr(bytes, 0, size) : NULL;
    size_t len = nul ? (size_t)(nul - bytes) : size;
    struct automaton *a;
    struct err err = {""};
    int rc = regex_compile((const char *)bytes, len, &a, &err);
    if (!rc != !err.text[0] || !rc != (a != NULL))
        abort();
    if (!rc)
        use_automaton(a, bytes + len, size - len);
    automaton_release(a);
    pattern((const char *)bytes, len);
    return 0;
}
