/* status.h -- the last error's status, for checks. */
#ifndef EVERHEAP_TESTS_SUPPORT_STATUS_H
#define EVERHEAP_TESTS_SUPPORT_STATUS_H

#include <everheap.h>

static inline evh_status last_status(void)
{
    return evh_last_error()->status;
}

#endif
