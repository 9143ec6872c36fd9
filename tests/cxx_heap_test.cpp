/* cxx_heap_test.cpp -- evh::heap, evh::commit_scope, evh::root and errors. */
#include "test.h"

#include <everheap.hpp>

#include <cstring>
#include <stdexcept>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

namespace
{

template <typename T> using list = std::vector<T, evh::allocator<T>>;

/* Has a constructor, so that a root of it is made, and counts what is made. */
struct counted {
    static int made, ended;
    int number;
    list<int> items;
    explicit counted(int start = 40) : number(start)
    {
        made++;
        if (start < 0) throw std::runtime_error("as asked");
    }
    counted(const counted &) = delete;
    ~counted()
    {
        ended++;
    }
};
int counted::made = 0, counted::ended = 0;

template <typename Work> evh_status status_of(Work &&work)
{
    try {
        work();
    } catch (const evh::error &failure) {
        CHECK(failure.what()[0] != 0 && failure.status() == failure.why().status);
        return failure.status();
    } catch (const evh::bad_alloc &failure) {
        CHECK(failure.what()[0] != 0 && failure.status() == failure.why().status);
        return failure.status();
    }
    return EVH_OK;
}

} // namespace

TEST(what_was_committed_is_there_when_the_heap_is_opened_again)
{
    const std::string path = test_path("again");
    for (unsigned run = 1; run <= 3; run++) {
        evh::heap heap(path);
        evh::root<unsigned> runs(heap, "runs");
        CHECK_EQUAL(++*runs, run);
        heap.commit();
        *runs = 99; /* not committed: gone with the heap */
    }
}

TEST(a_heap_that_cannot_be_opened_throws_the_status)
{
    evh_options options{};
    options.must_exist = true;
    const char *path = test_path("missing");
    CHECK_EQUAL(status_of([&] { evh::heap heap(path, options); }), EVH_NOT_FOUND);
    evh::heap none = evh::heap::try_open(path, options);
    CHECK(!none && evh_last_error()->status == EVH_NOT_FOUND);
    evh::heap heap(path);
    CHECK_EQUAL(status_of([&] { evh::heap second(path); }), EVH_BUSY);
    evh::heap moved = std::move(heap);
    CHECK(!heap && moved);
    heap = std::move(moved);
    CHECK(heap && !moved);
    evh_heap *raw = heap.release();
    CHECK(!heap && evh_close(raw) == EVH_OK);
    CHECK_EQUAL(status_of([&] { evh::heap().commit(); }), EVH_INVALID);
}

TEST(a_scope_that_is_left_by_an_exception_rolls_back)
{
    evh::heap heap(test_path("scope"));
    evh::root<int> number(heap, "number");
    *number = 1;
    heap.commit();
    try {
        evh::commit_scope scope(heap);
        *number = 2;
        throw std::runtime_error("half way");
    } catch (const std::runtime_error &) {
    }
    CHECK_EQUAL(*number, 1);
    {
        evh::commit_scope scope(heap);
        *number = 3;
        scope.commit();
        CHECK_EQUAL(status_of([&] { scope.commit(); }), EVH_INVALID);
    }
    CHECK_EQUAL(*number, 3);
    {
        evh::commit_scope scope(heap);
        *number = 4;
        scope.keep();
    }
    CHECK_EQUAL(*number, 4);
    heap.rollback();
    CHECK_EQUAL(*number, 3);
}

TEST(atomically_commits_what_returns_and_undoes_what_throws)
{
    const char *path = test_path("atomically");
    evh::heap heap(path);
    evh::root<int> number(heap, "number");
    CHECK_EQUAL(evh::atomically(heap, [&] { return *number = 5; }), 5);
    try {
        evh::atomically(heap, [&] {
            *number = 6;
            throw 7;
        });
    } catch (int) {
    }
    CHECK_EQUAL(*number, 5);
    heap.close();
    evh::heap again(path);
    CHECK_EQUAL(*evh::root<int>(again, "number"), 5);
}

