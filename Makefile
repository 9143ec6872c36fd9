# Makefile -- builds everheap. `make help` lists what it can do. Needs a C17 compiler, make and a C
# library; `make test` also python3. New files are found by wildcard: nothing here names them.
#
#   CC=clang        another compiler             WERROR=1   warnings are errors (CI)
#   CXX=clang++     another C++ compiler, for what is in C++ (tests, examples; the library is not)
#   BUILD=dir       another build directory      V=1        show the commands
#   EFFORT=n        scale random tests by n      SEED=n     repeat a random test

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

ifeq ($(origin CC),default)
CC := cc
endif
# The C++ compiler beside the C compiler, unless one is named. Without one, what needs it is left out.
ifeq ($(origin CXX),default)
CXX := $(if $(findstring clang,$(CC)),$(subst clang,clang++,$(CC)),$(if $(findstring \
	gcc,$(CC)),$(subst gcc,g++,$(CC)),c++))
endif
HAS_CXX := $(shell command -v $(firstword $(CXX)) >/dev/null 2>&1 && echo yes)
AR ?= ar
PYTHON ?= python3
BUILD ?= build
PREFIX ?= /usr/local
prefix ?= $(PREFIX)
bindir ?= $(prefix)/bin
includedir ?= $(prefix)/include
libdir ?= $(prefix)/lib
datadir ?= $(prefix)/share
mandir ?= $(datadir)/man
zshdir ?= $(datadir)/zsh/site-functions
preloaddir ?= $(libdir)
PROCESSORS := $(shell nproc 2>/dev/null || echo 2)
Q := $(if $(V),,@)

VERSION := $(shell sed -n 's/^\#define EVH_VERSION_\(MAJOR\|MINOR\|PATCH\) //p' \
	include/everheap/heap.h | paste -sd .)
LAYERS := $(shell sed '/^\#/d;/^$$/d' src/layers.txt)

STANDARD := -std=c17 -Wall -Wextra -Wconversion -Wshadow $(if $(WERROR),-Werror)
CXX_STANDARD := -std=c++17 -Wall -Wextra -Wconversion -Wshadow $(if $(WERROR),-Werror)
CODE := -fPIC -fvisibility=hidden -ftls-model=initial-exec -pthread
RELEASE := -O2 -g -DNDEBUG
DEBUG := -O1 -g
LIBRARY_PATHS := -Iinclude -Isrc
PUBLIC_PATHS := -Iinclude -Icompat
TEST_PATHS := -Iinclude -Isrc -Icompat -Itests -Itests/support -D_GNU_SOURCE
# C++'s own library has a <debug/debug.h>, which comes before ours.
CXX_TEST_PATHS := $(TEST_PATHS:-Isrc=-idirafter src)

