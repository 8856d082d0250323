# Two commands to know: `make demo` and `make test`. Both install what is missing into .venv first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.synced
MANIFESTS := pyproject.toml constraints.txt $(wildcard services/*/pyproject.toml)
PROTOS := $(wildcard protos/hocket/v1/*.proto)
# Among so many processes tests are shared.
WORKERS ?= 2
PYTEST_ALL := $(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help sync demo up bench bench-sim proof submodels test chaos unit check format protos protos-check e2e clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

sync: $(STAMP) ## install everything into .venv, with the pins of constraints.txt

$(STAMP): $(MANIFESTS)
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the PATH: install Python 3.11, or name another with make PYTHON=..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a minute or two the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[dev]' -e services/registry -e services/aggregator -e services/device
	@touch $(STAMP)

demo: sync ## six unequal devices train one model over real gRPC, with a report at the end
	@$(BIN)/hocket demo

up: sync ## the same services, yours to keep; Ctrl-C stops them
	@$(BIN)/hocket up

bench: sync ## how fast updates are taken in, beside what wire and disk could carry (ten minutes)
	@$(BIN)/hocket bench ingest

bench-sim: sync ## what the simulator costs beside training; CIFAR-10 from HOCKET_DATA (a few minutes)
	@$(BIN)/hocket bench sim

proof: sync ## FedASMU against its baselines (under three hours; goes on where it stopped)
	@$(BIN)/hocket compare examples/studies/fedasmu.toml --report docs/results/fedasmu.md $(PROOF)

submodels: sync ## parts of the model against all of it, on CIFAR-10 (under three hours; goes on where it stopped)
	@$(BIN)/hocket compare examples/studies/submodels.toml --report docs/results/submodels.md $(SUBMODELS)

test: sync ## the whole suite (under ten minutes)
	@$(PYTEST_ALL)

chaos: sync ## kill processes more than a hundred times under training (a quarter of an hour)
	@$(BIN)/python -m pytest -q -s -m chaos tests/crash $(CHAOS)

unit: sync ## unit and contract tests only (under a minute; fuzzing is in make test)
	@$(PYTEST_ALL) tests/unit tests/contract

check: sync protos-check ## ruff, mypy strict, import-linter, generated code up to date
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: sync ## let ruff format and mend
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

protos: sync ## generate src/hocket/v1 from protos/
	@$(BIN)/python -m grpc_tools.protoc -I protos --python_out=src --grpc_python_out=src \
		--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --mypy_out=quiet:src \
		--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:src $(PROTOS)

protos-check: sync
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && \
	$(BIN)/python -m grpc_tools.protoc -I protos --python_out=$$fresh --grpc_python_out=$$fresh \
		--plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy --mypy_out=quiet:$$fresh \
		--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --mypy_grpc_out=quiet:$$fresh $(PROTOS) && \
	diff -r -x __init__.py -x __pycache__ $$fresh/hocket/v1 src/hocket/v1 \
		|| { echo "src/hocket/v1 is not what protos/ generates: run make protos" >&2; exit 1; }

e2e: sync ## build and run the containers, train to a target (needs docker and docker compose)
	@$(BIN)/python -m pytest -q -m e2e tests/e2e

clean: ## remove .venv, caches and runs
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache runs .hocket
