# The first Python that is new enough; name another with: make PYTHON=python3.13 ...
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$python && break; done)
BIN := $(CURDIR)/.venv/bin
PROTOS = $(sort $(shell find protos -name '*.proto' -printf '%P '))
PROTOC = PATH="$(BIN):$(GO_TOOLS):$$PATH" $(BIN)/python -m grpc_tools.protoc -I protos
BASELINE := protos/baseline.binpb

GO := $(BIN)/python -m deploy.golang
GO_MODULES := frontend loadgen docs/examples/go
GOFMT = $$($(GO) env GOROOT)/bin/gofmt
GO_TOOLS := $(CURDIR)/.venv/go
# What goes over HTTP. The protos name no package of Go's: to add one later would be a breaking change to those who have them.
PUBLIC_PROTOS := ticketrush/v1/catalog.proto ticketrush/v1/ticketing.proto
comma := ,
GO_PACKAGES := $(subst $() ,$(comma),$(foreach proto,$(PUBLIC_PROTOS),M$(proto)=ticketrush/gen/go/ticketrush/v1))
GO_OPT := paths=source_relative,$(GO_PACKAGES)
HTTP_OPT := grpc_api_configuration=protos/ticketrush/v1/http.yaml
OPENAPI_OPT := openapi_configuration=protos/ticketrush/v1/openapi.yaml,allow_merge=true,merge_file_name=ticketrush
OPENAPI_OPT := $(OPENAPI_OPT),json_names_for_fields=false,openapi_naming_strategy=simple

# Each has servers and services of its own. Tests wait as well as work, so there is one more of them than cores here.
WORKERS ?= 3
# Their data lie in memory where that is large enough (4 GB): on some disks a new database costs five times as much.
IN_MEMORY := $(shell test "$$(df --output=avail /dev/shm 2>/dev/null | tail -n 1)" -gt 4000000 2>/dev/null && \
	echo PYTEST_DEBUG_TEMPROOT=/dev/shm)

.DEFAULT_GOAL := help

help: ## show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: up ## everything from nothing: packages, servers, services; then reserve, pay, expire, refund before your eyes
	@$(BIN)/python -m cli.demo

up: venv ## start what does not run and wait until it is ready (RUNTIME=compose: by Docker Compose)
	@$(BIN)/python -m deploy up

up-ha: venv ## the same with several of everything, any one of which may be killed: start what does not run
	@$(BIN)/python -m deploy up-ha

down: venv ## stop everything; the data stays
	@$(BIN)/python -m deploy down

status: venv ## show what runs, and where
	@$(BIN)/python -m deploy status || test $$? -eq 3 # what does not run was shown: no error of make's

logs: venv ## show the logs, and follow them on a terminal (NAMES="gateway payments": only these)
	@$(BIN)/python -m deploy logs $(NAMES)

watch: venv ## run Debian's Prometheus on the stack that runs, with our alerts, until Ctrl-C
	@$(BIN)/python -m deploy watch || test $$? -eq 130 # Ctrl-C is how it ends

