# `make lab` is all you need: it makes an environment in .venv the first time, and opens chapter 00. `make help` lists the rest.
# Works with GNU make 3.81 (macOS) and newer. Variables can be given after the target: make lab PORT=9999 BROWSER=0

VENV ?= .venv
CONSTRAINTS ?=
TORCH ?= torch>=2.6
DISK_GB ?= 3
COLAB_PYTHON ?= python3.13
DEMO ?= a cat left of a dog on a blue background
# The first of these that runs, is new enough and can make environments; else the first that is new enough.
PYTHON ?= $(shell for need in 'sys, ensurepip' sys; do for p in python3.13 python3.12 python3.11 python3; do \
	if $$p -c "import $$need; sys.exit(sys.version_info < (3, 11))" >/dev/null 2>&1; then echo $$p; exit; fi; done; done)

# A PORT that the shell happens to hold, as on many cloud machines, is not meant for us.
ifeq ($(origin PORT),environment)
PORT :=
endif
ifneq ($(CONSTRAINTS),)
$(if $(wildcard $(CONSTRAINTS)),,$(error There is no file $(CONSTRAINTS); constraints/ holds those that were tested))
endif

RUN := $(VENV)/bin/python
STAMP := $(VENV)/.installed$(subst /,-,$(CONSTRAINTS))
# What the environment was made for: this folder and this list of packages (their sum: times change with every checkout).
KEY := $(CURDIR) $(shell cat pyproject.toml $(CONSTRAINTS) | cksum)
# Empty while the environment is whole, was made for that, and its Python runs.
STALE := $(shell [ "`cat "$(STAMP)" 2>/dev/null`" = "$(KEY)" ] && $(RUN) -c '' 2>/dev/null || echo again)

.PHONY: help lab test test-colab browser anywhere demo peers clean install again

help:
	@echo "make lab         open chapter 00 in JupyterLab (PORT=8888, BROWSER=0 for no browser, LABFLAGS=...)"
	@echo "make demo        draw four pictures of a caption into demo.png (DEMO=\"a caption\")"
	@echo "make test        check the code's form, then run all tests and all notebooks (PARITY=1: also against torch)"
	@echo "make test-colab  the same with Colab's versions; needs Python 3.13"
	@echo "make browser     try the explorers of chapters 00, 06, 07 and 11 in headless Chromium, if it is installed"
	@echo "make anywhere    run every notebook twice, without network, in a folder with spaces and letters beyond ASCII"
	@echo "make peers       compare our speed with public packages in PyTorch (PEERS='--quick'; TORCH='torch==2.13.0')"
	@echo "make clean       delete the environments and caches; runs/ and pictures stay"
	@echo
	@echo "The first of these installs into $(VENV). PYTHON=python3.12 chooses the Python; it is used when $(VENV) is made."
	@echo "CONSTRAINTS=constraints/py311.txt takes the exact versions that were tested, instead of the newest."

lab: $(STAMP)
	@echo "Starting JupyterLab with chapter 00; stop it with Ctrl-C."
	@root=; if [ "`id -u`" = 0 ]; then root=--allow-root; fi; \
	$(RUN) -m jupyterlab notebooks/00_first_pictures.ipynb --ServerApp.root_dir="$(CURDIR)" $$root $(if $(PORT),--port $(PORT)) \
	$(if $(filter 0,$(BROWSER)),--no-browser) $(LABFLAGS) \
	|| { echo "JupyterLab ended with an error; the lines above say why. Another port: make lab PORT=9999" >&2; exit 1; }

demo: export DEMO := $(DEMO)
demo: $(STAMP)
	@echo "Drawing: $$DEMO ..."
	@$(RUN) -m minimuse generate "$$DEMO" --n 4 --seed 0 --scale 4 --out demo.png \
	|| { echo "No picture was made; the lines above say why. $(RUN) -m minimuse doctor looks for what is wrong." >&2; exit 1; }
	@echo "Your pictures: $(CURDIR)/demo.png"

# Nothing below needs the network. All tests share one folder of compiled programs.
test: export HF_HUB_OFFLINE = 1
test: export JAX_PLATFORMS = cpu
test: export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/.cache/jax
test: $(STAMP) $(if $(PARITY),$(VENV)/.parity)
	@mkdir -p .cache/jax && echo '*' > .cache/.gitignore
	@echo "1/3 The form of code and notebooks (ruff) ..."
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check . \
	|| { echo "ruff found something; 'ruff check --fix .' and 'ruff format .' in $(VENV)/bin mend most of it." >&2; exit 1; }
	@echo "2/3 The tests ..."
	@$(RUN) -m pytest tests -q -n 2 || { echo "Some tests failed; the names are above." >&2; exit 1; }
	@echo "3/3 The notebooks, from top to bottom ..."
	@$(RUN) -m pytest --nbval-lax --nbval-current-env --nbval-cell-timeout=300 -q -n 2 --dist loadscope notebooks \
	|| { echo "Some notebook cells failed; the notebooks and cells are above." >&2; exit 1; }
	@echo "All tests passed."

