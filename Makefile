# The commands of the project; CI runs the same ones.
PYTHON ?= python3
ARGS ?=
WORKERS ?= 5
BIN := .venv/bin
export UV_PYTHON_DOWNLOADS := never

.PHONY: demo test check check-system format lint types layers sql docs schemas bench lock build clean

demo: .venv/synced  ## see the daemon do its main job, in about a minute
	$(BIN)/reconciler demo $(ARGS)

test: .venv/synced  ## the test suite against real PostgreSQL, real Git, real processes
	$(BIN)/pytest -q -n $(WORKERS) --dist loadgroup -m "not system" $(ARGS)

check: lint types layers sql docs test  ## everything a commit has to pass

check-system: .venv/synced  ## tests that need root and programs of the system; installs Debian packages
	tools/install-system-packages
	$(BIN)/pytest -q -n 2 --dist loadfile -m system $(ARGS)

format: .venv/synced
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: .venv/synced
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell reconciler docs benchmarks examples tools *.md

types: .venv/synced
	$(BIN)/mypy

layers: .venv/synced
	$(BIN)/lint-imports

sql: .venv/synced
	$(BIN)/sqlfluff lint --nocolor -p 2 reconciler

docs: .venv/synced  ## generated pages and schemas are current
	$(BIN)/python -m tools.generate --check

schemas: .venv/synced  ## write the generated pages and schemas anew
	$(BIN)/python -m tools.generate

bench: .venv/synced
	$(BIN)/python -m benchmarks $(ARGS)

build: .venv/synced
	$(BIN)/uv build

lock: .venv/synced
	$(BIN)/uv lock

clean:
	rm -rf .venv .tools dist

.venv/synced: pyproject.toml uv.lock tools/bootstrap.py
	UV="$$($(PYTHON) tools/bootstrap.py)" && "$$UV" sync --quiet --frozen --all-extras --compile-bytecode --python "$$(command -v $(PYTHON))"
	touch $@
