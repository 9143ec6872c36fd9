/* status.h -- what calls return, and what they say about a failure. */
#ifndef EVERHEAP_STATUS_H
#define EVERHEAP_STATUS_H

#include <stdint.h>

#if UINTPTR_MAX != 0xffffffffffffffffu
#error "everheap needs a 64-bit system: a heap is addressed with 64-bit offsets"
#endif
#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "everheap needs a little-endian system: the file stores integers as they lie in memory"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifndef EVH_API
#define EVH_API __attribute__((visibility("default")))
#endif

typedef enum evh_status {
    EVH_OK = 0,
    EVH_READ_ONLY,   /* a change or a commit asked of a read-only or private heap; also a mode */
    EVH_INVALID,     /* an argument that no heap could accept: size 0, alignment 3, a null heap */
    EVH_NO_MEMORY,   /* the system gave no memory or address space */
    EVH_FULL,        /* the disk, the quota or size_max_bytes is exhausted; nothing was changed */
    EVH_IO,          /* a read or write failed */
    EVH_POISONED,    /* a flush failed earlier: only reopening tells what is on the disk */
    EVH_NOT_FOUND,   /* no such file, or no such root */
    EVH_EXISTS,      /* must_create, and the file is there */
    EVH_ACCESS,      /* the system refuses access: permissions, a read-only file system */
    EVH_NOT_FILE,    /* a directory, FIFO, device or socket; or a file system that is refused */
    EVH_NOT_HEAP,    /* a file or buffer without a heap in it */
    EVH_TRUNCATED,   /* a heap whose file has lost its end */
    EVH_VERSION,     /* written by a newer version, or with a feature this one lacks */
    EVH_BYTE_ORDER,  /* written on a machine of the other byte order */
    EVH_CORRUPT,     /* bytes that cannot be right; evh_last_error()->offset says which */
    EVH_MODE,        /* an operation or a mode that this heap was not made for */
    EVH_BUSY,        /* another writer has it (the message names its process), or the call came at
                        a moment that forbids it */
    EVH_FORKED,      /* a forked child may not use its parent's heap */
    EVH_STALE,       /* this read-only view was left behind; evh_refresh() */
    EVH_LIMIT,       /* larger than the format, or than a limit that an option sets, allows */
    EVH_BAD_POINTER, /* a pointer or ref that is not the start of a live block of this heap */
    EVH_DOUBLE_FREE, /* a block that is free already */
    EVH_UNSUPPORTED, /* this system lacks what the option asks for */
    EVH_OVERWRITTEN, /* bytes that are nobody's were changed: behind a block, or in a free one */
    EVH_SYNTAX,      /* text that is no JSON, no path, no query; the message says where */
    EVH_DANGLING,    /* a reference that leads nowhere */
    EVH_CYCLE,       /* references that lead in a ring, or through too many hops */
    EVH_STATUS_COUNT
} evh_status;

/** The last failure in this thread. Borrowed until the thread's next failing call. */
typedef struct evh_error {
    evh_status status;
    int os_error;    /* errno where the system refused, else 0 */
    uint64_t offset; /* in the file, where there is one; else UINT64_MAX */
    char message[488];
} evh_error;

/** The last failure in this thread; never NULL. Its status is EVH_OK if nothing has failed yet. */
EVH_API const evh_error *evh_last_error(void);
/** The name of a status, such as "EVH_FULL"; "EVH_?" for a number that is none. Static. */
EVH_API const char *evh_status_name(evh_status status);

#ifdef __cplusplus
}
#endif

#endif
