# Every target but `help`, `fix` and `clean` sets up first what it needs; a second time that takes no time.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
export PYTHON

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## .venv/bin/resolverd and the system packages the rest needs (PYTHON=... chooses the interpreter)
	@scripts/setup.sh

.PHONY: demo
demo: setup ## everything on an embedded cluster, in private namespaces: nothing on this machine changes
	@$(BIN)/resolverd demo

.PHONY: test
test: check ## check, then every test, as root inside private namespaces (ARGS="-k name" is passed to pytest)
	@scripts/test.sh $(ARGS)

.PHONY: check
check: setup ## lint, format, types, import arrows, and the wheel and the sdist
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@report=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$report"; exit 1; }; tail -n 1 <<<"$$report"
	@$(BIN)/python scripts/check_dist.py

.PHONY: picture
picture: setup ## docs/demo.svg anew, from what the demo prints (as root)
	@$(BIN)/python scripts/picture.py

.PHONY: dist
dist: setup ## the wheel and the sdist, checked, in dist/
	@$(BIN)/python scripts/check_dist.py --keep dist

.PHONY: fix
fix: setup ## what ruff can mend by itself
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

.PHONY: bench
bench: ## measurements, one script each: tests/bench/bench_*.py
	@scripts/setup.sh bench
	@set -e; for script in tests/bench/bench_*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: bench-dns
bench-dns: ## answers a second beside dnsmasq, unbound and, where COREDNS names it, CoreDNS; latency beside a full tunnel
	@scripts/setup.sh bench
	@set -e; for script in tests/bench/bench_dns*.py; do echo "== $$script"; $(BIN)/python "$$script"; done

.PHONY: bench-tunnel
bench-tunnel: setup ## the tunnel beside a plain connection, in network namespaces (as root)
	@$(BIN)/python tests/bench/bench_tunnel.py

.PHONY: suffix-list
suffix-list: setup ## fetch the newest public suffix list and bundle it (FROM=pypi or a file: from there)
	@$(BIN)/python -m resolverd_platform.suffix_list_refresh --from "$(or $(FROM),publicsuffix.org)"

.PHONY: clean
clean: ## the virtual environment and every cache
	rm -rf .venv .cache dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .grimp_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
