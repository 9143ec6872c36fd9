/* os_sim_machine.h -- what os_sim.c and os_sim_memory.c share: the machine itself. */
#ifndef EVERHEAP_TESTS_SUPPORT_OS_SIM_MACHINE_H
#define EVERHEAP_TESTS_SUPPORT_OS_SIM_MACHINE_H

#include "support/os_sim.h"

enum { SIM_DESCRIPTOR_FIRST = 1000 };

struct sim_file {
    int memory;            /* memfd of SIM_FILE_BYTES_MAX bytes; -1: never used */
    unsigned char *cached; /* it, mapped shared */
    uint64_t *touched;     /* pages that differ from the base of the last image, perhaps */
    uint64_t size;
    uint64_t used;   /* bytes beyond are zero */
    uint64_t *holes; /* pages without space */
    bool has_holes;  /* some bits are set */
    bool exists;     /* this slot is a file */
    bool was_named;
    uint32_t opens;
};

struct sim_descriptor {
    bool is_open;
    bool is_writable;
    uint32_t file;
};

struct sim_lock {
    uint64_t offset, end; /* unused if equal */
    uint32_t descriptor;
    enum os_lock_kind kind;
};

struct sim {
    struct sim_file files[SIM_FILE_MAX];
    struct sim_name names[SIM_NAME_MAX];
    struct sim_descriptor descriptors[SIM_DESCRIPTOR_MAX];
    struct sim_lock locks[SIM_LOCK_MAX];
    struct sim_log log;
    struct sim_disk *disk; /* NULL: not kept */
    struct sim_counts counts;
    const void *base;
    uint64_t identity;
    uint64_t random_state;
    uint64_t clock_ns;
    uint64_t process;
    uint64_t boot;       /* another after a power cut, the same after a kill */
    uint64_t number;     /* of the machine: its files' device */
    uint64_t page_bytes; /* of the system's memory; 0: 4096 */
    bool is_killed;
    bool compare;
    bool has_threads;
    struct sim_threads *threads; /* os_sim_thread.c; NULL until one is started */
    unsigned fault_kinds;
    uint64_t fault_after, fault_times;
    int fault_error;
    bool fault_struck;
};

/* The machine in use. */
extern struct sim *sim;

uint64_t sim_random_next(uint64_t *state);
/** A test that asks the simulator for what it cannot do, or a library that deadlocks: stop. */
void sim_die(const char *what) __attribute__((noreturn));
/** The error with which a call of this kind fails now; 0 if it does not. */
int sim_fault(unsigned kind);
/** The open descriptor behind the library's number. */
struct sim_descriptor *sim_descriptor_at(int number);

/** Fill in the calls of os_sim_memory.c, of os_sim_thread.c. */
void sim_memory_calls(struct os_calls *calls);
void sim_thread_calls(struct os_calls *calls);

/** A call to the system: another thread may have its turn. */
void sim_turn(void);
void sim_threads_reset(struct sim *machine, uint64_t seed);
void sim_threads_end(struct sim *machine);

#endif
