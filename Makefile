.PHONY: demo test test-slow test-gpu check format mini clean

demo:       ; scripts/demo
test:       ; scripts/test
test-slow:  ; scripts/test -m slow
test-gpu:   ; scripts/test -m gpu

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

clean:
	rm -rf .venv dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis
