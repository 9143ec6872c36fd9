/* regex.c -- I-Regexp (RFC 9485) by simulating all states of an automaton at once.
 *
 * Ken Thompson, "Regular Expression Search Algorithm", CACM 11 (1968): the expression becomes a
 * program of characters, splits and jumps; each character of the text moves a set of places in it.
 * No expression and no text make it slow: the time is at most their product.
 *
 * RFC 9485 has no anchors: whole texts match. As in all engines that it maps to, ^ and $ mean the
 * beginning and the end of the text, and stand for themselves only in brackets (or ^ escaped).
 */
#include "json/regex.h"
#include "json/regex_categories.h"
#include "json/scan.h"
#include "os/os.h"

enum {
    REGEX_STEPS_MAX = 10000,
    REGEX_DEPTH_MAX = 100,
    REGEX_COUNT_MAX = 1000,
};

enum regex_operation {
    REGEX_RANGE,
    REGEX_CLASS,
    REGEX_SPLIT,
    REGEX_JUMP,
    REGEX_START, /* nothing, but only where the text begins; where it ends */
    REGEX_END,
    REGEX_ACCEPT,
};

struct regex_step {
    uint8_t operation;
    bool is_negated;    /* CLASS */
    uint32_t low, high; /* RANGE: characters. SPLIT: two places. JUMP: low. CLASS: ranges */
};

/* One part of a class: characters, or a category. */
struct regex_range {
    uint32_t low, high;
    uint32_t categories; /* a bit for each; 0: the characters low to high */
    bool is_negated;     /* \P */
};

struct regex {
    const char *next, *end; /* while it is read */
    bool is_wrong, is_full;
    uint32_t depth;
    struct regex_step *steps;
    uint32_t count, capacity;
    struct regex_range *ranges;
    uint32_t range_count, range_capacity;
    uint32_t *sets; /* two lists of places, and marks */
};

/* ---- building ---- */

static uint32_t regex_emit(struct regex *regex, struct regex_step step)
{
    assert(regex->count <= regex->capacity);
    if (regex->count == regex->capacity) {
        const uint32_t capacity = regex->capacity ? 2 * regex->capacity : 64;
        struct regex_step *grown = NULL;
        if (regex->count < REGEX_STEPS_MAX)
            grown = os->memory_resize(regex->steps, capacity * sizeof *grown);
        if (!grown) {
            regex->is_wrong = true;
            regex->is_full = regex->count < REGEX_STEPS_MAX;
            return 0;
        }
        regex->steps = grown;
        regex->capacity = capacity;
    }
    regex->steps[regex->count] = step;
    return regex->count++;
}

static void regex_add_range(struct regex *regex, struct regex_range range)
{
    assert(regex->range_count <= regex->range_capacity);
    if (regex->range_count == regex->range_capacity) {
        const uint32_t capacity = regex->range_capacity ? 2 * regex->range_capacity : 16;
        struct regex_range *grown = os->memory_resize(regex->ranges, capacity * sizeof *grown);
        if (!grown) {
            regex->is_wrong = true;
            regex->is_full = true;
            return;
        }
        regex->ranges = grown;
        regex->range_capacity = capacity;
    }
    regex->ranges[regex->range_count++] = range;
}

/* Open a gap of one step at `at`: what is behind moves, and places behind `at` move with it. */
static void regex_insert(struct regex *regex, uint32_t at, struct regex_step step)
{
    assert(at <= regex->count);
    (void)regex_emit(regex, step);
    if (regex->is_wrong) return;
    memmove(regex->steps + at + 1, regex->steps + at, (regex->count - 1 - at) * sizeof step);
    regex->steps[at] = step;
    for (uint32_t i = at + 1; i < regex->count; i++) {
        struct regex_step *moved = regex->steps + i;
        if (moved->operation != REGEX_SPLIT && moved->operation != REGEX_JUMP) continue;
        if (moved->low >= at) moved->low++;
        if (moved->operation == REGEX_SPLIT && moved->high >= at) moved->high++;
    }
}

