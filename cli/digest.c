/* digest.c -- `everheap digest`: a hash of what a heap holds, wherever its blocks lie. */
#include "cli.h"

#include <string.h>

enum { DIGEST_BYTES = 32 };

static bool digest_collect(evh_heap *heap, void *report)
{
    return evh_digest(heap, report) == EVH_OK;
}

static void digest_text(const struct cli_request *request,
                        unsigned char digests[CLI_ARGUMENT_MAX][DIGEST_BYTES], int count)
{
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < DIGEST_BYTES; k++) printf("%02x", digests[i][k]);
        printf("  ");
        cli_put_escaped(stdout, request->arguments[i], strlen(request->arguments[i]));
        printf("\n");
    }
    if (count < 2) return;
    printf("%s\n", memcmp(digests[0], digests[1], DIGEST_BYTES) == 0 ? "same" : "different");
}

static void digest_json(const struct cli_request *request,
                        unsigned char digests[CLI_ARGUMENT_MAX][DIGEST_BYTES], int count)
{
    struct cli_json json;
    cli_json_begin(&json, stdout);
    cli_json_array(&json, "heaps");
    for (int i = 0; i < count; i++) {
        cli_json_object(&json, NULL);
        cli_json_string(&json, "path", request->arguments[i]);
        cli_json_hex(&json, "digest", digests[i], DIGEST_BYTES);
        cli_json_close(&json);
    }
    cli_json_close(&json);
    if (count == 2) {
        cli_json_bool(&json, "is_same", memcmp(digests[0], digests[1], DIGEST_BYTES) == 0);
    }
    cli_json_end(&json);
}

static enum cli_exit digest_run(const struct cli_request *request)
{
    unsigned char digests[CLI_ARGUMENT_MAX][DIGEST_BYTES];
    int count = 0;
    for (; count < CLI_ARGUMENT_MAX && request->arguments[count]; count++) {
        const char *const path = request->arguments[count];
        evh_error error;
        cli_progress_begin("hashing", path);
        const evh_status status = cli_read(path, digest_collect, digests[count], &error);
        cli_progress_end();
        if (status) return cli_complain(request, path, &error);
    }
    if (request->json)
        digest_json(request, digests, count);
    else
        digest_text(request, digests, count);
    const bool differ = count == 2 && memcmp(digests[0], digests[1], DIGEST_BYTES) != 0;
    return cli_finish(request, differ ? CLI_FINDINGS : CLI_FINE);
}

const struct cli_command cli_digest = {
    .name = "digest",
    .summary = "Hash a heap's live content, or compare two heaps.",
    .description = "The digest covers roots, blocks and references of the newest commit, "
                   "independent of where\n"
                   "the blocks lie: a heap and a copy that was laid out differently have the same "
                   "digest. A word\n"
                   "that names a live block counts as a reference. With two files: exit status 1 "
                   "if they differ.",
    .arguments = {{"FILE", false, "the heap"}, {"FILE2", true, "another heap to compare it with"}},
    .examples = {{"everheap digest app.heap", "one line: digest and path"},
                 {"everheap digest app.heap copy.heap",
                  "exit status 0: same content, 1: different"}},
    .run = digest_run,
};
