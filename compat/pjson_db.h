/* pjson_db.h -- the calls of a persistent JSON database, pjson_db and node_view. */
#ifndef PJSON_DB_H
#define PJSON_DB_H

#include "pjson_memory.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

/*
 * For programs written for pjson_db, in C++17; header only, links libeverheap. What is different
 * underneath: a change is part of the next save(), all or nothing; what was not saved is lost with
 * the process, and kept by close() and the destructor. Names of nodes stay valid as evh_value says.
 * Objects keep the order of their members and are shown, and written, in the order of their keys.
 * Nothing throws: a view that is none says why by error(), a call that changes returns false and
 * last_error() says why. One thread at a time, as in db.h.
 */

enum node_tag : std::uint32_t {
    node_tag_null = 0,
    node_tag_boolean = 1,
    node_tag_integer = 2,
    node_tag_uinteger = 3,
    node_tag_real = 4, /* numbers that are kept as digits too */
    node_tag_string = 5,
    node_tag_binary = 6,
    node_tag_array = 7,
    node_tag_object = 8,
    node_tag_ref = 9,
};

enum class pjson_error { none, not_found, readonly, ref_cycle, ref_dangling, syntax, type, other };

namespace pjson_detail
{

inline pjson_error error_of(evh_status status)
{
    switch (status) {
    case EVH_OK: return pjson_error::none;
    case EVH_NOT_FOUND: return pjson_error::not_found;
    case EVH_READ_ONLY: return pjson_error::readonly;
    case EVH_CYCLE: return pjson_error::ref_cycle;
    case EVH_DANGLING: return pjson_error::ref_dangling;
    case EVH_SYNTAX: return pjson_error::syntax;
    case EVH_INVALID: return pjson_error::type;
    default: return pjson_error::other;
    }
}

} // namespace pjson_detail

/** Names a node; node_id{} and node_id{0} name none. */
class node_id
{
  public:
    node_id() = default;
    node_id(std::nullptr_t)
    {
    }
    node_id(int zero)
    {
        (void)zero;
    }
    explicit node_id(evh_value value) : value_(value)
    {
    }
    evh_value value() const
    {
        return value_;
    }
    explicit operator bool() const
    {
        return value_.container != 0;
    }
    friend bool operator==(const node_id &a, const node_id &b)
    {
        return a.value_.container == b.value_.container && a.value_.serial == b.value_.serial &&
               a.value_.position == b.value_.position;
    }
    friend bool operator!=(const node_id &a, const node_id &b)
    {
        return !(a == b);
    }

  private:
    evh_value value_ = {0, 0, 0};
};

/** A node, looked at. A view of none answers every question with "no", 0 or "". */
class node_view
{
  public:
    node_view() = default;
    node_view(evh_json *json, evh_value value) : json_(json), id_(value)
    {
        if (!id_) fail();
    }
    node_view(evh_node node) : node_view(node.json, node.value)
    {
    }

    node_id id() const
    {
        return id_;
    }
    bool valid() const
    {
        return json_ && id_ && type() != EVH_JSON_NONE;
    }
    bool is_error() const
    {
        return error_ != pjson_error::none;
    }
    pjson_error error() const
    {
        return error_;
    }