TEST(half_a_change_that_could_not_be_undone_is_not_committed)
{
    evh::heap heap = evh::heap::in_memory(); /* which cannot roll back */
    heap.commit();
    {
        evh::commit_scope scope(heap);
    }
    CHECK_EQUAL(status_of([&] { heap.commit(); }), EVH_MODE);
    CHECK_EQUAL(heap.try_commit(), EVH_MODE);
    CHECK_EQUAL(status_of([&] { (void)heap.commit_begin(); }), EVH_MODE);
}

TEST(an_object_is_made_by_its_constructor_and_its_block_freed_if_that_throws)
{
    evh::heap heap = evh::heap::in_memory();
    const std::uint64_t before = heap.info().live_blocks;
    auto *object = heap.make<counted>(3);
    CHECK(object->number == 3 && evh_heap_of(object) == heap.get());
    object->items.assign(100, 1);
    heap.destroy(object);
    heap.destroy(static_cast<counted *>(nullptr));
    bool is_thrown = false;
    try {
        (void)heap.make<counted>(-1);
    } catch (const std::runtime_error &) {
        is_thrown = true;
    }
    CHECK(is_thrown);
    CHECK_EQUAL(heap.info().live_blocks, before);
    struct alignas(256) wide {
        char bytes[256];
    };
    CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(heap.make<wide>()) % 256, 0);
    struct pair {
        int one, two;
    };
    CHECK_EQUAL(heap.make<pair>(1, 2)->two, 2);
}

TEST(a_root_is_made_once_and_found_afterwards)
{
    const char *path = test_path("root");
    counted::made = 0;
    for (int run = 0; run < 3; run++) {
        evh::heap heap(path);
        evh::root<counted> root(heap, "counted", 10);
        CHECK_EQUAL(root->number, 10 + run);
        root->number++;
        root->items.push_back(run);
        CHECK_EQUAL(root->items.size(), run + 1);
        heap.commit();
    }
    CHECK_EQUAL(counted::made, 1);
}

TEST(a_root_whose_constructor_throws_is_made_by_the_next_try)
{
    evh::heap heap(test_path("throws"));
    try {
        evh::root<counted> root(heap, "counted", -1);
        CHECK(false);
    } catch (const std::runtime_error &) {
    }
    CHECK_EQUAL(evh::root<counted>(heap, "counted", 5)->number, 5);
}

TEST(a_root_is_ended_when_it_is_removed)
{
    evh::heap heap(test_path("removed"));
    CHECK(!evh::root<counted>::exists(heap, "it"));
    evh::root<int>(heap, "other");
    const std::uint64_t before = heap.info().live_blocks;
    evh::root<counted>(heap, "it")->items.assign(1000, 1);
    CHECK(evh::root<counted>::exists(heap, "it"));
    counted::ended = 0;
    evh::root<counted>::remove(heap, "it");
    evh::root<counted>::remove(heap, "it");
    CHECK_EQUAL(counted::ended, 1);
    CHECK(!evh::root<counted>::exists(heap, "it"));
    CHECK_EQUAL(heap.info().live_blocks, before);
}

TEST(a_root_of_another_type_is_refused)
{
    evh::heap heap(test_path("type"));
    evh::root<counted> right(heap, "counted");
    struct other {
        int a = 1;
    };
    CHECK_EQUAL(status_of([&] { evh::root<other> wrong(heap, "counted"); }), EVH_INVALID);
    evh::root<int> small(heap, "small");
    CHECK_EQUAL(status_of([&] { evh::root<counted> wrong(heap, "small"); }), EVH_INVALID);
    CHECK_EQUAL(status_of([&] { evh::root<int> wrong(heap, ""); }), EVH_INVALID);
    /* A block that says the right size and points nowhere. */
    auto *raw = static_cast<std::uint64_t *>(evh_root(heap.get(), "raw", 16));
    raw[1] = sizeof(counted);
    for (const std::uint64_t wild : {7ull, 0x7fffffffffffull, 99ull << 40, ~0ull}) {
        raw[0] = wild;
        CHECK_EQUAL(status_of([&] { evh::root<counted> wrong(heap, "raw"); }), EVH_CORRUPT);
    }
}

