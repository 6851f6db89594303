/* Which kernels run: chosen once at start. */
#include "model/kernels/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#include <stdbool.h>
#include <string.h>

#include "model/kernels/quant_amx.h"

struct kernels kernels;

static bool always(void)
{
    return true;
}

#if defined(__x86_64__)
static bool has_avx2(void)
{
    unsigned eax = 1, ebx, ecx = 0, edx;
    __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
    bool f16c = ecx >> 29 & 1; /* clang 14 does not know it by name */
    return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static bool has_avxvnni(void)
{
    unsigned eax, ebx, ecx, edx;
    return has_avx2() && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1);
}

static bool has_avx512(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && has_avx2();
}

static bool has_vnni(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

static bool has_amx(void)
{
    return has_vnni() && amx_int8_available();
}
#endif

/* Best first. */
static const struct choice {
    const char *name;
    const struct kernels *table;
    bool (*available)(void);
    void (*extend)(struct kernels *table);
} choices[] = {
#if defined(__x86_64__)
    {"amx", &kernels_vnni, has_amx, amx_int8_take},
    {"vnni", &kernels_vnni, has_vnni, NULL},
    {"avx512", &kernels_avx512, has_avx512, NULL},
    {"avxvnni", &kernels_avxvnni, has_avxvnni, NULL},
    {"avx2", &kernels_avx2, has_avx2, NULL},
#endif
    {"generic", &kernels_generic, always, NULL},
};

int kernels_init(const char *isa, struct err *err)
{
    bool automatic = !isa || !strcmp(isa, "auto");
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        const struct choice *c = &choices[i];
        bool named = !automatic && !strcmp(isa, c->name);
        if (!named && !automatic)
            continue;
        if (!c->available()) {
            if (automatic)
                continue;
            return err_set(err, ERR_INVALID,
                           "this processor cannot run the %s kernels: choose auto or generic", isa);
        }
        kernels = *c->table;
        if (c->extend)
            c->extend(&kernels);
        return 0;
    }
    return err_set(err, ERR_INVALID,
                   "there are no kernels named '%s': use one of auto|" KERNELS_CHOICES, isa);
}
