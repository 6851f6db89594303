/* The sampler against plain references: which tokens a setting leaves, how often each is drawn,
 * what penalties and biases do, and that no logits make it crash or choose what is banned. */
#include "engine/sampler.h"

#include <float.h>
#include <math.h>

#include "base/rng.h"
#include "tests/unit/unit.h"

#define VOCAB_MAX 64
#define PROMPT_MAX 8

struct dice {
    uint64_t seed, n;
};

static uint64_t roll(struct dice *d, uint64_t sides)
{
    return rng_below(d->seed, 11, d->n++, sides);
}

static float uniform(struct dice *d, double low, double high)
{
    return (float)(low + (high - low) * rng_uniform(d->seed, 11, d->n++));
}

static struct engine_request neutral(void)
{
    return (struct engine_request){
        .temperature = 1, .top_p = 1, .repetition_penalty = 1, .max_tokens = 1};
}

/* A sampler with the memory it borrows. */
struct setup {
    struct sampler sampler;
    int32_t generated[VOCAB_MAX];
    uint8_t seen[VOCAB_MAX];
    struct candidate scratch[VOCAB_MAX];
};

static void setup_init(struct setup *s, const struct engine_request *request, int vocab)
{
    /* rubbish, which sampler_init must clear where it matters */
    memset(s, 0x5a, sizeof *s);
    sampler_init(&s->sampler, request, vocab, s->generated, s->seen);
}

static int32_t choose(struct setup *s, const float *logits, int vocab, int position, int32_t banned)
{
    return sampler_choose(&s->sampler, logits, vocab, position, banned, s->scratch);
}

/* ---- greedy ---- */

static void greedy_takes_the_first_of_the_best(void **state)
{
    (void)state;
    struct setup s;
    struct engine_request request = neutral();
    struct dice d = {1, 0};
    request.temperature = 0;
    setup_init(&s, &request, VOCAB_MAX);
    for (int round = 0; round < 2000; round++) {
        float logits[VOCAB_MAX];
        int vocab = 2 + (int)roll(&d, VOCAB_MAX - 1), best = -1;
        int32_t banned = roll(&d, 2) ? (int32_t)roll(&d, (uint64_t)vocab) : -1;
        for (int t = 0; t < vocab; t++) /* few values: ties everywhere */
            logits[t] = (float)roll(&d, 4) - 2;
        for (int t = 0; t < vocab; t++)
            if (t != banned && (best < 0 || logits[t] > logits[best]))
                best = t;
        assert_int_equal(choose(&s, logits, vocab, round, banned), best);
    }
}

/* ---- the distribution ---- */

/* The plain way: probabilities of all tokens after temperature and cuts, 0 for those cut. */
static void reference(const struct engine_request *r, const float *logits, int vocab,
                      int32_t banned, double *p)
{
    int order[VOCAB_MAX], n = 0;
    for (int t = 0; t < vocab; t++) {
        p[t] = 0;
        if (t == banned)
            continue;
        int at = n++;
        for (; at > 0 && logits[t] > logits[order[at - 1]]; at--)
            order[at] = order[at - 1];
        order[at] = t;
    }
    double top = logits[order[0]], sum = 0, reached = 0;
    for (int i = 0; i < n; i++) {
        double x = exp((logits[order[i]] - top) / r->temperature);
        bool kept = (!r->top_k || i < r->top_k) && x >= (double)r->min_p;
        p[order[i]] = kept ? x : 0;
        sum += p[order[i]];
    }
    for (int i = 0; i < n; i++) {
        bool kept = i == 0 || reached < (double)r->top_p * sum;
        reached += p[order[i]];
        if (!kept)
            p[order[i]] = 0;
    }
    sum = 0;
    for (int t = 0; t < vocab; t++)
        sum += p[t];
    for (int t = 0; t < vocab; t++)
        p[t] /= sum;
}

/* Draws at many positions; the sum of (seen - expected)^2 / expected must be what chance gives: its
 * mean is the number of tokens less one, its deviation the root of twice that. */
