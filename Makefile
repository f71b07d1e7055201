# Each goal works as the first command in a fresh clone; what is missing on the machine is installed first.

SHELL := /bin/bash
PREFIX ?= /usr/local
DEMO_FLAGS ?=
TEST_FLAGS ?=
# A module may import only what Package.swift lets it use.
SWIFT_FLAGS = --explicit-target-dependency-import-check error

.PHONY: all demo test perf perf-check perf-update format examples install prerequisites test-prerequisites perf-prerequisites

all: prerequisites
	swift build -c release --product flexicast $(SWIFT_FLAGS)

demo: all
	.build/release/flexicast demo $(DEMO_FLAGS)

# FLEXICAST_REQUIRE_ALL=1 makes a test fail that would otherwise be skipped because the machine lacks something.
# What failed is said once more at the end, where it is found.
test: test-prerequisites
	swift build --build-tests $(SWIFT_FLAGS)
	@mkdir -p .build
	@echo "swift test; the whole of what it says is in .build/tests.log"
	@set -o pipefail; swift test --skip-build --no-parallel $(SWIFT_FLAGS) $(TEST_FLAGS) 2>&1 | tee .build/tests.log \
		| grep --line-buffered -v -E '^◇ Test (case )?' || { echo; echo "failed:"; grep -A 12 '^✘' .build/tests.log; exit 1; }

# Packet rates beside those of the C yardstick, then everything else that is measured: tables for people.
perf: all
	Perf/prepare
	Perf/run
	Perf/all

# Exact counts per packet against Perf/limits: allocations, copies, system calls, instructions.
perf-check: perf-prerequisites all
	Perf/prepare
	Perf/check

# make perf-update REASON="why a packet may cost this from now on"
perf-update: perf-prerequisites all
	Perf/prepare
	Perf/check --update "$(REASON)"

# Programs outside the package that stand on its library: builds them and sends a file from one to two others.
examples: prerequisites
	docs/examples/check

format:
	swift format format --in-place --recursive Package.swift Sources Tests

install: all
	install -D .build/release/flexicast $(DESTDIR)$(PREFIX)/bin/flexicast

prerequisites:
	@.ci/prerequisites

test-prerequisites:
	@.ci/prerequisites test

perf-prerequisites:
	@.ci/prerequisites perf
