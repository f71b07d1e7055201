# Each goal works as the first command in a fresh clone; what is missing on the machine is installed first.

SHELL := /bin/bash
PREFIX ?= /usr/local
DEMO_FLAGS ?= --compare
TEST_FLAGS ?=
# A module may import only what Package.swift lets it use.
SWIFT_FLAGS = --explicit-target-dependency-import-check error
# What is built to be used has Swift's runtime in it, and runs where no toolchain is.
RELEASE_FLAGS = -c release --static-swift-stdlib $(SWIFT_FLAGS)

# What `flexicast --version` names as the commit: given by who builds without git, or found here. "unknown" without either.
ifndef FLEXICAST_COMMIT
FLEXICAST_COMMIT := $(shell [ ! -e .git ] || git describe --always --abbrev=12 --exclude='*' --dirty=+changes)
endif
export FLEXICAST_COMMIT

# The modules that have a public interface.
DOCUMENTED = Wire QUIC Flexicast AMT Objects Feed Cryptography Reactor System Simulation Transport

.PHONY: all demo test perf perf-check perf-update docs examples format install deb images prerequisites \
	test-prerequisites deb-prerequisites perf-prerequisites

all: prerequisites
	swift build --product flexicast $(RELEASE_FLAGS)

demo: all
	.build/release/flexicast demo --figure .build/demo --report .build/demo.json $(DEMO_FLAGS)

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

# Programs outside the package that stand on its library: builds them, and sends a file and datagrams from one to two others.
examples: prerequisites
	docs/examples/check

# What is public, documented by DocC as a web site in .build/docs: `python3 -m http.server -d .build/docs`, and then
# http://localhost:8000/documentation. FLEXICAST_DOCS=1 makes Package.swift depend on swift-docc-plugin, which does it. That
# is built in a directory of its own, and Package.resolved is put back, so that no other build notices.
docs: prerequisites
	@mkdir -p .build && rm -f .build/Package.resolved && if [ -f Package.resolved ]; then cp Package.resolved .build; fi
	FLEXICAST_DOCS=1 swift package --scratch-path .build/docs-build --allow-writing-to-directory .build/docs \
		generate-documentation $(DOCUMENTED:%=--target %) --enable-experimental-combined-documentation \
		--warnings-as-errors --transform-for-static-hosting --output-path .build/docs; result=$$?; \
	rm -f Package.resolved; if [ -f .build/Package.resolved ]; then mv .build/Package.resolved .; fi; exit $$result

format:
	swift format format --in-place --recursive Package.swift Sources Tests docs/examples/Package.swift docs/examples/Sources

install: all
	install -D .build/release/flexicast $(DESTDIR)$(PREFIX)/bin/flexicast
	Packaging/documents $(DESTDIR)$(PREFIX)/share site-functions

# A Debian package in .build/deb, which needs Debian's libraries and no Swift. Packaging/check tries it in a bare Debian.
deb: deb-prerequisites all
	Packaging/deb

# Images for podman of source, receiver, relay and gateway, from the package. Packaging/images/check runs them.
images: deb
	Packaging/images/build

prerequisites:
	@.ci/prerequisites

test-prerequisites:
	@.ci/prerequisites test

deb-prerequisites:
	@.ci/prerequisites deb

perf-prerequisites:
	@.ci/prerequisites perf
