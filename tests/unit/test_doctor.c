/* What the engine's figures are said to mean. */
#include <string.h>

#include "engine/engine.h"
#include "tests/unit/unit.h"

struct said {
    int n;
    char text[16][512];
};

static void hear(void *arg, const char *sentence)
{
    struct said *said = arg;
    assert_true(said->n < 16);
    snprintf(said->text[said->n++], sizeof said->text[0], "%s", sentence);
}

static struct said advice(int heads, const struct engine_stats *stats)
{
    const struct engine_info info = {.n_predict = heads + 1};
    struct said said = {0};
    engine_advise(&info, stats, hear, &said);
    return said;
}

static bool says(const struct said *said, const char *words)
{
    for (int i = 0; i < said->n; i++)
        if (strstr(said->text[i], words))
            return true;
    return false;
}

static void set_costs(struct engine_stats *stats, double first, double more)
{
    for (int i = 0; i < ENGINE_COSTS_MAX; i++)
        stats->draft_costs[i] = first + more * i;
}

static void nothing_is_made_up(void **state)
{
    const struct engine_stats none = {0};
    struct engine_stats costs = {0};
    (void)state;
    assert_int_equal(advice(3, &none).n, 0);
    set_costs(&costs, 1.25, 0.25);
    struct said said = advice(4, &costs);
    assert_int_equal(said.n, 4); /* of 1, 3, 5 and 7 drafts */
    assert_true(says(&said, "A step with 1 draft takes 1.25 times a plain one: it pays where"));
    assert_true(says(&said, "A step with 3 drafts takes 1.75 times"));
    costs.heads[0].tried = 49; /* too few */
    assert_int_equal(advice(4, &costs).n, 4);
}

static void what_pays(void **state)
{
    struct engine_stats stats = {0};
    (void)state;
    set_costs(&stats, 1.1, 0.2);
    for (int i = 0; i < 3; i++)
        stats.heads[i].tried = 100;
    stats.heads[0].accepted = 80;
    stats.heads[1].accepted = 50;
    stats.heads[2].accepted = 25;
    struct said said = advice(3, &stats);
    assert_true(says(&said, "are right 0.80, 0.50, 0.25 of the time"));
    assert_true(says(&said, "A step with 1 draft takes 1.10 times a plain one and brings 1.80"));
    assert_true(says(&said, "A step with 3 drafts takes 1.50 times a plain one and brings 2.30"));
    /* 1.8 / 1.1, 2.2 / 1.3, 2.3 / 1.5 */
    assert_true(says(&said, "Of chains 2 drafts are the fastest, 1.69 times plain"));
    assert_false(says(&said, "dead"));
    assert_false(says(&said, "not pay"));
}

static void what_does_not(void **state)
{
    struct engine_stats stats = {0};
    (void)state;
    set_costs(&stats, 2, 1);
    stats.heads[0].tried = stats.heads[1].tried = 100;
    stats.heads[0].accepted = 60;
    stats.heads[1].accepted = 4;
    struct said said = advice(2, &stats);
    assert_true(says(&said, "Head 2 is dead"));
    assert_true(says(&said, "Drafts of heads do not pay here"));
    assert_false(says(&said, "fastest"));
    stats.heads[1].tried = 0; /* what longer chains bring is not known */
    said = advice(2, &stats);
    assert_false(says(&said, "not pay"));
}

static void without_heads(void **state)
{
    struct engine_stats stats = {0};
    (void)state;
    set_costs(&stats, 1.1, 0.2);
    stats.lookup_tried = 200;
    stats.lookup_accepted = 90;
    struct said said = advice(0, &stats);
    assert_true(says(&said, "Look-up in the text so far is right 0.45 of the time."));
    assert_true(says(&said, "headway-train make heads for it"));
    assert_false(says(&said, "The heads"));
}

static void the_longest_speech_is_whole(void **state)
{
    struct engine_stats stats = {0};
    (void)state;
    set_costs(&stats, 1, 1e9);
    for (int i = 0; i < ENGINE_DRAFTS_MAX; i++)
        stats.heads[i].tried = stats.heads[i].accepted = 1000;
    struct said said = advice(ENGINE_DRAFTS_MAX, &stats);
    for (int i = 0; i < said.n; i++)
        assert_int_equal(said.text[i][strlen(said.text[i]) - 1], '.');
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_made_up),
        cmocka_unit_test(what_pays),
        cmocka_unit_test(what_does_not),
        cmocka_unit_test(without_heads),
        cmocka_unit_test(the_longest_speech_is_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
