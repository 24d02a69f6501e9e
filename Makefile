# Two commands do all the set-up on a fresh machine: `make quickstart` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
RUN := runs/quickstart

.PHONY: quickstart test test-all lint types format reference clean

# The main job on generated identities: train, verify on people never seen, export, compare two images.
PEOPLE := $(RUN)/people
A := $(PEOPLE)/synthetic-200000/synthetic-200000

quickstart: $(STAMP)
	rm -rf $(RUN)
	$(BIN)/faceprint train quickstart out=$(RUN)
	$(BIN)/faceprint eval $(RUN) synthetic difficulty=0.4 first_identity=300000 num_identities=100 num_pairs=1000 plot=$(RUN)/roc.png
	$(BIN)/faceprint plot $(RUN) --output $(RUN)/curve.png
	$(BIN)/faceprint export $(RUN) --output $(RUN)/model.onnx
	$(BIN)/faceprint data synthetic $(PEOPLE) --identities 2 --images 2 --difficulty 0.4 --first-identity 200000
	$(BIN)/faceprint verify $(RUN)/model.onnx $(A)_0001.png $(A)_0002.png
	$(BIN)/faceprint verify $(RUN)/model.onnx $(A)_0001.png $(PEOPLE)/synthetic-200001/synthetic-200001_0001.png
	@echo
	@echo "run folder      $(RUN): config.yaml, metrics.jsonl, checkpoints/, model/"
	@echo "training curve  $(RUN)/curve.png"
	@echo "ROC             $(RUN)/roc.png"
	@echo "ONNX file       $(RUN)/model.onnx"
	@echo "Two images of one person should be more alike than two of different people, as above. Next: README.md."

test: lint types
	$(BIN)/python -m pytest -n auto -m "not slow"

test-all: lint types
	$(BIN)/python -m pytest -n auto

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(STAMP)
	$(BIN)/pyright

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The pages of docs/reference, from the program's own help, configuration and docstrings.
reference: $(STAMP)
	$(BIN)/python docs/generate_reference.py

# torch first and pinned: an unpinned torch may be a CUDA build of several gigabytes.
$(STAMP): pyproject.toml constraints.txt build-constraints.txt requirements-interop.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --build-constraint build-constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps --requirement requirements-interop.txt
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build dist
