# `make lab` is all you need: the first time it creates an environment in .venv, then it opens chapter 00.
# `make help` lists the rest. tools/setup.py creates the environment. Works with GNU make 3.81 (macOS) and newer.
# Variables can be given after the target: make lab PORT=9999 BROWSER=0

VENV ?= .venv
CONSTRAINTS ?=
TORCH ?= torch>=2.6
DISK_GB ?= 3
KILLS ?= 100
COLAB_PYTHON ?= python3.13
DEMO ?= a cat left of a dog on a blue background
PYTHON ?=
export VENV CONSTRAINTS TORCH DISK_GB PYTHON

# A PORT that the shell happens to hold, as on many cloud machines, is not meant for us.
ifeq ($(origin PORT),environment)
PORT :=
endif

# The tests of `make check`: those that compile little. Add a file here if it takes only a few seconds.
QUICK := tests/data $(patsubst %,tests/%.py,test_imports test_repository test_tools test_files test_config test_weights \
	test_masking teach/test_doctor evaluate/test_curves)

# Any Python can start tools/setup.py, which finds the one to create the environment with.
ANY := $(shell for p in "$(PYTHON)" python3 python3.13 python3.12 python3.11 python; do \
	if "$$p" -c 'import sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1; then echo "$$p"; exit; fi; done)
SETUP = [ -n "$(ANY)" ] || { echo "minimuse needs Python 3.11 or newer, and there is no Python here. Install one" \
	"(python.org, your package manager, or conda with environment.yml), then run the same command again." >&2; exit 1; }; \
	"$(ANY)" tools/setup.py
RUN := $(VENV)/bin/python
# Nearly all test time is compiling, so tests compile with few optimizations and without XLA's newer way to write loops,
# which takes longer to compile; notebooks, which train for longer, do not. A jaxlib without that flag would say so and
# stop.
QUICKLY := JAX_DISABLE_MOST_OPTIMIZATIONS=1 XLA_FLAGS="$(XLA_FLAGS) --xla_cpu_use_fusion_emitters=false" $(RUN)

# Tests need no network, and share one folder of compiled programs.
CACHED := check test slow answers load kills browser browser-app anywhere web-test
$(CACHED): export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/.cache/jax
check test slow answers load kills browser browser-app: export HF_HUB_OFFLINE = 1
check test slow answers load kills browser-app: export JAX_PLATFORMS = cpu
form: export PYRIGHT_PYTHON_IGNORE_WARNINGS = 1
CACHE = mkdir -p .cache/jax && echo '*' > .cache/.gitignore

.PHONY: help lab demo install form check test slow answers test-colab test-lowest load kills browser browser-app \
	anywhere peers site site-test site-figures web web-test clean

help:
	@echo "make lab         open chapter 00 in JupyterLab (PORT=8888, BROWSER=0 for no browser, LABFLAGS=...)"
	@echo "make demo        draw four pictures of a caption into demo.png (DEMO=\"a caption\")"
	@echo "make check       run lint, types and the quick tests"
	@echo "make test        run lint and types, then the tests and all notebooks (PARITY=1: also against torch)"
	@echo "make slow        run the tests with long compile times, which make test leaves out"
	@echo "make answers     try about a thousand further wrong and right answers to the exercises"
	@echo "make test-colab  make test with Colab's versions; needs Python 3.13"
	@echo "make test-lowest make test with the oldest versions that are allowed; needs Python 3.11"
	@echo "make load        try ten thousand bad inputs and five hundred command lines"
	@echo "make kills       kill a run of training 100 times at random moments, and compare its weights (KILLS=20)"
	@echo "make browser     try the explorers of chapters 00, 06, 07 and 11 in headless Chromium, if it is installed"
	@echo "make browser-app draw, paint and edit in the app in headless Chromium, if it is installed; also installs gradio"
	@echo "make site        build the course's web site in site/build/html; needs Node (docs/site.md)"
	@echo "make site-test   build it, and try its pages in headless Chromium, if it is installed"
	@echo "make anywhere    run every notebook twice, without network, in a folder with spaces and non-ASCII letters"
	@echo "make peers       compare our speed with public packages in PyTorch (PEERS='--quick'; TORCH='torch==2.13.0')"
	@echo "make web         export the models to ONNX and build the playground, Muse in a browser, into web/dist (needs Node)"
	@echo "make web-test    compare what the playground draws with Python, then try it in headless Chromium"
	@echo "make install     only create the environment"
	@echo "make clean       delete the environments and caches; runs/ and pictures stay"
	@echo
	@echo "The first of these installs into $(VENV). PYTHON=python3.12 chooses the Python for a new environment."
	@echo "CONSTRAINTS=constraints/py311.txt installs the exact versions that were tested, instead of the newest."

install:
	@$(SETUP)

lab:
	@$(SETUP)
	@echo "Starting JupyterLab with chapter 00; stop it with Ctrl-C."
	@root=; if [ "`id -u`" = 0 ]; then root=--allow-root; fi; \
	$(RUN) -m jupyterlab notebooks/00_first_pictures.ipynb --ServerApp.root_dir="$(CURDIR)" $$root $(if $(PORT),--port $(PORT)) \
	$(if $(filter 0,$(BROWSER)),--no-browser) $(LABFLAGS) \
	|| { echo "JupyterLab ended with an error; see the lines above. To use another port: make lab PORT=9999" >&2; exit 1; }

demo: export DEMO := $(DEMO)
demo:
	@$(SETUP)
	@echo "Drawing: $$DEMO ..."
	@$(RUN) -m minimuse generate "$$DEMO" --n 4 --seed 0 --scale 4 --out demo.png \
	|| { echo "No picture was drawn; see the lines above. To diagnose: $(RUN) -m minimuse doctor" >&2; exit 1; }
	@echo "Your pictures: $(CURDIR)/demo.png"

# Lint and types; pre-commit also checks them.
form:
	@$(SETUP)
	@echo "Lint (ruff), types (pyright), spelling (codespell), English, notebook form ..."
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check . \
	|| { echo "ruff found problems. These commands fix most of them:" \
	"$(RUN) -m ruff check --fix . && $(RUN) -m ruff format ." >&2; exit 1; }
	@$(if $(filter 0,$(TYPES)),true,$(RUN) -m pyright --pythonpath $(RUN)) \
	|| { echo "pyright found type errors; see the lines above." >&2; exit 1; }
	@$(RUN) -m codespell_lib || { echo "codespell found misspelt words; pyproject.toml has its exceptions." >&2; exit 1; }
	@$(RUN) tools/check_prose.py
	@$(RUN) tools/check_notebooks.py

check: form
	@$(CACHE)
	@echo "The quick tests ..."
	@$(QUICKLY) -m pytest $(QUICK) -q -n 2 --dist loadfile -m "not slow and not answers" || { echo "Some tests failed; their names are above." >&2; exit 1; }
	@echo "All checks passed."

test: form
	@$(if $(PARITY),$(SETUP) parity)
	@$(CACHE)
	@echo "The tests ..."
	@$(QUICKLY) -m pytest tests -q -n 2 --dist loadfile -m "not slow and not answers" || { echo "Some tests failed; their names are above." >&2; exit 1; }
	@echo "The notebooks, from top to bottom ..."
	@$(RUN) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 -q -n 2 --dist loadscope notebooks \
	|| { echo "Some notebook cells failed; the notebooks and cells are above." >&2; exit 1; }
	@echo "All tests passed."

slow:
	@$(SETUP) $(if $(PARITY),parity)
	@$(CACHE)
	@echo "The slow tests ..."
	@$(QUICKLY) -m pytest tests -q -n 2 --dist worksteal -m slow || { echo "Some slow tests failed; their names are above." >&2; exit 1; }

answers:
	@$(SETUP)
	@$(CACHE)
	@echo "Answers to the exercises, twenty minutes or so ..."
	@$(QUICKLY) -m pytest tests/teach/test_exercises.py -q -n 2 -m answers || { echo "Some checks are wrong; their names are above." >&2; exit 1; }

# Types are checked against the newest packages only.
test-colab:
	@$(COLAB_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null || { \
	echo "Colab has Python 3.13, and '$(COLAB_PYTHON)' is not that version. Name one that is:" \
	"make test-colab COLAB_PYTHON=/path/to/python3.13" >&2; exit 1; }
	@$(MAKE) --no-print-directory test TYPES=0 VENV=.venv-colab PYTHON="$(COLAB_PYTHON)" CONSTRAINTS=constraints/colab.txt

# Types are checked against the newest packages only.
test-lowest:
	@$(MAKE) --no-print-directory test TYPES=0 VENV=.venv-lowest PYTHON=python3.11 CONSTRAINTS=constraints/lowest.txt

load:
	@$(SETUP)
	@$(CACHE)
	@echo "Ten thousand bad inputs and five hundred command lines ..."
	@MINIMUSE_LOAD=1 $(QUICKLY) -m pytest tests/test_load.py -q -m slow

kills:
	@$(SETUP)
	@$(CACHE)
	@echo "A run of training that is killed $(KILLS) times ..."
	@MINIMUSE_KILLS=$(KILLS) $(RUN) -m pytest tests/train/test_robust.py -q -m slow -k kills

browser:
	@$(SETUP) browser
	@$(CACHE)
	@$(RUN) tests/check_browser.py

# Under a minute where programs are compiled already. Without make: pip install 'gradio>=6.0' playwright, and
# python tests/check_app.py, which skips what is not installed.
browser-app:
	@$(SETUP) app
	@$(CACHE)
	@$(RUN) tests/check_app.py
# In environments of their own: nothing else here needs Sphinx, or what site/package.json names.
site/node_modules/.installed: site/package.json
	@command -v node >/dev/null && command -v npm >/dev/null || { echo "make site needs Node 18 or newer and npm" \
	"(nodejs.org, or your package manager): KaTeX, which runs on it, sets the formulas." >&2; exit 1; }
	@cd site && npm install --no-package-lock --no-audit --no-fund --loglevel=error && touch node_modules/.installed

site: site/node_modules/.installed
	@$(SETUP) --venv .venv-site --requirements site/requirements.txt
	@echo "The site, from the stored notebooks ..."
	@.venv-site/bin/python tools/site_pages.py
	@.venv-site/bin/python -m sphinx -q -W --keep-going -j auto -b html -c site -d site/build/doctrees site/build/source site/build/html
	@.venv-site/bin/python tools/check_site.py
	@echo "The site: $(CURDIR)/site/build/html/index.html"

site-test:
	@if ! { command -v node && command -v npm; } >/dev/null; then echo "skipped: Node is not installed"; else \
	$(MAKE) --no-print-directory site && $(SETUP) browser && $(RUN) tests/check_pages.py; fi

# The table of docs/site.md.
site-figures: site
	@$(SETUP) browser
	@$(RUN) tests/check_pages.py --measure

anywhere:
	@$(SETUP)
	@$(CACHE)
	@$(RUN) tests/check_anywhere.py

# In an environment of its own: nothing else here needs torch or those packages.
peers:
	@$(SETUP) peers --venv .venv-peers
	@.venv-peers/bin/python -m benchmarks.peers $(PEERS)

# jax2onnx needs other versions than the course, so it has an environment of its own.
NODE = command -v npm >/dev/null && node -e 'process.exit(Number(process.versions.node.split(".")[0] < 20))' || { \
	echo "The playground needs Node 20 or newer, with npm; install it (nodejs.org, or your package manager)." >&2; exit 1; }
web web-test: export JAX_PLATFORMS = cpu
web web-test: export HF_HUB_OFFLINE = 1
web:
	@$(NODE)
	@$(SETUP) --venv .venv-web --requirements web/requirements.txt
	@cd web && npm ci --no-fund --no-audit --loglevel=error
	@echo "Exporting the models (a minute or two) ..."
	@.venv-web/bin/python web/export.py
	@cd web && npm run --silent build
	@echo "The playground is in web/dist: any web server can serve this folder. To try it: cd web && npm run serve"

web-test: web/dist/models/models.json
	@$(NODE)
	@[ web/.cache/reference.json -nt web/dist/models/models.json ] || { echo "Drawing 20 captions in Python ..."; .venv-web/bin/python web/reference.py; }
	@cd web && npm run --silent build >/dev/null && npm test --silent && npm run --silent test:browser

web/dist/models/models.json:
	@$(MAKE) --no-print-directory web

clean:
	rm -rf .venv .venv-colab .venv-lowest .venv-teach .venv-ci .venv-peers .cache .pytest_cache .ruff_cache .venv-site site/build site/node_modules .venv-web web/node_modules web/dist
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -not -path './runs/*' -prune -exec rm -rf {} +
