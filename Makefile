# pyrunc. Each section stands alone; `make` alone builds.

PYTHON  ?= /usr/bin/python3
VENV    := .venv
VPY     := $(VENV)/bin/python
CSRC    := runtime/csrc

.DEFAULT_GOAL := build

# ---------------------------------------------------------------- build: extension, launcher, virtual environment

EXT         := runtime/pyrunc/linux/_syscalls.abi3.so
EXT_SOURCES := $(addprefix $(CSRC)/,syscalls.c mount.c file.c process.c bpf.c ops.c finish.c)
EXT_HEADERS := $(addprefix $(CSRC)/,syscalls.h ops.h numbers.h)
EXT_CFLAGS  := -std=gnu11 -O2 -g -Wall -Wextra -fPIC -fvisibility=hidden -DPy_LIMITED_API=0x030b0000
EXT_LDFLAGS := -shared -Wl,-z,relro,-z,now
PY_INCLUDE  := $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')

.PHONY: ext
ext: $(EXT)

$(EXT): $(EXT_SOURCES) $(EXT_HEADERS)
	$(CC) $(EXT_CFLAGS) -I$(PY_INCLUDE) $(EXT_SOURCES) $(EXT_LDFLAGS) -o $@.new
	mv -f $@.new $@

.PHONY: clean
clean:
	rm -rf build dist runtime/*.egg-info $(EXT) .pytest_cache .mypy_cache .ruff_cache
	find runtime tests -name __pycache__ -type d -prune -exec rm -rf {} +
