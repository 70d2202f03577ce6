.PHONY: demo test test-slow test-gpu newest lowest sanitize check format mini bench-peers clean

demo:       ; scripts/demo
test:       ; scripts/test
test-slow:  ; scripts/test -m slow
test-gpu:   ; scripts/test -m gpu

# The tests with other releases of what Dragoman builds on than those of constraints.txt
newest:     ; scripts/newest
lowest:     ; scripts/lowest

# The kernels' tests with kernels that watch their memory and arithmetic
sanitize:   ; scripts/sanitize

check:
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

format:
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

# Train the embedded model anew: make mini DATA=/path/to/corpus
mini:
	.venv/bin/python recipes/mini/run.py train recipes/mini/cpu.toml --data $(DATA) --out runs/mini
	.venv/bin/python recipes/mini/run.py export recipes/mini/cpu.toml --data $(DATA) --out runs/mini

# Install the peers and run every comparison with them; TEXT is a file of English sentences:
# make bench-peers TEXT=sentences.txt
bench-peers:
	benchmarks/peers/setup
	.venv/bin/python -m benchmarks.bandwidth
	.venv/bin/python -m benchmarks.agreement
	.venv/bin/python -m benchmarks.decode
	.venv/bin/python -m benchmarks.encode
	.venv/bin/python -m benchmarks.memory
	.venv/bin/python -m benchmarks.startup
	$(if $(TEXT),.venv/bin/python -m benchmarks.end_to_end --text $(TEXT) --source en --target de)

clean:
	rm -rf .venv .venv-newest .venv-lowest .venv-wheels dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