/* Another copy of the steps from `from` to `to`, at the end. */
static void regex_repeat(struct regex *regex, uint32_t from, uint32_t to)
{
    assert(from <= to);
    assert(to <= regex->count);
    const uint32_t shift = regex->count - from;
    for (uint32_t i = from; i < to && !regex->is_wrong; i++) {
        struct regex_step step = regex->steps[i];
        if (step.operation == REGEX_SPLIT || step.operation == REGEX_JUMP) step.low += shift;
        if (step.operation == REGEX_SPLIT) step.high += shift;
        (void)regex_emit(regex, step);
    }
}

/* ---- reading ---- */

static bool regex_is_next(struct regex *regex, char c)
{
    return regex->next < regex->end && *regex->next == c;
}

static bool regex_take(struct regex *regex, char c)
{
    if (!regex_is_next(regex, c)) return false;
    regex->next++;
    return true;
}

static uint32_t regex_character(struct regex *regex)
{
    size_t size = 1;
    if (regex->next == regex->end) {
        regex->is_wrong = true;
        return 0;
    }
    const uint32_t code = utf8_get(regex->next, regex->end, &size);
    regex->next += size;
    return code;
}

/* The categories that a name of one or two letters stands for. */
static uint32_t regex_categories(const char *name, size_t size)
{
    assert(size == 1 || size == 2);
    uint32_t categories = 0;
    for (uint32_t i = 0; i < (sizeof regex_category_names - 1) / 2; i++)
        if (memcmp(regex_category_names + 2 * i, name, size) == 0) categories |= 1u << i;
    return categories;
}

/* Behind a backslash: a character, or a category. True if it was a category. */
static bool regex_escape(struct regex *regex, struct regex_range *range)
{
    const uint32_t code = regex_character(regex);
    *range = (struct regex_range){code, code, 0, false};
    if (code == 'p' || code == 'P') {
        range->is_negated = code == 'P';
        const char *name = regex->next + 1;
        size_t size = 0;
        if (regex_take(regex, '{')) {
            while (name + size < regex->end && size < 3 && name[size] != '}') size++;
            regex->next += size;
            if (size == 1 || size == 2) range->categories = regex_categories(name, size);
        }
        if (!regex_take(regex, '}') || !range->categories) regex->is_wrong = true;
        return true;
    }
    if (code == 'n') range->low = '\n';
    if (code == 'r') range->low = '\r';
    if (code == 't') range->low = '\t';
    range->high = range->low;
    if (code > 0x7e || !strchr("nrt()*+-.?[\\]^{|}", (int)code) || code == 0)
        regex->is_wrong = true;
    return false;
}

/* [...], behind the bracket. */
static void regex_class(struct regex *regex)
{
    struct regex_step step = {.operation = REGEX_CLASS, .low = regex->range_count};
    step.is_negated = regex_take(regex, '^');
    bool is_first = true;
    while (!regex->is_wrong && !regex_take(regex, ']')) {
        struct regex_range range;
        bool is_category = false;
        const bool is_dash = regex_is_next(regex, '-');
        const bool is_escaped = regex_take(regex, '\\');
        if (is_escaped) {
            is_category = regex_escape(regex, &range);
        } else {
            const uint32_t code = regex_character(regex);
            range = (struct regex_range){code, code, 0, false};
            if (code == '[') regex->is_wrong = true;
            /* A dash stands for itself at the beginning and the end only. */
            if (is_dash && !is_first && !regex_is_next(regex, ']')) regex->is_wrong = true;
        }
        is_first = false;
        if (!is_category && (!is_dash || is_escaped) && regex->end - regex->next >= 2 &&
            *regex->next == '-' && regex->next[1] != ']') {
            regex->next++;
            struct regex_range last;
            if (regex_take(regex, '\\')) {
                if (regex_escape(regex, &last)) regex->is_wrong = true;
            } else {
                last.low = regex_character(regex);
                if (last.low == '[' || last.low == '-') regex->is_wrong = true;
            }
            range.high = last.low;
            if (range.high < range.low) regex->is_wrong = true;
        }
        regex_add_range(regex, range);
    }
    step.high = regex->range_count;
    if (step.low == step.high) regex->is_wrong = true;
    (void)regex_emit(regex, step);
}