LIBRARY_SOURCES := $(foreach layer,$(LAYERS),$(sort $(wildcard src/$(layer)/*.c)))
PUBLIC_HEADERS := $(sort $(wildcard include/everheap/*.h))
HEADERS := $(sort $(wildcard include/*.h include/*/*.h include/*.hpp include/*/*.hpp src/*/*.h))
CLI_SOURCES := $(sort $(wildcard cli/*.c))
TEST_SOURCES := $(sort $(wildcard tests/*_test.c) $(if $(HAS_CXX),$(wildcard tests/*_test.cpp)))
SUPPORT_SOURCES := $(sort $(filter-out %_test.c,$(wildcard tests/*.c)) $(wildcard tests/support/*.c))
PROGRAM_SOURCES := $(sort $(wildcard tests/programs/*.c))
# Of examples and benchmarks, each file with a main() is a program; the others are linked to all.
with_main = $(sort $(shell grep -l '^int main\b' /dev/null $(wildcard $(1)/*.c)))
EXAMPLE_SOURCES := $(call with_main,examples)
EXAMPLE_SUPPORT := $(filter-out $(EXAMPLE_SOURCES),$(wildcard examples/*.c))
CXX_EXAMPLE_SOURCES := $(if $(HAS_CXX),$(sort $(wildcard examples/*.cpp)))
BENCH_SOURCES := $(call with_main,bench)
BENCH_SUPPORT := $(filter-out $(BENCH_SOURCES),$(wildcard bench/*.c))
CXX_BENCH_SOURCES := $(if $(HAS_CXX),bench/compat_bench.cpp) # the others are built by their own rules

TESTS := $(addprefix $(BUILD)/,$(basename $(TEST_SOURCES)))
PROGRAMS := $(PROGRAM_SOURCES:%.c=$(BUILD)/%)
EXAMPLES := $(addprefix $(BUILD)/,$(basename $(EXAMPLE_SOURCES) $(CXX_EXAMPLE_SOURCES)))
BENCHES := $(addprefix $(BUILD)/,$(basename $(BENCH_SOURCES) $(CXX_BENCH_SOURCES)))
COMMAND := $(if $(CLI_SOURCES),$(BUILD)/everheap)

# ---- flavours: the same sources, compiled for different purposes ------------------------------------
#
# $(call flavour,name,flags,where): objects in $(BUILD)/objects/name, the library as
# $(BUILD)/objects/name/libeverheap.a, test binaries in where/tests.

define flavour
$(BUILD)/objects/$(1)/src/%.o: src/%.c
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  CC    $(1) $$<")
	$$(Q)$$(CC) $$(STANDARD) $$(CODE) $(2) $$(LIBRARY_PATHS) $$(CPPFLAGS) $$(CFLAGS) -MMD -MP -c $$< -o $$@

$(BUILD)/objects/$(1)/tests/%.o: tests/%.c
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  CC    $(1) $$<")
	$$(Q)$$(CC) $$(STANDARD) -pthread $(2) $$(TEST_PATHS) $$(CPPFLAGS) $$(CFLAGS) -MMD -MP -c $$< -o $$@

$(BUILD)/objects/$(1)/tests/%.cpp.o: tests/%.cpp
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  CXX   $(1) $$<")
	$$(Q)$$(CXX) $$(CXX_STANDARD) -pthread $(2) $$(CXX_TEST_PATHS) $$(CPPFLAGS) $$(CXXFLAGS) -MMD -MP -c $$< -o $$@

$(BUILD)/objects/$(1)/libeverheap.a: $$(LIBRARY_SOURCES:%.c=$(BUILD)/objects/$(1)/%.o)
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$^

$(BUILD)/objects/$(1)/libsupport.a: $$(SUPPORT_SOURCES:%.c=$(BUILD)/objects/$(1)/%.o)
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$^

$(3)/tests/%_test: $(BUILD)/objects/$(1)/tests/%_test.o $(BUILD)/objects/$(1)/libsupport.a \
		$(BUILD)/objects/$(1)/libeverheap.a
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  LINK  $$@")
	$$(Q)$$(CC) -pthread $(2) $$(LDFLAGS) $$^ $$(LDLIBS) -o $$@

$(3)/tests/%_test: $(BUILD)/objects/$(1)/tests/%_test.cpp.o $(BUILD)/objects/$(1)/libsupport.a \
		$(BUILD)/objects/$(1)/libeverheap.a
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  LINK  $$@")
	$$(Q)$$(CXX) -pthread $(2) $$(LDFLAGS) $$^ $$(LDLIBS) -o $$@

$(3)/tests/programs/%: $(BUILD)/objects/$(1)/tests/programs/%.o $(BUILD)/objects/$(1)/libsupport.a \
		$(BUILD)/objects/$(1)/libeverheap.a
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  LINK  $$@")
	$$(Q)$$(CC) -pthread $(2) $$(LDFLAGS) $$^ $$(LDLIBS) -o $$@
endef

# $(call sanitized_examples,name,flags): examples of one file, as $(BUILD)/name/examples/...
define sanitized_examples
$(BUILD)/$(1)/examples/%: examples/%.c $(BUILD)/objects/$(1)/libeverheap.a
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  CC    $(1) $$<")
	$$(Q)$$(CC) $$(STANDARD) -pthread $(2) $$(PUBLIC_PATHS) $$(CPPFLAGS) $$(CFLAGS) $$(LDFLAGS) \
		-MMD -MP -MF $$@.d $$(filter %.c %.cpp %.a,$$^) $$(LDLIBS) -o $$@

$(BUILD)/$(1)/examples/%: examples/%.cpp $(BUILD)/objects/$(1)/libeverheap.a
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  CXX   $(1) $$<")
	$$(Q)$$(CXX) $$(CXX_STANDARD) -pthread $(2) $$(PUBLIC_PATHS) $$(CPPFLAGS) $$(CXXFLAGS) $$(LDFLAGS) \
		-MMD -MP -MF $$@.d $$(filter %.c %.cpp %.a,$$^) $$(LDLIBS) -o $$@
endef

# Heaps that tell ASan of their blocks leave their fast paths, which are to be tested, too.
ASAN := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all \
	-DEVERHEAP_HEAPS_UNANNOTATED=1
TSAN := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
# Children that tests fork end with _exit(), which would lose what they counted: see test.c.
COVER := -O0 -g -DNDEBUG --coverage -fprofile-update=atomic -D_exit=test_exit -DTEST_COVERAGE
# Planted bugs are built without assertions: the simulator must find them, not an assert().
PLANTS := 1 2 3 4 5 6 7 8 9 10 11 12 22 23 24

$(eval $(call flavour,release,$(RELEASE),$(BUILD)/release))
$(eval $(call flavour,debug,$(DEBUG),$(BUILD)))
$(eval $(call flavour,asan,$(ASAN),$(BUILD)/asan))
$(eval $(call flavour,tsan,$(TSAN),$(BUILD)/tsan))
$(eval $(call flavour,cover,$(COVER),$(BUILD)/cover))
$(eval $(call sanitized_examples,asan,$(ASAN)))
$(eval $(call sanitized_examples,tsan,$(TSAN)))
$(foreach n,$(PLANTS),$(eval $(call flavour,plant$(n),-O1 -g -DNDEBUG -DEVERHEAP_PLANT=$(n),$(BUILD)/plant$(n))))
.SECONDARY:

# Tests of interleavings (explore_*_test.c) and the library below them are compiled for
# ThreadSanitizer, but linked with tests/support/interleave_hooks.c in its place. The support code is
# the debug build's.
EXPLORED := -O1 -g -fsanitize=thread -DEVERHEAP_EXPLORE \
	$(addprefix -fno-builtin-,memcpy memmove memset memcmp)
WRAPPED := -Wl,--wrap=memcpy,--wrap=memmove,--wrap=memset,--wrap=memcmp

$(BUILD)/objects/explore/src/%.o: src/%.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    explore $<")
	$(Q)$(CC) $(STANDARD) $(CODE) $(EXPLORED) $(LIBRARY_PATHS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/objects/explore/tests/%.o: tests/%.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    explore $<")
	$(Q)$(CC) $(STANDARD) -pthread $(EXPLORED) $(TEST_PATHS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/objects/explore/libeverheap.a: $(LIBRARY_SOURCES:%.c=$(BUILD)/objects/explore/%.o)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

$(BUILD)/tests/explore_%_test: $(BUILD)/objects/explore/tests/explore_%_test.o \
		$(BUILD)/objects/debug/libsupport.a $(BUILD)/objects/explore/libeverheap.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(CC) -pthread $(WRAPPED) $(LDFLAGS) $^ $(LDLIBS) -o $@

# What is installed: $(call has,header,library).
HASH := \#
has = $(shell printf '$(HASH)include <stdio.h>\n$(HASH)include <$(1)>\nint main(void) { return 0; }\n' | \
	$(CC) -x c - $(2) -o /dev/null 2>/dev/null && echo yes)

# The library as it is under a program that is compiled for ASan.
HAS_ASAN := $(call has,sanitizer/asan_interface.h,-fsanitize=address)
ifneq ($(HAS_ASAN),)
PROGRAMS += $(BUILD)/tests/programs/annotated_program_asan
endif
$(BUILD)/tests/programs/annotated_program_asan: tests/programs/annotated_program.c $(BUILD)/libeverheap.a
	@mkdir -p $(@D)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(CC) $(STANDARD) -D_GNU_SOURCE -pthread -O1 -g -fsanitize=address $(PUBLIC_PATHS) $(CPPFLAGS) $(CFLAGS) \
		$(LDFLAGS) $^ $(LDLIBS) -o $@

# One test asks jansson too, where it is.
HAS_JANSSON := $(call has,jansson.h,-ljansson)
ifneq ($(HAS_JANSSON),)
$(BUILD)/objects/%/tests/json_differential_test.o: CPPFLAGS += -DHAVE_JANSSON=1
$(BUILD)/tests/json_differential_test $(BUILD)/%/tests/json_differential_test: LDLIBS += -ljansson
endif

# ---- what users get -----------------------------------------------------------------------------

.PHONY: all
all: $(BUILD)/libeverheap.a $(BUILD)/libeverheap.so $(BUILD)/libeverheap-malloc.so $(COMMAND) ## build the libraries and the command (the default)

$(BUILD)/libeverheap.a: $(LIBRARY_SOURCES:%.c=$(BUILD)/objects/release/%.o)
	@rm -f $@
	$(if $(V),,@echo "  AR    $@")
	$(Q)$(AR) rcs $@ $^

$(BUILD)/everheap.map: $(PUBLIC_HEADERS) tools/symbols.sh
	@mkdir -p $(@D)
	$(Q)sh tools/symbols.sh map $(PUBLIC_HEADERS) >$@

$(BUILD)/libeverheap.so: $(LIBRARY_SOURCES:%.c=$(BUILD)/objects/release/%.o) $(BUILD)/everheap.map tools/exports.sh
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(CC) -shared -pthread $(RELEASE) -Wl,-soname,libeverheap.so.0 -Wl,-z,defs \
		-Wl,--version-script=$(BUILD)/everheap.map $(LDFLAGS) $(filter %.o,$^) $(LDLIBS) -o $@
	$(Q)sh tools/exports.sh $@ $(PUBLIC_HEADERS)

# malloc() itself, for LD_PRELOAD: the library with its own needs met by preload/own.c, one object.
PRELOAD_SOURCES := $(sort $(wildcard preload/*.c))
PRELOAD_OWN := -Dmalloc=own_malloc -Dcalloc=own_calloc -Drealloc=own_realloc -Dfree=own_free
PRELOAD_LIBRARY := $(LIBRARY_SOURCES:%.c=$(BUILD)/objects/preload/%.o)
# What a program needs comes first and together: the kernel maps 64 KiB around each page that is used.
PRELOAD_HOT := $(foreach file,magazine owners allocate threads remote slices slices_pool slices_runs slices_grow \
	slices_load heap_memory heap_open heap_table heap_ranges heap_debug heap_discard roots size_class,$(BUILD)/objects/preload/src/heap/$(file).o)
PRELOAD_FIRST := $(PRELOAD_SOURCES:%.c=$(BUILD)/objects/%.o) $(PRELOAD_HOT) \
	$(foreach layer,region base os,$(filter $(BUILD)/objects/preload/src/$(layer)/%,$(PRELOAD_LIBRARY)))
PRELOAD_LAST := $(filter-out $(PRELOAD_FIRST),$(PRELOAD_LIBRARY))
# These two have functions that the first need, too; where the compiler keeps them elsewhere, it finds them last.
PRELOAD_ARCHIVES = $(wildcard $(shell $(CC) -print-libgcc-file-name) $(shell $(CC) -print-file-name=libc_nonshared.a))
$(filter-out $(PRELOAD_HOT),$(PRELOAD_LIBRARY)): CFLAGS += -Os

# What malloc() never calls (the journal, most of all) is left out: it would count as memory used.
PRELOAD_SECTIONS := -ffunction-sections -fdata-sections
$(eval $(call flavour,preload,$(RELEASE) $$(PRELOAD_SECTIONS) $$(PRELOAD_OWN),$(BUILD)/preload))
$(BUILD)/objects/preload/%.o: preload/%.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    $<")
	$(Q)$(CC) $(STANDARD) $(CODE) $(RELEASE) -D_GNU_SOURCE -fno-builtin-malloc $(LIBRARY_PATHS) -Ipreload \
		$(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/libeverheap-malloc.so: $(PRELOAD_FIRST) $(PRELOAD_LAST) preload/malloc.map
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(CC) -shared -pthread $(RELEASE) -Wl,-z,defs -Wl,-z,initfirst -Wl,--gc-sections \
		-Wl,--version-script=preload/malloc.map $(LDFLAGS) \
		$(PRELOAD_FIRST) $(PRELOAD_ARCHIVES) $(PRELOAD_LAST) $(LDLIBS) -o $@

# $(call programs,folder,compile flags,link flags,sources without main): objects, then a program for
# each source with a main, linked with those of the others that it needs.
define programs
$(BUILD)/objects/$(1)/%.o: $(1)/%.c
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  CC    $$<")
	$$(Q)$$(CC) $$(STANDARD) -pthread $$(RELEASE) -I$(1) $$(PUBLIC_PATHS) $(2) $$(CPPFLAGS) $$(CFLAGS) \
		-MMD -MP -c $$< -o $$@

$(BUILD)/objects/$(1)/%.cpp.o: $(1)/%.cpp
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  CXX   $$<")
	$$(Q)$$(CXX) $$(CXX_STANDARD) -pthread $$(RELEASE) -I$(1) $$(PUBLIC_PATHS) $(2) $$(CPPFLAGS) $$(CXXFLAGS) \
		-MMD -MP -c $$< -o $$@

$(BUILD)/objects/$(1)/libshared.a: $(4:%.c=$(BUILD)/objects/%.o)
	@rm -f $$@
	$$(Q)$$(AR) rcs $$@ $$^

$(BUILD)/$(1)/%: $(BUILD)/objects/$(1)/%.o $(BUILD)/objects/$(1)/libshared.a $(BUILD)/libeverheap.a
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  LINK  $$@")
	$$(Q)$$(CC) -pthread $$(RELEASE) $$(LDFLAGS) $$^ $(3) $$(LDLIBS) -o $$@

$(BUILD)/$(1)/%: $(BUILD)/objects/$(1)/%.cpp.o $(BUILD)/libeverheap.a
	@mkdir -p $$(@D)
	$$(if $$(V),,@echo "  LINK  $$@")
	$$(Q)$$(CXX) -pthread $$(RELEASE) $$(LDFLAGS) $$^ $(3) $$(LDLIBS) -o $$@
endef

# The shell of `everheap json` edits lines where libedit is; it is loaded then, not linked.
HAS_EDITLINE := $(call has,editline/readline.h)
# Nor is what `everheap serve` needs.
HAS_MICROHTTPD := $(call has,microhttpd.h,)
$(eval $(call programs,cli,$(if $(HAS_EDITLINE),-DHAVE_EDITLINE=1) $(if $(HAS_MICROHTTPD),-DHAVE_MICROHTTPD=1) \
	-I$(BUILD)/generated,,))
$(BUILD)/generated/serve_page.inc: cli/serve_page.html tools/quote.sh
	@mkdir -p $(@D)
	$(Q)sh tools/quote.sh $< >$@
$(BUILD)/objects/cli/serve_page.o: $(BUILD)/generated/serve_page.inc
$(eval $(call programs,examples,,,$(EXAMPLE_SUPPORT)))
$(eval $(call programs,bench,-D_GNU_SOURCE $$(BENCH_DEFINES),$$(BENCH_LIBRARIES),$(BENCH_SUPPORT)))

$(BUILD)/everheap: $(CLI_SOURCES:%.c=$(BUILD)/objects/%.o) $(BUILD)/libeverheap.a
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(CC) -pthread $(RELEASE) $(LDFLAGS) $^ $(LDLIBS) -o $@

# ---- bindings: built where the headers of the other language are ----------------------------------------

PYTHON_INCLUDE = $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null)
PYTHON_SUFFIX = $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))' 2>/dev/null)
PYTHON_OBJECTS := $(patsubst %.c,$(BUILD)/objects/%.o,$(sort $(wildcard bindings/python/*.c)))
NODE_INCLUDE ?= $(firstword $(wildcard /usr/include/node /usr/local/include/node /usr/include/nodejs/src))

$(BUILD)/objects/bindings/python/%.o: bindings/python/%.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    $<")
	$(Q)$(CC) $(STANDARD) $(CODE) $(RELEASE) -Iinclude -isystem $(PYTHON_INCLUDE) $(CPPFLAGS) $(CFLAGS) \
		-MMD -MP -c $< -o $@

$(BUILD)/python/done: $(PYTHON_OBJECTS) $(BUILD)/libeverheap.a bindings/python/everheap/__init__.py
	@mkdir -p $(@D)/everheap
	$(if $(V),,@echo "  LINK  $(@D)/everheap")
	$(Q)$(CC) -shared -pthread $(LDFLAGS) $(filter %.o %.a,$^) -Wl,--exclude-libs,ALL $(LDLIBS) \
		-o $(@D)/everheap/_everheap$(PYTHON_SUFFIX)
	$(Q)cp bindings/python/everheap/__init__.py $(@D)/everheap/
	@touch $@

$(BUILD)/objects/bindings/node/%.o: bindings/node/%.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    $<")
	$(Q)$(CC) $(STANDARD) $(CODE) $(RELEASE) -Iinclude -isystem $(NODE_INCLUDE) $(CPPFLAGS) $(CFLAGS) \
		-MMD -MP -c $< -o $@

$(BUILD)/node/done: $(patsubst %.c,$(BUILD)/objects/%.o,$(sort $(wildcard bindings/node/*.c))) \
		$(BUILD)/libeverheap.a bindings/node/index.js bindings/node/package.json
	@mkdir -p $(@D)/everheap
	$(if $(V),,@echo "  LINK  $(@D)/everheap")
	$(Q)$(CC) -shared -pthread $(LDFLAGS) $(filter %.o %.a,$^) -Wl,--exclude-libs,ALL $(LDLIBS) \
		-o $(@D)/everheap/everheap.node
	$(Q)cp bindings/node/index.js bindings/node/package.json $(@D)/everheap/
	@touch $@

BINDINGS = $(if $(wildcard $(PYTHON_INCLUDE)/Python.h),$(BUILD)/python/done) \
	$(if $(wildcard $(NODE_INCLUDE)/node_api.h),$(BUILD)/node/done)
.PHONY: bindings
bindings: ## build the modules for Python and Node, where their headers are, in BUILD/python and BUILD/node
	+@$(if $(strip $(BINDINGS)),$(MAKE) --no-print-directory $(BINDINGS),:)

.PHONY: examples
examples: $(EXAMPLES)

.PHONY: demo
demo: $(EXAMPLES) $(COMMAND) ## count the words of real text, killed 30 times on the way; then ask real JSON [DIR=directory, JSON=text]
	@$(BUILD)/examples/wordcount_demo $(DIR)
	@echo
	@$(BUILD)/examples/json_demo $(COMMAND) $(JSON)

# Manual pages and completions come from the command's own table, and pages of functions from the headers.
# PAGES_BY: the command that makes them, where the one that was built is for another processor.
PAGES_BY ?= $(BUILD)/everheap
.PHONY: pages
pages: $(BUILD)/pages/done
$(BUILD)/pages/done: $(PAGES_BY) $(PUBLIC_HEADERS) tools/pages.sh tools/make_manual.py examples/hello.c
	@sh tools/pages.sh $(PAGES_BY) $(BUILD)/pages $(PYTHON)
	@if [ -d $(@D)/man3 ]; then touch $@; fi

INSTALLED = BUILD="$(BUILD)" VERSION="$(VERSION)" DESTDIR="$(DESTDIR)" prefix="$(prefix)" bindir="$(bindir)" \
	includedir="$(includedir)" libdir="$(libdir)" datadir="$(datadir)" mandir="$(mandir)" \
	zshdir="$(zshdir)" preloaddir="$(preloaddir)"
.PHONY: install uninstall
install: all pages ## copy headers, libraries, command, manual pages, completions, pkg-config and CMake files [prefix=, libdir=, DESTDIR=]
	@$(INSTALLED) sh tools/install.sh
uninstall: ## remove what install copied, given the same prefix=, libdir=, DESTDIR=
	@$(INSTALLED) sh tools/install.sh --remove

.PHONY: abi
abi: $(BUILD)/libeverheap.so ## compare the shared library's interface with that of a revision [SINCE=revision]
	@sh tools/abi.sh $< $(or $(SINCE),$(error say since when: make abi SINCE=v0.1.0))

.PHONY: reference
reference: ## make the reference of the interface as pages to browse: BUILD/reference/html [needs doxygen]
	@mkdir -p $(BUILD)/reference
	@REFERENCE=$(BUILD)/reference doxygen tools/Doxyfile

.PHONY: deb
deb: ## build the Debian packages, check them with lintian and use them [needs debhelper, lintian]
	@sh tools/deb.sh $(BUILD) $(VERSION)

# ---- tests --------------------------------------------------------------------------------------

.PHONY: tests
tests: $(TESTS) $(PROGRAMS) # build the test binaries, run nothing

# Builds with -k, so that one broken file does not hide the results of all others.
NO_CXX := $(if $(HAS_CXX),,--no-cplusplus)
JOBS = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(PROCESSORS))
.PHONY: test
test: ## run every test: lint, layers, examples, the two-file build; ends in one line
	@sh tools/needs.sh $(PYTHON)
	+@$(MAKE) --no-print-directory -k $(JOBS) all tests examples pages bindings $(BUILD)/bench/live_bench; \
		$(PYTHON) tools/run_tests.py --build $(BUILD) --build-status $$? --make "$(MAKE)" $(NO_CXX) \
		$(if $(ONLY),--only $(ONLY))

.PHONY: san
san: ## run the tests and quick starts under ASan and UBSan, then those with threads under TSan
	+@$(MAKE) --no-print-directory -k $(JOBS) sanitized; \
		$(PYTHON) tools/run_tests.py --build $(BUILD) --build-status $$? --flavour asan,tsan $(NO_CXX)

# The tests that start threads, directly or by the library's, and those of headers that promise them.
TSAN_SOURCES = $(sort $(filter tests/compat_%,$(TEST_SOURCES)) \
	$(shell grep -lE 'pthread_create|thread_start|evh_enter|std::thread' $(TEST_SOURCES) /dev/null))
# The quick starts of the compatibility headers, and what shows the collections.
QUICK_STARTS := examples/vector_of_strings examples/strings examples/wordindex \
	$(if $(HAS_CXX),$(addprefix examples/,manager_quickstart strings_cxx wordindex_cxx hello_cxx))
.PHONY: sanitized
sanitized: all $(addprefix $(BUILD)/asan/,$(basename $(TEST_SOURCES)) $(QUICK_STARTS)) \
	$(PROGRAM_SOURCES:%.c=$(BUILD)/asan/%) \
	$(addprefix $(BUILD)/tsan/,$(basename $(TSAN_SOURCES)) $(QUICK_STARTS)) $(PROGRAM_SOURCES:%.c=$(BUILD)/tsan/%)

# Cross-compiled, and run under qemu's user mode. It keeps a record of each page of addresses that a
# program has, 8 GiB are what that can be afforded for; its `dc zva` loses bytes where a store faults,
# which the C library's memset() for this processor does not use. EVERHEAP_COMMAND runs the command.
AARCH64 ?= aarch64-linux-gnu
QEMU_AARCH64 ?= qemu-aarch64
AARCH64_PATH ?= /usr/$(AARCH64)
AARCH64_BUILD = $(abspath $(BUILD))/aarch64
AARCH64_ENVIRONMENT = QEMU_LD_PREFIX=$(AARCH64_PATH) QEMU_RESERVED_VA=0x200000000 \
	GLIBC_TUNABLES=glibc.cpu.name=kunpeng920 EVERHEAP_TEST_DIR=$(AARCH64_BUILD) \
	EVERHEAP_COMMAND=$(AARCH64_BUILD)/everheap.sh EVERHEAP_EMULATOR=$(QEMU_AARCH64) \
	EFFORT=$(or $(EFFORT),0.2) CRASH_IMAGES=$(or $(CRASH_IMAGES),4000)
AARCH64_NO_CXX = $(if $(shell command -v $(AARCH64)-g++),,--no-cplusplus)
AARCH64_LEFT_OUT ?= # names of tests
.PHONY: aarch64
aarch64: ## cross-compile for aarch64; run unit, model and explorer tests under qemu's user mode
	@sh tools/needs.sh $(PYTHON)
	@sh tools/needs_aarch64.sh $(AARCH64)-gcc $(QEMU_AARCH64)
	@mkdir -p $(AARCH64_BUILD)
	@printf '#!/bin/sh\nexec %s %s "$$@"\n' $(QEMU_AARCH64) $(AARCH64_BUILD)/everheap >$(AARCH64_BUILD)/everheap.sh
	@chmod +x $(AARCH64_BUILD)/everheap.sh
	+@ulimit -n $$(ulimit -H -n); \
	$(MAKE) --no-print-directory -k $(JOBS) CC=$(AARCH64)-gcc CXX=$(AARCH64)-g++ AR=$(AARCH64)-ar \
		BUILD=$(BUILD)/aarch64 WERROR=1 all tests examples; \
		$(AARCH64_ENVIRONMENT) $(PYTHON) tools/run_tests.py --build $(BUILD)/aarch64 --build-status $$? \
		--emulator $(QEMU_AARCH64) $(AARCH64_NO_CXX) --leave-out "$(AARCH64_LEFT_OUT)" $(if $(ONLY),--only $(ONLY))

.PHONY: crash
crash: $(BUILD)/tests/crash_test $(PLANTS:%=$(BUILD)/plant%/tests/crash_test) ## simulate a million crashes; then find fifteen planted bugs
	@$(PYTHON) tools/crash.py --build $(BUILD) --images 1000000 --plants "$(PLANTS)"

.PHONY: kill
kill: $(addprefix $(BUILD)/tests/,kill_test live_kill_test live_step_test reader_test) $(PROGRAMS) ## kill a real program a thousand times, processes on one live heap 5000 times, one at every instruction; then writers and readers for a minute
	@KILLS=$(or $(KILLS),1000) $(BUILD)/tests/kill_test -v
	@KILLS=$(or $(KILLS),5000) $(BUILD)/tests/live_kill_test -v
	@EFFORT=2 $(BUILD)/tests/live_step_test -v
	@SECONDS=$(or $(SECONDS),60) $(BUILD)/tests/reader_test -v

# libFuzzer over every reader of heaps, with both sanitizers: two million inputs, or RUNS.
FUZZ_CC ?= clang
FUZZ := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all
FUZZ_OBJECTS := $(LIBRARY_SOURCES:%.c=$(BUILD)/objects/fuzz/%.o) $(BUILD)/objects/fuzz/tests/support/fuzz.o \
	$(BUILD)/objects/fuzz/fuzz/heap_fuzz.o
$(BUILD)/objects/fuzz/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CC    fuzz $<")
	$(Q)$(FUZZ_CC) $(STANDARD) -pthread $(FUZZ) $(TEST_PATHS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c $< -o $@
$(BUILD)/heap_fuzz: $(FUZZ_OBJECTS)
	$(if $(V),,@echo "  LINK  $@")
	$(Q)$(FUZZ_CC) -pthread $(FUZZ) -fsanitize=fuzzer $(LDFLAGS) $^ $(LDLIBS) -o $@

.PHONY: fuzz
fuzz: $(BUILD)/heap_fuzz ## edit heaps where it hurts and let every reader loose on them, two million times [RUNS=n]
	@mkdir -p $(BUILD)/fuzz_found
	$(BUILD)/heap_fuzz -runs=$(or $(RUNS),2000000) -max_len=99 -len_control=0 -entropic=0 -timeout=10 -rss_limit_mb=4096 \
		-print_final_stats=1 -verbosity=1 -artifact_prefix=$(BUILD)/fuzz_found/ $(BUILD)/fuzz_found tests/corpus

.PHONY: explore
explore: $(filter $(BUILD)/tests/explore_%,$(TESTS)) ## explore interleavings of threads under C11's memory model
	@for test in $^; do EFFORT=$(or $(EFFORT),20) $$test -v || exit 1; done

.PHONY: model
model: $(BUILD)/tests/heap_model_test ## 20 million random operations on a heap file beside a model of it [OPERATIONS=n, SEED=n]
	@OPERATIONS=$(or $(OPERATIONS),20000000) $<

MODEL_TESTS := str symbol map tree vec
.PHONY: model-collect
model-collect: $(MODEL_TESTS:%=$(BUILD)/tests/%_test) ## compare every collection with a plain one over two million operations
	@for test in $^; do EFFORT=$(or $(EFFORT),20) $$test agree || exit 1; done

.PHONY: numbers
numbers: $(BUILD)/release/tests/number_test ## read and write 20 million random doubles, bit for bit as the C library
	@EFFORT=$(or $(EFFORT),400) $< -v

.PHONY: cover
cover: $(addprefix $(BUILD)/cover/,$(basename $(TEST_SOURCES))) $(PROGRAM_SOURCES:%.c=$(BUILD)/cover/%) ## measure branch coverage per layer (gcc and gcov)
	@find $(BUILD)/objects/cover -name '*.gcda' -delete
	@$(PYTHON) tools/run_tests.py --build $(BUILD) --build-status 0 --flavour cover $(NO_CXX) || true
	@$(PYTHON) tools/coverage.py --objects $(BUILD)/objects/cover

# ---- benchmarks ---------------------------------------------------------------------------------

# What is installed is compared with; what is not is left out, and the benchmark says so.
HAS_LMDB = $(call has,lmdb.h,-llmdb)
HAS_SQLITE = $(call has,sqlite3.h,-lsqlite3)
APR_PATH = $(firstword $(wildcard /usr/include/apr-1.0 /usr/local/include/apr-1.0))
HAS_APR = $(if $(APR_PATH),$(call has,apr_pools.h,-I$(APR_PATH) -lapr-1))
HAS_BOOST = $(wildcard /usr/include/boost/context/protected_fixedsize_stack.hpp)
HAS_YYJSON = $(call has,yyjson.h,-lyyjson)
HAS_SIMDJSON = $(wildcard /usr/include/simdjson.h /usr/local/include/simdjson.h)
BENCH_DEFINES = $(if $(HAS_LMDB),-DHAVE_LMDB=1) $(if $(HAS_SQLITE),-DHAVE_SQLITE=1) \
	$(if $(HAS_APR),-DHAVE_APR=1 -isystem $(APR_PATH)) $(if $(HAS_JANSSON),-DHAVE_JANSSON=1) \
	$(if $(HAS_YYJSON),-DHAVE_YYJSON=1) $(if $(HAS_CXX),-DHAVE_JSON_CXX=1)
BENCH_LIBRARIES = -Wl,--as-needed $(if $(HAS_LMDB),-llmdb) $(if $(HAS_SQLITE),-lsqlite3) \
	$(if $(HAS_APR),-lapr-1) -ldl -lm

# The containers of C++ that the collections are measured beside.
$(BUILD)/objects/bench/collect_std.o: bench/collect_std.cpp bench/collect_std.h
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX   $<")
	$(Q)$(CXX) -std=c++17 -Wall -Wextra $(RELEASE) -c $< -o $@
$(BUILD)/bench/collect_bench: $(BUILD)/objects/bench/collect_std.o
$(BUILD)/bench/collect_bench: BENCH_LIBRARIES += -lstdc++

# The parsers in C++ that documents are measured beside.
ifneq ($(HAS_CXX),)
$(BUILD)/objects/bench/json_parsers_cxx.o: bench/json_parsers.cpp bench/json_peers.h
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX   $<")
	$(Q)$(CXX) -std=c++17 -O3 -DNDEBUG -c $< -o $@
$(BUILD)/bench/json_bench: $(BUILD)/objects/bench/json_parsers_cxx.o
endif
$(BUILD)/bench/json_bench: BENCH_LIBRARIES += $(if $(HAS_CXX),-lstdc++) \
	$(if $(HAS_SIMDJSON),-lsimdjson) $(if $(HAS_JANSSON),-ljansson) $(if $(HAS_YYJSON),-lyyjson)

.PHONY: bench bench-each bench-commit bench-alloc bench-malloc bench-fragment bench-open bench-live bench-arena bench-collect bench-compat bench-cxx bench-json
BENCHED := bench-commit bench-alloc bench-malloc bench-fragment bench-open bench-live bench-arena \
	$(if $(HAS_CXX),bench-collect bench-compat bench-cxx) bench-json
bench: $(BENCHES) $(if $(HAS_BOOST),$(BUILD)/bench/arena_boost) $(BUILD)/libeverheap-malloc.so $(COMMAND) ## run all benchmarks, into BUILD/bench.jsonl and BUILD/bench.html [QUICK=1, ONLY=suite]
	@$(PYTHON) tools/bench_report.py --build $(BUILD) $(if $(QUICK),--quick) --only "$(ONLY)" --out $(BUILD)/bench
bench-each: $(BENCHED) # the same as each prints it, without python3
bench-collect: $(BUILD)/bench/collect_bench ## measure collections beside C++'s, LMDB and SQLite
	@$<
bench-commit: $(BUILD)/bench/commit_bench ## measure commits beside raw writes, LMDB and SQLite
	@$<
bench-alloc: $(BUILD)/bench/alloc_bench ## measure allocation beside glibc, mimalloc and jemalloc
	@$<
bench-malloc: $(BUILD)/bench/malloc_suite $(BUILD)/libeverheap-malloc.so ## measure programs on malloc() beside glibc, mimalloc, jemalloc and tcmalloc
	@$<
bench-fragment: $(BUILD)/bench/fragment_bench $(BUILD)/libeverheap-malloc.so ## measure the space that a heap takes and gives back, beside others
	@$<
bench-open: $(BUILD)/bench/open_bench ## measure opening, after a close and after a kill
	@$<
$(BUILD)/objects/bench/live_bench.o: CPPFLAGS += -Isrc # it times a part of the library
bench-live: $(BUILD)/bench/live_bench ## measure attaching to live heaps, and recovery after a death
	@$<

bench-arena: $(BUILD)/bench/arena_bench $(if $(HAS_BOOST),$(BUILD)/bench/arena_boost) ## measure arenas, pools and stacks beside obstack, APR and Boost
	@$<
$(BUILD)/bench/arena_boost: bench/arena_boost.cpp
	@mkdir -p $(@D)
	$(if $(V),,@echo "  CXX   $@")
	$(Q)$(CXX) -std=c++17 -O2 $< -lboost_context -o $@
bench-json: $(BUILD)/bench/json_bench $(COMMAND) ## measure JSON documents beside parsers, SQLite, LMDB, jq, python3 [FILE="texts"]
	@for file in $(or $(FILE),''); do $< $${file:+--file=$$file} || exit 1; done
bench-compat: $(BUILD)/bench/compat_bench ## measure the compatibility headers
	@$<
bench-cxx: $(BUILD)/bench/cxx_bench ## measure C++'s pointers and containers in a heap beside plain ones
	@$<

# ---- house --------------------------------------------------------------------------------------

.PHONY: tidy
tidy: ## check layers, sizes, names, layout and lint
	@sh tools/needs.sh $(PYTHON)
	@$(PYTHON) tools/tidy.py --stats
	@sh tools/format.sh --check
	@sh tools/clang_tidy.sh $(LIBRARY_SOURCES) $(filter-out cli/serve_page.c,$(CLI_SOURCES)) # its text is made

.PHONY: format
format: ## lay the sources out with clang-format
	@sh tools/format.sh

$(BUILD)/dist/everheap.c: $(LIBRARY_SOURCES) $(HEADERS) tools/amalgamate.py src/layers.txt
	$(Q)$(PYTHON) tools/amalgamate.py . $(BUILD)/dist

.PHONY: dist
dist: $(BUILD)/dist/everheap.c ## join the library into dist/everheap.c and .h, build and test those two
	@sh tools/check_dist.sh $(BUILD)

.PHONY: tools
tools: ## install what tests and pages can use beyond a compiler and python3, on Debian
	@sh tools/needs_optional.sh

.PHONY: clean
clean: ## remove everything that was built
	rm -rf $(BUILD)

.PHONY: help
help: ## list these targets
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | \
		while IFS="$$(printf '\t')" read -r target text; do printf '  make %-14s %s\n' "$$target" "$$text"; done

-include $(shell find $(BUILD) -name '*.d' -type f 2>/dev/null)
