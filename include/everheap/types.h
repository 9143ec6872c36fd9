/* types.h -- tell a heap what its structs look like, so that tools can read them without you. */
#ifndef EVERHEAP_TYPES_H
#define EVERHEAP_TYPES_H

#include <everheap/inspect.h>

/*
 *     struct note {
 *         uint64_t when;
 *         evh_ref next;
 *         char title[32];
 *     };
 *     EVH_TYPE(note, struct note,
 *              EVH_FIELD(struct note, when),
 *              EVH_FIELD_REF(struct note, next, "note"),
 *              EVH_FIELD_TEXT(struct note, title))
 *     ...
 *     const uint32_t note_number = evh_type_register(heap, &note_type);
 *     struct note *note = evh_new(heap, note_number);
 *
 * Types are part of the heap: register and commit them when the program starts. Blocks of no type
 * cost nothing; a typed one 4 bytes.
 */

typedef enum evh_field_kind {
    EVH_FIELD_BYTES = 0,
    EVH_FIELD_UNSIGNED, /* 1, 2, 4 or 8 bytes, as the next two */
    EVH_FIELD_SIGNED,
    EVH_FIELD_BOOLEAN,
    EVH_FIELD_REAL,      /* 4 or 8 bytes */
    EVH_FIELD_CHARS,     /* text, up to a zero */
    EVH_FIELD_REFERENCE, /* evh_ref, or the ref of EVH_REF() */
    EVH_FIELD_HANDLE,    /* of a collection: evh_str, evh_vec, evh_map, ... */
    EVH_FIELD_POINTER,   /* an address in the process that stored it */
    EVH_FIELD_DISTANCE,  /* evh::ptr: less one, from itself to its target */
    EVH_FIELD_STRUCT,    /* another type, inside */
} evh_field_kind;

typedef struct evh_field {
    const char *name;
    evh_field_kind kind;
    uint32_t offset;
    uint32_t size;       /* of one item, bytes */
    uint32_t count;      /* items; 0: as many as fit up to the block's end */
    const char *target;  /* the type that it refers to, or is a struct of; NULL: any */
    uint32_t tag_offset; /* of a union: an integer of the same struct ... */
    uint32_t tag_size;   /* ... of so many bytes (0: the field always counts) ... */
    uint64_t tag_value;  /* ... that says with this value that the field counts */
} evh_field;

typedef struct evh_type {
    const char *name; /* 1 to 63 bytes */
    uint64_t size; /* of the struct; of a block that holds several, or more, see evh_malloc_typed */
    const evh_field *fields;
    uint32_t field_count; /* at most 4096 */
} evh_type;

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Register a type. One of the same name and layout is registered already: its number. Another
 * layout gets another number.
 * Returns   the number, from 1 on; 0 on failure.
 * Errors    EVH_INVALID (a name, a field outside the size, a kind of another size), EVH_LIMIT
 *           (65,472 types), EVH_CORRUPT; as evh_root().
 * Threads   any; of a live heap any process.
 * Crash     as everything in the heap. After evh_rollback() numbers given since are void.
 * Cost      reads the registry.
 */
EVH_API uint32_t evh_type_register(evh_heap *heap, const evh_type *type);

/** The number of the type of that name which was registered last; 0 if there is none, or with an
 *  error if the registry is damaged. */
EVH_API uint32_t evh_type_find(evh_heap *heap, const char *name);

/** The type of a number, borrowed until the heap is closed, rolled back or refreshed. NULL: no such
 *  type, or the registry is damaged. Any thread. */
EVH_API const evh_type *evh_type_get(evh_heap *heap, uint32_t number);

/** How many types there are: their numbers are 1 to that. */
EVH_API uint32_t evh_type_count(evh_heap *heap);

