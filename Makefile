# Each goal works as the first command in a fresh clone; what is missing on the machine is installed first.

PREFIX ?= /usr/local
DEMO_FLAGS ?=
TEST_FLAGS ?=
# A module may import only what Package.swift lets it use.
SWIFT_FLAGS = --explicit-target-dependency-import-check error

.PHONY: all demo test perf perf-check perf-update format install prerequisites test-prerequisites perf-prerequisites

all: prerequisites
	swift build -c release --product flexicast $(SWIFT_FLAGS)

demo: all
	.build/release/flexicast demo $(DEMO_FLAGS)

# FLEXICAST_REQUIRE_ALL=1 makes a test fail that would otherwise be skipped because the machine lacks something.
test: test-prerequisites
	swift build --build-tests $(SWIFT_FLAGS)
	swift test --skip-build --no-parallel $(SWIFT_FLAGS) $(TEST_FLAGS)

# Packet rates beside those of the C yardstick: a table for people.
perf: all
	Perf/prepare
	Perf/run

# Exact counts per packet against Perf/limits: allocations, copies, system calls, instructions.
perf-check: perf-prerequisites all
	Perf/prepare
	Perf/check

# make perf-update REASON="why a packet may cost this from now on"
perf-update: perf-prerequisites all
	Perf/prepare
	Perf/check --update "$(REASON)"

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
