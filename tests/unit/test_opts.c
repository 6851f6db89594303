/* Option tables: what is taken, what is refused and with which words. */
#include "base/opts.h"

#include <stdbool.h>

#include "tests/unit/unit.h"

static const char *name, *mode;
static int count;
static double rate;
static bool loud;

static const struct opt table[] = {
    {"name", OPT_STRING, &name, 0, 0, NULL, "a name"},
    {"count", OPT_INT, &count, 1, 100, NULL, "a number"},
    {"rate", OPT_REAL, &rate, -1, 1, NULL, "a rate"},
    {"mode", OPT_CHOICE, &mode, 0, 0, "fast|slow", "how"},
    {"loud", OPT_FLAG, &loud, 0, 0, NULL, "say more"},
    {0},
};

static const char *words[2];
static int n_words;

/* Parses a line of words separated by blanks; "~" stands for the empty word. */
static int parse(const char *line, struct err *err)
{
    static char copy[256];
    char *argv[32] = {"program"};
    int argc = 1;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " "))
        argv[argc++] = strcmp(word, "~") ? word : "";
    name = NULL;
    mode = "fast";
    count = 5;
    rate = 0.5;
    loud = false;
    n_words = 0;
    return opts_parse(table, "about", argc, argv, words, 2, &n_words, err);
}

static void takes_values(void **state)
{
    (void)state;
    struct err err;
    assert_ok(parse("", &err), err);
    assert_int_equal(count, 5);
    assert_ok(parse("--name a in --count=7 --rate -0.25 out --mode slow --loud", &err), err);
    assert_string_equal(name, "a");
    assert_int_equal(count, 7);
    assert_true(rate == -0.25);
    assert_string_equal(mode, "slow");
    assert_true(loud);
    assert_int_equal(n_words, 2);
    assert_string_equal(words[0], "in");
    assert_string_equal(words[1], "out");
    assert_ok(parse("--name=--count --count 1e2", &err), err);
    assert_string_equal(name, "--count");
    assert_int_equal(count, 100);
    assert_ok(parse("--name=a=b", &err), err);
    assert_string_equal(name, "a=b");
}

static void refuses(void **state)
{
    (void)state;
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"--unknown 1", "--unknown"},
        {"--coun 1", "--coun"},
        {"-c 1", "-c"},
        {"--", "--"},
        {"--=1", "--=1"},
        {"one two three", "three"},
        {"--count", "--count needs a value"},
        {"--count 0", "between 1 and 100"},
        {"--count 101", "--count is 101"},
        {"--count 1.5", "whole number"},
        {"--count 7x", "'7x'"},
        {"--count ~", "whole number"},
        {"--count nan", "whole number"},
        {"--count 1e99", "between"},
        {"--count 1e999", "whole number"},
        {"--rate inf", "takes a number"},
        {"--rate 1.01", "between -1 and 1"},
        {"--mode quick", "fast|slow"},
        {"--mode fast|slow", "fast|slow"},
        {"--mode ~", "fast|slow"},
        {"--loud=1", "takes no value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct err err = {""};
        if (parse(cases[i].line, &err) != ERR_INVALID)
            fail_msg("'%s' is not refused", cases[i].line);
        assert_says(err, cases[i].says);
    }
}

static void help_and_version_end_it(void **state)
{
    (void)state;
    struct err err;
    assert_int_equal(parse("--help", &err), 1);
    assert_int_equal(parse("--count 7 -h", &err), 1);
    assert_int_equal(parse("--version", &err), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_values),
        cmocka_unit_test(refuses),
        cmocka_unit_test(help_and_version_end_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