    node_tag tag() const
    {
        switch (type()) {
        case EVH_JSON_BOOLEAN: return node_tag_boolean;
        case EVH_JSON_INTEGER:
            return evh_json_integer(json_, id_.value(), nullptr) < 0 ? node_tag_integer
                                                                     : node_tag_uinteger;
        case EVH_JSON_UNSIGNED: return node_tag_uinteger;
        case EVH_JSON_REAL:
        case EVH_JSON_DIGITS: return node_tag_real;
        case EVH_JSON_STRING: return node_tag_string;
        case EVH_JSON_BYTES: return node_tag_binary;
        case EVH_JSON_ARRAY: return node_tag_array;
        case EVH_JSON_OBJECT: return node_tag_object;
        case EVH_JSON_REF: return node_tag_ref;
        default: return node_tag_null;
        }
    }
    bool is_null() const
    {
        return tag() == node_tag_null;
    }
    bool is_boolean() const
    {
        return tag() == node_tag_boolean;
    }
    bool is_integer() const
    {
        return type() == EVH_JSON_INTEGER;
    } /* of either sign */
    bool is_uinteger() const
    {
        return tag() == node_tag_uinteger;
    }
    bool is_real() const
    {
        return tag() == node_tag_real;
    }
    bool is_number() const
    {
        return is_integer() || is_uinteger() || is_real();
    }
    bool is_string() const
    {
        return tag() == node_tag_string;
    }
    bool is_binary() const
    {
        return tag() == node_tag_binary;
    }
    bool is_array() const
    {
        return tag() == node_tag_array;
    }
    bool is_object() const
    {
        return tag() == node_tag_object;
    }
    bool is_ref() const
    {
        return tag() == node_tag_ref;
    }

    bool as_bool() const
    {
        return json_ && evh_json_boolean(json_, id_.value(), nullptr);
    }
    std::int64_t as_int() const
    {
        return json_ ? evh_json_integer(json_, id_.value(), nullptr) : 0;
    }
    std::uint64_t as_uint() const
    {
        return json_ ? evh_json_unsigned(json_, id_.value(), nullptr) : 0;
    }
    double as_double() const
    {
        return json_ ? evh_json_real(json_, id_.value(), nullptr) : 0;
    }
    /** The bytes of a string, borrowed until it changes. */
    std::string_view as_string() const
    {
        return is_string() ? text() : std::string_view();
    }
    std::vector<unsigned char> as_binary() const
    {
        std::size_t size = 0;
        const void *bytes = json_ ? evh_json_bytes(json_, id_.value(), &size) : nullptr;
        const unsigned char *first = static_cast<const unsigned char *>(bytes);
        return bytes ? std::vector<unsigned char>(first, first + size)
                     : std::vector<unsigned char>();
    }
    std::string_view ref_path() const
    {
        return is_ref() ? text() : std::string_view();
    }
    /** What a ref leads to by one hop; none if it dangles. */
    node_id ref_target() const
    {
        return is_ref() ? deref(false).id() : node_id();
    }

    /** Items, members, bytes of a binary, bytes of a string. */
    std::size_t size() const
    {
        std::size_t size = 0;
        if (is_string()) return text().size();
        if (is_binary()) return evh_json_bytes(json_, id_.value(), &size) ? size : 0;
        return json_ ? evh_json_count(json_, id_.value()) : 0;
    }
    bool empty() const
    {
        return size() == 0;
    }

    node_view at(std::size_t index) const
    {
        if (!is_array() || index >= size()) return none(pjson_error::not_found);
        return node_view(json_, evh_json_at(json_, id_.value(), index));
    }
    node_view at(std::string_view key) const
    {
        if (!is_object()) return none(pjson_error::type);
        const evh_value member = evh_json_member(json_, id_.value(), key.data(), key.size());
        return evh_json_is(member) ? node_view(json_, member) : none(pjson_error::not_found);
    }
    node_view operator[](std::size_t index) const
    {
        return at(index);
    }
    node_view operator[](int index) const
    {
        return at(static_cast<std::size_t>(index));
    }
    node_view operator[](std::string_view key) const
    {
        return at(key);
    }
    node_view operator[](const char *key) const
    {
        return at(std::string_view(key));
    }

    /** The key, the value of member `index` in the order of the keys. Cost: sorts them. */
    std::string_view key_at(std::size_t index) const
    {
        const std::size_t position = sorted(index);
        std::size_t size = 0;
        const char *key =
            position == SIZE_MAX ? nullptr : evh_json_key(json_, id_.value(), position, &size);
        return key ? std::string_view(key, size) : std::string_view();
    }
    node_view value_at(std::size_t index) const
    {
        const std::size_t position = sorted(index);
        return position == SIZE_MAX ? none(pjson_error::not_found)
                                    : node_view(json_, evh_json_at(json_, id_.value(), position));
    }

