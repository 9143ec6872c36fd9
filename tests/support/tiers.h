/* tiers.h -- what each way to find dirty pages needs of the system: for tests that skip it. */
#ifndef EVERHEAP_TESTS_SUPPORT_TIERS_H
#define EVERHEAP_TESTS_SUPPORT_TIERS_H

#include <everheap.h>

/** Why the tier does not work here, as far as the system is concerned. Static. */
static inline const char *tier_lacks(evh_detect tier)
{
    switch (tier) {
    case EVH_DETECT_WATCH: return "no PAGEMAP_SCAN, or no userfaultfd that protects asynchronously";
    case EVH_DETECT_SCAN: return "no PAGEMAP_SCAN";
    case EVH_DETECT_PAGEMAP: return "no /proc/self/pagemap that shows this process's pages";
    case EVH_DETECT_PROTECT: return "no signal for a store into protected pages";
    default: return "no such tier";
    }
}

#endif