/**
 * A block of `size` bytes that carries a type's number; its size need not be the type's. Ended by
 * evh_free(), resized by evh_realloc(), as any other.
 * Returns   the block, owned; contents undefined. NULL on failure.
 * Errors    as evh_malloc(); EVH_INVALID (type 0); EVH_MODE (a live heap, or one in a small buffer:
 *           there a block's type is what the field that names it says).
 * Threads   any; a lock. Cost: 30 ns, and as much to free.
 * Crash     an allocation that is not committed is undone.
 */
EVH_API void *evh_malloc_typed(evh_heap *heap, uint32_t type, size_t size);

/** A zeroed block of a registered type and its size. Errors as evh_malloc_typed(),
 *  EVH_NOT_FOUND. */
EVH_API void *evh_new(evh_heap *heap, uint32_t type);

/** The number of a live block's type; 0 if it has none, or is no block. */
EVH_API uint32_t evh_type_of(evh_heap *heap, const void *block);

/** As evh_root(), whose block is of a type. In live heaps and small buffers it carries no
 *  number. */
EVH_API void *evh_root_typed(evh_heap *heap, const char *name, uint32_t type, size_t size);

#ifdef __cplusplus
}
#endif

/* ---- describing structs --------------------------------------------------------------------- */

#ifdef __cplusplus
#include <type_traits>
namespace evh
{
namespace detail
{
template <class T> constexpr evh_field_kind field_kind()
{
    using plain = std::remove_cv_t<T>;
    if constexpr (std::is_same_v<plain, bool>)
        return EVH_FIELD_BOOLEAN;
    else if constexpr (std::is_floating_point_v<plain>)
        return EVH_FIELD_REAL;
    else if constexpr (std::is_integral_v<plain> && std::is_signed_v<plain>)
        return EVH_FIELD_SIGNED;
    else if constexpr (std::is_integral_v<plain> || std::is_enum_v<plain>)
        return EVH_FIELD_UNSIGNED;
    else if constexpr (std::is_same_v<plain, evh_ref>)
        return EVH_FIELD_REFERENCE;
    else if constexpr (std::is_pointer_v<plain>)
        return EVH_FIELD_POINTER;
    else
        return EVH_FIELD_BYTES;
}
} // namespace detail
} // namespace evh
#define EVH_KIND_OF_(type, member)                                                                 \
    ::evh::detail::field_kind<                                                                     \
        std::remove_reference_t<decltype(static_cast<type *>(nullptr)->member)>>()
#define EVH_ITEM_KIND_OF_(type, member)                                                            \
    ::evh::detail::field_kind<                                                                     \
        std::remove_reference_t<decltype(static_cast<type *>(nullptr)->member[0])>>()
#else
#define EVH_KIND_OF_VALUE_(value)                                                                  \
    _Generic((value), _Bool: EVH_FIELD_BOOLEAN, char: EVH_FIELD_SIGNED,                            \
        signed char: EVH_FIELD_SIGNED, short: EVH_FIELD_SIGNED, int: EVH_FIELD_SIGNED,             \
        long: EVH_FIELD_SIGNED, long long: EVH_FIELD_SIGNED, unsigned char: EVH_FIELD_UNSIGNED,    \
        unsigned short: EVH_FIELD_UNSIGNED, unsigned: EVH_FIELD_UNSIGNED,                          \
        unsigned long: EVH_FIELD_UNSIGNED, unsigned long long: EVH_FIELD_UNSIGNED,                 \
        float: EVH_FIELD_REAL, double: EVH_FIELD_REAL, evh_ref: EVH_FIELD_REFERENCE,               \
        void *: EVH_FIELD_POINTER, char *: EVH_FIELD_POINTER, default: EVH_FIELD_BYTES)
#define EVH_KIND_OF_(type, member) EVH_KIND_OF_VALUE_(((type *)0)->member)
#define EVH_ITEM_KIND_OF_(type, member) EVH_KIND_OF_VALUE_(((type *)0)->member[0])
#endif