    /** Follow a ref: to its end, or one hop. What is no ref is itself. */
    node_view deref(bool recursive = true, unsigned max_depth = 32) const
    {
        node_view at = *this;
        for (unsigned hop = 0; at.is_ref(); hop++) {
            if (hop >= max_depth) return none(pjson_error::ref_cycle);
            std::size_t size = 0;
            const char *path = evh_json_text(json_, at.id_.value(), &size);
            at = node_view(json_, evh_json_find(json_, evh_json_root(json_), path, size));
            if (at.is_error() && at.error_ == pjson_error::not_found)
                return none(pjson_error::ref_dangling);
            if (!recursive) break;
        }
        return at;
    }

    /** Compact text with sorted keys; with `indent` spaces for each level. */
    std::string dump(unsigned indent = 0) const
    {
        evh_json_write_options options = {};
        options.indent = indent;
        options.sort_keys = true;
        std::size_t size = 0;
        char *text = valid() ? evh_json_print(json_, id_.value(), &options, &size) : nullptr;
        std::string result(text ? text : "", size);
        std::free(text);
        return result;
    }

    friend bool operator==(const node_view &a, const node_view &b)
    {
        return a.id_ == b.id_;
    }
    friend bool operator!=(const node_view &a, const node_view &b)
    {
        return a.id_ != b.id_;
    }

    static node_view none(pjson_error error)
    {
        node_view view;
        view.error_ = error;
        return view;
    }

  private:
    evh_json_type type() const
    {
        return json_ && id_ ? evh_json_type_of(json_, id_.value()) : EVH_JSON_NONE;
    }
    std::string_view text() const
    {
        std::size_t size = 0;
        const char *text = evh_json_text(json_, id_.value(), &size);
        return text ? std::string_view(text, size) : std::string_view();
    }
    void fail()
    {
        error_ = pjson_detail::error_of(evh_last_error()->status);
    }
    /* The position of the member that is `index`th by key. */
    std::size_t sorted(std::size_t index) const
    {
        if (!is_object() || index >= size()) return SIZE_MAX;
        std::vector<std::pair<std::string_view, std::size_t>> keys;
        for (std::size_t i = 0; i < size(); i++) {
            std::size_t bytes = 0;
            const char *key = evh_json_key(json_, id_.value(), i, &bytes);
            keys.emplace_back(std::string_view(key ? key : "", bytes), i);
        }
        const auto nth = keys.begin() + static_cast<std::ptrdiff_t>(index);
        std::nth_element(keys.begin(), nth, keys.end());
        return nth->second;
    }

    evh_json *json_ = nullptr;
    node_id id_;
    pjson_error error_ = pjson_error::none;
};

/** A database in a file. */
class pjson_db
{
  public:
    struct string_match {
        std::string value;
        std::string path; /* of the string, or of the member with that key */
        node_id node;
        bool is_key;
    };

    /** What db[path] is: read as a node_view, written with =. */
    class element
    {
      public:
        element(pjson_db &db, std::string path) : db_(db), path_(std::move(path))
        {
        }
        template <class T> element &operator=(const T &value)
        {
            (void)db_.put(path_, value);
            return *this;
        }
        operator node_view() const
        {
            return db_.get(path_);
        }
        node_view view() const
        {
            return db_.get(path_);
        }

      private:
        pjson_db &db_;
        std::string path_;
    };

    pjson_db() = default;
    explicit pjson_db(const std::string &file, const char *root_name = "db.root")
    {
        (void)open(file, root_name);
    }
    pjson_db(const pjson_db &) = delete;
    pjson_db &operator=(const pjson_db &) = delete;
    ~pjson_db()
    {
        (void)close();
    }