static void check_draws(struct setup *s, const float *logits, int vocab, int32_t banned,
                        const double *p, int draws)
{
    int counts[VOCAB_MAX] = {0}, kinds = 0;
    double chi = 0, rare = 0, rare_seen = 0;
    for (int i = 0; i < draws; i++) {
        int32_t token = choose(s, logits, vocab, i, banned);
        assert_in_range(token, 0, vocab - 1);
        counts[token]++;
    }
    for (int t = 0; t < vocab; t++) {
        double expected = p[t] * draws;
        if (p[t] == 0) {
            if (counts[t])
                fail_msg("token %d was drawn %d times, but is cut", t, counts[t]);
        } else if (expected < 10) {
            rare += expected;
            rare_seen += counts[t];
        } else {
            chi += (counts[t] - expected) * (counts[t] - expected) / expected;
            kinds++;
        }
    }
    if (chi > kinds + 6 * sqrt(2.0 * kinds) + 6)
        fail_msg("chi-square %g over %d tokens", chi, kinds);
    if (fabs(rare_seen - rare) > 6 * sqrt(rare) + 6)
        fail_msg("%g draws of rare tokens instead of %g", rare_seen, rare);
}

static void draws_follow_the_softmax(void **state)
{
    (void)state;
    static const float temperatures[] = {0.05f, 0.5f, 1, 1.7f, 10, 100};
    struct dice d = {2, 0};
    for (size_t i = 0; i < sizeof temperatures / sizeof *temperatures; i++)
        for (int shift = 0; shift < 3; shift++) {
            struct setup s;
            struct engine_request request = neutral();
            float logits[24];
            double p[24];
            request.temperature = temperatures[i];
            request.seed = roll(&d, 1u << 30);
            setup_init(&s, &request, 24);
            for (int t = 0; t < 24; t++)
                logits[t] =
                    uniform(&d, -3, 3) * fminf(request.temperature, 2) + (float)(shift - 1) * 300;
            reference(&request, logits, 24, -1, p);
            check_draws(&s, logits, 24, -1, p, 20000);
        }
}

/* True when a cut falls so close to a token that rounding may decide. */
static bool on_the_edge(const struct engine_request *r, const float *logits, int vocab,
                        int32_t banned)
{
    double a[VOCAB_MAX], b[VOCAB_MAX];
    struct engine_request less = *r, more = *r;
    less.top_p -= 1e-4f;
    less.min_p -= 1e-4f;
    more.top_p += 1e-4f;
    more.min_p += 1e-4f;
    if (r->top_p == 1)
        less.top_p = 1;
    if (r->min_p == 0)
        more.min_p = 0;
    reference(&less, logits, vocab, banned, a);
    reference(&more, logits, vocab, banned, b);
    for (int t = 0; t < vocab; t++)
        if ((a[t] > 0) != (b[t] > 0))
            return true;
    return false;
}

static void cuts_leave_what_they_should(void **state)
{
    (void)state;
    struct dice d = {3, 0};
    int checked = 0, cut = 0;
    for (int round = 0; round < 400; round++) {
        struct setup s;
        struct engine_request request = neutral();
        float logits[12];
        double p[12];
        int vocab = 2 + (int)roll(&d, 11), left = 0;
        int32_t banned = roll(&d, 4) ? -1 : (int32_t)roll(&d, (uint64_t)vocab);
        request.temperature = uniform(&d, 0.3, 2);
        request.top_k = roll(&d, 2) ? (int)roll(&d, 14) : 0;
        request.top_p = roll(&d, 2) ? uniform(&d, 0, 1) : 1;
        request.min_p = roll(&d, 2) ? uniform(&d, 0, 0.6) : 0;
        request.seed = roll(&d, 1u << 30);
        for (int t = 0; t < vocab; t++)
            logits[t] = roll(&d, 4) ? uniform(&d, -2, 2) : 1; /* some ties */
        if (on_the_edge(&request, logits, vocab, banned))
            continue;
        setup_init(&s, &request, vocab);
        reference(&request, logits, vocab, banned, p);
        check_draws(&s, logits, vocab, banned, p, 3000);
        for (int t = 0; t < vocab; t++)
            left += p[t] > 0;
        checked++;
        cut += left < vocab;
    }
    assert_true(checked > 300 && cut > 200);
}

