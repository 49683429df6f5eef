# make demo    the chat on http://127.0.0.1:3000, WebSocket and TCP
# make test    set up what the tests need, then run them
# make check   lint, formatting, types, architecture
# make features
#              write docs/features.md: which tests show which feature
# make cover   coverage of the pure layers by their own tests
# make fuzz    random input, guided by coverage, a minute for each target; by hypothesis where there is no atheris
# make soak    ten minutes of hundreds of clients, good and bad; then what is left is counted
# make bench   cost per message: codecs, echo servers, servers, clients, as ratios to other libraries
# make compliance
#              the Autobahn test suite against server and client on every loop; needs a Python 2.7
# make compliance-full
#              the same with all of its cases of compression, ten minutes each

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FUZZ_VENV := .venv-fuzz
FUZZ_ARGS ?=
READY := $(VENV)/.ready
# All processors take part; PYTEST_ARGS="-x tests/ws" runs what it names, in one process.
PYTEST_ARGS ?= -n auto --dist worksteal
# The tests that need no event loop and no socket.
PURE := $(addprefix tests/,test_buffer.py test_errors.py test_messages.py test_proxy_protocol.py test_wire.py test_wire_tcp.py \
	test_wire_transcript.py test_wire_websocket.py ws tcp channel plain session server client demo support testing)

.PHONY: demo test check features cover compliance compliance-full fuzz soak bench clean

demo:
	$(PYTHON) -m stelar_runtime_asyncio serve

test: $(READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_architecture.py

features: $(READY)
	$(BIN)/python -m tests.support.features

cover: $(READY)
	$(BIN)/coverage run -m pytest -q $(PURE)
	$(BIN)/coverage report --fail-under=100

compliance: $(READY)
	$(BIN)/python -m tests.compliance

compliance-full: $(READY)
	$(BIN)/python -m tests.compliance --full

fuzz: $(READY)
	@if $(PYTHON) -m venv $(FUZZ_VENV) && $(FUZZ_VENV)/bin/python -m pip install --quiet \
		--disable-pip-version-check --editable '.[fuzz]' && $(FUZZ_VENV)/bin/python -c 'import atheris'; \
	then $(FUZZ_VENV)/bin/python -m fuzz $(FUZZ_ARGS); \
	else echo "There is no atheris for this machine: hypothesis makes the inputs, unguided."; \
		STELAR_EXAMPLES=$${STELAR_EXAMPLES:-20000} $(BIN)/python -m pytest -q fuzz; fi

soak: $(READY)
	$(BIN)/python -m tests.soak

bench: $(READY)
	$(BIN)/python benchmarks/codec.py
	$(BIN)/python benchmarks/echo.py
	$(BIN)/python benchmarks/server.py
	$(BIN)/python benchmarks/client.py

# Debian ships venv apart from python3; where it is missing and may be installed, it is.
$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); apt-get update && apt-get install -y python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) $(FUZZ_VENV) .venv-autobahn build *.egg-info .fuzz .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