    /** Open a file, or make it; its document is called `root_name`. */
    bool open(const std::string &file, const char *root_name = "db.root")
    {
        if (!close()) return false;
        evh_db_options options = {};
        options.name = root_name;
        db_ = evh_db_open(file.c_str(), &options);
        return done(db_ ? EVH_OK : evh_last_error()->status);
    }
    bool is_open() const
    {
        return db_ != nullptr;
    }
    /** Save and close. */
    bool close()
    {
        if (!db_) return true;
        const bool is_saved = save();
        return done(evh_db_close(std::exchange(db_, nullptr))) && is_saved;
    }
    /** Close without saving. */
    void discard()
    {
        (void)evh_db_close(std::exchange(db_, nullptr));
    }
    /** Make all changes durable, all or nothing. */
    bool save()
    {
        return done(evh_db_commit(db_));
    }
    /** Undo all changes since the last save. */
    bool rollback()
    {
        return done(evh_db_rollback(db_));
    }
    /** Empty: the document becomes null. */
    bool reset()
    {
        return done(evh_db_put_null(db_, ""));
    }
    evh_db *handle() const
    {
        return db_;
    }
    pjson_error last_error() const
    {
        return error_;
    }

    node_view root() const
    {
        return get("");
    }
    node_id root_id() const
    {
        return root().id();
    }
    node_view get(const std::string &path, bool deref_ref = true) const
    {
        if (!db_) return node_view::none(pjson_error::other);
        return node_view(deref_ref ? evh_db_get(db_, path.c_str())
                                   : evh_db_peek(db_, path.c_str()));
    }
    node_view find(const std::string &path) const
    {
        return get(path, false);
    }
    element operator[](const std::string &path)
    {
        return element(*this, path);
    }
    bool exists(const std::string &path) const
    {
        return db_ && evh_db_exists(db_, path.c_str());
    }

    bool put(const std::string &path, std::nullptr_t)
    {
        return done(evh_db_put_null(db_, path.c_str()));
    }
    bool put(const std::string &path, std::string_view text)
    {
        return done(evh_db_put_text(db_, path.c_str(), text.data(), text.size()));
    }
    bool put(const std::string &path, const char *text)
    {
        return text ? put(path, std::string_view(text)) : put(path, nullptr);
    }
    bool put(const std::string &path, const std::vector<unsigned char> &bytes)
    {
        return done(evh_db_put_bytes(db_, path.c_str(), bytes.data(), bytes.size()));
    }
    template <class T, class = std::enable_if_t<std::is_arithmetic_v<T>>>
    bool put(const std::string &path, T number)
    {
        if constexpr (std::is_same_v<T, bool>) {
            return done(evh_db_put_boolean(db_, path.c_str(), number));
        } else if constexpr (std::is_floating_point_v<T>) {
            const double real = static_cast<double>(number);
            if (!(real - real == 0)) return put(path, nullptr); /* NaN and infinities are null */
            return done(evh_db_put_real(db_, path.c_str(), real));
        } else if constexpr (std::is_signed_v<T>) {
            return done(evh_db_put_integer(db_, path.c_str(), number));
        } else {
            return done(evh_db_put_unsigned(db_, path.c_str(), number));
        }
    }
    bool put_json(const std::string &path, std::string_view text)
    {
        return done(evh_db_put_json(db_, path.c_str(), text.data(), text.size()));
    }
    bool put_ref(const std::string &path, const std::string &target)
    {
        return done(evh_db_put_ref(db_, path.c_str(), target.c_str()));
    }
    /** A copy of a node at `path`. */
    bool insert(const std::string &path, node_id node)
    {
        return done(evh_db_put_value(db_, path.c_str(), node.value()));
    }
    bool push_back(const std::string &path, std::string_view json)
    {
        evh_value item;
        evh_status status = evh_db_push(db_, path.c_str(), &item);
        if (status) return done(status);
        evh_json *document = evh_db_json(db_);
        status = evh_json_parse(document, item, json.data(), json.size(), nullptr, nullptr);
        if (status) (void)evh_json_erase(document, item);
        return done(status);
    }
    bool erase(const std::string &path)
    {
        return done(evh_db_erase(db_, path.c_str()));
    }

