# headway: one makefile for all folders.
#
#   make                 the programs that have a main, in build/
#   make run PORT=8080   serve SmolLM2 with heads on 127.0.0.1 (without a network: the demo);
#                        MODEL=qwen-0.5b or qwen-1.5b fetches another, MODEL=PATH serves any
#   make test            every test; SAN=address,undefined or SAN=thread for the sanitizers,
#                        JOBS=1 for one at a time, CASES=N for more or fewer random cases
#   make bench           measure, and write docs/speed.md with its plot: leave the machine idle;
#                        BENCH_FLAGS=--quick for a short look, BENCH_FLAGS=--help for the options
#   make fuzz            FUZZ_SECONDS=30 for each fuzzer
#   make format          clang-format over the sources;   make clean
#
# CC=clang and SAN=... have build folders of their own. WERROR=1 makes warnings fatal.
# run, test, bench and fuzz first install the Debian packages that are missing (make deps).

ifeq ($(origin CC),default)
CC := gcc
endif
ifneq ($(filter fuzz,$(MAKECMDGOALS)),)
override CC := clang
override SAN := address,undefined,fuzzer-no-link
endif

# As many at a time as there are cores; -j on the command line overrules.
MAKEFLAGS += -j$(shell nproc)

comma := ,
variant := $(if $(filter-out gcc,$(CC)),-$(notdir $(CC)))$(if $(SAN),-$(subst $(comma),-,$(SAN)))
BUILD := build$(if $(filter fuzz,$(MAKECMDGOALS)),-fuzz,$(variant))
PORT ?= 8080
MODEL ?= smollm2
FUZZ_SECONDS ?= 30
TEST_TIMEOUT ?= $(if $(SAN),1800,600)

CFLAGS := -std=c11 -D_GNU_SOURCE -g -Wall -Wextra -I. -MMD -MP -fno-math-errno -ffp-contract=off \
          $(if $(SAN),-O1 -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all,-O3) \
          $(if $(WERROR),-Werror)
LDFLAGS := $(if $(SAN),-fsanitize=$(SAN))

# Training on several machines, where Open MPI is there; MPI= does without.
MPI := $(shell pkg-config --exists ompi-c 2>/dev/null && echo ompi-c)
MPI_FLAGS := $(if $(MPI),-DHEADWAY_MPI $(shell pkg-config --cflags ompi-c))
MPI_LIBS := $(if $(MPI),$(shell pkg-config --libs ompi-c))

# ---- which files make what ----

objects = $(patsubst %.c,$(BUILD)/%.o,$1)
without = $(filter-out $2,$(wildcard $1))

