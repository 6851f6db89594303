/* tokenizer.json: model and added tokens. The steps around them are in tokenizer_steps.c. */
#include "text/tokenizer_json.h"

#include <stdlib.h>
#include <string.h>

#include "text/sentencepiece.h"
#include "text/tokenizer_steps.h"

#define HOLES_MOST 65536 /* ids without a token */

/* What an id stands for. All borrowed from the file. */
struct entry {
    const char *text; /* NULL: nothing */
    size_t len;
    const json_t *added; /* its flags, NULL when it is not an added token */
};

struct reading {
    struct vocab *vocab;
    const char *where;
    struct err *err;
    const json_t *root, *model, *tokens;
    struct entry *entries; /* owned */
    size_t n_entries;
};

static int wrong(const struct reading *r, const char *what)
{
    return err_set(r->err, ERR_INVALID, "%s: %s", r->where, what);
}

static int no_memory(const struct reading *r)
{
    return err_set(r->err, ERR_MEMORY, "%s: no memory left", r->where);
}

/* ---- the model's settings ---- */

/* Settings under which text becomes other tokens than here. */
static int check_model(struct reading *r)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const char *type = json_text(r->model, "type");
    const json_t *dropout = json_object_get(r->model, "dropout");
    if (!json_is_object(r->model))
        return wrong(r, "field 'model' must be an object");
    if (type ? strcmp(type, "BPE") != 0 : !json_object_get(r->model, "merges"))
        return err_set(r->err, ERR_INVALID, "%s: model '%.60s' is not supported, only BPE",
                       r->where, type ? type : "without a type");
    if (!json_is_object(r->tokens) || !json_object_size(r->tokens))
        return wrong(r, "field 'model.vocab' must be an object of tokens");
    if (json_is_number(dropout) && json_number_value(dropout) != 0)
        return wrong(r, "'model.dropout' is not supported: tokens would depend on chance");
    for (size_t i = 0; i < 2; i++) {
        const char *affix = json_text(r->model, affixes[i]);
        if (affix && *affix)
            return err_set(r->err, ERR_INVALID, "%s: 'model.%s' is not supported", r->where,
                           affixes[i]);
    }
    return 0;
}

/* ---- tokens ---- */

/* How many ids there are: as many as the highest needs, which may leave few without a token. */
static int count_entries(struct reading *r)
{
    const json_t *added = json_object_get(r->root, "added_tokens"), *value;
    json_int_t most = -1;
    const char *key;
    size_t i, n = json_object_size(r->tokens) + json_array_size(added);
    json_object_foreach((json_t *)r->tokens, key, value)
    {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0)
            return err_set(r->err, ERR_INVALID,
                           "%s: token '%.60s' of 'model.vocab' needs an id of 0 or more", r->where,
                           key);
        most = id > most ? id : most;
    }
    json_array_foreach(added, i, value)
    {
        const json_t *id = json_object_get(value, "id");
        if (!json_is_integer(id) || json_integer_value(id) < 0 || !json_text(value, "content"))
            return err_set(r->err, ERR_INVALID,
                           "%s: 'added_tokens' %zu needs a string 'content' and an 'id' of 0 or "
                           "more",
                           r->where, i);
        most = json_integer_value(id) > most ? json_integer_value(id) : most;
    }
    if ((uint64_t)most >= n + HOLES_MOST)
        return err_set(r->err, ERR_INVALID, "%s: the highest id is %lld, but there are %zu tokens",
                       r->where, (long long)most, n);
    r->n_entries = (size_t)most + 1;
    r->entries = calloc(r->n_entries, sizeof *r->entries);
    return r->entries ? 0 : no_memory(r);
}

static int take(struct reading *r, size_t id, const char *text, size_t len)
{
    struct entry *entry = &r->entries[id];
    if (entry->text && (entry->len != len || memcmp(entry->text, text, len)))
        return err_set(r->err, ERR_INVALID, "%s: '%.60s' and '%.60s' both have the id %zu",
                       r->where, entry->text, text, id);
    entry->text = text;
    entry->len = len;
    return 0;
}

static int gather(struct reading *r)
{
    const json_t *value;
    const char *key;
    size_t i;
    int rc = count_entries(r);
    if (rc)
        return rc;
    json_object_foreach((json_t *)r->tokens, key, value)
    {
        rc = take(r, (size_t)json_integer_value(value), key, strlen(key));
        if (rc)
            return rc;
    }
    json_array_foreach(json_object_get(r->root, "added_tokens"), i, value)
    {
        const char *content = json_text(value, "content");
        /* A token of the model keeps its id, whatever is said here. */
        const json_t *known = json_object_get(r->tokens, content);
        size_t id = (size_t)json_integer_value(known ? known : json_object_get(value, "id"));
        if (!*content)
            continue;
        rc = take(r, id, content, strlen(content));
        if (rc)
            return rc;
        r->entries[id].added = value;
    }
    return 0;
}

