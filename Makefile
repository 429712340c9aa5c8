# make lab opens the course, make test checks it. Both build .venv first if it is missing or out of date.
PYTHON ?= python3
PORT ?= 8888
WORKERS ?= 2
OPTIONS ?=

IN_VENV := .venv/bin/python
FIRST := $(notdir $(firstword $(sort $(wildcard notebooks/*.ipynb))))
# Jupyter refuses to run as root, as in a container, without this option.
ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help lab test soak tour handout bench audit licences clean

help:
	@echo 'make lab       open the course in JupyterLab (PORT=8888 OPTIONS=--no-browser)'
	@echo 'make test      run everything: lint, unit tests, every notebook cell and solution (WORKERS=2 processes)'
	@echo 'make soak      many more kills, damaged files and interrupted cells than make test, to results/faults; an hour or two'
	@echo 'make tour      run all notebooks and write them as web pages to build/course'
	@echo 'make handout   write the notebooks without outputs and solutions to build/handout'
	@echo 'make bench     measure speed, memory and waiting here, to results/benchmarks; an hour and a half'
	@echo 'make audit     check whether an installed package has a known vulnerability; needs a network'
	@echo 'make licences  write the licences of what is installed to docs/licences.md'
	@echo 'make clean     remove build'

lab: .venv/.installed
	$(IN_VENV) -m jupyterlab --ServerApp.root_dir=notebooks --LabApp.default_url=/lab/tree/$(FIRST) --port=$(PORT) \
	  $(ROOT) $(OPTIONS)

test: .venv/.installed
	$(IN_VENV) -m ruff format --check .
	$(IN_VENV) -m ruff check .
	OMP_NUM_THREADS=1 $(IN_VENV) -m pytest -n $(WORKERS) --dist loadfile notebooks tests --nbval --nbval-current-env --nbval-cell-timeout=180 \
	  --nbval-sanitize-with=tests/notebooks/nbval_sanitize.cfg -p tests.notebooks.solutions -p tests.offline.plugin \
	  --durations=12 --junitxml=build/tests.xml $(OPTIONS)

soak: .venv/.installed
	ALIKIT_SOAK=1 OMP_NUM_THREADS=1 $(IN_VENV) -m pytest -n $(WORKERS) --dist loadfile tests/faults --durations=12 $(OPTIONS)
	ALIKIT_SOAK=1 OMP_NUM_THREADS=1 $(IN_VENV) -m pytest -n $(WORKERS) tests/notebooks/test_learner.py --durations=12 $(OPTIONS)

tour: .venv/.installed
	$(IN_VENV) -m tests.offline tools/tour.py $(OPTIONS)

handout: .venv/.installed
	$(IN_VENV) tools/handout.py $(OPTIONS)

bench: .venv/.installed
	for recipe in svhn 'svhn --float32' cifar10 celeba cifar10-small mixture-ali-paper; do \
	  $(IN_VENV) -m alikit bench step $$recipe --seconds 90 --out results/benchmarks || exit 1; done
	for name in compiled precision batch size workers loading memory folder start report; do \
	  $(IN_VENV) -m alikit bench $$name $(OPTIONS) || exit 1; done

audit: build/audit/.installed
	$(IN_VENV) -m pip freeze --exclude-editable --all >build/audit/installed.txt
	@# Without --strict a package that could not be looked up counts as one without a vulnerability.
	build/audit/bin/pip-audit --strict --no-deps --disable-pip --progress-spinner=off -r build/audit/installed.txt $(OPTIONS)

licences: build/audit/.installed
	@printf '# Licences of what alikit runs on\n\nWritten by `make licences`: what each installed package states of itself.\n\n' >build/audit/licences.md
	build/audit/bin/pip-licenses --python=$(IN_VENV) --format=markdown --with-system --ignore-packages alikit >>build/audit/licences.md
	mv build/audit/licences.md docs/licences.md

clean:
	rm -rf build

# An environment of its own, because the tools that check the course are not part of it.
build/audit/.installed: pyproject.toml .venv/.installed
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --disable-pip-version-check --quiet $$($(IN_VENV) -c \
	  "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies']['audit'])")
	@touch $@

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed, and $(PYTHON) is missing or older: name another one, as in make PYTHON=python3.12 lab"; exit 1; }
	@# A bare Debian has no venv module. As root, for example in a container, make installs it.
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo 'Installing python3-venv with apt-get.' && \
	    apt-get update -qq && apt-get install -qq -y python3-venv && $(PYTHON) -c 'import ensurepip, venv'; } || \
	  { echo "$(PYTHON) cannot build a virtual environment: on Debian and Ubuntu, run: sudo apt install python3-venv"; exit 1; }
	@echo 'Installing into .venv: about 6 GB and a few minutes, once.'
	$(PYTHON) -m venv .venv
	$(IN_VENV) -m pip install --disable-pip-version-check -e '.[course,test]'
	@# Otherwise JupyterLab shows a dialog at its first start: may it fetch its news from the network?
	@$(IN_VENV) -m jupyter labextension disable @jupyterlab/apputils-extension:announcements >/dev/null 2>&1 || \
	  echo 'JupyterLab may ask about its news at the first start; either answer is fine.'
	@touch $@
