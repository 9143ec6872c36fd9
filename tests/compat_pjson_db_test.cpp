/* compat_pjson_db_test.cpp -- what pjson_db and node_view promise, one by one. */
#include "pjson_db.h"
#include "test.h"

#include <cmath>
#include <limits>

namespace
{

std::string file()
{
    return test_path("pjson");
}

/* A database with this content. */
struct Database : pjson_db {
    explicit Database(const char *text = "null") : pjson_db(file())
    {
        CHECK(is_open());
        CHECK(parse(text));
    }
};

} // namespace

/* ---- nodes ---- */

TEST(a_view_of_nothing_answers_no)
{
    const node_view view;
    CHECK(!view.valid() && !view.id());
    CHECK(view.tag() == node_tag_null && view.is_null());
    CHECK(!view.as_bool() && view.as_int() == 0 && view.as_uint() == 0 && view.as_double() == 0);
    CHECK(view.as_string().empty() && view.size() == 0 && view.empty());
    CHECK(!view.at(0).valid() && !view.at("x").valid() && !view["x"][0].valid());
    CHECK(view.dump().empty() && view.key_at(0).empty() && !view.value_at(0).valid());
}

TEST(each_type_has_its_tag)
{
    Database db("{\"n\":null,\"b\":true,\"i\":-1,\"u\":1,\"r\":1.5,\"s\":\"x\","
                "\"y\":{\"$base64\":\"AAEC\"},\"a\":[],\"o\":{},\"f\":{\"$ref\":\"/s\"}}");
    const node_view root = db.root();
    CHECK(root["n"].tag() == node_tag_null && root["n"].valid());
    CHECK(root["b"].tag() == node_tag_boolean && root["i"].tag() == node_tag_integer);
    CHECK(root["u"].tag() == node_tag_uinteger && root["r"].tag() == node_tag_real);
    CHECK(root["s"].tag() == node_tag_string && root["y"].tag() == node_tag_binary);
    CHECK(root["a"].tag() == node_tag_array && root["o"].tag() == node_tag_object);
    CHECK(root["f"].tag() == node_tag_ref && root["f"].is_ref());
}

TEST(numbers_are_converted_by_truncation)
{
    Database db("[-1,2.75,18446744073709551615,\"7\"]");
    CHECK(db.root()[1].as_int() == 2 && db.root()[1].as_uint() == 2);
    CHECK(db.root()[0].as_double() == -1.0);
    CHECK(db.root()[2].as_uint() == UINT64_MAX);
    CHECK(db.root()[3].as_int() == 0);
}

TEST(a_bool_is_a_bool_only)
{
    Database db("[true,false,1,\"true\"]");
    CHECK(db.root()[0].as_bool() && !db.root()[1].as_bool());
    CHECK(!db.root()[2].as_bool() && !db.root()[3].as_bool());
}

TEST(numbers_of_every_type_are_numbers)
{
    Database db("[-1,1,1.5,\"1\",1e400]");
    CHECK(db.root()[0].is_number() && db.root()[1].is_number() && db.root()[2].is_number());
    CHECK(!db.root()[3].is_number() && db.root()[4].is_number());
}

TEST(a_string_is_its_bytes)
{
    Database db("[\"a\\u0000b\",\"\",1]");
    CHECK(db.root()[0].as_string() == std::string_view("a\0b", 3));
    CHECK(db.root()[0].size() == 3 && db.root()[1].empty());
    CHECK(db.root()[2].as_string().empty());
}

TEST(binary_is_read_and_written_as_base64)
{
    Database db;
    CHECK(db.put("/b", std::vector<unsigned char>{0, 1, 2}));
    CHECK(db.get("/b").is_binary() && db.get("/b").size() == 3);
    CHECK((db.get("/b").as_binary() == std::vector<unsigned char>{0, 1, 2}));
    CHECK(db.dump("/b") == "{\"$base64\":\"AAEC\"}");
}

TEST(items_are_found_by_their_index)
{
    Database db("[10,20]");
    CHECK(db.root().at(1).as_int() == 20 && db.root()[0].as_int() == 10);
    CHECK(!db.root().at(2).valid() && db.root().at(2).is_error());
    CHECK(!db.root().at("x").valid());
}

TEST(members_are_found_by_their_key)
{
    Database db("{\"b\":1,\"a\":2}");
    CHECK(db.root().at("a").as_int() == 2 && db.root()["b"].as_int() == 1);
    CHECK(db.root()["c"].error() == pjson_error::not_found);
    CHECK(!db.root().at(0).valid());
}

