# `make demo` and `make test` set up all they need. Python, make and (for the Kafka tests) Java are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := shield detectors connectors tests benchmarks

.PHONY: demo test check format bench bench-peers bench-detection conformance fuzz lock docs clean

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	@touch $@

demo: $(READY)  ## the product at work on a small town's logs
	@$(BIN)/shield demo

test: $(READY)  ## all tests; with Java and Maven also on a real Apache Kafka
	$(BIN)/python -m pytest

check: $(READY)  ## format, lint, types, import layers, licences, rule tests
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/reuse lint --quiet
	$(BIN)/shield rules test rules/sigma

format: $(READY)
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

bench: $(READY)  ## speed and memory, as tables and a plot
	$(BIN)/python -m benchmarks

bench-peers: $(READY)  ## beside Logprep on the same Kafka and the same lines
	$(BIN)/python -m benchmarks.peers

SEEDS ?= 11 12 13
bench-detection: $(READY)  ## attacks found in simulated towns: recall, precision, time to detect
	$(BIN)/python -m benchmarks.bench_detection --seeds $(SEEDS) --noise 0 2 8

WHOLE := $(shell find ../shared/data/open-xp-rules -name 'raw_*.txt' -print -quit 2>/dev/null)
SCORED ?= crowdsec-hub elastic-beats elastic-integrations $(if $(WHOLE),open-xp-rules) wazuh-ruleset-tests
conformance: $(READY)  ## our parsers beside what other projects expect of the same lines (data beside the repository)
	$(BIN)/python ../shared/tools/parse_score.py --data ../shared/data --source $(SCORED) --cmd '$(BIN)/shield parse --parser {parser}'

LINES ?= 1000000
fuzz: $(READY)  ## mutated lines against every parser
	$(BIN)/python -m benchmarks.fuzz_parsers --lines $(LINES)

docs: $(READY)  ## what is generated from the code
	@mkdir -p build
	$(BIN)/python -m shield docs configuration > docs/configuration.md
	$(BIN)/python -m shield docs parsers > docs/parsers.md
	$(BIN)/shield rules deliveries tests/golden > build/deliveries.json && mv build/deliveries.json shield/deliveries.json

lock:  ## newest versions within the ranges of pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --all-extras --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .cache build dist
