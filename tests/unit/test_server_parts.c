/* The server's small parts: header hygiene, API keys, UTF-8 in pieces, JSON strings, metrics. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/headers.h"
#include "server/json_text.h"
#include "server/keys.h"
#include "server/metrics.h"
#include "server/route.h"
#include "server/utf8.h"

/* Reads "Name: value" lines, the names up to the first colon. */
static struct headers read_headers(const char *const *lines, const char *version)
{
    static char names[8][64];
    struct headers headers = {0};
    for (int i = 0; lines[i]; i++) {
        const char *colon = strchr(lines[i], ':');
        snprintf(names[i], sizeof names[i], "%.*s", (int)(colon - lines[i]), lines[i]);
        headers_add(&headers, names[i], strlen(names[i]), colon + 1, strlen(colon + 1));
    }
    headers_end(&headers, version);
    return headers;
}

static void test_headers(void **state)
{
    static const struct {
        const char *lines[4];
        bool good;
    } table[] = {
        {{"Host:a", "Content-Length:12", "X-Y:z"}, true},
        {{"host:a", "transfer-encoding:CHUNKED"}, true},
        {{"Content-Length:1", "content-length:1"}, false},
        {{"Content-Length:1", "Transfer-Encoding:chunked"}, false},
        {{"Transfer-Encoding:chunked", "Transfer-Encoding:chunked"}, false},
        {{"Transfer-Encoding:xchunked"}, false},
        {{"Transfer-Encoding:chunked, gzip"}, false},
        {{"Transfer-Encoding:"}, false},
        {{"Content-Length :1"}, false},
        {{"Content-Length5:1"}, false},
        {{"Content-Length:-1"}, false},
        {{"Content-Length:1 "}, false},
        {{"Content-Length:9999999999999999999"}, false},
        {{"Host:a", "Host:b"}, false},
        {{":empty"}, false},
        {{"X Y:z"}, false},
        {{"X-Y:a\rb"}, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct headers headers = read_headers(table[i].lines, "HTTP/1.1");
        if (!headers.fault != table[i].good)
            fail_msg("%s: %s", table[i].lines[0], headers.fault ? headers.fault : "accepted");
    }
    struct headers length = read_headers((const char *[]){"Content-Length:0012", NULL}, "HTTP/1.1");
    assert_int_equal(length.length, 12);
    const char *old[] = {"Transfer-Encoding:chunked", NULL};
    assert_non_null(read_headers(old, "HTTP/1.0").fault);
}

static void test_keys(void **state)
{
    char path[] = "/tmp/headway-keys-XXXXXX";
    static struct keys keys, none;
    struct err err;
    (void)state;
    int fd = mkstemp(path);
    dprintf(fd, "# comment\nalpha\r\n\nbeta");
    close(fd);
    assert_int_equal(keys_read(&keys, NULL, path, &err), 0);
    unlink(path);
    assert_int_equal(keys.n, 2);
    assert_true(keys_allow(&keys, "Bearer alpha", NULL));
    assert_true(keys_allow(&keys, "bearer beta", NULL));
    assert_false(keys_allow(&keys, "Bearer alph", NULL));
    assert_false(keys_allow(&keys, "Bearer alphaa", NULL));
    assert_false(keys_allow(&keys, "Bearer ", NULL));
    assert_false(keys_allow(&keys, "alpha", NULL));
    assert_false(keys_allow(&keys, NULL, NULL));
    assert_true(keys_allow(&none, NULL, NULL));
    assert_true(keys_allow(&keys, NULL, "alpha"));
    assert_false(keys_allow(&keys, NULL, "alph"));
    assert_false(keys_allow(&keys, NULL, ""));
    assert_false(keys_allow(&keys, "Bearer alph", "alpha"));
    assert_int_equal(keys_read(&keys, NULL, "/nowhere", &err), ERR_IO);
}

/* The pieces' size must not matter. */
static void assert_repaired(const char *bytes, size_t len, const char *expected, size_t characters)
{
    for (size_t piece = 1; piece <= len; piece++) {
        struct utf8 utf8 = {0};
        struct buf out = {0};
        for (size_t i = 0; i < len; i += piece)
            utf8_add(&utf8, bytes + i, len - i < piece ? len - i : piece, &out);
        utf8_end(&utf8, &out);
        assert_string_equal(out.data, expected);
        assert_int_equal(utf8.characters, characters);
        buf_release(&out);
    }
}

#define LOST "\xEF\xBF\xBD"

static void test_utf8(void **state)
{
    (void)state;
    assert_repaired("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 10,
                    "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 4);
    assert_repaired("\x80", 1, LOST, 1);
    assert_repaired("\xC0\xAF", 2, LOST LOST, 2);
    assert_repaired("\xE2\x82", 2, LOST, 1);
    assert_repaired("\xE2\x82"
                    "a",
                    3, LOST "a", 2);
    assert_repaired("\xED\xA0\x80", 3, LOST LOST LOST, 3); /* a surrogate */
    assert_repaired("\xF4\x90\x80\x80", 4, LOST LOST LOST LOST, 4);
    /* The example of Unicode 15, table 3-8. */
    assert_repaired("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", 9, LOST LOST LOST LOST "A", 5);
}

static void test_json_text(void **state)
{
    struct buf out = {0};
    (void)state;
    json_write(&out, "q\"\\\n\0z", 6);
    assert_string_equal(out.data, "\"q\\\"\\\\\\n\\u0000z\"");
    out.len = 0;
    assert_false(json_write_strict(&out, "\xC3", 1));
    assert_int_equal(out.len, 0);
    json_write(&out, "a\xC3", 2);
    assert_string_equal(out.data, "\"a" LOST "\"");
    buf_release(&out);
}

static const struct capture capture;
static const struct audits audits;

static void test_histogram(void **state)
{
    struct metrics metrics = {0};
    struct engine_info info = {.n_predict = 4};
    struct engine_stats stats = {.running = 3};
    struct buf out = {0};
    (void)state;
    histogram_add(&metrics.inter_token, 0.0015, 4);
    histogram_add(&metrics.inter_token, 1e6, 1);
    metrics_count_response(&metrics, ROUTE_HEALTH, 200);
    metrics_write(&metrics, &info, &stats, &capture, &audits, &out);
    assert_non_null(strstr(out.data, "inter_token_latency_seconds_bucket{le=\"0.001\"} 0\n"));
    assert_non_null(strstr(out.data, "inter_token_latency_seconds_bucket{le=\"0.002\"} 4\n"));
    assert_non_null(strstr(out.data, "inter_token_latency_seconds_bucket{le=\"300\"} 4\n"));
    assert_non_null(strstr(out.data, "inter_token_latency_seconds_bucket{le=\"+Inf\"} 5\n"));
    assert_non_null(strstr(out.data, "inter_token_latency_seconds_count 5\n"));
    assert_non_null(strstr(out.data, "headway_num_requests_running 3\n"));
    assert_non_null(
        strstr(out.data, "headway_http_responses_total{route=\"/health\",code=\"200\"} 1\n"));
    buf_release(&out);
}

static void assert_line(const struct buf *page, const char *line)
{
    const char *found = strstr(page->data, line);
    if (!found || (found > page->data && found[-1] != '\n') || found[strlen(line)] != '\n')
        fail_msg("no line '%s'", line);
}

static void test_engine_metrics(void **state)
{
    static const char *const lines[] = {
        "# TYPE headway_kv_bytes gauge",
        "headway_kv_bytes 3145728",
        "headway_kv_limit_bytes 1099511627777",
        "headway_kv_cache_usage_perc 0.25",
        "# TYPE headway_sequences_preempted gauge",
        "headway_sequences_preempted 2",
        "# TYPE headway_preemptions_total counter",
        "headway_preemptions_total 7",
        "# TYPE headway_head_tried_total counter",
        "headway_head_tried_total{head=\"1\"} 18446744073709551615",
        "headway_head_tried_total{head=\"2\"} 50",
        "headway_head_tried_total{head=\"3\"} 0",
        "# TYPE headway_head_accepted_total counter",
        "headway_head_accepted_total{head=\"1\"} 60",
        "# TYPE headway_head_dead gauge",
        "headway_head_dead{head=\"1\"} 0",
        "headway_head_dead{head=\"2\"} 1",
        "# TYPE headway_lookup_tried_total counter",
        "headway_lookup_tried_total 11",
        "headway_lookup_accepted_total 5",
        "headway_spec_decode_num_accepted_tokens_per_pos_total{position=\"0\"} 0",
        "headway_spec_decode_num_accepted_tokens_per_pos_total{position=\"30\"} 9",
    };
    static struct metrics metrics;
    static struct engine_stats stats = {.kv_used = 0.25,
                                        .kv_bytes = 3 << 20,
                                        .preempted = 2,
                                        .preemptions = 7,
                                        .heads = {{UINT64_MAX, 60, false}, {50, 0, true}},
                                        .lookup_tried = 11,
                                        .lookup_accepted = 5};
    struct engine_info info = {.n_predict = 4};
    struct buf out = {0};
    (void)state;
    stats.kv_bytes_limit = ((size_t)1 << 40) + 1;
    stats.speculation.accepted_at[ENGINE_DRAFTS_MAX - 1] = 9;
    metrics_write(&metrics, &info, &stats, &capture, &audits, &out);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        assert_line(&out, lines[i]);
    assert_null(strstr(out.data, "{head=\"4\"}"));
    buf_release(&out);
}

/* One head makes no drafts, 32 make as many as there can be. */
static void test_metrics_of_few_and_many_heads(void **state)
{
    static struct metrics metrics;
    static struct engine_stats stats;
    (void)state;
    for (int heads = 1; heads <= ENGINE_DRAFTS_MAX + 1; heads += ENGINE_DRAFTS_MAX) {
        struct engine_info info = {.n_predict = heads};
        struct buf out = {0};
        metrics_write(&metrics, &info, &stats, &capture, &audits, &out);
        assert_int_equal(!strstr(out.data, "headway_head_dead{head=\"31\"} 0\n"), heads == 1);
        assert_int_equal(!strstr(out.data, "{head=\"1\"}"), heads == 1);
        assert_null(strstr(out.data, "{head=\"32\"}"));
        buf_release(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_json_text),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_engine_metrics),
        cmocka_unit_test(test_metrics_of_few_and_many_heads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