TEST(members_are_shown_in_the_order_of_their_keys)
{
    Database db("{\"b\":1,\"c\":3,\"a\":2}");
    CHECK(db.root().key_at(0) == "a" && db.root().key_at(1) == "b" && db.root().key_at(2) == "c");
    CHECK(db.root().value_at(0).as_int() == 2 && db.root().value_at(2).as_int() == 3);
    CHECK(db.root().key_at(3).empty() && !db.root().value_at(3).valid());
}

TEST(views_of_one_node_are_equal)
{
    Database db("{\"a\":[],\"b\":[]}");
    CHECK(db.get("/a") == db.get("/a") && db.get("/a") != db.get("/b"));
    CHECK(db.get("/a").id() == db.root()["a"].id());
}

/* ---- refs ---- */

TEST(a_ref_knows_its_path_and_its_target)
{
    Database db("{\"a\":{\"x\":1},\"r\":{\"$ref\":\"/a\"}}");
    const node_view ref = db.get("/r", false);
    CHECK(ref.ref_path() == "/a" && ref.ref_target() == db.get("/a").id());
    CHECK(db.get("/a").ref_path().empty() && !db.get("/a").ref_target());
}

TEST(what_is_no_ref_leads_to_itself)
{
    Database db("{\"a\":1}");
    CHECK(db.get("/a").deref() == db.get("/a"));
}

TEST(a_chain_is_followed_to_its_end_or_one_hop)
{
    Database db("{\"a\":{\"$ref\":\"/b\"},\"b\":{\"$ref\":\"/c\"},\"c\":5}");
    CHECK(db.get("/a").as_int() == 5);
    CHECK(db.find("/a").deref(true).as_int() == 5);
    CHECK(db.find("/a").deref(false).is_ref());
    CHECK(db.find("/a").deref(false).ref_path() == "/c");
}

TEST(a_ring_of_refs_is_an_error)
{
    Database db("{\"a\":{\"$ref\":\"/b\"},\"b\":{\"$ref\":\"/a\"}}");
    CHECK(!db.get("/a").valid() && db.get("/a").error() == pjson_error::ref_cycle);
    CHECK(db.find("/a").deref().error() == pjson_error::ref_cycle);
}

TEST(a_ref_to_itself_is_an_error)
{
    Database db("{\"a\":{\"$ref\":\"/a\"}}");
    CHECK(db.get("/a").error() == pjson_error::ref_cycle);
}

TEST(a_chain_longer_than_asked_for_is_an_error)
{
    Database db("{\"a\":{\"$ref\":\"/b\"},\"b\":{\"$ref\":\"/c\"},\"c\":5}");
    CHECK(db.find("/a").deref(true, 1).error() == pjson_error::ref_cycle);
    CHECK(db.resolve_ref(db.find("/a").id(), 2).as_int() == 5);
}

TEST(a_ref_to_nowhere_is_reported)
{
    Database db("{\"a\":{\"$ref\":\"/none\"},\"b\":{\"$ref\":\"/c\"},\"c\":5}");
    CHECK(db.get("/a").error() == pjson_error::ref_dangling);
    CHECK(db.find("/a").deref().error() == pjson_error::ref_dangling);
    CHECK(db.resolve_all_refs() == std::vector<std::string>{"/a"});
}

TEST(erasing_a_ref_leaves_its_target)
{
    Database db("{\"a\":{\"x\":1},\"r\":{\"$ref\":\"/a\"}}");
    CHECK(db.erase("/r") && db.get("/a/x").as_int() == 1);
}

TEST(a_ref_dangles_when_its_target_is_erased)
{
    Database db("{\"a\":{\"x\":1},\"r\":{\"$ref\":\"/a\"}}");
    CHECK(db.get("/r/x").as_int() == 1 && db.erase("/a"));
    CHECK(db.get("/r").error() == pjson_error::ref_dangling);
    CHECK(db.dump("/r") == "{\"$ref\":\"/a\"}");
}

TEST(an_object_with_more_than_a_ref_is_an_object)
{
    Database db("{\"a\":{\"$ref\":\"/b\",\"x\":1},\"b\":2}");
    CHECK(db.get("/a").is_object() && db.get("/a/x").as_int() == 1);
}

TEST(a_path_leads_through_refs)
{
    Database db("{\"a\":{\"x\":[1,2]},\"r\":{\"$ref\":\"/a\"}}");
    CHECK(db.get("/r/x/1").as_int() == 2 && db.put("/r/x/1", 3));
    CHECK(db.get("/a/x/1").as_int() == 3);
}

/* ---- paths and changes ---- */

TEST(a_put_makes_arrays_and_objects_on_its_way)
{
    Database db;
    CHECK(db.put("/a/b/0/c", "x") && db.dump() == "{\"a\":{\"b\":[{\"c\":\"x\"}]}}");
    CHECK(db.get("/a/b").is_array() && db.get("/a/b/0").is_object());
}

