# Two commands for a fresh machine: `make demo` and `make test`. Both set everything up first.
PROMPT ?= a fox in a snowy forest at dusk
OUT ?= out/demo.mp4
PORT ?= 8000
PRESET ?= tiny
GPUS ?=
EFFORT ?= 1.0
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: help setup demo serve test test-cluster test-bench test-gpu quick lint browser prometheus redis train bench quality gallery plots
help:
	@echo "make demo [PROMPT=... OUT=...]   set up, start a server, make one video, stop the server"
	@echo "make serve [PRESET=tiny PORT=8000 GPUS=auto]   set up and serve on this machine; each other preset on its GPUs"
	@echo "make test                        set up and run every test"
	@echo "make test-cluster                tests on many Ray nodes of this machine: what dies, drains, lacks; minutes"
	@echo "make test-bench                  most benchmarks with --quick, up to minutes each; not among the former"
	@echo "make test-gpu                    tests on this machine's GPU, each preset at full size with random weights among them"
	@echo "make quick                       the tests that need no cluster and no trained model"
	@echo "make lint                        ruff and mypy --strict"
	@echo "make browser                     Debian's Chromium for the tests of the page, as root; else they are skipped"
	@echo "make prometheus                  Debian's Prometheus for the tests of alerts and dashboard, as root"
	@echo "make redis                       Debian's Redis for the test of a control store that restarts, as root"
	@echo "make train [EFFORT=1.0]          train the tiny weights from nothing; hours"
	@echo "make bench                       every benchmark of speed, a few minutes each"
	@echo "make gallery                     the README's pictures, with the weights at hand"
	@echo "make plots                       the pictures of cluster/README.md, simulated"
	@echo "make quality                     how well the tiny weights follow prompts; an hour"

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	rm -f .venv/.ready-*
	touch $(READY)

setup: $(READY)

demo: setup
	@mkdir -p $(dir $(OUT))
	$(BIN)/python -m deployments.demo "$(PROMPT)" "$(OUT)"

serve: setup
	$(BIN)/python -m deployments serve --preset $(PRESET) $(if $(GPUS),--gpus $(GPUS)) --port $(PORT)

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not bench and not cluster"

test-cluster: setup
	$(BIN)/python -m pytest tests/e2e/cluster tests/e2e/test_box.py

test-bench: setup
	$(BIN)/python -m pytest -m bench

test-gpu: setup
	$(BIN)/python -m pytest -s tests/gpu

# Where 4 GB of memory pass for a disk: the journal and the store wait for a real one at every step.
MEMORY = $(shell test "$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 {print $$4}')" -gt 4000000 2>/dev/null && echo /dev/shm)

quick: setup
	$(addprefix TMPDIR=,$(MEMORY)) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
		-o tmp_path_retention_policy=failed -m "not slow and not gpu"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

APT = apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends

browser:
	command -v chromium || ($(APT) chromium)

prometheus:
	command -v prometheus || ($(APT) prometheus)

redis:
	command -v redis-server || ($(APT) redis-server)

train: setup
	$(BIN)/python -m stages.training --effort $(EFFORT) --install

bench: setup
	for script in pipelining fanout autoscaling twin peers end_to_end durability api clients page bulkheads journal_scale adapters denoise speed vfi vfi_quality sim_policies lab papers study; do $(BIN)/python -m benchmarks.$$script || exit 1; done

quality: setup
	$(BIN)/python -m benchmarks.quality

gallery: setup
	$(BIN)/python -m stages.local.gallery

plots: setup
	rm -rf out/plots
	$(BIN)/python -m cluster experiment bottleneck --out out/plots/bottleneck
	$(BIN)/python -m cluster experiment burst --out out/plots/burst
	mkdir -p cluster/plots
	cp out/plots/bottleneck/throughput.png out/plots/burst/queues.png cluster/plots/
