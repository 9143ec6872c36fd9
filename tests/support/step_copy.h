/* step_copy.h -- what a kill leaves of a live heap, copied to where it can be opened.
 *
 * A child works on one path, in memory if there is such a place; the pair of files that its death
 * would leave, heap and ephemeral file, is written to another and opened there: as by a survivor
 * that joins the session, or as by the next one after all were killed.
 */
#ifndef EVERHEAP_TESTS_SUPPORT_STEP_COPY_H
#define EVERHEAP_TESTS_SUPPORT_STEP_COPY_H

#include "heap/heap.h"
#include "support/step.h"

struct step_copy {
    char live_path[256], live_session_path[264]; /* the child's */
    char copy_path[256], copy_session_path[264];
    int holder; /* of the session's lock on the copy */
};

/** Choose paths; SKIPs the test where processes cannot be stepped. */
void step_copy_begin(struct step_copy *copy);
void step_copy_end(struct step_copy *copy);
/** No file of the child's is there. */
void step_copy_clear(const struct step_copy *copy);
/** Open what a kill leaves, joining the session or not, with its file or without. NULL: the last
 *  error says why, or the copy could not be made. */
evh_heap *step_copy_open(const struct step_copy *copy, const struct step_image images[], bool joins,
                         bool keeps_session_file, uint64_t size_max_bytes);

#endif