static void regex_branches(struct regex *regex);

static void regex_atom(struct regex *regex)
{
    if (regex_take(regex, '(')) {
        if (++regex->depth > REGEX_DEPTH_MAX) regex->is_wrong = true;
        if (!regex->is_wrong) regex_branches(regex);
        regex->depth--;
        if (!regex_take(regex, ')')) regex->is_wrong = true;
        return;
    }
    if (regex_take(regex, '[')) {
        regex_class(regex);
        return;
    }
    struct regex_range range;
    struct regex_step step = {.operation = REGEX_CLASS, .low = regex->range_count};
    if (regex_take(regex, '.')) { /* anything but the ends of lines */
        step.is_negated = true;
        regex_add_range(regex, (struct regex_range){'\n', '\n', 0, false});
        regex_add_range(regex, (struct regex_range){'\r', '\r', 0, false});
    } else if (regex_take(regex, '\\')) {
        (void)regex_escape(regex, &range);
        regex_add_range(regex, range);
    } else {
        const uint32_t code = regex_character(regex);
        if (code < 0x80 && code != 0 && strchr("*+?{}]", (int)code)) regex->is_wrong = true;
        step = (struct regex_step){.operation = REGEX_RANGE, .low = code, .high = code};
        if (code == '^') step.operation = REGEX_START;
        if (code == '$') step.operation = REGEX_END;
    }
    if (step.operation == REGEX_CLASS) step.high = regex->range_count;
    (void)regex_emit(regex, step);
}

static uint32_t regex_number(struct regex *regex)
{
    uint32_t value = 0;
    const char *first = regex->next;
    while (regex->next < regex->end && *regex->next >= '0' && *regex->next <= '9') {
        value = value * 10 + (uint32_t)(*regex->next++ - '0');
        if (value > REGEX_COUNT_MAX) value = REGEX_COUNT_MAX + 1;
    }
    if (regex->next == first || value > REGEX_COUNT_MAX) regex->is_wrong = true;
    return value;
}

/* x{low,high}: low copies, then high - low that may be left out, or a loop. `from`: where x is. */
static void regex_quantity(struct regex *regex, uint32_t from, uint32_t low, uint32_t high,
                           bool is_endless)
{
    assert(from < regex->count);
    if (!is_endless) assert(low <= high);
    const uint32_t to = regex->count;
    const uint32_t size = to - from;
    if (low == 0 && !is_endless && high == 0) { /* nothing: jump over it */
        regex_insert(regex, from, (struct regex_step){.operation = REGEX_JUMP});
        if (!regex->is_wrong) regex->steps[from].low = regex->count;
        return;
    }
    for (uint32_t i = 1; i < low && !regex->is_wrong; i++) regex_repeat(regex, from, to);
    if (is_endless) {
        uint32_t last = regex->count - size;
        if (low == 0) { /* split past x; behind x back to the split */
            regex_insert(regex, from, (struct regex_step){.operation = REGEX_SPLIT});
            (void)regex_emit(regex, (struct regex_step){.operation = REGEX_JUMP, .low = from});
            if (regex->is_wrong) return;
            regex->steps[from].low = from + 1;
            regex->steps[from].high = regex->count;
        } else {
            (void)regex_emit(regex,
                             (struct regex_step){REGEX_SPLIT, false, last, regex->count + 1});
        }
        return;
    }
    if (low == 0) { /* the first may be left out too */
        regex_insert(regex, from, (struct regex_step){.operation = REGEX_SPLIT});
        if (regex->is_wrong) return;
        regex->steps[from].low = from + 1;
        regex->steps[from].high = regex->count;
        from++;
    }
    for (uint32_t i = low ? low : 1; i < high && !regex->is_wrong; i++) {
        (void)regex_emit(regex, (struct regex_step){REGEX_SPLIT, false, regex->count + 1,
                                                    regex->count + 1 + size});
        regex_repeat(regex, from, from + size);
    }
}

