/* json_parsers.cpp -- parsers in C++ that are installed: simdjson, RapidJSON, nlohmann. */
#include "json_peers.h"

#include <new>
#include <string>
#include <string_view>

#if __has_include(<simdjson.h>)
#include <simdjson.h>
#define HAVE_SIMDJSON 1
#endif
#if __has_include(<rapidjson/document.h>)
#include <rapidjson/document.h>
#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#define HAVE_RAPIDJSON 1
#endif
#if __has_include(<nlohmann/json.hpp>)
#include <nlohmann/json.hpp>
#define HAVE_NLOHMANN 1
#endif

namespace
{

#ifdef HAVE_SIMDJSON

void *simdjson_parse(const char *text, size_t size)
{
    auto *const parser = new simdjson::dom::parser;
    if (!parser->parse(text, size).error()) return parser;
    delete parser;
    return nullptr;
}

size_t simdjson_write(void *tree)
{
    auto *const parser = static_cast<simdjson::dom::parser *>(tree);
    return simdjson::minify(parser->doc.root()).size();
}

void simdjson_end(void *tree)
{
    delete static_cast<simdjson::dom::parser *>(tree);
}

#endif

#ifdef HAVE_RAPIDJSON

/* Exact doubles and checked UTF-8, as ours are. */
void *rapidjson_parse(const char *text, size_t size)
{
    auto *const document = new rapidjson::Document;
    constexpr unsigned flags = rapidjson::kParseFullPrecisionFlag |
                               rapidjson::kParseValidateEncodingFlag |
                               rapidjson::kParseIterativeFlag;
    document->Parse<flags>(text, size);
    if (!document->HasParseError()) return document;
    delete document;
    return nullptr;
}

size_t rapidjson_write(void *tree)
{
    rapidjson::StringBuffer buffer;
    rapidjson::Writer<rapidjson::StringBuffer> writer(buffer);
    static_cast<rapidjson::Document *>(tree)->Accept(writer);
    return buffer.GetSize();
}

void rapidjson_end(void *tree)
{
    delete static_cast<rapidjson::Document *>(tree);
}

#endif

#ifdef HAVE_NLOHMANN

void *nlohmann_parse(const char *text, size_t size)
{
    auto parsed = nlohmann::ordered_json::parse(text, text + size, nullptr, false);
    return parsed.is_discarded() ? nullptr : new nlohmann::ordered_json(std::move(parsed));
}

size_t nlohmann_write(void *tree)
{
    return static_cast<nlohmann::ordered_json *>(tree)->dump().size();
}

void nlohmann_end(void *tree)
{
    delete static_cast<nlohmann::ordered_json *>(tree);
}

#endif

} // namespace

extern "C" const json_parser json_parsers_cxx[] = {
#ifdef HAVE_SIMDJSON
    {"simdjson (DOM)", simdjson_parse, simdjson_write, simdjson_end},
#endif
#ifdef HAVE_RAPIDJSON
    {"RapidJSON", rapidjson_parse, rapidjson_write, rapidjson_end},
#endif
#ifdef HAVE_NLOHMANN
    {"nlohmann (ordered)", nlohmann_parse, nlohmann_write, nlohmann_end},
#endif
    {nullptr, nullptr, nullptr, nullptr},
};