static int add_entry(struct reading *r, const struct entry *entry)
{
    struct vocab *vocab = r->vocab;
    enum token_kind kind = TOKEN_TEXT;
    if (!entry->text)
        kind = TOKEN_UNUSED;
    else if (entry->added)
        kind = json_flag(entry->added, "special", false) ? TOKEN_CONTROL : TOKEN_ADDED;
    else if (vocab->kind == VOCAB_SENTENCEPIECE && vocab->rules.byte_fallback &&
             sentencepiece_byte(entry->text, entry->len) >= 0)
        kind = TOKEN_BYTE;
    int rc = vocab_add(vocab, entry->text ? entry->text : "", entry->len, kind, 0, r->err);
    if (rc || !entry->added)
        return rc;
    struct vocab_token *token = &vocab->tokens[vocab->n_tokens - 1];
    token->lstrip = json_flag(entry->added, "lstrip", false);
    token->rstrip = json_flag(entry->added, "rstrip", false);
    token->single_word = json_flag(entry->added, "single_word", false);
    token->normalized = json_flag(entry->added, "normalized", kind == TOKEN_ADDED);
    return 0;
}

static int find_unknown(struct reading *r)
{
    const char *name = json_text(r->model, "unk_token");
    for (size_t i = 0; name && *name && i < r->n_entries; i++)
        if (r->entries[i].text && !strcmp(r->entries[i].text, name)) {
            r->vocab->unknown = (int)i;
            return 0;
        }
    return 0; /* bytes that no token has are then left out */
}

static int add_tokens(struct reading *r)
{
    int rc = gather(r);
    for (size_t i = 0; !rc && i < r->n_entries; i++)
        rc = add_entry(r, &r->entries[i]);
    return rc ? rc : find_unknown(r);
}

/* ---- merges ---- */

static int add_merge(struct reading *r, size_t nth, const json_t *merge)
{
    const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
    if (json_array_size(merge) == 2 && json_is_string(left) && json_is_string(right))
        return vocab_add_merge(r->vocab, json_string_value(left), json_string_length(left),
                               json_string_value(right), json_string_length(right), r->err);
    const char *text = json_string_value(merge), *space = text ? strchr(text, ' ') : NULL;
    if (!space || strchr(space + 1, ' '))
        return err_set(r->err, ERR_INVALID,
                       "%s: 'model.merges' %zu must be two strings, or one with one space",
                       r->where, nth);
    return vocab_add_merge(r->vocab, text, (size_t)(space - text), space + 1, strlen(space + 1),
                           r->err);
}

static int add_merges(struct reading *r)
{
    const json_t *merges = json_object_get(r->model, "merges"), *merge;
    size_t i;
    int rc = 0;
    if (!json_is_array(merges))
        return wrong(r, "field 'model.merges' must be an array");
    json_array_foreach(merges, i, merge)
    {
        rc = add_merge(r, i, merge);
        if (rc)
            break;
    }
    return rc;
}

/* ---- all of it ---- */

static int read_all(struct reading *r)
{
    struct tokenizer_steps steps = {.where = r->where, .err = r->err};
    struct vocab *vocab = r->vocab;
    vocab->bos = vocab->eos = vocab->unknown = -1;
    int rc = check_model(r);
    if (!rc)
        rc = tokenizer_steps_read(&steps, r->root);
    if (!rc)
        rc = tokenizer_steps_apply(&steps, vocab);
    vocab->rules.ignore_merges = json_flag(r->model, "ignore_merges", false);
    vocab->rules.byte_fallback = json_flag(r->model, "byte_fallback", false);
    if (!rc)
        rc = add_tokens(r);
    if (!rc)
        rc = add_merges(r);
    if (!rc)
        rc = tokenizer_steps_ends(&steps, r->root, vocab);
    tokenizer_steps_release(&steps);
    return rc;
}

int tokenizer_json_parse(struct vocab *vocab, const char *text, size_t len, const char *where,
                         struct err *err)
{
    json_error_t error;
    json_t *root = json_loadb(text, len, 0, &error);
    *vocab = (struct vocab){0};
    if (!json_is_object(root)) {
        json_decref(root);
        return err_set(err, ERR_INVALID, "%s:%d: %s", where, root ? 1 : error.line,
                       root ? "expected an object" : error.text);
    }
    const json_t *model = json_object_get(root, "model");
    struct reading r = {.vocab = vocab,
                        .where = where,
                        .err = err,
                        .root = root,
                        .model = model,
                        .tokens = json_object_get(model, "vocab")};
    int rc = read_all(&r);
    free(r.entries);
    json_decref(root);
    if (rc)
        vocab_release(vocab);
    return rc;
}