static void regex_piece(struct regex *regex)
{
    const uint32_t from = regex->count;
    regex_atom(regex);
    if (regex->is_wrong || regex->next == regex->end) return;
    if (regex_take(regex, '*')) {
        regex_quantity(regex, from, 0, 0, true);
    } else if (regex_take(regex, '+')) {
        regex_quantity(regex, from, 1, 0, true);
    } else if (regex_take(regex, '?')) {
        regex_quantity(regex, from, 0, 1, false);
    } else if (regex_take(regex, '{')) {
        const uint32_t low = regex_number(regex);
        uint32_t high = low;
        bool is_endless = false;
        if (regex_take(regex, ',')) {
            is_endless = regex_is_next(regex, '}');
            if (!is_endless) high = regex_number(regex);
        }
        if (!regex_take(regex, '}') || (!is_endless && high < low)) regex->is_wrong = true;
        if (!regex->is_wrong) regex_quantity(regex, from, low, high, is_endless);
    }
}

/* Branches with | between them, each of pieces: split to this one or the next; behind each but the
 * last a jump to the end. Until the end is known the jumps are a list, the first leads to
 * itself. */
static void regex_branches(struct regex *regex)
{
    uint32_t jump = UINT32_MAX;
    for (;;) {
        const uint32_t first = regex->count;
        while (!regex->is_wrong && regex->next < regex->end && *regex->next != '|' &&
               *regex->next != ')')
            regex_piece(regex);
        if (regex->is_wrong || !regex_take(regex, '|')) break;
        regex_insert(regex, first, (struct regex_step){.operation = REGEX_SPLIT});
        const uint32_t link = jump;
        jump = regex_emit(regex, (struct regex_step){.operation = REGEX_JUMP});
        if (regex->is_wrong) break;
        regex->steps[jump].low = link == UINT32_MAX ? jump : link;
        regex->steps[first].low = first + 1;
        regex->steps[first].high = regex->count;
    }
    while (!regex->is_wrong && jump != UINT32_MAX) {
        const uint32_t link = regex->steps[jump].low;
        regex->steps[jump].low = regex->count;
        jump = link == jump ? UINT32_MAX : link;
    }
}

struct regex *regex_compile(const char *text, size_t size, evh_status *status)
{
    assert(text != NULL || size == 0);
    assert(status != NULL);
    *status = EVH_NO_MEMORY;
    struct regex *regex = os->memory_allocate(sizeof *regex);
    if (!regex) return NULL;
    regex->next = text;
    regex->end = text + size;
    regex_branches(regex);
    if (regex->next != regex->end) regex->is_wrong = true;
    (void)regex_emit(regex, (struct regex_step){.operation = REGEX_ACCEPT});
    if (!regex->is_wrong)
        regex->sets = os->memory_allocate(3ull * (regex->count + 1) * sizeof *regex->sets);
    if (regex->sets) {
        *status = EVH_OK;
        return regex;
    }
    if (regex->is_wrong && !regex->is_full) *status = EVH_OK;
    regex_end(regex);
    return NULL;
}

void regex_end(struct regex *regex)
{
    if (!regex) return;
    os->memory_free(regex->steps);
    os->memory_free(regex->ranges);
    os->memory_free(regex->sets);
    os->memory_free(regex);
}

/* ---- running ---- */

