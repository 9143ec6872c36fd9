/* wordindex_cxx.cpp -- wordindex.c in C++: in which lines of which texts a word occurs.
 *
 * Usage: wordindex_cxx FILE add TEXT-FILE | find WORD | prefix BEGINNING
 *
 * The heap has the layout of wordindex.c's: each program reads what the other wrote.
 */
#include <everheap.hpp>

#include <cctype>
#include <cstdio>
#include <fstream>
#include <string>
#include <string_view>

struct place {
    evh::symbol text; /* the name of its file, there once */
    std::uint32_t line;
};

struct word_index {
    evh::tree<std::string_view, evh::vec<place>> words;
    evh::symbols sources; /* names of files */
};

/* A struct of collections is what its zero bytes are: so it is one root, as in C. */
template <> struct evh::is_zero_valid<word_index> : std::true_type {
};

/* Add the words of a line: letters and digits, in lower case. */
static void add_line(word_index &index, const std::string &line, place place)
{
    std::string word;
    for (const char letter : line + '\n') {
        const auto byte = static_cast<unsigned char>(letter);
        if (std::isalnum(byte)) {
            word += static_cast<char>(std::tolower(byte));
        } else if (!word.empty()) {
            index.words[word].push_back(place);
            word.clear();
        }
    }
}

static void add_file(word_index &index, const char *path)
{
    std::ifstream file(path);
    place place{index.sources.intern(path), 0};
    for (std::string line; std::getline(file, line);) {
        place.line++;
        add_line(index, line, place);
    }
}

/* All words from `begin` on that begin with it; only itself if `is_whole`. */
static void find(const word_index &index, std::string_view begin, bool is_whole)
{
    for (auto [word, places] : index.words.from(begin)) {
        if (word.substr(0, begin.size()) != begin) break;
        if (is_whole && word != begin) break;
        std::printf("%s:", word.data()); /* a zero follows the bytes of a key */
        for (const place &at : places)
            std::printf(" %s:%u", index.sources.text(at.text).data(), at.line);
        std::printf("\n");
    }
}

int main(int argc, char **argv)
{
    if (argc != 4) {
        std::fprintf(stderr,
                     "usage: wordindex_cxx FILE add TEXT-FILE | find WORD | prefix BEGINNING\n");
        return 2;
    }
    try {
        evh::heap heap(argv[1]);
        evh::root<word_index> index(heap, "index");
        const std::string_view what = argv[2];
        if (what == "add")
            evh::atomically(heap, [&] { add_file(*index, argv[3]); });
        else
            find(*index, argv[3], what == "find");
    } catch (const std::exception &failure) {
        std::fprintf(stderr, "wordindex: %s\n", failure.what());
        return 1;
    }
}
