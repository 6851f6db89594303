/* Option tables: what is taken, what is refused and with which words. */
#include "base/opts.h"

#include <stdbool.h>
#include <stdlib.h>

#include "tests/unit/unit.h"

static const char *name, *mode;
static int count;
static double rate;
static bool loud;

static const struct opt table[] = {
    {"name", OPT_STRING, &name, 0, 0, NULL, "a name"},
    {"n", OPT_STRING, &name, 0, 0, NULL, "the same"},
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
    assert_ok(parse("-n b", &err), err);
    assert_string_equal(name, "b");
    assert_int_equal(parse("--n b", &err), ERR_INVALID);
    assert_int_equal(parse("-name b", &err), ERR_INVALID);
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

static int settings(const char *text, struct err *err)
{
    struct folder folder;
    folder_make(&folder);
    FILE *file = fopen(folder_file(&folder, "settings"), "w");
    fputs(text, file);
    fclose(file);
    count = 5;
    loud = false;
    int rc = opts_settings(table, folder.file, err);
    folder_remove(&folder);
    return rc;
}

static void files_and_the_environment(void **state)
{
    struct err err;
    (void)state;
    assert_ok(settings("# ours\n\n count = 7\nname=  a b = c \r\n loud = true\nmode = slow", &err),
              err);
    assert_int_equal(count, 7);
    assert_string_equal(name, "a b = c");
    assert_string_equal(mode, "slow");
    assert_true(loud);
    setenv("HEADWAY_COUNT", "9", 1);
    setenv("HEADWAY_LOUD", "false", 1);
    setenv("HEADWAY_MODE", "", 1);
    assert_ok(settings("count = 7\nloud = true\nmode = slow", &err), err);
    assert_int_equal(count, 9);
    assert_false(loud);
    assert_string_equal(mode, "slow");
    char *words_of[] = {"program", "--name", "x", "--early=y", NULL};
    assert_string_equal(opts_early("early", 4, words_of), "y");
    assert_string_equal(opts_early("name", 4, words_of), "x");
    assert_string_equal(opts_early("count", 4, words_of), "9");
    assert_null(opts_early("nam", 4, words_of));
    setenv("HEADWAY_COUNT", "many", 1);
    assert_int_equal(settings("", &err), ERR_INVALID);
    assert_non_null(strstr(err.text, "HEADWAY_COUNT"));
    unsetenv("HEADWAY_COUNT");
    static const char *const wrong[][2] = {{"count", "line 1"},
                                           {"x = 1", "'x' is not an option"},
                                           {"\ncount = 1000", "line 2"},
                                           {"mode = odd", "must be one of fast|slow"},
                                           {"loud = 1", "true or false"}};
    unsetenv("HEADWAY_LOUD");
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(settings(wrong[i][0], &err), ERR_INVALID);
        if (!strstr(err.text, wrong[i][1]))
            fail_msg("%s: %s", wrong[i][0], err.text);
    }
    assert_int_equal(opts_settings(table, "/nowhere/at/all", &err), ERR_IO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_and_the_environment),
        cmocka_unit_test(takes_values),
        cmocka_unit_test(refuses),
        cmocka_unit_test(help_and_version_end_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
