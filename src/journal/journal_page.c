/* journal_page.c -- one page: compare it with its base, note what differs, put it together. */
#include "journal/journal_internal.h"

static const unsigned char page_of_zeroes[PAGE_BYTES];

static uint64_t page_word(const unsigned char *page, uint32_t word)
{
    assert(word < JOURNAL_PAGE_WORDS);
    assert(page != NULL);
    uint64_t value;
    memcpy(&value, page + 8 * word, sizeof value);
    return value;
}

void page_compare(const unsigned char *a, const unsigned char *b, uint64_t mask[JOURNAL_MASK_WORDS])
{
    assert(a != NULL);
    assert(b != NULL);
    for (uint32_t group = 0; group < JOURNAL_MASK_WORDS; group++) {
        const unsigned char *left = a + group * 512;
        const unsigned char *right = b + group * 512;
        uint64_t bits = 0;
        /* Most groups of a changed page are the same: one library call finds that out faster. */
        if (memcmp(left, right, 512) != 0)
            for (uint32_t i = 0; i < 64; i++)
                bits |= (uint64_t)(page_word(left, i) != page_word(right, i)) << i;
        mask[group] = bits;
    }
}

bool page_is_zero(const unsigned char *page)
{
    assert(page != NULL);
    return memcmp(page, page_of_zeroes, PAGE_BYTES) == 0;
}

const unsigned char *page_base(const struct journal *journal, const struct journal_node *node,
                               uint64_t page_number)
{
    if (node && node->image_in)
        return node->image_at == JOURNAL_ZERO_IMAGE ? page_of_zeroes
                                                    : node->image_in->data + node->image_at;
    assert(journal->region->home != NULL);
    assert(page_number < region_file_bytes(journal->region) >> PAGE_SHIFT);
    return journal->region->home + (page_number << PAGE_SHIFT);
}

/* Put the runs of ones in `mask` at `out`; how many. Where runs begin and where they end is a bit
 * each: a page that is changed in many places has no branch for each run that could go either way.
 */
static uint32_t page_write_runs(const uint64_t mask[JOURNAL_MASK_WORDS], unsigned char *out)
{
    assert(mask != NULL);
    assert(out != NULL);
    uint32_t begun = 0, ended = 0;
    for (uint32_t i = 0; i < JOURNAL_MASK_WORDS; i++) {
        const uint64_t before = i > 0 ? mask[i - 1] >> 63 : 0;
        const uint64_t behind = i + 1 < JOURNAL_MASK_WORDS ? mask[i + 1] << 63 : 0;
        uint64_t firsts = mask[i] & ~(mask[i] << 1 | before);
        for (; firsts; firsts &= firsts - 1) {
            const struct journal_range range = {(uint16_t)(64 * i + base_lowest_bit(firsts)), 0};
            memcpy(out + sizeof range * begun++, &range, sizeof range);
        }
        uint64_t finals = mask[i] & ~(mask[i] >> 1 | behind);
        for (; finals; finals &= finals - 1) {
            struct journal_range range;
            memcpy(&range, out + sizeof range * ended, sizeof range);
            range.word_count = (uint16_t)(64 * i + base_lowest_bit(finals) + 1 - range.first_word);
            memcpy(out + sizeof range * ended++, &range, sizeof range);
        }
    }
    assert(begun == ended);
    return begun;
}

uint32_t page_ranges_bytes(const uint64_t mask[JOURNAL_MASK_WORDS])
{
    assert(mask != NULL);
    uint32_t words = 0;
    uint32_t runs = 0;
    uint64_t carry = 0; /* the top bit of the group before: a run that goes on is counted once */
    for (uint32_t i = 0; i < JOURNAL_MASK_WORDS; i++) {
        words += base_count_bits(mask[i]);
        runs += base_count_bits(mask[i] & ~(mask[i] << 1 | carry));
        carry = mask[i] >> 63;
    }
    assert(words >= runs);
    assert(words <= JOURNAL_PAGE_WORDS);
    if (runs == 0) return 0;
    return (uint32_t)(sizeof(struct journal_ranges_head) +
                      base_round_up(runs * sizeof(struct journal_range), 8) + 8 * words);
}

