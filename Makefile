# Two commands matter to a newcomer: `make demo` and `make test`. `make check` is exactly what CI runs.
PYTHON := .venv/bin/python
TYPED := build/typed

.PHONY: setup demo test test-slow lint types check clean

setup:
	@bash bootstrap.sh

demo: setup
	$(PYTHON) -m vega_policy.cli.eval --config_path=configs/eval/demo.yaml

test: setup  # every test but those that take minutes; each of these has a small form that runs here
	$(PYTHON) -m pytest -n 2 --dist=loadfile -m "not slow"

test-slow: setup
	$(PYTHON) -m pytest -m slow

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

types: setup  # the mounted rooms exist only when installed, so what ships is what is checked
	rm -rf $(TYPED) build/lib
	$(PYTHON) -m pip install --quiet --no-deps --no-build-isolation --target $(TYPED) .
	cd $(TYPED) && ../../$(PYTHON) -m mypy --config-file ../../pyproject.toml -p vega_policy

check: lint types test

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