TEST(a_put_replaces_what_is_there)
{
    Database db("{\"a\":{\"b\":1}}");
    CHECK(db.put("/a", 2.5) && db.dump() == "{\"a\":2.5}");
}

TEST(values_of_every_type_are_put)
{
    Database db;
    CHECK(db.put("/a", true) && db.put("/b", -1) && db.put("/c", 1u) && db.put("/d", 0.5));
    CHECK(db.put("/e", std::string("s")) && db.put("/f", nullptr) && db.put("/g", INT64_MIN));
    CHECK(db.put("/h", UINT64_MAX) && db.put_ref("/i", "/a") && db.put_json("/j", "[1]"));
    CHECK(db.dump() == "{\"a\":true,\"b\":-1,\"c\":1,\"d\":0.5,\"e\":\"s\",\"f\":null,"
                       "\"g\":-9223372036854775808,\"h\":18446744073709551615,"
                       "\"i\":{\"$ref\":\"/a\"},\"j\":[1]}");
}

TEST(what_is_not_finite_is_put_as_null)
{
    Database db;
    CHECK(db.put("/a", std::nan("")) && db.put("/b", std::numeric_limits<double>::infinity()));
    CHECK(db.dump() == "{\"a\":null,\"b\":null}");
}

TEST(a_put_into_a_scalar_is_refused)
{
    Database db("{\"a\":1}");
    CHECK(!db.put("/a/b", 2) && db.last_error() == pjson_error::type);
    CHECK(!db.put("a", 2) && db.last_error() == pjson_error::syntax);
    CHECK(db.dump() == "{\"a\":1}");
}

TEST(erasing_takes_all_that_is_below)
{
    Database db("{\"a\":{\"b\":[1,2,{}]},\"c\":1}");
    CHECK(db.erase("/a") && db.dump() == "{\"c\":1}" && !db.exists("/a/b"));
    CHECK(!db.erase("/a") && db.last_error() == pjson_error::not_found);
    CHECK(db.metrics("node_count_total").as_uint() == 2);
}

TEST(erasing_an_item_closes_the_gap)
{
    Database db("[1,2,3]");
    CHECK(db.erase("/1") && db.dump() == "[1,3]" && !db.erase("/2"));
}

TEST(indices_are_decimal_without_leading_zeros)
{
    Database db("{\"a\":[1,2],\"o\":{\"01\":5}}");
    CHECK(!db.exists("/a/01") && !db.exists("/a/2") && !db.exists("/a/-1") && !db.exists("/a/x"));
    CHECK(db.get("/o/01").as_int() == 5);
}

TEST(brackets_read_and_write_paths)
{
    Database db;
    db["/a/0"] = 5;
    db["/b"] = "text";
    const node_view view = db["/a/0"];
    CHECK(view.as_int() == 5 && db["/b"].view().as_string() == "text");
}

TEST(a_node_is_inserted_as_a_copy)
{
    Database db("{\"a\":{\"x\":[1]}}");
    CHECK(db.insert("/b/c", db.get("/a").id()) && db.put("/a/x/0", 2));
    CHECK(db.dump() == "{\"a\":{\"x\":[2]},\"b\":{\"c\":{\"x\":[1]}}}");
}

TEST(values_are_pushed_to_the_end)
{
    Database db;
    CHECK(db.push_back("/a", "1") && db.push_back("/a", "{\"b\":2}"));
    CHECK(!db.push_back("/a", "{") && db.last_error() == pjson_error::syntax);
    CHECK(db.dump() == "{\"a\":[1,{\"b\":2}]}");
}

TEST(a_name_of_a_container_stays_when_others_change)
{
    Database db("{\"a\":{\"x\":1}}");
    const node_id id = db.get("/a").id();
    for (int i = 0; i < 3000; i++) CHECK(db.put("/k" + std::to_string(i), i));
    CHECK(db.view(id)["x"].as_int() == 1);
    CHECK(db.erase("/a") && !db.view(id).valid());
}

/* ---- text ---- */

TEST(text_is_compact_with_sorted_keys)
{
    Database db(" { \"b\" : [ 1 , 2 ] , \"a\" : { \"d\" : 1 , \"c\" : 2 } } ");
    CHECK(db.dump() == "{\"a\":{\"c\":2,\"d\":1},\"b\":[1,2]}");
    CHECK(db.dump("/b", 1) == "[\n 1,\n 2\n]");
}

TEST(reals_are_written_short_with_their_point)
{
    Database db("[100.0,1e100,0.1,-0.0]");
    CHECK(db.dump() == "[100.0,1e+100,0.1,-0.0]");
}