static uint32_t regex_category_of(uint32_t code)
{
    uint32_t low = 0;
    uint32_t high = sizeof regex_category_runs / sizeof regex_category_runs[0];
    while (high - low > 1) {
        const uint32_t middle = (low + high) / 2;
        if (regex_category_runs[middle] >> 5 <= code) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return regex_category_runs[low] & 31;
}

static bool regex_has(const struct regex *regex, const struct regex_step *step, uint32_t code)
{
    if (step->operation == REGEX_CLASS) assert(step->high <= regex->range_count);
    if (step->operation == REGEX_RANGE) return step->low <= code && code <= step->high;
    if (step->operation != REGEX_CLASS) return false;
    bool has = false;
    for (uint32_t i = step->low; i < step->high && !has; i++) {
        const struct regex_range *range = regex->ranges + i;
        if (range->categories) {
            has = (range->categories >> regex_category_of(code) & 1) != range->is_negated;
        } else {
            has = range->low <= code && code <= range->high;
        }
    }
    return has != step->is_negated;
}

enum { REGEX_AT_START = 1, REGEX_AT_END = 2 };

/* Add a place, and all that is reached from it without a character, to a list. Marks keep each from
 * being there twice; the list itself is the stack of what is to be looked at. */
static uint32_t regex_add(const struct regex *regex, uint32_t *list, uint32_t count,
                          uint32_t *marks, uint32_t mark, uint32_t place, unsigned where)
{
    assert(place < regex->count);
    assert(mark != 0);
    if (marks[place] == mark) return count;
    marks[place] = mark;
    uint32_t next = count;
    list[count++] = place;
    for (; next < count; next++) {
        const struct regex_step *step = regex->steps + list[next];
        uint32_t targets[2] = {step->low, step->high};
        uint32_t target_count = 0;
        if (step->operation == REGEX_SPLIT) target_count = 2;
        if (step->operation == REGEX_JUMP) target_count = 1;
        if ((step->operation == REGEX_START && where & REGEX_AT_START) ||
            (step->operation == REGEX_END && where & REGEX_AT_END)) {
            targets[0] = list[next] + 1;
            target_count = 1;
        }
        for (uint32_t i = 0; i < target_count; i++) {
            if (marks[targets[i]] == mark) continue;
            marks[targets[i]] = mark;
            list[count++] = targets[i];
        }
    }
    return count;
}

static bool regex_accepts(const struct regex *regex, const uint32_t *list, uint32_t count)
{
    assert(count <= regex->count);
    for (uint32_t i = 0; i < count; i++)
        if (regex->steps[list[i]].operation == REGEX_ACCEPT) return true;
    return false;
}

bool regex_match(struct regex *regex, const char *text, size_t size, bool is_whole)
{
    assert(regex->count > 0);
    assert(text != NULL || size == 0);
    assert(regex->sets != NULL);
    const char *const end = text + size;
    uint32_t *now = regex->sets;
    uint32_t *then = now + regex->count + 1;
    uint32_t *marks = then + regex->count + 1;
    memset(marks, 0, regex->count * sizeof *marks);
    uint32_t mark = 1;
    unsigned where = REGEX_AT_START | (size ? 0u : REGEX_AT_END);
    uint32_t count = regex_add(regex, now, 0, marks, mark, 0, where);
    while (text < end) {
        if (!is_whole && regex_accepts(regex, now, count)) return true;
        if (count == 0) return false;
        size_t bytes = 1;
        const uint32_t code = utf8_get(text, end, &bytes);
        text += bytes;
        mark++;
        where = text == end ? REGEX_AT_END : 0;
        uint32_t then_count = 0;
        for (uint32_t i = 0; i < count; i++) {
            if (!regex_has(regex, regex->steps + now[i], code)) continue;
            then_count = regex_add(regex, then, then_count, marks, mark, now[i] + 1, where);
        }
        if (!is_whole) then_count = regex_add(regex, then, then_count, marks, mark, 0, where);
        uint32_t *swap = now;
        now = then;
        then = swap;
        count = then_count;
    }
    return regex_accepts(regex, now, count);
}
