/* serve_page.c -- the page of `everheap serve`: serve_page.html, made a string by the build. */
#include "serve.h"

const char serve_page[] =
#include "serve_page.inc"
    ;