BASE    := $(call objects,$(wildcard base/*.c))
TEXT    := $(call objects,$(wildcard text/*.c))
WEIGHTS := $(call objects,$(wildcard weights/*.c))
TRUNK   := $(call objects,$(call without,model/*.c model/kernels/*.c,\
             %_grad.c model/gemm% model/kernels/grad_%))
HEADS   := $(call objects,$(call without,heads/*.c,%_grad.c))
GRAD    := $(call objects,$(wildcard model/*_grad.c model/gemm*.c model/kernels/grad_*.c \
             heads/*_grad.c))
ENGINE  := $(call objects,$(wildcard engine/*.c))
SERVER  := $(call objects,$(call without,server/*.c,server/main.c))
WRITE   := $(call objects,train/own_text.c train/repeats.c text/text_file.c)
TRAIN   := $(call objects,$(call without,train/*.c,train/main.c train/write.c train/own_text.c))
SERVING := $(BASE) $(TEXT) $(WEIGHTS) $(TRUNK) $(HEADS) $(ENGINE)
EVERY   := $(SERVING) $(GRAD) $(sort $(TRAIN) $(WRITE)) $(SERVER)
BENCH   := $(call objects,$(wildcard tools/bench_*.c))
CONVERT := $(call objects,$(wildcard tools/convert_*.c))

TESTS   := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/unit/test_*.c tests/parity/test_*.c))
FUZZERS := $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/fuzz_*.c))
SCRIPTS := $(wildcard tests/check_*.sh tests/e2e/test_*.sh tests/e2e/test_*.py)

# A program exists when its main does.
program = $(if $(wildcard $2),$(BUILD)/$1)
PROGRAMS := $(call program,headway-server,server/main.c) \
            $(call program,headway-train,train/main.c) \
            $(call program,headway-write,train/write.c) \
            $(call program,headway-bench,tools/bench.c) \
            $(call program,headway-convert,tools/convert.c)

all: $(PROGRAMS)

# ---- compiling ----

# Only kernel files may use more than the base instruction set: they are chosen at run time.
ifeq ($(shell uname -m),x86_64)
AVX2   := -mavx2 -mfma -mf16c
AVX512 := $(AVX2) -mavx512f -mavx512bw -mavx512vl -mavx512dq -mprefer-vector-width=512
isa = $(if $(filter %_avx2.c,$1),$(AVX2)) \
      $(if $(filter %_avxvnni.c,$1),$(AVX2) -mavxvnni) \
      $(if $(filter %_avx512.c,$1),$(AVX512)) \
      $(if $(filter %_vnni.c,$1),$(AVX512) -mavx512vnni) \
      $(if $(filter %_amx.c %_bf16.c,$1),$(AVX512) -mavx512vnni -mavx512bf16 -mamx-tile \
          -mamx-bf16 -mamx-int8)
endif

DEPS := $(if $(filter run test bench fuzz deps,$(MAKECMDGOALS)),$(BUILD)/deps.stamp)

# How files are compiled, written down when it changes.
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(CC) $(CFLAGS) $(AVX512) $(MPI_FLAGS)' | cmp -s - $@ || \
	    echo '$(CC) $(CFLAGS) $(AVX512) $(MPI_FLAGS)' >$@

$(BUILD)/%.o: %.c $(BUILD)/flags | $(DEPS)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(call isa,$<) $(if $(filter train/ranks.c,$<),$(MPI_FLAGS)) -c $< -o $@

# It takes the page in as it is.
$(BUILD)/server/page.o: $(wildcard server/web/*)

# ---- linking: the server has neither gradients nor a library for them ----

SGEMM := $(if $(filter x86_64,$(shell uname -m)),-ldnnl -lgomp,-lopenblas)

HTTP_LIBS := -lmicrohttpd -lgnutls
TEXT_LIBS := -ljansson -lpcre2-8 -lutf8proc

link = $(CC) $(LDFLAGS) $(filter %.o %.a,$^) -o $@

$(BUILD)/headway-server: $(BUILD)/server/main.o $(SERVER) $(SERVING)
	$(link) $(HTTP_LIBS) $(TEXT_LIBS) -luv -lm -lpthread
$(BUILD)/headway-train: $(BUILD)/train/main.o $(TRAIN) $(BASE) $(TEXT) $(WEIGHTS) $(TRUNK) $(HEADS) $(GRAD)
	$(link) $(SGEMM) $(TEXT_LIBS) $(MPI_LIBS) -lm -lpthread
$(BUILD)/headway-write: $(BUILD)/train/write.o $(WRITE) $(SERVING)
	$(link) $(TEXT_LIBS) -lm -lpthread
$(BUILD)/headway-bench: $(BUILD)/tools/bench.o $(BENCH) $(SERVING)
	$(link) $(TEXT_LIBS) -lm -lpthread
$(BUILD)/headway-convert: $(BUILD)/tools/convert.o $(CONVERT) $(SERVING)
	$(link) $(TEXT_LIBS) -lm -lpthread

# An archive, so that a test takes only what it uses and may stand in for the rest.
$(BUILD)/every.a: $(EVERY)
	@rm -f $@
	ar rcs $@ $^

TEST_LIBS := $(HTTP_LIBS) $(SGEMM) $(TEXT_LIBS) $(MPI_LIBS) -luv -lm -lpthread
$(TESTS): %: %.o $(BUILD)/every.a
	$(link) -lcmocka $(TEST_LIBS)
# What tests/parity/compare_tokenizers.py asks; no test by itself.
$(BUILD)/tests/parity/tokenize_main: $(BUILD)/tests/parity/tokenize_main.o $(WEIGHTS) $(TEXT) $(BASE)
	$(link) $(TEXT_LIBS) -lm -lpthread
# An archive without the kernels, which take minutes to compile here: parsers do without them.
$(BUILD)/parsers.a: $(BASE) $(TEXT) $(WEIGHTS) $(SERVER) $(BUILD)/model/params.o
	@rm -f $@
	ar rcs $@ $^
$(FUZZERS): %: %.o $(BUILD)/parsers.a
	$(link) -fsanitize=fuzzer $(TEXT_LIBS) -lm

# What a model says of given tokens, for a reference; no test by itself.
$(BUILD)/tests/parity/logits_main: $(BUILD)/tests/parity/logits_main.o $(SERVING)
	$(link) $(TEXT_LIBS) -lm -lpthread
# Renders chat templates for tests/parity/compare_templates.py.
$(BUILD)/tests/parity/template_main: $(BUILD)/tests/parity/template_main.o $(TEXT) $(BASE)
	$(link) $(TEXT_LIBS) -lm

# ---- running ----

# MODEL: demo, a name that tools/fetch_model.py knows, or the path of a model. Heads that we have for
# a public model are served with it.
run: all
	@model='$(MODEL)'; heads=; case "$$model" in \
	    demo) model=weights/demo;; \
	    smollm2 | qwen-0.5b | qwen-1.5b) \
	        if [ -d "weights/$$model-heads" ]; then heads="--heads weights/$$model-heads"; fi; \
	        model=$$(tools/fetch_model.py "$$model") || { \
	            [ '$(origin MODEL)' = file ] || exit 1; \
	            echo "so the demo is served, a small model of bytes that comes with headway"; \
	            model=weights/demo; heads=; };; \
	esac; exec $(BUILD)/headway-server --model "$$model" $$heads --host 127.0.0.1 --port $(PORT)

bench: all
	BUILD=$(BUILD) python3 tools/bench_page.py $(BENCH_FLAGS)

# The thread sanitizer wants its fixed addresses free, and cannot see into other libraries' threads.
ifneq ($(findstring thread,$(SAN)),)
RUNNER := OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 $(shell setarch -R true 2>/dev/null && echo setarch -R)
endif

# Those that take longest begin, those that measure time come last and alone.
LONG  := $(filter %/test_exact %/test_model_grad %/test_parity tests/e2e/test_server.py, \
             $(TESTS) $(SCRIPTS))
ALONE := tests/e2e/test_bench.sh tests/e2e/test_soak.sh tests/e2e/test_neighbours.sh

build-tests: $(TESTS)
# Some tests also use a real model, if it can be had.
test: all build-tests | $(DEPS)
	@tools/fetch_model.py smollm2 >/dev/null || true
	@BUILD=$(BUILD) TEST_TIMEOUT=$(TEST_TIMEOUT) RUNNER="$(RUNNER)" tests/run.sh \
	    $(LONG) $(filter-out $(LONG) $(ALONE),$(TESTS) $(SCRIPTS)) alone $(ALONE)

# Starts from tests/fuzz/NAME.seeds, keeps what it finds in the build folder.
fuzz: $(FUZZERS)
	@for f in $(FUZZERS); do \
	    seeds=tests/fuzz/$${f##*/}.seeds; [ -d $$seeds ] || seeds=; mkdir -p $$f.corpus; \
	    echo "$$f for $(FUZZ_SECONDS) s"; \
	    $$f -max_total_time=$(FUZZ_SECONDS) -timeout=10 -dict=tests/fuzz/words.dict -verbosity=0 \
	        -print_final_stats=1 -artifact_prefix=$$f- $$f.corpus $$seeds || exit 1; \
	done

PACKAGES := gcc libc6-dev libmicrohttpd-dev libgnutls28-dev libjansson-dev libuv1-dev libpcre2-dev \
            libutf8proc-dev libcmocka-dev \
            $(if $(findstring dnnl,$(SGEMM)),libdnnl-dev,libopenblas-dev) python3 curl $(if $(filter test deps,$(MAKECMDGOALS)),openssl) \
            clang-format $(if $(filter test deps,$(MAKECMDGOALS)),libopenmpi-dev openmpi-bin pkgconf) \
            $(if $(filter test deps,$(MAKECMDGOALS))$(filter smollm2 qwen-%,$(MODEL)),python3-pip) \
            $(if $(findstring clang,$(CC)),clang libclang-rt-dev)
deps: $(BUILD)/deps.stamp
$(BUILD)/deps.stamp:
	@mkdir -p $(@D)
	@if ! command -v dpkg-query >/dev/null; then \
	    echo "not Debian: please see yourself that these are there: $(PACKAGES)"; \
	else \
	    missing=$$(for p in $(PACKAGES); do dpkg-query -W -f='$${db:Status-Status}' $$p \
	        2>/dev/null | grep -qx installed || echo $$p; done); \
	    if [ -n "$$missing" ]; then \
	        echo "installing" $$missing; \
	        sudo=$$([ $$(id -u) = 0 ] || echo sudo); \
	        $$sudo apt-get update -q && $$sudo env DEBIAN_FRONTEND=noninteractive \
	            apt-get install -q -y --no-install-recommends $$missing; \
	    fi; \
	fi
	@touch $@

format:
	clang-format -i $$(git ls-files -co --exclude-standard '*.c' '*.h')

clean:
	rm -rf build build-*

.PHONY: FORCE all run bench test build-tests fuzz deps format clean
.SECONDARY:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