uint32_t page_write_ranges(const unsigned char *page, const uint64_t mask[JOURNAL_MASK_WORDS],
                           unsigned char *out, uint32_t *count)
{
    assert(out != NULL);
    assert(page_ranges_bytes(mask) <= JOURNAL_RANGES_BYTES_MAX);
    memset(out, 0, sizeof(struct journal_ranges_head));
    uint32_t at = sizeof(struct journal_ranges_head);
    const uint32_t runs = page_write_runs(mask, out + at);
    const unsigned char *range_at = out + at;
    at += runs * (uint32_t)sizeof(struct journal_range);
    memset(out + at, 0, base_round_up(at, 8) - at);
    at = (uint32_t)base_round_up(at, 8);
    for (uint32_t i = 0; i < runs; i++, range_at += sizeof(struct journal_range)) {
        struct journal_range range;
        memcpy(&range, range_at, sizeof range);
        if (range.word_count == 1)
            memcpy(out + at, page + 8 * range.first_word, 8);
        else
            memcpy(out + at, page + 8 * range.first_word, 8u * range.word_count);
        at += 8u * range.word_count;
    }
    *count = runs;
    assert(at == page_ranges_bytes(mask));
    return at;
}

uint32_t page_ranges_checksum(const unsigned char *ranges)
{
    struct journal_ranges_head head;
    assert(ranges != NULL);
    memcpy(&head, ranges, sizeof head);
    return head.checksum;
}

/* The i-th of an entry's ranges. */
static struct journal_range page_range(const unsigned char *ranges, uint32_t i)
{
    assert(ranges != NULL);
    assert(i < JOURNAL_PAGE_WORDS);
    struct journal_range range;
    memcpy(&range, ranges + sizeof(struct journal_ranges_head) + i * sizeof range, sizeof range);
    return range;
}

/* Where the words of `count` ranges begin, from the start of the head. */
static uint64_t page_ranges_data(uint32_t count)
{
    assert(count > 0);
    assert(count <= JOURNAL_PAGE_WORDS);
    return sizeof(struct journal_ranges_head) +
           base_round_up(count * sizeof(struct journal_range), 8);
}

bool page_ranges_are_sound(const unsigned char *ranges, uint64_t size, uint32_t count)
{
    assert(ranges != NULL);
    if (count == 0 || count > JOURNAL_PAGE_WORDS) return false;
    uint64_t need = page_ranges_data(count);
    if (need > size) return false;
    uint32_t behind = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct journal_range range = page_range(ranges, i);
        if (range.word_count == 0 || range.first_word < behind) return false;
        behind = (uint32_t)range.first_word + range.word_count;
        if (behind > JOURNAL_PAGE_WORDS) return false;
        need += 8u * range.word_count;
    }
    assert(behind <= JOURNAL_PAGE_WORDS);
    return need <= size;
}

void page_apply_ranges(unsigned char *page, const unsigned char *ranges, uint32_t count,
                       uint64_t *mask)
{
    assert(count > 0);
    assert(count <= JOURNAL_PAGE_WORDS);
    assert(page != NULL || mask != NULL);
    const unsigned char *data = ranges + page_ranges_data(count);
    for (uint32_t i = 0; i < count; i++) {
        const struct journal_range range = page_range(ranges, i);
        const uint32_t end = (uint32_t)range.first_word + range.word_count;
        assert(range.word_count > 0);
        assert(end <= JOURNAL_PAGE_WORDS);
        if (page) memcpy(page + 8 * range.first_word, data, 8u * range.word_count);
        data += 8u * range.word_count;
        for (uint32_t word = range.first_word; mask && word < end; word++)
            mask[word / 64] |= 1ull << (word % 64);
    }
}

void page_ranges_span(const unsigned char *page, const unsigned char *ranges, uint32_t count,
                      uint32_t *first, uint32_t *behind)
{
    assert(count > 0);
    assert(count <= JOURNAL_PAGE_WORDS);
    const unsigned char *data = ranges + page_ranges_data(count);
    *first = *behind = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct journal_range range = page_range(ranges, i);
        const uint32_t end = (uint32_t)range.first_word + range.word_count;
        assert(end <= JOURNAL_PAGE_WORDS);
        for (uint32_t word = range.first_word; word < end; word++, data += 8) {
            if (memcmp(page + 8 * word, data, 8) == 0) continue;
            if (*behind == 0) *first = word;
            *behind = word + 1;
        }
    }
}

void page_compose(const struct journal *journal, const struct journal_node *node,
                  uint64_t page_number, unsigned char image[PAGE_BYTES])
{
    assert(image != NULL);
    assert(node == NULL || node->page == page_number);
    memcpy(image, page_base(journal, node, page_number), PAGE_BYTES);
    if (node && node->ranges_in)
        page_apply_ranges(image, node->ranges_in->data + node->ranges_at, node->ranges_count, NULL);
}

uint32_t page_checksum(const uint8_t uuid[16], uint64_t page, const unsigned char *image)
{
    assert(uuid != NULL);
    assert(image != NULL);
    uint32_t crc = base_crc32c(0, uuid, 16);
    crc = base_crc32c(crc, &page, sizeof page);
    crc = base_crc32c(crc, image, PAGE_BYTES);
    return crc < JOURNAL_SUM_FIRST ? crc + JOURNAL_SUM_FIRST : crc;
}
