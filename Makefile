# tally: the front door. `make demo` and `make check` do all the set-up themselves.
#
#   make              build/tally (release)
#   make demo         the main job on real records          (installs what is missing)
#   make check        every test, all builds                (installs what is missing)
#   make interop      clients of other registries and a real Apache Kafka beside tally
#   make sim SEED=n   one simulated run, replayable
#   make sim-bugs      the simulator with each injected bug: all must be caught
#   make cuts SEED=n   a scripted run, ended at every operation on the disk
#   make soak MINUTES=n   real clients while the broker is killed all the time
#   make fuzz SECONDS=n   every decoder under libFuzzer
#   make matrix       every example consumer under every drill
#   make soak-consume MINUTES=n   tally consume under kills, frozen copies, cut connections;
#                     KAFKA=1: on three nodes of Apache Kafka
#   make model-consume   libtally's own code under every interleaving with a modelled world
#   make red-consume  the same without each safeguard: must be noticed
#   make bench        beside Apache Kafka and the machine's limit (half an hour; QUICK=1: six minutes)
#   make facts        schema/ against Kafka's own definitions
#   make tidy         house rules and formatting
#   make lint         the same, and clang-tidy (ten minutes)
#   make man          manual pages in build/man
#   make install DESTDIR= PREFIX=/usr/local
#
# Variants have their own folder: SAN=asan|tsan and CC=clang give build/asan, build/clang-tsan ...

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-builtin-rules

CC := $(if $(filter default,$(origin CC)),gcc,$(CC))
SAN ?=
V ?=
Q := $(if $(V),,@)

compiler := $(if $(findstring clang,$(CC)),clang)
# Bugs put in on purpose (src/base/bug.h).
BUGS ?=
variant := $(subst $(eval) ,-,$(strip $(compiler) $(SAN) $(if $(BUGS),bugs)))
# The release build is build/ itself; variants stand beside it.
B := build$(if $(variant),/$(variant))

warnings := -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Wstrict-prototypes \
  -Wmissing-prototypes -Wvla -Wformat=2 -Wundef -Wwrite-strings -Wcast-qual -Wswitch-enum \
  -Wimplicit-fallthrough -Werror
san_asan := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
san_fuzz := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all \
  -fno-omit-frame-pointer
san_tsan := -fsanitize=thread -fno-omit-frame-pointer
opt := $(if $(SAN),-O1,-O2)
ccache := $(shell command -v ccache 2>/dev/null)

pkgs := libzstd liblz4 zlib jansson sqlite3
# Only what every verb needs is linked; the rest is loaded where a verb needs it.
CFLAGS += -std=gnu17 $(opt) -g $(warnings) $(san_$(SAN)) $(if $(BUGS),-DTALLY_BUGS) -D_GNU_SOURCE -Isrc -Iinclude -I$(B)/gen \
  -MMD -MP $(shell pkg-config --cflags $(pkgs) libpq 2>/dev/null)
LDFLAGS += $(san_$(SAN))
# Each shared library costs every start a part of a millisecond: those of codecs, JSON and SQLite
# are linked statically where there is a static form.
static_libs := zstd lz4 z jansson sqlite3 snappy stdc++ gcc_eh
no_static := $(filter-out /%,$(foreach l,$(static_libs),$(shell $(CC) -print-file-name=lib$(l).a)))
LDLIBS += $(if $(no_static)$(SAN),$(shell pkg-config --libs $(pkgs) 2>/dev/null) -lsnappy,\
  -Wl,-Bstatic $(static_libs:%=-l%) -Wl,-Bdynamic) -lpthread -ldl -lm

