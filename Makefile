# make demo   install what is needed and run the demo recipe: mixtures, two trained systems, a report
# make test   every check: formatting, lint, types, import layers, tests
# make test-wheel   the built wheel, in an environment of its own: help, recipes, and a toy of the demo from mixtures to report
# make test-oldest  the tests with the oldest versions of everything that pyproject.toml allows (PYTHON=python3.11)
# make fuzz   damage files of every kind and read them, SECONDS=600 long; says what failed
# make faults let runs fail in one system call after another, SECONDS=600 long, and continue them
# make gpu    ten minutes on a GPU: tests, speed, equality with the CPU, a training; PARTS="bench checks" for some of it, BUNDLE for a
#             bare machine, DEVICE=cpu SMALL=1 to try it without a GPU
# make gpu-bundle SPEECH=DIR  what a bare GPU machine lacks: wheels, and speech at 8 kHz
# make picture  the README's picture of the demo's report, by Chromium; DEMO="--set train.epochs=1" for a short demo's
# make format let ruff format and mend what it can
# make clean  remove the environment and all results

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-wheel test-oldest fuzz faults gpu gpu-bundle picture format clean

demo: $(VENV)/.ready-demo
	$(BIN)/tasnet run demo

test: $(VENV)/.ready-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@# Two threads in each of two processes get in each other's way.
	OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses 2 --dist loadgroup

WHEEL := $(VENV)-wheel
TOY := --set "plan.num_mixtures={train=16,valid=4,test=8}" --set train.segments_per_epoch=16 --set train.epochs=2 --set train.segment_seconds=1 \
	--set model.num_filters=32 --set model.filter_length=16 --set model.bottleneck_channels=16 --set model.skip_channels=16 --set model.hidden_channels=32

test-wheel:
	rm -rf $(WHEEL) && $(PYTHON) -m venv $(WHEEL)
	$(WHEEL)/bin/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir $(WHEEL)/built .
	$(WHEEL)/bin/python -m pip install --quiet --disable-pip-version-check "$$(echo $(WHEEL)/built/tasnet_pipeline-*.whl)[demo]"
	mkdir $(WHEEL)/empty
	cd $(WHEEL)/empty && ../bin/tasnet --help > help.txt && ../bin/tasnet recipes > recipes.txt && \
		../bin/python -c "from pipeline.separation.live import site; site.page_files()[site.INDEX]" && \
		../bin/tasnet run demo $(TOY) > run.txt && cat run.txt && test -s "$$(sed -n 's/^Report: //p' run.txt)"

OLDEST := $(VENV)-oldest

test-oldest:
	rm -rf $(OLDEST) && $(PYTHON) -m venv $(OLDEST)
	$(PYTHON) -m tests.oldest > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(OLDEST)/constraints.txt --editable '.[demo,dev]'
	@# What old versions warn of has changed in newer ones.
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest --numprocesses 2 --dist loadgroup -W ignore::DeprecationWarning -W ignore::FutureWarning

SECONDS ?= 600

fuzz: $(VENV)/.ready-dev
	$(BIN)/python -m tests.fuzzing --seconds $(SECONDS)

faults: $(VENV)/.ready-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --seconds $(SECONDS)

# On a bare machine there is no environment to set up: the kit brings its wheels.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
DEVICE ?= cuda

gpu:
	$(GPU_PYTHON) -m tests.gpu.kit --device $(DEVICE) $(if $(SMALL),--small) $(if $(BUNDLE),--bundle $(BUNDLE)) $(if $(SYSTEM),--system $(SYSTEM)) $(if $(PARTS),--parts $(PARTS))

gpu-bundle: $(VENV)/.ready-dev
	$(BIN)/python -m tests.gpu.bundle $(if $(SPEECH),--speech $(SPEECH))

CHROMIUM ?= chromium

picture: $(VENV)/.ready-demo
	report=$$($(BIN)/tasnet run demo $(DEMO) | sed -n 's/^Report: //p') && $(CHROMIUM) --headless --no-sandbox --disable-gpu --hide-scrollbars \
		--window-size=1200,900 --screenshot=docs/report.png "file://$(CURDIR)/$$report"

format: $(VENV)/.ready-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(WHEEL) $(OLDEST) work

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp is written only after the installation has succeeded, and is out of date when the requirements change.
$(VENV)/.ready-demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo]'
	@touch $@

$(VENV)/.ready-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[demo,dev]'
	@touch $@ $(VENV)/.ready-demo
