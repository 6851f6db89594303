/* Log-probabilities against sums in double precision. */
#include "engine/logprobs.h"

#include <math.h>

#include "base/rng.h"
#include "model/kernels/kernels.h"
#include "tests/unit/unit.h"

#define MOST 3000

static void tokens_and_alternatives(void **state)
{
    static float logits[MOST + 16];
    struct err err;
    (void)state;
    assert_ok(kernels_init("auto", &err), err);
    for (int round = 0; round < 300; round++) {
        int vocab = 2 + (int)rng_below(1, 0, (uint64_t)round, MOST - 2);
        int n_top = (int)rng_below(1, 1, (uint64_t)round, ENGINE_TOP_LOGPROBS_MAX + 1);
        int32_t token = (int32_t)rng_below(1, 2, (uint64_t)round, (uint64_t)vocab);
        double sum = 0;
        for (int i = 0; i < vocab; i++) {
            double u = rng_uniform(3, (uint64_t)round, (uint64_t)i);
            logits[i] = (float)(round % 3 ? 12 * u - 4 : floor(9 * u)); /* many equal ones */
            sum += exp(logits[i]);
        }
        struct engine_token t;
        logprobs_describe(logits, vocab, token, n_top, &t);
        assert_int_equal(t.token, token);
        assert_true(fabs(t.logprob - (logits[token] - log(sum))) < 1e-4);
        assert_int_equal(t.n_top, n_top < vocab ? n_top : vocab);
        for (int i = 0; i < t.n_top; i++) {
            int32_t own = t.top[i].token;
            int before = 0; /* tokens that are better, or equal and lower */
            for (int v = 0; v < vocab; v++)
                before += logits[v] > logits[own] || (logits[v] == logits[own] && v < own);
            assert_int_equal(before, i);
            assert_true(fabs(t.top[i].logprob - (logits[own] - log(sum))) < 1e-4);
        }
        logprobs_none(token, &t);
        assert_true(t.token == token && isnan(t.logprob) && t.n_top == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(tokens_and_alternatives)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
