/* metrics.c -- /$metrics: the document's own counts, as a small document in memory.
 *
 * The counts are in the document's root and change with it, so that they are exact whatever
 * happened; here they are only told. What is under /$metrics/heap is counted when it is asked for.
 */
#include "db/db.h"
#include "os/os.h"

/* Set `key` of an object to a number. */
static evh_status metric_put(evh_json *json, evh_value object, const char *key, uint64_t number)
{
    assert(json != NULL);
    evh_value member;
    assert(key != NULL);
    const evh_status status = evh_json_put(json, object, key, strlen(key), &member);
    return status ? status : evh_json_set_unsigned(json, member, number);
}

struct metric {
    const char *name;
    uint64_t number;
};

static evh_status metrics_put(evh_json *json, evh_value object, const struct metric *metrics,
                              size_t count)
{
    assert(metrics != NULL);
    assert(count > 0);
    evh_status status = EVH_OK;
    for (size_t i = 0; i < count && !status; i++)
        status = metric_put(json, object, metrics[i].name, metrics[i].number);
    return status;
}

static evh_status metrics_of_document(struct evh_db *db, evh_value object)
{
    assert(db->metrics != NULL);
    assert(db->metrics != db->json);
    const struct json_root *root = db->json->root;
    const evh_symbols keys = {root->keys};
    const uint64_t *counts = root->counts;
    uint64_t values = 0;
    for (int type = JSON_NULL; type < JSON_TYPE_COUNT; type++) values += counts[type];
    const struct metric metrics[] = {
        {"values", values},
        {"nulls", counts[JSON_NULL]},
        {"booleans", counts[JSON_BOOLEAN]},
        {"numbers",
         counts[JSON_INTEGER] + counts[JSON_UNSIGNED] + counts[JSON_REAL] + counts[JSON_DIGITS]},
        {"strings", counts[JSON_STRING]},
        {"string_bytes", root->string_bytes},
        {"binaries", counts[JSON_BYTES]},
        {"binary_bytes", root->blob_bytes},
        {"arrays", counts[JSON_ARRAY]},
        {"objects", counts[JSON_OBJECT]},
        {"references", counts[JSON_REF]},
        {"index_bytes", trigrams_bytes(db->json)},
        {"keys", keys.offset ? evh_symbols_count(db->heap, &keys) : 0},
        {"changes", root->changes},
        {"last_commit", root->commit_time_ns / 1000000000u},
    };
    return metrics_put(db->metrics, object, metrics, sizeof metrics / sizeof metrics[0]);
}

static evh_status metrics_of_heap(struct evh_db *db, evh_value object)
{
    assert(db->metrics != NULL);
    assert(db->metrics_heap != db->heap);
    evh_info info;
    evh_value heap;
    evh_status status = evh_get_info(db->heap, &info);
    if (!status) status = evh_json_put(db->metrics, object, "heap", 4, &heap);
    if (!status) status = evh_json_set_object(db->metrics, heap);
    if (status) return status;
    const struct metric metrics[] = {
        {"file_bytes", info.file_bytes}, {"heap_bytes", info.heap_bytes},
        {"live_bytes", info.live_bytes}, {"live_blocks", info.live_blocks},
        {"free_bytes", info.free_bytes}, {"commit_sequence", info.commit_sequence},
    };
    heap = evh_json_member(db->metrics, object, "heap", 4);
    return metrics_put(db->metrics, heap, metrics, sizeof metrics / sizeof metrics[0]);
}

static evh_status metrics_begin(struct evh_db *db)
{
    if (db->metrics) assert(db->metrics_heap != NULL);
    if (db->metrics) return EVH_OK;
    if (!db->metrics_heap) db->metrics_heap = evh_open_memory(NULL, 16u << 20, NULL);
    if (!db->metrics_heap) return evh_last_error()->status;
    db->metrics = evh_json_open(db->metrics_heap, NULL);
    if (!db->metrics) return evh_last_error()->status;
    return evh_json_set_object(db->metrics, evh_json_root(db->metrics));
}

evh_node db_metrics(struct evh_db *db, const char *text, size_t size)
{
    assert(text != NULL);
    if (size > 0) assert(text[0] == '/');
    const evh_node none = {NULL, {0, 0, 0}};
    if (json_ready(db->json) || metrics_begin(db)) return none;
    const evh_value object = evh_json_root(db->metrics);
    evh_status status = metrics_of_document(db, object);
    const bool wants_heap = size == 0 || (size >= 5 && memcmp(text, "/heap", 5) == 0);
    if (!status && wants_heap) status = metrics_of_heap(db, object);
    if (status) return none;
    return (evh_node){db->metrics, evh_json_find(db->metrics, object, text, size)};
}