TEST(a_zeroed_root_is_the_same_in_c)
{
    evh::heap heap(test_path("in_c"));
    *evh::root<std::uint32_t>(heap, "runs") = 7;
    std::size_t size = 0;
    auto *runs = static_cast<std::uint32_t *>(evh_root_find(heap.get(), "runs", &size));
    CHECK(runs && *runs == 7 && size == sizeof *runs);
}

TEST(a_reader_sees_commits_and_may_not_write)
{
    const char *path = test_path("reader");
    evh::heap writer(path);
    evh::root<list<int>> numbers(writer, "numbers");
    numbers->assign({1, 2, 3});
    writer.commit();
    evh_options options{};
    options.mode = EVH_READ_ONLY;
    evh::heap reader(path, options);
    evh::root<list<int>> seen(reader, "numbers");
    CHECK(seen.get() != numbers.get() && seen->size() == 3 && (*seen)[2] == 3);
    CHECK_EQUAL(status_of([&] { evh::root<int> missing(reader, "missing"); }), EVH_READ_ONLY);
    CHECK_EQUAL(status_of([&] { seen->push_back(4); }), EVH_READ_ONLY);
    numbers->assign(1000, 5);
    writer.commit();
    reader.refresh();
    evh::root<list<int>> newer(reader, "numbers");
    CHECK(newer->size() == 1000 && newer->back() == 5);
}

TEST(another_heap_is_open_at_another_address_with_right_pointers)
{
    const std::string path = test_path("one"), copy = test_path("two");
    evh::heap heap(path);
    struct node {
        int number = 0;
        evh::ptr<node> next;
    };
    evh::root<evh::ptr<node>> head(heap, "head");
    for (int i = 0; i < 1000; i++) {
        node *made = heap.make<node>();
        made->number = i;
        made->next = *head;
        *head = made;
    }
    heap.save(copy.c_str());
    evh::heap other(copy);
    CHECK(other.info().address != heap.info().address);
    int expected = 1000;
    for (node *n = evh::root<evh::ptr<node>>(other, "head")->get(); n; n = n->next.get()) {
        CHECK(evh_heap_of(n) == other.get());
        CHECK_EQUAL(n->number, --expected);
    }
    CHECK_EQUAL(expected, 0);
}

TEST(processes_that_make_a_root_of_a_live_heap_at_once_get_the_same)
{
    const char *path = test_path("live");
    evh_options options{};
    options.mode = EVH_LIVE;
    {
        evh::heap heap(path, options);
        evh::root<std::atomic<int>> counter(heap, "counter");
        for (int i = 0; i < 4; i++) {
            const pid_t child = fork();
            CHECK(child >= 0);
            if (child == 0) {
                int status = 1;
                try {
                    evh::root<counted> root(heap, "counted", 100);
                    __atomic_fetch_add(&root->number, 1, __ATOMIC_RELAXED);
                    ++*counter;
                    status = 0;
                } catch (...) {
                }
                _exit(status);
            }
        }
        for (int i = 0; i < 4; i++) {
            int status = 1;
            CHECK(wait(&status) > 0);
            CHECK_EQUAL(status, 0);
        }
        CHECK_EQUAL(evh::root<counted>(heap, "counted", 0)->number, 104);
        CHECK_EQUAL(*counter, 4);
        heap.sync();
    }
    evh::heap again(path, options);
    CHECK_EQUAL(evh::root<counted>(again, "counted", 0)->number, 104);
}

TEST(a_commit_beside_threads_waits_for_their_brackets)
{
    const char *path = test_path("bracket");
    evh::heap heap(path);
    evh::root<long[2]> pair(heap, "pair");
    std::atomic<bool> is_done{false};
    std::thread writer([&] {
        while (!is_done) {
            const evh::bracket bracket(heap);
            (*pair)[0]++;
            (*pair)[1]++;
        }
    });
    for (int i = 0; i < 20; i++) heap.commit_wait(heap.commit_begin());
    heap.commit();
    is_done = true;
    writer.join();
    heap.checkpoint();
    heap.close();
    evh::heap again(path);
    evh::root<long[2]> found(again, "pair");
    CHECK_EQUAL((*found)[0], (*found)[1]);
    again.check();
}
