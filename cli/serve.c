/* serve.c -- `everheap serve`: a page on which a browser of this machine looks into a heap.
 *
 * Only programs of this machine can connect (the address is 127.0.0.1), and only those that know
 * the token in the printed URL get an answer: other users do not, and no page of another site.
 * Nothing can be changed: requests other than GET are refused, and the heap is opened read-only.
 *
 * libmicrohttpd is loaded when the command begins, not linked: other commands do not wait for it.
 */
#define _POSIX_C_SOURCE 200809L /* sigwait() */
#include "serve.h"

enum { SERVE_PORT };

#ifdef HAVE_MICROHTTPD

#include <arpa/inet.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* What is used of libmicrohttpd. */
static struct {
    struct MHD_Daemon *(*start)(unsigned, uint16_t, MHD_AcceptPolicyCallback, void *,
                                MHD_AccessHandlerCallback, void *, ...);
    void (*stop)(struct MHD_Daemon *);
    const union MHD_DaemonInfo *(*info)(struct MHD_Daemon *, enum MHD_DaemonInfoType, ...);
    struct MHD_Response *(*response)(size_t, void *, enum MHD_ResponseMemoryMode);
    void (*forget)(struct MHD_Response *);
    enum MHD_Result (*header)(struct MHD_Response *, const char *, const char *);
    enum MHD_Result (*queue)(struct MHD_Connection *, unsigned, struct MHD_Response *);
    const char *(*value)(struct MHD_Connection *, enum MHD_ValueKind, const char *);
} serve_library;

static void *serve_file;

#define SERVE_LOAD(member, name)                                                                   \
    cli_load(&serve_file, "libmicrohttpd.so.12", name, &serve_library.member,                      \
             sizeof serve_library.member)

static bool serve_load_all(void)
{
    return SERVE_LOAD(start, "MHD_start_daemon") && SERVE_LOAD(stop, "MHD_stop_daemon") &&
           SERVE_LOAD(info, "MHD_get_daemon_info") &&
           SERVE_LOAD(response, "MHD_create_response_from_buffer") &&
           SERVE_LOAD(forget, "MHD_destroy_response") &&
           SERVE_LOAD(header, "MHD_add_response_header") &&
           SERVE_LOAD(queue, "MHD_queue_response") &&
           SERVE_LOAD(value, "MHD_lookup_connection_value");
}

/* ---- requests ---- */

enum { SERVE_TOKEN_BYTES = 16, SERVE_TOKEN_SIZE = 2 * SERVE_TOKEN_BYTES };

struct serve_state {
    const char *heap_path;
    char token[SERVE_TOKEN_SIZE + 1];
};

/* Whether `url` begins with /TOKEN/, in a time that does not tell how much of it was right. */
static bool serve_is_allowed(const struct serve_state *state, const char *url)
{
    if (url[0] != '/' || strlen(url) < SERVE_TOKEN_SIZE + 2) return false;
    unsigned difference = 0;
    for (size_t i = 0; i < SERVE_TOKEN_SIZE; i++)
        difference |= (unsigned char)(url[i + 1] ^ state->token[i]);
    return difference == 0 && url[SERVE_TOKEN_SIZE + 1] == '/';
}

static const char *serve_value(struct MHD_Connection *connection, const char *name)
{
    const char *const value = serve_library.value(connection, MHD_GET_ARGUMENT_KIND, name);
    return value ? value : "";
}

