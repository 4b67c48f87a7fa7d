# make help lists every target.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
GO          ?= go
BROKER      ?=
EVENTS      ?= 4000
SEED        ?= 0
PACKAGES    ?= ./...
# The race detector links C; without a C compiler the tests run, and say so.
RACE        := $(if $(shell command -v gcc || command -v clang),-race)
SERVERS     := $(GO) run ./internal/servers/cmd
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4

.DEFAULT_GOAL := help

.PHONY: help
help: ## List every target
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the hapax command into bin/
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/hapax ./cmd/hapax

.PHONY: demo
demo: build ## Run the Black Friday demo (BROKER=sqlite EVENTS=4000 SEED=0)
	bin/hapax demo $(if $(BROKER),--broker $(BROKER)) --events $(EVENTS) --seed $(SEED)

.PHONY: test
test: lint $(if $(EMBEDDED),,servers) ## Start the real servers that can be had (EMBEDDED=1: none), and run every test, with the race detector where there is a C compiler
	@test -n "$(RACE)" || echo "no C compiler found: running without the race detector"
	$(SERVERS) report --reset
	$(GO) test $(RACE) -count 1 -timeout 20m $(PACKAGES) || { $(SERVERS) report; exit 1; }
	$(SERVERS) report

.PHONY: test-real
test-real: export REQUIRE_REAL = 1
test-real: test ## The same, and fail where a server is missing

.PHONY: servers
servers: ## Start the real brokers and databases that tests use, on loopback (ONLY=kafka,redis for some)
	$(SERVERS) up $(if $(ONLY),--only $(ONLY))

.PHONY: servers-down
servers-down: ## Stop them
	$(SERVERS) down

.PHONY: bench
bench: build ## Measure throughput and latency against the raw and the official clients
	bin/hapax bench $(if $(BROKER),--broker $(BROKER))

.PHONY: lint
lint: ## Check formatting and run go vet
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "not formatted (run make fmt):" $$unformatted; exit 1; }
	$(GO) vet $(PACKAGES)

.PHONY: staticcheck
staticcheck: ## Run staticcheck at its pinned version
	$(GO) run $(STATICCHECK) $(PACKAGES)

.PHONY: vuln
vuln: ## Run govulncheck at its pinned version (needs the vulnerability database)
	$(GO) run $(GOVULNCHECK) $(PACKAGES)

.PHONY: fmt
fmt: ## Format the code
	gofmt -w $$(git ls-files '*.go')

.PHONY: clean
clean: ## Remove what the targets above made
	rm -rf bin