test: venv ## run all tests, with a PostgreSQL and a RabbitMQ of their own (ARGS="-k name": only some)
	@$(IN_MEMORY) $(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder $(ARGS)

verify: lint types contract fresh-gen containers manifests audit ## check style, types, contract, generated code, containers, manifests, audit

lint: venv
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@for module in $(GO_MODULES); do (cd $$module && $(GO) vet ./...) || exit 1; done
	@unformatted=$$($(GOFMT) -l $(GO_MODULES)) && test -z "$$unformatted" || \
	{ echo "error: not formatted; mend it with: make fmt"; echo "$$unformatted"; exit 1; }

types: venv
	@$(BIN)/mypy .

contract: venv
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code
	@$(BIN)/buf breaking --against $(BASELINE)

fresh-gen: venv gotools
	@new=$$(mktemp -d) && trap 'rm -rf "$$new"' EXIT && mkdir "$$new/python" "$$new/go" "$$new/openapi" && \
	$(call generate,"$$new") && diff --recursive --exclude=__pycache__ "$$new/python/ticketrush" gen/python/ticketrush && \
	diff --recursive "$$new/go/ticketrush" gen/go/ticketrush && \
	diff "$$new/openapi/ticketrush.swagger.json" gen/openapi/ticketrush.swagger.json || \
	{ echo "error: gen/ is not what protos/ generate; renew it with: make gen"; exit 1; }

containers: venv
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@$(BIN)/hadolint Dockerfile

manifests: venv ## put deploy/kubernetes together and hold it to the schemas (what is offline is skipped, and told)
	@$(BIN)/python -m tests.kubernetes.check

audit: venv ## look for packages with known vulnerabilities and for committed secrets (what is offline is skipped)
	@$(BIN)/python -m tests.security.scan

gen: venv gotools ## generate gen/ from protos/
	@rm -rf gen/python/ticketrush gen/go/ticketrush && $(call generate,gen)

baseline: venv ## at a release: note its commit, and make its contract the one that later changes must not break
	@$(BIN)/buf build --exclude-source-info --output $(BASELINE)
	@git rev-parse HEAD > deploy/last_release

fmt: venv ## format Python, Go and protos
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format
	@$(GOFMT) -w $(GO_MODULES)
	@$(BIN)/buf format --write

bench-smoke: venv ## one short round of it, in a minute and a half
	@$(BIN)/python -m bench --smoke

bench: venv ## beside its ceilings and what anyone would build instead, on a stack of its own (ARGS="seats --rounds 3": some)
	@$(BIN)/python -m bench $(ARGS)

bench-page: venv ## from a click to the colour of the seat on another screen, in two browsers
	@$(BIN)/python -m tests.page.latency

dashboards: venv ## make deploy/observability's dashboards (from deploy/panels.py) and prometheus.yml (from deploy/prometheus.py)
	@$(BIN)/python -m deploy.dashboards
	@$(BIN)/python -m deploy.prometheus

screenshots: venv ## take the pictures of the page that the docs show, on a stack of its own
	@$(BIN)/python -m tests.page.screenshots

proof-alerts: venv ## harm a stack of its own and see each alert fire and end, with the rules' own times (an hour and a half)
	@PROOF_ALERTS_HURRY=1 $(BIN)/pytest tests/observability/alarms --durations=10

proof-crashes: venv ## end processes at every point between two steps, in every scenario (ARGS="payments charge": only some)
	@$(BIN)/python -m tests.proof.crash_matrix $(ARGS)

proof-fuzz: venv ## call every RPC with absurd messages and garbled bytes, and see that it answers in order (SECONDS=600: for so long)
	@FUZZ_SECONDS=$(or $(SECONDS),300) $(BIN)/pytest tests/security/test_fuzz_rpcs.py --durations=1

proof-guards: venv ## take out each guard, in a copy, and see that its tests fail (ARGS="lock": only some)
	@$(BIN)/python -m tests.proof.guards $(ARGS)

proof-model: venv ## drive the real handlers and SQL in lockstep with the exhaustive model (SECONDS=600: for so long)
	@PROOF_MODEL_SECONDS=$(or $(SECONDS),300) $(BIN)/pytest tests/proof/test_against_model.py --durations=1

proof-upgrade: venv ## the last release and what is here side by side, each service in turn, there and back
	@$(BIN)/python -m tests.proof.upgrade $(ARGS)

proof-poison: venv ## 5 % poison in the stream: what it costs its neighbours, and whether any of it is lost
	@$(BIN)/python -m tests.proof.poison

chaos: venv ## break a stack of its own, cell after cell, and check every promise (CELLS="kill-payments ...", SEED=x: those only, again; SHARDS=4)
	@$(BIN)/python -m chaos $(CELLS) $(if $(SEED),--seed=$(SEED)) $(if $(SHARDS),--shards=$(SHARDS))

chaos-ha: venv ## the same on several of everything, with its own cells first (CELLS="ha-kill-primary ...": only those)
	@$(BIN)/python -m chaos --ha $(CELLS) $(if $(SEED),--seed=$(SEED))

chaos-smoke: venv ## the most telling cells of it, in a few minutes
	@$(BIN)/python -m chaos --smoke

compose-check: venv ## the compose file for real: docker compose up --wait, a purchase, and down, with stand-ins for what cannot be pulled
	@$(BIN)/python -m tests.containers

drill: venv ## destroy the database of a stack of its own under load, restore it to a point in time, bring the money in order
	@$(BIN)/python -m chaos.drill $(if $(SEED),--seed=$(SEED))

clean: venv ## stop everything and remove its data, and what tools have cached (packages stay: rm -r .venv)
	@$(BIN)/python -m deploy clean
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +

venv:
	@$(if $(PYTHON),,echo "error: Python 3.11 or newer is needed; as root: apt-get install python3 python3-venv"; exit 1;) \
	command -v $(PYTHON) > /dev/null || { echo "error: there is no $(PYTHON)"; exit 1; }; \
	$(PYTHON) -m deploy.bootstrap

# The versions of the plugins are in frontend/go.mod.
gotools: venv
	@cd frontend && GOBIN=$(GO_TOOLS) $(GO) install tool

generate = $(PROTOC) --python_out=$(1)/python --grpc_python_out=$(1)/python \
	--mypy_out=quiet:$(1)/python --mypy_grpc_out=quiet:$(1)/python $(PROTOS) && \
	$(PROTOC) --go_out=$(1)/go --go_opt=$(GO_OPT) --go-grpc_out=$(1)/go --go-grpc_opt=$(GO_OPT) \
	--grpc-gateway_out=$(1)/go --grpc-gateway_opt=$(GO_OPT),$(HTTP_OPT) \
	--openapiv2_out=$(1)/openapi --openapiv2_opt=$(GO_PACKAGES),$(HTTP_OPT),$(OPENAPI_OPT) $(PUBLIC_PROTOS)

# Nothing here is the name of a file.
.PHONY: $(shell awk -F : '/^[a-z-]+:( |$$)/ {print $$1}' $(firstword $(MAKEFILE_LIST)))