#define EVH_FIELD_SIZE_(type, member) ((uint32_t)sizeof(((type *)0)->member))
#define EVH_FIELD_ITEM_SIZE_(type, member) ((uint32_t)sizeof(((type *)0)->member[0]))
#define EVH_FIELD_OFFSET_(type, member) ((uint32_t)offsetof(type, member))
#define EVH_FIELD_OF_(type, member, kind, target)                                                  \
    {                                                                                              \
#member, kind, EVH_FIELD_OFFSET_(type, member), EVH_FIELD_SIZE_(type, member), 1, target,  \
            0, 0, 0                                                                                \
    }
#define EVH_FIELDS_OF_(type, member, kind, count, target)                                          \
    {                                                                                              \
#member, kind, EVH_FIELD_OFFSET_(type, member), EVH_FIELD_ITEM_SIZE_(type, member), count, \
            target, 0, 0, 0                                                                        \
    }
#define EVH_FIELD_COUNT_(type, member)                                                             \
    (EVH_FIELD_SIZE_(type, member) / EVH_FIELD_ITEM_SIZE_(type, member))

/** A member of `type`: a number, truth value, evh_ref or void pointer; of another type, bytes. */
#define EVH_FIELD(type, member) EVH_FIELD_OF_(type, member, EVH_KIND_OF_(type, member), NULL)
/** A member that is an array of them. */
#define EVH_FIELD_ARRAY(type, member)                                                              \
    EVH_FIELDS_OF_(type, member, EVH_ITEM_KIND_OF_(type, member), EVH_FIELD_COUNT_(type, member),  \
                   NULL)
/** An array of char that holds text up to its first zero. */
#define EVH_FIELD_TEXT(type, member) EVH_FIELD_OF_(type, member, EVH_FIELD_CHARS, NULL)
/** A ref to a block of the type called `target` (a string; NULL: any). */
#define EVH_FIELD_REF(type, member, target) EVH_FIELD_OF_(type, member, EVH_FIELD_REFERENCE, target)
/** An array of such refs. */
#define EVH_FIELD_REFS(type, member, target)                                                       \
    EVH_FIELDS_OF_(type, member, EVH_FIELD_REFERENCE, EVH_FIELD_COUNT_(type, member), target)
/** The member at the end of the struct (refs[] or refs[1]): refs up to the block's end. */
#define EVH_FIELD_REFS_TO_END(type, member, target)                                                \
    EVH_FIELDS_OF_(type, member, EVH_FIELD_REFERENCE, 0, target)
/** The handle of a collection. */
#define EVH_FIELD_COLLECTION(type, member) EVH_FIELD_OF_(type, member, EVH_FIELD_HANDLE, NULL)
/** A pointer into the heap, an address of this process. */
#define EVH_FIELD_ADDRESS(type, member, target)                                                    \
    EVH_FIELD_OF_(type, member, EVH_FIELD_POINTER, target)
/** An evh::ptr. */
#define EVH_FIELD_PTR(type, member, target) EVH_FIELD_OF_(type, member, EVH_FIELD_DISTANCE, target)
/** A struct of the type called `target`, inside. */
#define EVH_FIELD_INSIDE(type, member, target) EVH_FIELD_OF_(type, member, EVH_FIELD_STRUCT, target)
/** A member of a union that counts while the integer `tag` is `value`. */
#define EVH_FIELD_IF(type, member, field_kind, target_name, tag, value)                            \
    {                                                                                              \
#member, field_kind, EVH_FIELD_OFFSET_(type, member), EVH_FIELD_SIZE_(type, member), 1,    \
            target_name, EVH_FIELD_OFFSET_(type, tag), EVH_FIELD_SIZE_(type, tag), value           \
    }

/** Define `name_type`, the description of `type`, registered under "name". */
#define EVH_TYPE(name, type, ...)                                                                  \
    static const evh_field name##_type_fields[] = {__VA_ARGS__};                                   \
    static const evh_type name##_type = {                                                          \
        #name, sizeof(type), name##_type_fields,                                                   \
        (uint32_t)(sizeof name##_type_fields / sizeof name##_type_fields[0])};

#endif
