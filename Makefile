# pyrunc. `make` without a target builds.

PYTHON  ?= /usr/bin/python3
VENV    := .venv
VPY     := $(VENV)/bin/python
CSRC    := runtime/csrc
PREFIX  ?= /usr/local
# If not empty, the plain launcher is used, which runs the sources directly. `touch .plain` for a quick edit loop.
PYRUNC_PLAIN ?= $(wildcard .plain)

.DEFAULT_GOAL := build

# ---------------------------------------------------------------- build: virtual environment, extension, launcher

EXT         := runtime/pyrunc/linux/_syscalls.abi3.so
EXT_SOURCES := $(addprefix $(CSRC)/,syscalls.c mount.c file.c process.c bpf.c ops.c finish.c rights.c find.c filter.c clear.c spawn.c procfs.c json.c schema.c calls.c mountinfo.c sealing.c)
EXT_HEADERS := $(addprefix $(CSRC)/,syscalls.h ops.h run.h spawn.h numbers.h bare.h sealing.h snapshot.h heap.h)
EXT_CFLAGS  := -std=gnu11 -O2 -g -Wall -Wextra -fPIC -fvisibility=hidden -DPy_LIMITED_API=0x030b0000
HARDENING    = $(shell CC="$(CC)" $(PYTHON) -I -B $(CSRC)/link.py --flags)
EXT_LDFLAGS := -shared -Wl,-z,relro,-z,now
PY_INCLUDE   = $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')
PACKAGES     = $(shell $(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"])')

.PHONY: build build-plain ext launcher release packages test-anywhere wheels clean install uninstall deb install-shell man
build: $(VENV)/.ready ext $(if $(PYRUNC_PLAIN),,launcher)
	@target=pyrunc; if [ -z "$(PYRUNC_PLAIN)" ] && [ -x $(STATIC) ]; then target=$(notdir $(STATIC)); fi; \
	ln -sfn ../../runtime/bin/$$target $(VENV)/bin/pyrunc

build-plain: $(VENV)/.ready ext
	@ln -sfn ../../runtime/bin/pyrunc $(VENV)/bin/pyrunc

ext: $(EXT)

$(EXT): $(EXT_SOURCES) $(EXT_HEADERS) $(CSRC)/link.py
	@echo "ext: $@"
	@$(CC) $(EXT_CFLAGS) $(HARDENING) -I$(PY_INCLUDE) $(EXT_SOURCES) $(EXT_LDFLAGS) -o $@.new
	@mv -f $@.new $@

# The compiled launcher (csrc/launcher.c): an interpreter with the package inside. Where it is promised (link.py) and can't be linked, the
# build fails. Elsewhere link.py says why and ends with 3: the plain one is used, as with `make build-plain` or PYRUNC_PLAIN=1.
STATIC    := runtime/bin/pyrunc-static
L_SOURCES := $(addprefix $(CSRC)/,launcher.c early.c libc_start.c heap.c heap.h snapshot.c snapshot.h snapshot.ld tuning.h tuning_none.c tuning_313.c inittab.c components.py sha2.c sha2_body.h freeze.py link.py train.py hot.txt libseccomp.c frozen/encodings.py)
PACKAGE   := $(shell find runtime/pyrunc -name '*.py' -not -path '*/api/*')

launcher: $(STATIC)

$(STATIC): $(L_SOURCES) $(EXT_SOURCES) $(EXT_HEADERS) $(PACKAGE)
	@CC="$(CC)" $(PYTHON) -I -B $(CSRC)/link.py runtime build/launcher $@ || test $$? -eq 3

# The virtual environment contains the packages of the helper process; pyrunc.pth adds this tree to its path.
$(VENV)/.ready: pyproject.toml
	@test -x $(VPY) || { echo "venv: $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "venv: $(PACKAGES)"
	@$(VENV)/bin/pip install --quiet --disable-pip-version-check $(PACKAGES)
	@echo "$(CURDIR)/runtime" > "$$($(VPY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pyrunc.pth"
	@$(VPY) -m compileall -q runtime/pyrunc
	@touch $@

# Installs into a separate virtual environment below PREFIX/lib, so that Debian's Python is left alone. The launcher is taken out of the
# page cache: the first start then reads it in pieces of 2 MiB (csrc/early.c).
install: build
	$(PYTHON) -m venv $(DESTDIR)$(PREFIX)/lib/pyrunc
	rm -rf build/lib* build/bdist*
	$(DESTDIR)$(PREFIX)/lib/pyrunc/bin/pip install --quiet --disable-pip-version-check .
	rm -rf runtime/*.egg-info
	mkdir -p $(DESTDIR)$(PREFIX)/bin
	if [ -z "$(PYRUNC_PLAIN)" ] && [ -x $(STATIC) ]; then install -m 755 $(STATIC) $(DESTDIR)$(PREFIX)/lib/pyrunc/bin/pyrunc; fi
	ln -sfn ../lib/pyrunc/bin/pyrunc $(DESTDIR)$(PREFIX)/bin/pyrunc
	-@sync $(DESTDIR)$(PREFIX)/bin/pyrunc && dd if=$(DESTDIR)$(PREFIX)/bin/pyrunc iflag=nocache count=0 2>/dev/null
	$(MAKE) --no-print-directory install-shell

# Manual pages and shell completion, where man(1) and the shells look for them.
SHARE := $(DESTDIR)$(PREFIX)/share
install-shell: build man
	mkdir -p $(SHARE)/man/man8 $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d
	install -m 644 build/man/*.8 $(SHARE)/man/man8/
	$(VENV)/bin/pyrunc completion bash > $(SHARE)/bash-completion/completions/pyrunc
	$(VENV)/bin/pyrunc completion zsh > $(SHARE)/zsh/site-functions/_pyrunc
	$(VENV)/bin/pyrunc completion fish > $(SHARE)/fish/vendor_completions.d/pyrunc.fish

man:
	@rm -rf build/man
	@$(PYTHON) -B tools/man.py build/man

uninstall:
	rm -rf $(DESTDIR)$(PREFIX)/lib/pyrunc $(DESTDIR)$(PREFIX)/bin/pyrunc
	rm -f $(SHARE)/man/man8/pyrunc.8 $(SHARE)/man/man8/pyrunc-*.8 $(SHARE)/bash-completion/completions/pyrunc
	rm -f $(SHARE)/zsh/site-functions/_pyrunc $(SHARE)/fish/vendor_completions.d/pyrunc.fish

# A Debian package of the system's Python and its libraries: build/pyrunc_VERSION_ARCH.deb. It registers itself with no engine.
deb: build
	@rm -rf build/deb
	@$(MAKE) --no-print-directory --silent install-shell DESTDIR=$(CURDIR)/build/deb PREFIX=/usr
	@$(PYTHON) -B tools/deb.py build/deb build

clean:
	rm -rf build dist runtime/*.egg-info $(EXT) $(STATIC) .pytest_cache .mypy_cache .ruff_cache .stamps
	find runtime tests -name __pycache__ -type d -prune -exec rm -rf {} +

# ---------------------------------------------------------------- demo, tests, bench, docs
# On a bare Debian, as root, with make and git: `make demo`, `make test`. Missing packages are installed; a second run finds the
# stamps and is quick.

# Packages come before the build, and the build before the tests: prerequisites are made one after another, in the order of the line, even
# with -j. (GNU make 4.4 has .WAIT for that; Debian 12 has 4.3.) link.py does the slow part.
.NOTPARALLEL:

STAMPS  := .stamps
RUNTIME ?= $(VENV)/bin/pyrunc
PYTEST  := $(VENV)/bin/pytest
ARGS    ?=

.PHONY: test-plain test-shared help demo demo-swarm load test test-vm test-contracts test-containerd2 test-all test-asan fuzz security-report lint format bench bench-newest bench-engines docs site rootfs
help:
	@echo "make build      builds the virtual environment, the extension and .venv/bin/pyrunc"
	@echo "make demo       shows the life of one container step by step (installs what it needs)"
	@echo "make demo-swarm runs a service on three Docker nodes in namespaces, and kills a node"
	@echo "make load       runs 1000 containers, 200 with containerd, and docker run next to runc; ARGS='--json FILE'"
	@echo "make test       lint, unit, kernel and cli tests, and tests with engines and in a guest (some seven minutes)"
	@echo "make test-vm    all tests that need a guest with systemd and cgroup v2 (tools/vmlab)"
	@echo "make test-contracts  tests with podman, Docker, containerd, Kubernetes CRI and buildah, with a table of results; RUNTIME=runc tests another runtime"
	@echo "make test-containerd2  the same for containerd, Kubernetes CRI and Docker with containerd 2 from Debian testing"
	@echo "make test-all   all tests including the long ones, and the kernel and cli tests with the plain launcher as well"
	@echo "make test-plain the kernel and cli tests with the plain launcher"
	@echo "make test-shared the kernel and cli tests with / as a shared mount, as under systemd"
	@echo "make install    installs below PREFIX (/usr/local) in DESTDIR; make uninstall; make deb builds a Debian package"
	@echo "make release    dist/: a static executable for x86_64 and one for aarch64, with SBOM, tarball and checksums; ARGS='--arch x86_64'"
	@echo "make wheels     dist/: platform wheels with the static executables in them, and an sdist"
	@echo "make packages   dist/: recipes for rpm, Alpine and Arch Linux with the release's checksums, and the .rpm"
	@echo "make test-anywhere  the release file on other kernels and processors, the sources on other Debians; ARGS='--short'"
	@echo "make test-asan  runs the tests of the extension with gcc's sanitizers"
	@echo "make coverage   lines and branches that the tests reach, on both sides of the clone, and blocks of the C extension"
	@echo "make mutants    changes one thing at a time and checks that a test notices; ARGS='--count 50' (docs/testing.md)"
	@echo "make fuzz       fuzzing guided by coverage; ARGS='--seconds 600 --save'"
	@echo "make security-report  measures advisories, faults, fuzzing and what a waiting init keeps; writes SECURITY.md"
	@echo "make bench      measures time and memory, next to runc and crun; ARGS='--rounds 100 --html FILE'"
	@echo "make bench-newest  the same, beside Debian's testing's runc and crun too"
	@echo "make bench-engines  podman, docker and ctr run with each runtime; ARGS='--rounds 50 --json FILE'"
	@echo "make conformance  runs the conformance suite on pyrunc, runc and crun; reports in build/conformance.*"
	@echo "make lint       ruff, mypy, unused names, layers; make format applies the fixes and the format of ruff"
	@echo "make man        writes the manual pages to build/man"
	@echo "make docs       regenerates the generated pages of docs/"
	@echo "make rootfs     makes a root file system in DIR, of busybox or of DEBIAN='package ...'; BUNDLE=NAME makes a bundle"
	@echo "make site       builds the documentation as a web site in build/site/html"

$(STAMPS)/packages-%: tools/apt-packages.txt tools/setup.sh
	@sh tools/setup.sh $*
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/tools: tools/requirements-test.txt | build
	@echo "venv: installing the test tools of tools/requirements-test.txt"
	@$(VENV)/bin/pip install --quiet --requirement tools/requirements-test.txt
	@mkdir -p $(STAMPS) && touch $@

demo: $(STAMPS)/packages-demo build
	@$(PYTHON) tools/demo.py --runtime $(RUNTIME) $(ARGS)

demo-swarm: $(STAMPS)/packages-test build
	@$(PYTHON) tools/demo_swarm.py --runtime $(RUNTIME) $(ARGS)

load: $(STAMPS)/packages-test build
	@$(VPY) tools/load.py --runtime $(RUNTIME) $(ARGS)

lint: $(STAMPS)/packages-demo $(STAMPS)/tools
	@echo "lint: ruff check, ruff format --check, mypy, dead code, layers"
	@$(VENV)/bin/ruff check --quiet
	@$(VENV)/bin/ruff format --check --quiet
	@$(VPY) tools/check_types.py
	@$(PYTHON) tools/dead_code.py
	@out=$$($(PYTEST) -q --no-header -p no:cacheprovider tests/unit/test_layers.py) || { echo "$$out"; exit 1; }

format: $(STAMPS)/tools
	@$(VENV)/bin/ruff check --quiet --fix --exit-zero
	@$(VENV)/bin/ruff format --quiet

# dist/: a static executable for each processor, with SBOM, tarball and checksums (tools/release.py).
release: $(STAMPS)/packages-release
	@$(PYTHON) -B tools/release.py $(if $(filter release,$(MAKECMDGOALS)),$(ARGS))

# Other kernels, processors and distributions, one table at the end (tools/anywhere/matrix.py). ARGS='--short', '--only kernels'.
test-anywhere: $(STAMPS)/packages-anywhere release $(STAMPS)/tools
	@$(PYTHON) -B tools/anywhere/matrix.py $(ARGS)

# dist/: platform wheels with the static executables in them, and an sdist (tools/wheels.py).
wheels: release
	@$(PYTHON) -B tools/wheels.py dist

# dist/: recipes for packages of other distributions, and the .rpm (tools/packages/recipes.py). ARGS='--url URL'.
packages: release
	@$(PYTHON) -B tools/packages/recipes.py dist $(if $(filter packages,$(MAKECMDGOALS)),$(ARGS))

# One pytest run, so that its last line covers everything. `long` tests are left to test-all. In CI a failed test is run up to twice more, and
# the last lines name it: real daemons on a busy machine fail now and then, a defect fails each time.
# Several processes at a time (tests/side_by_side.py): engines and the guest mostly wait. WORKERS=0 runs all tests in one process.
WORKERS ?= 3
# Lint runs next to the tests; its output comes at the end.
test: $(STAMPS)/packages-test build $(STAMPS)/tools
	@log=$$(mktemp); $(MAKE) --silent --no-print-directory lint > $$log 2>&1 & lint=$$!; \
	$(PYTEST) tests -m "not long" -n $(WORKERS) $(if $(CI),--reruns 2 -rR) $(ARGS); code=$$?; \
	wait $$lint || { [ $$code != 0 ] || code=1; }; cat $$log; rm -f $$log; exit $$code

# If the guest cannot be built, `make test` skips its tests; this target fails.
test-vm: $(STAMPS)/packages-vm build $(STAMPS)/tools
	@$(PYTHON) tools/vmlab/build.py
	@$(PYTEST) tests/vm $(ARGS)

# Real engines, and a table of engines and features; RUNTIME=runc tests another runtime. ARGS='--save FILE' in one run and
# ARGS='--against FILE' in the next compare the two.
test-contracts: $(STAMPS)/packages-test build $(STAMPS)/tools
	@RUNTIME=$(RUNTIME) $(PYTEST) tests/contracts -q $(ARGS)

# The same with containerd 2, which Debian 13 does not have: it comes from Debian testing and is unpacked below build/
# (tools/debian_testing.sh).
test-containerd2: $(STAMPS)/packages-test build $(STAMPS)/tools
	@sh tools/debian_testing.sh build/containerd2 containerd
	@RUNTIME=$(RUNTIME) $(PYTEST) $(WITH_CONTAINERD) --containerd build/containerd2/usr/bin -q $(ARGS)
WITH_CONTAINERD = $(addprefix tests/contracts/test_,checkpoints.py containerd.py docker.py install.py kubernetes.py kubernetes_streams.py)

test-all: $(STAMPS)/packages-test $(STAMPS)/packages-long build lint
	@$(PYTEST) tests $(ARGS)
	@$(MAKE) --silent --no-print-directory test-plain
	@$(MAKE) --silent --no-print-directory test-shared
	@$(MAKE) --silent --no-print-directory test-containerd2

# The kernel and cli tests with the plain launcher, which runs the sources directly. (tests/cli/test_launcher.py compares the two
# launchers in `make test`.)
test-plain: $(STAMPS)/packages-test build $(STAMPS)/tools
	@mkdir -p build/plain/bin
	@ln -sfn ../../$(VENV)/lib build/plain/lib
	@ln -sfn ../../../runtime/bin/pyrunc build/plain/bin/pyrunc
	@$(PYTEST) tests/kernel tests/cli --runtime build/plain/bin/pyrunc $(ARGS)

# The same in a mount namespace where `/` is shared, as on every host with systemd, but not in many containers and test machines.
test-shared: $(STAMPS)/packages-test build $(STAMPS)/tools
	@unshare --mount --propagation shared $(PYTEST) tests/kernel tests/cli -m "not long" $(ARGS)

# The extension with the address and undefined behaviour sanitizers, with the tests that call it in their own process. Processes whose
# output nobody reads write their reports to files; any report fails the run.
ASAN       := build/asan
ASAN_FLAGS := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
# Not run: tests that expect only our own code in a process (the sanitizers make system calls and allocate memory, and their tables are not
# released with the caller's memory).
ASAN_NOT    = nothing_but_close_range_write or the_heap_of_the_caller or forget_leaves_what_the_rest or nothing_to_steal or after_forget
ASAN_TESTS  = $(filter-out %/test_seal.py,$(shell grep -l "_syscalls\|mounting\|from tail" tests/kernel/test_*.py)) tests/unit/test_extension.py tests/unit/test_jsonbytes.py tests/unit/test_calls.py tests/unit/test_parts_mounts.py
test-asan: build $(STAMPS)/tools
	@rm -rf $(ASAN) && mkdir -p $(ASAN) && cp -r runtime/pyrunc specs $(ASAN)
	@$(CC) $(EXT_CFLAGS) $(ASAN_FLAGS) -I$(PY_INCLUDE) $(EXT_SOURCES) $(EXT_LDFLAGS) -o $(ASAN)/pyrunc/linux/_syscalls.abi3.so
	@LD_PRELOAD="$$($(CC) -print-file-name=libasan.so) $$($(CC) -print-file-name=libubsan.so)" PYTHONMALLOC=malloc \
	ASAN_OPTIONS=detect_leaks=0:log_path=$(CURDIR)/$(ASAN)/report UBSAN_OPTIONS=print_stacktrace=1:log_path=$(CURDIR)/$(ASAN)/report \
	$(PYTEST) $(ASAN_TESTS) -o pythonpath="$(ASAN) bundles tests tests/cli tests/kernel tests/contracts tests/unit" -k "not ($(ASAN_NOT))" $(ARGS)
	@if ls $(ASAN)/report.* >/dev/null 2>&1; then cat $(ASAN)/report.*; exit 1; fi

# What the tests reach, and whether they notice a change: tools/coverage, docs/testing.md. `make mutants` needs the records of a run of
# `make coverage` with the same sources.
.PHONY: coverage mutants
coverage: $(STAMPS)/packages-test build $(STAMPS)/tools
	@$(VPY) tools/coverage/run.py $(ARGS)

mutants: $(STAMPS)/packages-test build $(STAMPS)/tools
	@$(VPY) tools/coverage/mutants.py $(ARGS)

$(STAMPS)/fuzz: tools/requirements-fuzz.txt $(STAMPS)/tools
	@$(VENV)/bin/pip install --quiet --requirement tools/requirements-fuzz.txt || echo "fuzz: there is no Atheris for this Python; a loop of our own takes its place"
	@touch $@

fuzz: build $(STAMPS)/fuzz
	@$(VPY) tests/fuzz/guided.py $(ARGS)

security-report: $(STAMPS)/packages-test build $(STAMPS)/tools
	@$(VPY) tools/security_report.py $(ARGS)

bench: $(STAMPS)/packages-test build
	@$(PYTHON) -m conformance.bench $(ARGS)

# Beside Debian's own, the newest runc and crun: those of Debian's testing. crun executes a copy of itself, so its library is found by an absolute path.
PEERS := $(CURDIR)/build/peers/usr
bench-newest: $(STAMPS)/packages-test $(STAMPS)/packages-long build
	@sh tools/debian_testing.sh build/peers runc crun libblake3-0
	@patchelf --set-rpath "$$(dirname $(PEERS)/lib/*/libblake3.so.0)" $(PEERS)/bin/crun
	@$(PYTHON) -m conformance.bench --runtime pyrunc=$(RUNTIME) --runtime runc=runc --runtime crun=crun --runtime runc-new=$(PEERS)/sbin/runc \
	--runtime crun-new=$(PEERS)/bin/crun $(ARGS)

# podman, docker and ctr with each runtime, in turns.
bench-engines: $(STAMPS)/packages-test build
	@$(VPY) tools/bench_engines.py $(ARGS)

# Regenerates the pages made from the code, then builds the web site of all pages below build/site/html.
site: docs $(STAMPS)/tools
	@$(VPY) tools/site.py build/site
	@$(VPY) tools/site.py --check build/site

# A root file system of busybox, or of DEBIAN='package …'; BUNDLE=NAME makes a bundle of bundles/, with DEBIAN=1 of its Debian packages.
DIR    ?= build/rootfs
DEBIAN ?=
BUNDLE ?=
rootfs:
	@$(PYTHON) -B bundles/make_rootfs.py $(if $(BUNDLE),--bundle $(BUNDLE)) $(if $(DEBIAN),--debian) $(DIR) $(if $(BUNDLE),,$(DEBIAN))

.PHONY: conformance
# All requirements, also on the runtimes installed on this machine. tools/conformance_table.py writes the JSON report into README.md.
conformance: $(STAMPS)/packages-test build
	@mkdir -p build
	@$(PYTHON) -m conformance --runtime $(RUNTIME) --runtime runc --runtime crun --level full \
		--json build/conformance.json --html build/conformance.html $(ARGS)

docs: build
	@$(PYTHON) tools/docs.py --runtime $(RUNTIME) $(ARGS)