static void extreme_cuts_leave_the_best(void **state)
{
    (void)state;
    const float logits[4] = {1, 3, 3, -5};
    for (int which = 0; which < 4; which++) {
        struct setup s;
        struct engine_request request = neutral();
        request.top_k = which == 0 ? 1 : 0;
        request.top_p = which == 1 ? 0 : 1;
        request.min_p = which == 2 ? 1 : 0;
        request.temperature = which == 3 ? 1e-38f : 1;
        setup_init(&s, &request, 4);
        int counts[4] = {0};
        for (int i = 0; i < 200; i++)
            counts[choose(&s, logits, 4, i, -1)]++;
        /* min_p and temperature treat equals as equals, the others take the first */
        assert_int_equal(counts[0] + counts[3], 0);
        assert_true(which < 2 ? counts[1] == 200 : counts[1] > 60 && counts[2] > 60);
    }
}

static void draws_depend_on_seed_and_position_alone(void **state)
{
    (void)state;
    struct setup a, b, c;
    struct engine_request request = neutral();
    float logits[VOCAB_MAX];
    struct dice d = {4, 0};
    int same_seed = 0, same_position = 0;
    for (int t = 0; t < VOCAB_MAX; t++)
        logits[t] = uniform(&d, -1, 1);
    request.seed = 77;
    setup_init(&a, &request, VOCAB_MAX);
    setup_init(&b, &request, VOCAB_MAX);
    request.seed = 78;
    setup_init(&c, &request, VOCAB_MAX);
    for (int i = 999; i >= 0; i--) { /* b sees the positions backwards */
        int32_t first = choose(&a, logits, VOCAB_MAX, 999 - i, -1);
        choose(&b, logits, VOCAB_MAX, i, -1);
        assert_int_equal(first, choose(&b, logits, VOCAB_MAX, 999 - i, -1));
        same_seed += first == choose(&c, logits, VOCAB_MAX, 999 - i, -1);
        same_position += first == choose(&a, logits, VOCAB_MAX, 1000 - i, -1);
    }
    assert_in_range(same_seed, 0, 80); /* one in 50 or so by chance */
    assert_in_range(same_position, 0, 80);
}

/* ---- penalties and biases ---- */

/* Score of a token from the request and the list of what was generated. */
static double penalised(const struct engine_request *r, const int32_t *generated, int n,
                        const float *logits, int32_t token)
{
    double x = logits[token], bias = 0;
    int count = 0;
    bool known = false;
    for (int i = 0; i < n; i++)
        count += generated[i] == token;
    for (size_t i = 0; i < r->n_tokens; i++)
        known |= r->tokens[i] == token;
    if (known || count)
        x = x > 0 ? x / r->repetition_penalty : x * r->repetition_penalty;
    for (int i = 0; i < r->n_biases; i++)
        bias += r->biases[i].token == token ? r->biases[i].bias : 0;
    return x - r->frequency_penalty * count - (count ? r->presence_penalty : 0) + bias;
}

static void random_request(struct dice *d, struct engine_request *r, int vocab, int32_t *prompt,
                           struct engine_bias *biases)
{
    *r = neutral();
    r->temperature = 0;
    r->tokens = prompt;
    r->n_tokens = 1 + roll(d, PROMPT_MAX);
    r->biases = biases;
    r->n_biases = (int)roll(d, 5);
    r->frequency_penalty = roll(d, 2) ? uniform(d, -2, 2) : 0;
    r->presence_penalty = roll(d, 2) ? uniform(d, -2, 2) : 0;
    r->repetition_penalty = roll(d, 2) ? uniform(d, 0.5, 2) : 1;
    for (size_t i = 0; i < r->n_tokens; i++)
        prompt[i] = (int32_t)roll(d, (uint64_t)vocab);
    for (int i = 0; i < r->n_biases; i++)
        biases[i] = (struct engine_bias){(int32_t)roll(d, (uint64_t)vocab), uniform(d, -3, 3)};
}

static void penalties_and_biases(void **state)
{
    (void)state;
    struct dice d = {5, 0};
    int differ = 0;
    for (int round = 0; round < 500; round++) {
        struct setup s;
        struct engine_request request;
        struct engine_bias biases[4];
        int32_t prompt[PROMPT_MAX], generated[20];
        int vocab = 4 + (int)roll(&d, 20);
        random_request(&d, &request, vocab, prompt, biases);
        setup_init(&s, &request, vocab);
        for (int n = 0; n < 20; n++) {
            float logits[VOCAB_MAX];
            int best = 0, plain = 0;
            double second = -INFINITY, x;
            for (int t = 0; t < vocab; t++)
                logits[t] = uniform(&d, -3, 3);
            for (int t = 1; t < vocab; t++) {
                plain = logits[t] > logits[plain] ? t : plain;
                x = penalised(&request, generated, n, logits, t);
                best = x > penalised(&request, generated, n, logits, best) ? t : best;
            }
            for (int t = 0; t < vocab; t++)
                if (t != best && (x = penalised(&request, generated, n, logits, t)) > second)
                    second = x;
            int32_t token = choose(&s, logits, vocab, n, -1);
            if (penalised(&request, generated, n, logits, best) - second > 1e-4)
                assert_int_equal(token, best);
            differ += best != plain;
            generated[n] = token;
            sampler_commit(&s.sampler, token);
        }
    }
    assert_true(differ > 2000); /* they did something */
}

