/* step_copy.c -- what a kill leaves of a live heap, copied to where it can be opened. */
#include "support/step_copy.h"

#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void step_copy_begin(struct step_copy *copy)
{
    const char *obstacle = step_obstacle();
    if (obstacle) SKIP(obstacle);
    const char *directory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : test_directory();
    snprintf(copy->live_path, sizeof copy->live_path, "%s/everheap-step.%d", directory, getpid());
    snprintf(copy->copy_path, sizeof copy->copy_path, "%s/everheap-copy.%d", directory, getpid());
    snprintf(copy->live_session_path, sizeof copy->live_session_path, "%s.live", copy->live_path);
    snprintf(copy->copy_session_path, sizeof copy->copy_session_path, "%s.live", copy->copy_path);
    copy->holder = open(copy->copy_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(copy->holder >= 0);
}

void step_copy_end(struct step_copy *copy)
{
    close(copy->holder);
    step_copy_clear(copy);
    (void)unlink(copy->copy_path);
    (void)unlink(copy->copy_session_path);
}

void step_copy_clear(const struct step_copy *copy)
{
    (void)unlink(copy->live_path);
    (void)unlink(copy->live_session_path);
}

static bool copy_range(int file, const struct step_image *image, uint64_t first, uint64_t end)
{
    if (first >= end) return true;
    const size_t size = (size_t)(end - first);
    return pwrite(file, image->bytes + first, size, (off_t)first) == (ssize_t)size;
}

static bool copy_file(const char *path, const struct step_image *image)
{
    const int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) return false;
    const bool done = copy_range(file, image, 0, base_min(image->skip.first, image->size)) &&
                      copy_range(file, image, image->skip.end, image->size) &&
                      ftruncate(file, (off_t)image->size) == 0;
    close(file);
    return done;
}

static bool copy_hold_session(const struct step_copy *copy, bool holds)
{
    struct flock lock = {.l_type = holds ? F_RDLCK : F_UNLCK,
                         .l_whence = SEEK_SET,
                         .l_start = (off_t)REGION_LOCK_ATTACHED,
                         .l_len = 1};
    return fcntl(copy->holder, F_OFD_SETLK, &lock) == 0;
}

evh_heap *step_copy_open(const struct step_copy *copy, const struct step_image images[], bool joins,
                         bool keeps_session_file, uint64_t size_max_bytes)
{
    const evh_options options = {.mode = EVH_LIVE,
                                 .misuse = EVH_MISUSE_STATUS,
                                 .must_exist = true,
                                 .size_max_bytes = size_max_bytes};
    (void)unlink(copy->copy_session_path);
    if (!copy_file(copy->copy_path, &images[0])) return NULL;
    if (images[1].exists && (joins || keeps_session_file) &&
        !copy_file(copy->copy_session_path, &images[1]))
        return NULL;
    return copy_hold_session(copy, joins) ? evh_open(copy->copy_path, &options) : NULL;
}