# Every .c under src is part of the library, but for main.c and the doubled seam (os/*_linux.c
# for the real thing, os/*_sim.c for the simulator and for tests that want it).
srcs := $(filter-out src/cli/main.c %_linux.c %_sim.c,$(shell find src -name '*.c' | LC_ALL=C sort))
linux_srcs := $(shell find src -name '*_linux.c' | LC_ALL=C sort)
sim_srcs := $(shell find src -name '*_sim.c' | LC_ALL=C sort)
schemas := $(wildcard schema/*.kw)
drills := $(wildcard drills/*.drill)

gen_srcs := $(B)/gen/schema.c
obj = $(patsubst %.c,$(B)/obj/%.o,$(1))
objs := $(call obj,$(srcs)) $(patsubst $(B)/gen/%.c,$(B)/obj/gen/%.o,$(gen_srcs))
linux_objs := $(call obj,$(linux_srcs))
sim_objs := $(call obj,$(sim_srcs))

.PHONY: all demo check interop sim sim-suite sim-bugs cuts soak fuzz facts matrix bench tidy lint man install deps \
  deps-interop clean unit libtally consume-bugs soak-consume model-consume bench-consume \
  red-consume examples examples-c examples-java examples-go examples-node
all: $(B)/tally

$(B)/tally: $(B)/obj/src/cli/main.o $(linux_objs) $(B)/libtally.a
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(B)/libtally.a: $(objs)
	@echo "  AR   $@"
	$(Q)rm -f $@ && ar rcs $@ $^

# One stamp for all that the generator writes: tables, structs, causes, configs, drills.
$(B)/gen/.stamp: tools/gen.py tools/kw.py $(schemas) $(drills)
	@echo "  GEN  $(B)/gen"
	$(Q)mkdir -p $(B)/gen && python3 tools/gen.py --out $(B)/gen schema drills && touch $@
$(gen_srcs): $(B)/gen/.stamp ;

$(B)/obj/%.o: %.c $(B)/gen/.stamp
	@echo "  CC   $<"
	$(Q)mkdir -p $(@D) && $(ccache) $(CC) $(CFLAGS) -c -o $@ $<
$(B)/obj/gen/%.o: $(B)/gen/%.c $(B)/gen/.stamp
	@echo "  CC   $<"
	$(Q)mkdir -p $(@D) && $(ccache) $(CC) $(CFLAGS) -c -o $@ $<

# Unit and table tests: each test/unit/test_*.c and test/table/test_*.c is one cmocka program.
# Those that name the simulated seam (*_sim_test.c or including "os/sim.h") link it instead.
unit_srcs := $(wildcard test/unit/test_*.c test/table/test_*.c)
unit_bins := $(patsubst test/%.c,$(B)/test/%,$(unit_srcs))
seam = $(if $(shell grep -l 'os/[a-z_]*sim.h' $(1)),$(sim_objs),$(linux_objs))
test_helpers := $(call obj,$(wildcard test/lib/*.c))

define unit_rule
$(B)/test/$(1): $(B)/obj/test/$(1).o $(test_helpers) $(call seam,test/$(1).c) $(B)/libtally.a
	@echo "  LINK $$@"
	$(Q)mkdir -p $$(@D) && $(CC) $(LDFLAGS) -o $$@ $$^ -lcmocka $(LDLIBS)
endef
$(foreach t,$(patsubst test/%.c,%,$(unit_srcs)),$(eval $(call unit_rule,$(t))))

unit: $(unit_bins)
	$(Q)printf '%s\n' $(unit_bins) | xargs -P 2 -n 1 tools/run_unit

# Each test/bench/bench_*.c is a program that prints what one operation costs.
bench_bins := $(patsubst test/%.c,$(B)/test/%,$(wildcard test/bench/bench_*.c))
define bench_rule
$(B)/test/$(1): $(B)/obj/test/$(1).o $(call seam,test/$(1).c) $(B)/libtally.a
	@echo "  LINK $$@"
	$(Q)mkdir -p $$(@D) && $(CC) $(LDFLAGS) -o $$@ $$^ $(LDLIBS)
endef
$(foreach t,$(patsubst test/%.c,%,$(wildcard test/bench/bench_*.c)),$(eval $(call bench_rule,$(t))))

# Kafka's own definitions against schema/.
facts:
	$(Q)python3 test/facts/compare.py
	$(Q)python3 test/facts/schema_errors.py

# Every test/fuzz/fuzz_NAME.c becomes build/fuzz/NAME; the rules run with CC=clang SAN=fuzz only.
SECONDS_OF_FUZZ := $(or $(SECONDS),60)
fuzz:
	$(Q)tools/fuzz.sh $(SECONDS_OF_FUZZ)
define fuzz_rule
build/fuzz/$(1): $(B)/obj/test/fuzz/fuzz_$(1).o $(test_helpers) $(call seam,test/fuzz/fuzz_$(1).c) $(B)/libtally.a
	@echo "  LINK $$@"
	$(Q)mkdir -p $$(@D) && $(CC) -fsanitize=fuzzer $(LDFLAGS) -o $$@ $$^ $(LDLIBS)
endef
$(foreach t,$(patsubst test/fuzz/fuzz_%.c,%,$(wildcard test/fuzz/fuzz_*.c)),$(eval $(call fuzz_rule,$(t))))

# --- The simulator: the whole broker on the simulated seam, with model clients around it. ---
SEED ?= 1
MINUTES ?= 10
$(B)/sim: $(call obj,$(wildcard test/sim/*.c)) $(sim_objs) $(B)/libtally.a
	@echo "  LINK $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/obj/test/sim/%.o: CFLAGS += -Itest/sim
sim: $(B)/sim
	$(Q)$(B)/sim --seed $(SEED) --minutes $(MINUTES) $(if $(V),--verbose)
sim-suite: $(B)/sim
	$(Q)$(B)/sim --suite test/sim/seeds.txt --seconds 12 --minutes 5
sim-bugs:
	$(Q)$(MAKE) --no-print-directory BUGS=1 build/bugs/sim
	$(Q)build/bugs/sim --bugs --mixed --from $(SEED) --count 40 --minutes 3
# A scripted run that ends at each STEP-th operation on the disk: SIGKILL, power cut, disk error.
STEP ?= 1
cuts: $(B)/sim
	$(Q)$(B)/sim --cuts $(STEP) --seed $(SEED)

# Real clients and a broker that is killed all the time; SEED=n for one seed's dice.
soak: all
	$(Q)/usr/bin/python3 test/soak/soak.py --minutes $(MINUTES) \
	  $(if $(filter command%,$(origin SEED)),--seed $(SEED))

# --- Whole runs. Each installs what it lacks first. ---
deps:
	$(Q)tools/deps
deps-interop: deps
	$(Q)tools/deps interop

demo: deps
	$(Q)$(MAKE) --no-print-directory all examples-c
	$(Q)demo/demo.sh
check: deps
	$(Q)python3 tools/run_tests.py check
interop: deps-interop
	$(Q)python3 tools/run_tests.py interop
matrix: deps-interop
	$(Q)$(MAKE) --no-print-directory all examples
	$(Q)python3 tools/run_tests.py matrix
bench: deps-interop
	$(Q)$(MAKE) --no-print-directory all $(bench_bins)
	$(Q)python3 bench/run.py
tidy: all
	$(Q)tools/tidy.py
	$(Q)tools/causes_doc.py --check
# clang-tidy says on standard error how many warnings it left out: nobody wants to know.
lint: tidy
	$(Q)tools/deps lint
	$(Q)git ls-files 'src/*.c' | xargs -P 2 -n 8 sh -c 'clang-tidy --quiet "$$@" -- \
	  $(filter-out -Werror -MMD -MP,$(CFLAGS)) 2>/dev/null' lint

PREFIX ?= /usr/local
# What --help says, as manual pages.
man: all
	$(Q)rm -rf $(B)/man && tools/man.py $(B)/tally $(B)/man
install: all libtally man
	install -D -m 755 $(B)/tally $(DESTDIR)$(PREFIX)/bin/tally
	install -D -m 644 include/tally.h $(DESTDIR)$(PREFIX)/include/tally.h
	install -D -m 644 $(B)/lib/libtally.a $(DESTDIR)$(PREFIX)/lib/libtally.a
	install -D -m 755 $(B)/lib/libtally.so.$(lib_abi) $(DESTDIR)$(PREFIX)/lib/libtally.so.$(lib_abi)
	ln -sf libtally.so.$(lib_abi) $(DESTDIR)$(PREFIX)/lib/libtally.so
	install -D -m 644 $(B)/lib/libtally.pc $(DESTDIR)$(PREFIX)/lib/pkgconfig/libtally.pc
	install -D -m 644 docs/man/libtally.3 $(DESTDIR)$(PREFIX)/share/man/man3/libtally.3
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(B)/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1

# --- Example consumers. C needs what Debian has, the others their own registries. ---
examples: examples-c examples-java examples-go examples-node
examples-c: $(patsubst examples/c/%.c,build/examples/c/%,$(wildcard examples/c/*.c))
build/examples/c/libtally_%: examples/c/libtally_%.c include/tally.h $(B)/lib/libtally.a
	@echo "  CC   $@"
	$(Q)mkdir -p $(@D) && gcc -std=gnu17 -O2 -g -Wall -Wextra -Werror -Iinclude -o $@ $< \
	  $(B)/lib/libtally.a -lpthread -ldl
build/examples/c/%: examples/c/%.c examples/c/example.h
	@echo "  CC   $@"
	$(Q)mkdir -p $(@D) && gcc -std=gnu17 -O2 -g -Wall -Wextra -Werror -D_GNU_SOURCE -o $@ $< \
	  -lrdkafka -lsqlite3
examples-java: build/examples/java/.stamp
build/examples/java/.stamp: $(shell find examples/java -name '*.java') examples/java/pom.xml
	@echo "  MVN  build/examples/java"
	$(Q)mkdir -p $(@D) && cd examples/java && mvn -q -B -Dstyle.color=never \
	  -Dout=$(CURDIR)/$(@D) compile dependency:copy-dependencies -DincludeScope=runtime \
	  -DoutputDirectory=$(CURDIR)/$(@D)/jars || \
	  { echo "examples-java: Maven failed (no registry?)" >&2; exit 1; }
	$(Q)touch $@
examples-go: build/examples/go/.stamp
build/examples/go/.stamp: $(shell find examples/go -name '*.go') examples/go/go.mod
	@echo "  GO   build/examples/go"
	$(Q)mkdir -p $(@D) && cd examples/go && go build -buildvcs=false -o $(CURDIR)/$(@D)/ ./... || \
	  { echo "examples-go: go build failed (no module proxy, or Go too old?)" >&2; exit 1; }
	$(Q)touch $@
# npm compiles SQLite, which takes a minute: only when the list of packages has changed. Its build
# looks for Node's headers on the network, unless it is told where the system has them.
node_headers := $(if $(wildcard /usr/include/node/node.h),npm_config_nodedir=/usr)
examples-node: build/examples/node/.packages \
  $(patsubst examples/%,build/examples/%,$(wildcard examples/node/*.js))
build/examples/node/.packages: examples/node/package.json examples/node/package-lock.json
	@echo "  NPM  build/examples/node"
	$(Q)mkdir -p $(@D) && cp $^ $(@D)/ && cd $(@D) && \
	  $(node_headers) npm ci --no-audit --no-fund --silent || \
	  { echo "examples-node: npm failed (no registry, or no compiler?)" >&2; exit 1; }
	$(Q)touch $@
build/examples/node/%.js: examples/node/%.js
	$(Q)mkdir -p $(@D) && cp $< $@

# --- libtally as a library of its own: nothing of src/base, loads what it needs by itself. ---
lib_srcs := $(wildcard src/client/libtally/*.c)
pic_objs := $(patsubst %.c,$(B)/pic/%.o,$(lib_srcs))
lib_abi := 0
$(B)/pic/%.o: %.c $(B)/gen/.stamp
	@echo "  CC   $< (libtally)"
	$(Q)mkdir -p $(@D) && $(ccache) $(CC) $(CFLAGS) -fPIC -fvisibility=hidden -c -o $@ $<
# Names that are not of the interface stay inside, also in the static library.
$(B)/lib/libtally.a: $(pic_objs)
	@echo "  AR   $@"
	$(Q)mkdir -p $(@D) && ld -r -o $(B)/pic/libtally.o $^ && \
	  objcopy --localize-hidden $(B)/pic/libtally.o && rm -f $@ && ar rcs $@ $(B)/pic/libtally.o
$(B)/lib/libtally.so: $(pic_objs)
	@echo "  LINK $@"
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -shared -Wl,-soname,libtally.so.$(lib_abi) \
	  -Wl,-z,defs -o $@.$(lib_abi) $^ -lpthread -ldl && ln -sf libtally.so.$(lib_abi) $@
$(B)/lib/libtally.pc: Makefile FORCE
	$(Q)mkdir -p $(@D) && printf '%s\n' 'prefix=$(PREFIX)' 'Name: libtally' \
	  'Description: Kafka topics into SQLite or PostgreSQL, each record exactly once' \
	  'Version: 0.1.0' 'Libs: -L$${prefix}/lib -ltally' 'Libs.private: -lpthread -ldl' \
	  'Cflags: -I$${prefix}/include' >$@
FORCE:
libtally: $(B)/lib/libtally.a $(B)/lib/libtally.so $(B)/lib/libtally.pc

# --- tally consume under kills; and without each of its safeguards, which must be noticed. ---
bugs := no-fence no-compare blind kafka-offsets
bug_of = $(if $(filter kafka-offsets,$(1)),-DTALLY_BUG_KAFKA_OFFSETS -DTALLY_BUG_BLIND,\
  -DTALLY_BUG_$(shell echo $(1) | tr a-z- A-Z_))
define bug_rule
build/bugs/tally-$(1): $(B)/obj/src/cli/main.o $(linux_objs) $(B)/libtally.a \
  src/client/libtally/claim.c src/client/libtally/partition.c
	@echo "  CC   $$@"
	$$(Q)mkdir -p build/bugs && $(CC) $(filter-out -MMD -MP,$(CFLAGS)) $(call bug_of,$(1)) \
	  $(LDFLAGS) -o $$@ src/client/libtally/claim.c src/client/libtally/partition.c \
	  $(B)/obj/src/cli/main.o $(linux_objs) $(B)/libtally.a $(LDLIBS)
endef
$(foreach b,$(bugs),$(eval $(call bug_rule,$(b))))
consume-bugs: $(addprefix build/bugs/tally-,$(bugs)) $(addprefix build/bugs/model-,$(bugs))
# KAFKA=1: against Apache Kafka, three nodes of which one is away now and then.
soak-consume: deps$(if $(KAFKA),-interop) all
	$(Q)/usr/bin/python3 test/consume/kills.py --seconds $$(( $(MINUTES) * 60 )) \
	  $(if $(KAFKA),--kafka-nodes 3) $(SOAK)
$(B)/test/consume/insert: $(B)/obj/test/consume/insert.o $(B)/libtally.a
	@echo "  LINK $@"
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
# Only the calls of these objects are wrapped: what other libraries allocate is theirs.
$(B)/test/consume/nomem: $(B)/obj/test/consume/nomem.o $(pic_objs)
	@echo "  LINK $@"
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc \
	  -Wl,--wrap=strdup -o $@ $^ -lpthread -ldl
$(B)/test/consume/library: $(call obj,$(addprefix test/consume/,library.c c11_threads.c)) $(pic_objs)
	@echo "  LINK $@"
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -rdynamic -o $@ $^ -lpthread -ldl
# libtally's own code against models of a group, a log and a database: see test/consume/model.
model_srcs := $(wildcard test/consume/model/*.c)
model_wrap := clock_gettime nanosleep pthread_create load_kafka sink_open topic_id_ask \
  topic_id_send topic_id_receive
model_flags := $(foreach w,$(model_wrap),-Wl,--wrap=$(w)) -lrdkafka -lpthread -ldl
$(B)/obj/test/consume/model/%.o: CFLAGS += -Itest/consume/model
$(B)/test/consume/model: $(call obj,$(model_srcs)) $(pic_objs)
	@echo "  LINK $@"
	$(Q)mkdir -p $(@D) && $(CC) $(LDFLAGS) -o $@ $^ $(model_flags)
build/bugs/model-%: $(call obj,$(model_srcs)) $(pic_objs)
	@echo "  CC   $@"
	$(Q)mkdir -p $(@D) && $(CC) $(filter-out -MMD -MP,$(CFLAGS)) $(call bug_of,$*) $(LDFLAGS) -o $@ \
	  src/client/libtally/claim.c src/client/libtally/partition.c \
	  $(filter-out %/claim.o %/partition.o,$^) $(model_flags)
model-consume: deps $(B)/test/consume/model
	$(Q)$(B)/test/consume/model --pairs --runs 20000 $(if $(SEED),--seed $(SEED))
bench-consume: deps all $(B)/test/consume/insert
	$(Q)/usr/bin/python3 test/consume/cost.py
red-consume: deps all consume-bugs
	$(Q)/usr/bin/python3 test/consume/red.py

clean:
	rm -rf build

-include $(shell find $(B)/obj $(B)/pic -name '*.d' 2>/dev/null)
