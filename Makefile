# make demo: train a first style and show it; options go to the training, such as style=mosaic.
# make test: lint, types and tests. make check: the same without slow tests. make serve: a page that restyles pictures.
# make test-gpu: the tests that need a GPU; without one they are skipped, with a line that says so.
# All set up .venv first.
PYTHON ?= python3
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)

.PHONY: demo test test-gpu check lint serve artworks
demo: .venv/ready
	$(BIN)/python scripts/demo.py $(filter-out PYTHON=%,$(MAKEOVERRIDES))

# Two processes share two cores: more threads, theirs or their children's, would only wait for each other.
test check: export OMP_NUM_THREADS = 1
test check: export MKL_NUM_THREADS = 1

# mypy keeps one core busy; the tests' processes have the rest meanwhile. Each of them has one half of the tests, so that
# what a file's tests share is made once, and takes over from the other's when it is done.
test: .venv/ready
	$(MAKE) --no-print-directory -j 2 lint pytest

check: .venv/ready
	$(MAKE) --no-print-directory -j 2 lint pytest TESTS='-m "not slow"'

pytest: .venv/ready
	$(BIN)/python -m pytest -q -n 2 --dist worksteal $(TESTS)

test-gpu: .venv/ready
	$(BIN)/python -m pytest -q -rs -m gpu tests/gpu

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

serve: .venv/ready
	$(BIN)/python scripts/serve.py

artworks: .venv/ready
	$(BIN)/python scripts/draw_artworks.py

.venv/ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[samples,dev]'
	touch $@