test-colab:
	@$(COLAB_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null || { \
	echo "Colab has Python 3.13, and '$(COLAB_PYTHON)' is not that. Name one: make test-colab COLAB_PYTHON=/path/to/python3.13" >&2; \
	exit 1; }
	@$(MAKE) --no-print-directory test VENV=.venv-colab PYTHON="$(COLAB_PYTHON)" CONSTRAINTS=constraints/colab.txt

browser: export HF_HUB_OFFLINE = 1
browser: export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/.cache/jax
browser: $(STAMP) $(VENV)/.browser
	@mkdir -p .cache/jax && echo '*' > .cache/.gitignore
	@$(RUN) tests/check_browser.py

anywhere: export JAX_COMPILATION_CACHE_DIR = $(CURDIR)/.cache/jax
anywhere: $(STAMP)
	@mkdir -p .cache/jax && echo '*' > .cache/.gitignore
	@$(RUN) tests/check_anywhere.py

# In an environment of its own: nothing else here needs torch or those packages.
peers:
	@$(MAKE) --no-print-directory .venv-peers/.peers VENV=.venv-peers
	@.venv-peers/bin/python -m benchmarks.peers $(PEERS)

clean:
	rm -rf .venv .venv-colab .venv-teach .venv-ci .venv-peers .cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './runs/*' -prune -exec rm -rf {} +
	find . -name .ipynb_checkpoints -not -path './runs/*' -prune -exec rm -rf {} +

install: $(STAMP)

# The environment. The stamp is written last and names this folder, so an installation that was interrupted, or a folder
# that has moved, starts again from an empty environment.
$(STAMP): $(STALE)
	@if [ -z "$(PYTHON)" ] || ! "$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	  name="$(PYTHON)"; name="$${name:-python3}"; found="not here"; \
	  if command -v "$$name" >/dev/null; then found=`"$$name" --version 2>&1 | head -n 1`; fi; \
	  echo "minimuse needs Python 3.11 or newer; '$$name' is: $$found." >&2; \
	  echo "Install one (python.org, your package manager, or conda with environment.yml), or name one you have:" \
	    "make lab PYTHON=/path/to/python3.12" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make environments: its venv module is missing." \
	    "On Debian or Ubuntu: sudo apt install $(notdir $(PYTHON))-venv; then run the same command again." >&2; exit 1; }
	@free=`df -Pk . | awk 'NR == 2 { print int($$4 / 1048576) }'`; if [ "$$free" -lt $(DISK_GB) ]; then \
	  echo "The environment needs about $(DISK_GB) GB of disk; $$free GB are free here." \
	    "Make room, then run the same command again." >&2; exit 1; fi
	@if [ -f $(VENV)/.unfinished ]; then echo "The last installation did not finish; starting again."; clear=--clear; \
	  elif [ -f $(STAMP) ] && ! grep -qF "$(CURDIR) " $(STAMP); then echo "$(VENV) was made elsewhere; making it anew."; clear=--clear; \
	  elif ! $(RUN) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then clear=--clear; \
	  else clear=; fi; \
	if [ -n "$$clear" ]; then \
	  echo "Making an environment in $(VENV) with `"$(PYTHON)" --version` ..."; \
	  "$(PYTHON)" -m venv $$clear $(VENV) || { echo "$(PYTHON) could not make $(VENV); see above." >&2; exit 1; }; fi
	@echo '*' > $(VENV)/.gitignore; rm -f $(VENV)/.installed* $(VENV)/.parity $(VENV)/.browser $(VENV)/.peers; touch $(VENV)/.unfinished
	@echo "Installing (about 1.5 GB, a minute or two) ..."
	@$(RUN) -m pip install -qq --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) -e '.[notebooks,test]' || { \
	  echo "Installing failed; the lines above say why. It needs the network once. Then run the same command again." >&2; exit 1; }
	@rm -f $(VENV)/.unfinished; echo "$(KEY)" > $(STAMP); echo "Installed."

$(VENV)/.parity: $(STAMP)
	@echo "Installing '$(TORCH)', to compare with (gigabytes, unless it is a CPU build) ..."
	@$(RUN) -m pip install -qq --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) '$(TORCH)' || { \
	  echo "Installing torch failed; the lines above say why. Without it: make test" >&2; exit 1; }
	@touch $@

$(VENV)/.browser: $(STAMP)
	@echo "Installing playwright, which steers Chromium ..."
	@$(RUN) -m pip install -qq --disable-pip-version-check $(if $(CONSTRAINTS),-c $(CONSTRAINTS)) playwright || { \
	  echo "Installing playwright failed; the lines above say why." >&2; exit 1; }
	@touch $@

$(VENV)/.peers: $(VENV)/.parity benchmarks/peers.txt
	@echo "Installing the packages to race against ..."
	@$(RUN) -m pip install -qq --disable-pip-version-check --no-deps -r benchmarks/peers.txt || { \
	  echo "Installing benchmarks/peers.txt failed; the lines above say why." >&2; exit 1; }
	@touch $@