TEST(escapes_are_the_short_ones)
{
    Database db("[\"\\b\\f\\n\\r\\t\\\"\\\\\\u001f\\/\"]");
    CHECK(db.dump() == "[\"\\b\\f\\n\\r\\t\\\"\\\\\\u001f/\"]");
}

TEST(text_that_is_no_json_changes_nothing)
{
    Database db("{\"a\":1}");
    CHECK(!db.parse("{\"a\":") && db.last_error() == pjson_error::syntax);
    CHECK(!db.parse_file(test_path("none")) && db.last_error() == pjson_error::not_found);
    CHECK(db.dump() == "{\"a\":1}");
}

TEST(a_file_is_parsed)
{
    const std::string name = file();
    std::ofstream(name) << "{\"a\":[1,2]}";
    Database db;
    CHECK(db.parse_file(name) && db.get("/a/1").as_int() == 2);
}

TEST(many_nodes_go_there_and_back)
{
    std::string text = "[0";
    for (int i = 1; i < 20000; i++) text += "," + std::to_string(i);
    text += "]";
    Database db(text.c_str());
    CHECK(db.dump() == text && db.root().size() == 20000);
}

/* ---- files ---- */

TEST(what_was_saved_is_there_again)
{
    const std::string name = file();
    {
        pjson_db db(name);
        CHECK(db.put("/a/b", "kept") && db.save());
    }
    pjson_db db(name);
    CHECK(db.get("/a/b").as_string() == "kept");
}

TEST(closing_saves_and_discarding_does_not)
{
    const std::string name = file();
    pjson_db db(name);
    CHECK(db.put("/a", 1) && db.close() && !db.is_open());
    CHECK(db.open(name) && db.put("/b", 1));
    db.discard();
    CHECK(db.open(name) && db.dump() == "{\"a\":1}");
}

TEST(a_rollback_undoes_what_was_not_saved)
{
    pjson_db db(file());
    CHECK(db.put("/a", 1) && db.save() && db.put("/b", 2) && db.rollback());
    CHECK(db.dump() == "{\"a\":1}" && db.metrics("node_count_total").as_uint() == 2);
}

TEST(roots_of_other_names_are_other_databases)
{
    const std::string name = file();
    {
        pjson_db db(name, "one");
        CHECK(db.put("/a", 1));
    }
    {
        pjson_db db(name, "two");
        CHECK(db.root().is_null() && db.put("/a", 2));
    }
    pjson_db db(name, "one");
    CHECK(db.get("/a").as_int() == 1);
}

TEST(a_database_that_is_not_open_answers_no)
{
    pjson_db db;
    CHECK(!db.is_open() && !db.put("/a", 1) && !db.save() && !db.exists("/a"));
    CHECK(!db.get("/a").valid() && db.all_strings().empty() && db.dump().empty());
}

/* ---- metrics and search ---- */

TEST(metrics_count_what_is_there)
{
    Database db("{\"a\":[\"x\",{\"$base64\":\"AAEC\"}],\"r\":{\"$ref\":\"/a\"}}");
    CHECK(db.metrics("node_count_total").as_uint() == 5);
    CHECK(db.metrics("string_count_total").as_uint() == 1);
    CHECK(db.metrics("binary_bytes_total").as_uint() == 3);
    CHECK(db.metrics("ref_count").as_uint() == 1 && db.metrics("array_count").as_uint() == 1);
    CHECK(db.metrics("object_count").as_uint() == 1 && db.metrics("object_count").is_uinteger());
    CHECK(db.metrics("pam_total_size").as_uint() > 0 &&
          db.metrics("pam_bump_offset").as_uint() > 0);
    CHECK(db.save() && db.metrics("last_save_time").as_uint() > 1500000000);
    CHECK(!db.metrics("none").valid() && db.metrics().is_object());
}

TEST(metrics_are_read_only)
{
    Database db("{}");
    CHECK(!db.put("/$metrics/x", 1) && db.last_error() == pjson_error::readonly);
    CHECK(!db.erase("/$metrics") && db.last_error() == pjson_error::readonly);
    CHECK(!db.put("/$sys/x", 1) && db.last_error() == pjson_error::readonly);
    CHECK(db.get("/$metrics/objects").as_uint() == 1 && db.dump() == "{}");
}

TEST(strings_and_keys_are_searched)
{
    Database db("{\"name\":\"Alice\",\"list\":[\"named\",\"Bob\"]}");
    const auto found = db.search_strings("name");
    CHECK(found.size() == 2);
    CHECK(found[0].is_key && found[0].value == "name" && found[0].path == "/name");
    CHECK(!found[1].is_key && found[1].value == "named" && found[1].path == "/list/0");
    CHECK(db.view(found[1].node).as_string() == "named");
    CHECK(db.search_strings("zzz").empty() && db.all_strings().size() == 5);
}
