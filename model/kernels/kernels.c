/* Which kernels run: chosen once at start. */
#include "model/kernels/kernels.h"

#include <string.h>

struct kernels kernels;

struct choice {
    const struct kernels *table;
    int available;
};

int kernels_init(const char *isa, struct err *err)
{
    const struct choice choices[] = {
#if defined(__x86_64__)
        {&kernels_vnni, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512vl") &&
                            __builtin_cpu_supports("avx512dq") &&
                            __builtin_cpu_supports("avx512vnni")},
        {&kernels_avx512, __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                              __builtin_cpu_supports("avx512vl") &&
                              __builtin_cpu_supports("avx512dq")},
        {&kernels_avx2, __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")},
#endif
        {&kernels_generic, 1},
    };
    int automatic = !isa || !strcmp(isa, "auto");
    for (size_t i = 0; i < sizeof choices / sizeof *choices; i++) {
        int named = !automatic && !strcmp(isa, choices[i].table->name);
        if (named && !choices[i].available)
            return err_set(err, ERR_INVALID,
                           "this processor cannot run the %s kernels: choose auto or generic", isa);
        if (named || (automatic && choices[i].available)) {
            kernels = *choices[i].table;
            return 0;
        }
    }
    return err_set(err, ERR_INVALID,
                   "there are no kernels named '%s': use auto, generic, avx2 or avx512", isa);
}