/* ---- logits that no model should give ---- */

static float strange(struct dice *d)
{
    static const float values[] = {NAN,    INFINITY, -INFINITY, FLT_MAX, -FLT_MAX, FLT_MIN,
                                   1e-45f, -1e-45f,  0,         -0.0f,   88,       -104};
    uint64_t n = sizeof values / sizeof *values, i = roll(d, 2 * n);
    return i < n ? values[i] : uniform(d, -10, 10);
}

static void strange_logits_do_no_harm(void **state)
{
    (void)state;
    static const float temperatures[] = {0, 1e-45f, 1e-38f, 1e-6f, 0.7f, 1, 100};
    struct dice d = {6, 0};
    for (int round = 0; round < 50000; round++) {
        struct setup s;
        struct engine_request request;
        struct engine_bias biases[4];
        int32_t prompt[PROMPT_MAX], banned = -1;
        float logits[VOCAB_MAX], one = strange(&d);
        int vocab = 2 + (int)roll(&d, 8), numbers = 0;
        bool same = roll(&d, 8) == 0;
        random_request(&d, &request, vocab, prompt, biases);
        request.temperature = temperatures[roll(&d, sizeof temperatures / sizeof *temperatures)];
        request.top_k = (int)roll(&d, 4);
        request.top_p = roll(&d, 2) ? uniform(&d, 0, 1) : (float)roll(&d, 2);
        request.min_p = roll(&d, 2) ? uniform(&d, 0, 1) : (float)roll(&d, 2);
        if (roll(&d, 2))
            banned = (int32_t)roll(&d, (uint64_t)vocab);
        setup_init(&s, &request, vocab);
        for (int t = 0; t < vocab; t++) {
            logits[t] = same ? one : strange(&d);
            numbers += t != banned && logits[t] > -200; /* no penalty makes it infinite */
        }
        int32_t token = choose(&s, logits, vocab, round, banned);
        assert_in_range(token, 0, vocab - 1);
        assert_int_not_equal(token, banned);
        if (numbers && (isnan(logits[token]) || logits[token] == -INFINITY))
            fail_msg("round %d chose token %d with logit %g", round, token, (double)logits[token]);
        sampler_commit(&s.sampler, token);
    }
}

/* Where all else is impossible, what is likely must still win. */
static void huge_logits_keep_their_order(void **state)
{
    (void)state;
    static const float rows[][4] = {{1e38f, 2e38f, 3e38f, -3e38f},
                                    {-3e38f, -INFINITY, -1e38f, -2e38f},
                                    {1, NAN, 500, 400},
                                    {-FLT_MAX, FLT_MAX, INFINITY, NAN}};
    static const float temperatures[] = {0, 1e-45f, 1e-30f, 1, 2};
    for (size_t row = 0; row < 4; row++)
        for (size_t i = 0; i < sizeof temperatures / sizeof *temperatures; i++) {
            struct setup s;
            struct engine_request request = neutral();
            request.temperature = temperatures[i];
            setup_init(&s, &request, 4);
            for (int position = 0; position < 20; position++)
                assert_int_equal(choose(&s, rows[row], 4, position, -1), 2);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_first_of_the_best),
        cmocka_unit_test(draws_follow_the_softmax),
        cmocka_unit_test(cuts_leave_what_they_should),
        cmocka_unit_test(extreme_cuts_leave_the_best),
        cmocka_unit_test(draws_depend_on_seed_and_position_alone),
        cmocka_unit_test(penalties_and_biases),
        cmocka_unit_test(strange_logits_do_no_harm),
        cmocka_unit_test(huge_logits_keep_their_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