    /** The document becomes what a text, what a file says; it stays if that is no JSON. */
    bool parse(std::string_view text)
    {
        return put_json("", text);
    }
    bool parse_file(const std::string &file)
    {
        std::ifstream stream(file, std::ios::binary);
        if (!stream) return done(EVH_NOT_FOUND);
        return parse(std::string(std::istreambuf_iterator<char>(stream), {}));
    }
    std::string dump() const
    {
        return find("").dump();
    }
    std::string dump(const std::string &path, unsigned indent = 0) const
    {
        return find(path).dump(indent);
    }
    std::string dump(node_id node, unsigned indent = 0) const
    {
        return view(node).dump(indent);
    }
    node_view view(node_id node) const
    {
        return db_ ? node_view(evh_db_json(db_), node.value()) : node_view();
    }

    node_view resolve_ref(node_id node, unsigned max_depth = 32) const
    {
        return view(node).deref(true, max_depth);
    }
    /** Resolve every ref; the paths of those that lead nowhere, or in a ring. */
    std::vector<std::string> resolve_all_refs()
    {
        struct bad_refs refs = {this, {}};
        (void)done(evh_db_references_check(db_, true, note_reference, &refs));
        return refs.paths;
    }

    /** By the names of pjson_db, or those of /$metrics; none if there is no such metric. */
    node_view metrics(const std::string &name = "") const
    {
        static const char *const names[][2] = {
            {"node_count_total", "values"},
            {"string_count_total", "strings"},
            {"binary_bytes_total", "binary_bytes"},
            {"ref_count", "references"},
            {"array_count", "arrays"},
            {"object_count", "objects"},
            {"last_save_time", "last_commit"},
            {"pam_bump_offset", "heap/heap_bytes"},
            {"pam_free_list_size", "heap/free_bytes"},
            {"pam_total_size", "heap/file_bytes"},
        };
        const std::string tail = !name.empty() && name[0] == '/' ? name.substr(1) : name;
        for (const auto &pair : names)
            if (tail == pair[0]) return get(std::string("/$metrics/") + pair[1]);
        return get(tail.empty() ? "/$metrics" : "/$metrics/" + tail);
    }

    /** Keys and strings that contain `pattern`; "" is in all. */
    std::vector<string_match> search_strings(std::string_view pattern) const
    {
        struct matches found = {this, {}};
        if (db_)
            (void)evh_db_search(db_, pattern.data(), pattern.size(), nullptr, note_match, &found,
                                nullptr);
        return found.list;
    }
    std::vector<string_match> all_strings() const
    {
        return search_strings("");
    }

  private:
    struct matches {
        const pjson_db *db;
        std::vector<string_match> list;
    };
    struct bad_refs {
        const pjson_db *db;
        std::vector<std::string> paths;
    };
    static bool note_match(const evh_db_hit *hit, void *context)
    {
        struct matches *matches = static_cast<struct matches *>(context);
        matches->list.push_back({std::string(hit->text, hit->size), matches->db->path(hit->value),
                                 node_id(hit->value), hit->kind == EVH_DB_KEY});
        return true;
    }
    static bool note_reference(evh_value reference, evh_status, void *context)
    {
        struct bad_refs *refs = static_cast<struct bad_refs *>(context);
        refs->paths.push_back(refs->db->path(reference));
        return true;
    }
    std::string path(evh_value value) const
    {
        const std::size_t size = evh_db_path(db_, value, nullptr, 0);
        if (size == SIZE_MAX) return std::string();
        std::string path(size + 1, 0);
        (void)evh_db_path(db_, value, path.data(), path.size());
        path.resize(size);
        return path;
    }
    bool done(evh_status status)
    {
        error_ = pjson_detail::error_of(status);
        return status == EVH_OK;
    }

    evh_db *db_ = nullptr;
    pjson_error error_ = pjson_error::none;
};

#endif
