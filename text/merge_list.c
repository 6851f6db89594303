/* Merges by text become merges by id. */
#include "text/merge_list.h"

#include "text/byte_level.h"

/* One merge with its texts as bytes, the left one's first. */
struct merge_text {
    const char *bytes;
    size_t left, right;
};

static bool text_of(const struct vocab *vocab, const struct vocab_merge *merge, bool byte_level,
                    struct buf *room, struct merge_text *out)
{
    const char *text = vocab->strings.data + merge->text;
    *out = (struct merge_text){text, merge->left_len, merge->right_len};
    if (!byte_level)
        return true;
    room->len = 0;
    buf_reserve(room, (size_t)merge->left_len + merge->right_len);
    if (room->failed || !byte_level_decode(text, merge->left_len, room->data, &out->left) ||
        !byte_level_decode(text + merge->left_len, merge->right_len, room->data + out->left,
                           &out->right))
        return false;
    out->bytes = room->data;
    return true;
}

static bool add(struct pair_table *pairs, const struct text_map *texts,
                const struct merge_text *merge, uint32_t rank)
{
    int32_t left = text_map_find(texts, merge->bytes, merge->left);
    int32_t right = text_map_find(texts, merge->bytes + merge->left, merge->right);
    int32_t result = text_map_find(texts, merge->bytes, merge->left + merge->right);
    if (left < 0 || right < 0 || result < 0)
        return false;
    pair_table_add(pairs, left, right, rank, result);
    return true;
}

int merge_list_read(struct pair_table *pairs, const struct vocab *vocab,
                    const struct text_map *texts, bool byte_level, struct err *err)
{
    struct buf room = {0};
    int useless = 0, first = 0;
    int rc = pair_table_init(pairs, (size_t)vocab->n_merges, err);
    for (int i = 0; !rc && i < vocab->n_merges; i++) {
        struct merge_text merge;
        if (text_of(vocab, &vocab->merges[i], byte_level, &room, &merge) &&
            add(pairs, texts, &merge, (uint32_t)i))
            continue;
        first = useless++ ? first : i;
    }
    if (room.failed)
        rc = err_set(err, ERR_MEMORY, "tokenizer: no memory left");
    if (!rc && useless > vocab->n_merges / 2) {
        const struct vocab_merge *merge = &vocab->merges[first];
        const char *text = vocab->strings.data + merge->text;
        rc = err_set(err, ERR_INVALID,
                     "tokenizer: %d of %d merges are of texts that are no tokens, merge %d of "
                     "'%.*s' and '%.*s' the first: the merges belong to another vocabulary",
                     useless, vocab->n_merges, first, (int)(merge->left_len & 63), text,
                     (int)(merge->right_len & 63), text + merge->left_len);
    }
    buf_release(&room);
    return rc;
}
