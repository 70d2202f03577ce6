"""How a benchmark talks to an engine in another process: one JSON object a line, each with its answer.

Imports nothing but the standard library, for it runs in every peer's environment. An engine is
any object whose methods take and return what JSON can hold:

    load(folder, precision, threads, vocabulary)   -> {...}
    run(sources, new_tokens, beams, prompt, ids)   -> {"seconds", "tokens"[, "ids"]}
    encode(sources)                                -> {"seconds", "tokens"}
    translate(lines, source, target, beams, batch) -> {"seconds", "tokens", "lines"}

`run` writes exactly `new_tokens` tokens for each source: none ends before. `prompt` is how an
encoder-decoder's target begins, `</s> language`; of it the language counts as new.
"""

import json
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def serve(engine: object) -> None:
    """Answer requests from standard input until it ends or one says to stop."""
    # Libraries print to standard output as they like; only answers may get through.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            return
        print(json.dumps(answer(engine, request)), file=answers, flush=True)


def answer(engine: object, request: dict[str, Any]) -> dict[str, Any]:
    """What the method named by "do" returns for the other fields, or {"error": ...}."""
    fields = dict(request)
    name = fields.pop("do")
    if name == "memory":
        return memory()
    method = getattr(engine, name, None)
    if method is None or name.startswith("_"):
        return {"error": f"{type(engine).__name__} can't {name}"}
    try:
        return dict(method(**fields))
    except Exception as error:  # whatever a peer raises belongs in the benchmark's table
        traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}


def timed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Seconds that `work` takes, and what it returns."""
    began = time.perf_counter()
    result = work()
    return time.perf_counter() - began, result


def memory() -> dict[str, float]:
    """Gigabytes of this process: its peak, and what is resident now, its own and mapped from files."""
    names = {"VmHWM": "peak", "RssAnon": "own", "RssFile": "mapped"}
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name in names:
            found[names[name]] = int(value.split()[0]) * 1024 / 1e9
    return found
