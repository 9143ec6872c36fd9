/* fault.h -- what guard pages belong to, for the message before a fault ends the process. */
#ifndef EVERHEAP_HEAP_FAULT_H
#define EVERHEAP_HEAP_FAULT_H

#include "os/os.h"

enum { FAULT_NAME_SIZE = 32 };

/* A line that grows in a signal handler. */
struct fault_text {
    char *text;
    size_t length, size;
};

struct fault_range;
/** Put what a fault at `address` means into `out`; false: it is none of theirs. Runs in a signal
 *  handler: no memory, no waiting for a lock. */
typedef bool fault_describe(const struct fault_range *range, uintptr_t address,
                            struct fault_text *out);

struct fault_range {
    uintptr_t start, end;     /* everything, guards included */
    uintptr_t stride;         /* from one guard to the next; 0: one at each end */
    uintptr_t guard_bytes;    /* of each guard; 0: `describe` knows which */
    const char *kind;         /* a static text: "arena" */
    fault_describe *describe; /* NULL: kind, name, and the distance from the edge */
    const void *owner;        /* its */
    char name[FAULT_NAME_SIZE];
};

/** Make a range known to the handler of faults. 0: the table is full, and a fault says nothing. */
EVH_INTERNAL uint32_t fault_add(const struct fault_range *range);
/** Slot 0 is nobody's. */
EVH_INTERNAL void fault_remove(uint32_t slot);
/** Set the handler. EVH_NO_MEMORY and the like. */
EVH_INTERNAL evh_status fault_install(void);
EVH_INTERNAL void fault_put(struct fault_text *out, const char *text);
EVH_INTERNAL void fault_put_number(struct fault_text *out, uint64_t number);

#endif