static enum MHD_Result serve_send(struct MHD_Connection *connection, struct serve_answer answer)
{
    struct MHD_Response *const response =
        serve_library.response(answer.size, answer.text, MHD_RESPMEM_MUST_FREE);
    if (!response) {
        free(answer.text);
        return MHD_NO;
    }
    serve_library.header(response, "Content-Type", answer.type);
    serve_library.header(response, "Cache-Control", "no-store");
    serve_library.header(response, "Referrer-Policy", "no-referrer");
    serve_library.header(response, "X-Content-Type-Options", "nosniff");
    serve_library.header(
        response, "Content-Security-Policy",
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'");
    const enum MHD_Result result = serve_library.queue(connection, answer.status, response);
    serve_library.forget(response);
    return result;
}

static struct serve_answer serve_refuse(unsigned status, const char *why)
{
    struct serve_answer answer = {status, "text/plain; charset=utf-8", NULL, strlen(why)};
    answer.text = cli_resize(NULL, answer.size + 1, 1);
    memcpy(answer.text, why, answer.size + 1);
    return answer;
}

static enum MHD_Result serve_request(void *context, struct MHD_Connection *connection,
                                     const char *url, const char *method, const char *version,
                                     const char *upload, size_t *upload_size, void **own)
{
    const struct serve_state *const state = context;
    static int begun;
    (void)version;
    (void)upload;
    if (!*own) { /* the headers are there, the rest is not: answer when asked again */
        *own = &begun;
        return MHD_YES;
    }
    *upload_size = 0;
    if (!serve_is_allowed(state, url))
        return serve_send(connection, serve_refuse(MHD_HTTP_FORBIDDEN, "the URL is not right\n"));
    if (strcmp(method, "GET") != 0)
        return serve_send(connection,
                          serve_refuse(MHD_HTTP_METHOD_NOT_ALLOWED, "nothing can be changed\n"));
    const struct serve_question question = {
        .heap_path = state->heap_path,
        .what = url + SERVE_TOKEN_SIZE + 2,
        .path = serve_value(connection, "path"),
        .text = serve_value(connection, "text"),
        .skip = strtoull(serve_value(connection, "skip"), NULL, 10),
    };
    return serve_send(connection, serve_reply(&question));
}

/* ---- the command ---- */

static bool serve_make_token(char token[SERVE_TOKEN_SIZE + 1])
{
    unsigned char bytes[SERVE_TOKEN_BYTES];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes) return false;
    for (size_t i = 0; i < sizeof bytes; i++) snprintf(token + 2 * i, 3, "%02x", bytes[i]);
    return true;
}

static bool serve_nothing(evh_heap *heap, void *report)
{
    (void)report;
    return heap != NULL;
}

static enum cli_exit serve_run(const struct cli_request *request)
{
    struct serve_state state = {.heap_path = request->arguments[0]};
    evh_error error;
    if (cli_read(state.heap_path, serve_nothing, NULL, &error))
        return cli_complain(request, state.heap_path, &error);
    if (!serve_load_all() || !serve_make_token(state.token)) {
        fprintf(stderr, "everheap serve: libmicrohttpd is not installed (libmicrohttpd12)\n");
        return CLI_FAILED;
    }
    sigset_t ends; /* blocked before the server's thread begins, which inherits that */
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    sigprocmask(SIG_BLOCK, &ends, NULL);

    const struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)request->values[SERVE_PORT].number),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    struct MHD_Daemon *const daemon =
        serve_library.start(MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, serve_request, &state,
                            MHD_OPTION_SOCK_ADDR, &address, MHD_OPTION_CONNECTION_TIMEOUT, 30u,
                            MHD_OPTION_CONNECTION_LIMIT, 32u, MHD_OPTION_END);
    if (!daemon) {
        fprintf(stderr, "everheap serve: port %llu of 127.0.0.1 cannot be used\n",
                (unsigned long long)request->values[SERVE_PORT].number);
        return CLI_FAILED;
    }
    const union MHD_DaemonInfo *const bound = serve_library.info(daemon, MHD_DAEMON_INFO_BIND_PORT);
    printf("http://127.0.0.1:%u/%s/\n", bound ? bound->port : 0u, state.token);
    const enum cli_exit result = cli_finish(request, CLI_FINE);
    int signal = 0;
    if (result == CLI_FINE) sigwait(&ends, &signal);
    serve_library.stop(daemon);
    return result;
}

#else

static enum cli_exit serve_run(const struct cli_request *request)
{
    (void)request;
    fprintf(stderr, "everheap serve: built without libmicrohttpd (libmicrohttpd-dev)\n");
    return CLI_FAILED;
}

#endif

const struct cli_command cli_serve = {
    .name = "serve",
    .summary = "Serve a page that shows a heap, to browsers of this machine.",
    .description =
        "Prints a URL and serves it until it is interrupted: space, commits, figures over time,\n"
        "roots, the JSON document with search and references. The page shows the newest commit,\n"
        "also while a program writes. Only this machine can connect, and only with the URL, which\n"
        "has a new token each time. Nothing can be changed. What is at URL/metrics is OpenMetrics.",
    .arguments = {{"FILE", false, "the heap"}},
    .options = {{"port", 'p', CLI_NUMBER, "PORT", 0, "of 127.0.0.1; otherwise one that is free"}},
    .examples = {{"everheap serve app.heap", "prints the URL, and serves it until Ctrl-C"}},
    .is_text = true,
    .run = serve_run,
};
