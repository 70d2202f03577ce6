"""Many clients of one server, beside the engine by itself and two other ways to serve.

`python -m benchmarks.serving --clients 64 --seconds 60 --rounds 3`

Each client sends one sentence after the other over a connection of its own, of Tatoeba's test sentences in
turn (`benchmarks.load`). These take turns, each as a process with the processors to itself and the clients:

- the server, with the embedded model;
- its engine by itself on the same sentences, in the same order, with as many under way as there are clients,
  and nobody beside it;
- LibreTranslate's way: CTranslate2, one sentence after the other. It has no mixture of experts, so its model
  is a dense one of the same shape with random weights, which computes less: one feed-forward block where ours
  has two experts and a router. It writes exactly as many tokens as ours for each sentence, and gets ids, so
  that it tokenises nothing;
- a plain transformers server: `generate` on the embedded model itself, one request after the other.

The other ways have Python's own HTTP server around one lock, which costs less than Flask or FastAPI. The last
two need `benchmarks/peers/setup ctranslate2 transformers`; what isn't there is left out.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import ROOT, report, rounded, table
from benchmarks.floats import floats
from benchmarks.peers.client import PeerError, environment, interpreter
from dragoman.checkpoints.catalog import EMBEDDED, locate

Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=30, help="of the server and the engine, in a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--sentences", type=int, default=791, help="how many different ones")
    parser.add_argument("--target", default="de")
    parser.add_argument("--alone", action="store_true", help="without the other two ways")
    parser.add_argument("--kill", action="store_true", help="only kill the server's process under load")
    args = parser.parse_args()
    sentences = _sentences()[: args.sentences]
    plain = [json.dumps({"text": text, "source": "en", "target": args.target}) for text in sentences]
    if args.kill:
        _kill(plain, args)
        return
    found: defaultdict[str, list[Figures]] = defaultdict(list)
    with _ours() as (port, pid):
        memory: list[float] = []
        for _ in range(args.rounds):
            found["dragoman"].append(_load(port, "/v1/translate", plain, pid, args.clients, args.seconds))
            memory.append(_memory(pid))
            found["engine"].append(_engine(sentences, args))
        print("memory after each round, MB:", " ".join(f"{size / 1e6:.0f}" for size in memory))
        # The first round is for warming up, if there are more.
        found["dragoman"][0]["memory_growth"] = memory[-1] / memory[min(1, args.rounds - 1)] - 1
        found["dragoman"][0]["memory_mb"] = memory[-1] / 1e6
    for name, other in {} if args.alone else _OTHERS.items():
        try:
            with other(sentences, args.target) as (port, pid, bodies):
                found[name].append(_load(port, "/", bodies, pid, args.clients, args.seconds))
        except PeerError as error:
            print(error, file=sys.stderr)
    _show(found, args)


def _show(found: dict[str, list[Figures]], args: argparse.Namespace) -> None:
    medians = {name: _median(rounds) for name, rounds in found.items()}
    headers = ["rate", "p50", "p99", "errors", "cpu_ms", "generator_cpu_share", "memory_mb", "memory_growth"]
    print(table(["server", *headers], [[name, *map(of.get, headers)] for name, of in medians.items()]))
    pairs = list(zip(found["dragoman"], found["engine"], strict=True))
    # The engine has the generator's share of the processors, too: so much it would make beside it.
    cores = os.cpu_count() or 1
    shares = [1 - server["generator_cpu_share"] / cores for server, _ in pairs]
    ratios = {
        "rate": [server["rate"] / engine["rate"] for server, engine in pairs],
        "rate_beside_generator": [
            server["rate"] / engine["rate"] / share
            for (server, engine), share in zip(pairs, shares, strict=True)
        ],
        "cpu": [engine["cpu_ms"] / server["cpu_ms"] for server, engine in pairs],
        "p99_to_p50": [server["p99"] / server["p50"] for server, _ in pairs],
    }
    told = {name: statistics.median(values) for name, values in ratios.items()}
    print("to the engine's own:", ", ".join(f"{name} {value:.2f}" for name, value in told.items()))
    facts = {"benchmark": "serving", "clients": args.clients, "seconds": args.seconds, "rounds": args.rounds}
    report({**facts, "servers": rounded(medians), "ratios": rounded(told)})


def _median(rounds: list[Figures]) -> Figures:
    names = {name for one in rounds for name in one}
    return {name: statistics.median(one[name] for one in rounds if name in one) for name in names}


def _sentences() -> list[str]:
    rows = []
    for path in sorted((ROOT / "tests" / "data" / "tatoeba").glob("*.tsv")):
        rows += [line.split("\t")[1] for line in path.read_text(encoding="utf-8").splitlines()]
    return list(dict.fromkeys(rows))


def _generated(port: int, path: str, bodies: list[str], clients: int, seconds: float) -> dict[str, Any]:
    load = {"port": port, "path": path, "bodies": bodies, "clients": clients, "seconds": seconds}
    command = [sys.executable, "-m", "benchmarks.load"]
    made = subprocess.run(
        command, cwd=ROOT, input=json.dumps(load), capture_output=True, text=True, check=True
    )
    return dict(json.loads(made.stdout))


def _kill(bodies: list[str], args: argparse.Namespace) -> None:
    """How long nobody is answered if the process that serves is killed under load."""
    with _ours() as (port, pid):
        timer = threading.Timer(args.seconds / 2, os.kill, (pid, signal.SIGKILL))
        timer.start()
        found = _generated(port, "/v1/translate", bodies, args.clients, args.seconds)
        timer.join()
    told = {name: found[name] for name in ("all_answers", "longest_gap", "error_count", "errors")}
    report({"benchmark": "serving --kill", "clients": args.clients, "seconds": args.seconds, **told})


def _load(port: int, path: str, bodies: list[str], pid: int, clients: int, seconds: float) -> Figures:
    before = _processor_seconds(pid)
    found = _generated(port, path, bodies, clients, seconds)
    spent = _processor_seconds(pid) - before
    if not found["answers"]:
        raise PeerError(f"no answer came: {found['errors']}")
    figures = {name: float(found[name]) for name in ("p50", "p99", "generator_cpu_share")}
    figures |= {"rate": found["answers"] / found["seconds"], "errors": float(found["error_count"])}
    return figures | {"cpu_ms": 1000 * spent / found["all_answers"]}


def _engine(sentences: list[str], args: argparse.Namespace) -> Figures:
    command = [sys.executable, "-c", "from benchmarks.serving import engine; engine()"]
    asked = {"target": args.target, "seconds": args.seconds, "clients": args.clients, "sentences": sentences}
    made = subprocess.run(
        command,
        cwd=ROOT,
        env=_environment(),
        input=json.dumps(asked),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return dict(json.loads(made.stdout))


def engine() -> None:
    """The engine's own rate, in a process that reads what is asked from standard input."""
    from dragoman import Translator

    asked = json.loads(sys.stdin.read())
    texts = asked["sentences"]

    with Translator.load() as translator:

        def translate(some: list[str]) -> int:
            stream = translator.stream(some, "en", asked["target"], batch_size=asked["clients"])
            return sum(1 for _ in stream)

        translate(texts[: asked["clients"]])
        start, spent, count = time.monotonic(), time.process_time(), 0
        # Always all of them: a stream takes long sentences first, and equal ones once.
        while time.monotonic() < start + asked["seconds"]:
            count += translate(texts)
        seconds, spent = time.monotonic() - start, time.process_time() - spent
    print(json.dumps({"rate": count / seconds, "cpu_ms": 1000 * spent / count}))


# ---- servers -----------------------------------------------------------------------------------------------


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}


@contextmanager
def _ours() -> Iterator[tuple[int, int]]:
    command = [sys.executable, "-m", "dragoman", "serve", "--port", "0", "--log", "error"]
    with tempfile.TemporaryDirectory() as state:
        environment = {**_environment(), "XDG_STATE_HOME": state}
        with _started(command, environment, r"listening at .*:(\d+)$") as (port, pid):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
            yield port, int(children.split()[0])  # below the process that watches it


@contextmanager
def _started(command: list[str], environment: dict[str, str], said: str) -> Iterator[tuple[int, int]]:
    """A server that has said its port on standard error."""
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stderr is not None
        try:
            lines = []
            for line in process.stderr:
                lines.append(line)
                if match := re.search(said, line.strip()):
                    yield int(match[1]), process.pid
                    break
            else:
                raise PeerError("".join(lines)[-400:])
        finally:
            process.terminate()


@contextmanager
def _peer(peer: str, folder: Path) -> Iterator[tuple[int, int]]:
    command = [str(interpreter(peer)), "-m", f"benchmarks.peers.serve_{peer}", str(folder)]
    with _started(command, environment(peer, os.cpu_count() or 1), r"listening at (\d+)$") as found:
        yield found


@contextmanager
def _ctranslate2(sentences: list[str], target: str) -> Iterator[tuple[int, int, list[str]]]:
    from benchmarks.shapes import Shape, folder_for
    from dragoman import Translator
    from dragoman.languages import find
    from dragoman.models.config import NllbConfig

    interpreter("ctranslate2")
    sparse = NllbConfig.from_dict(json.loads((locate(EMBEDDED) / "config.json").read_text(encoding="utf-8")))
    dense = replace(sparse, model_type="m2m_100", encoder_sparse_step=0, decoder_sparse_step=0)
    bodies = []
    with Translator.load() as translator:
        tokenizer = translator.system.tokenizer
        for made in translator.stream(sentences, "en", target):
            rows = [tokenizer.encode(sentence.source, find("en").nllb) for sentence in made.sentences]
            lengths = [len(sentence.candidates[0].tokens) for sentence in made.sentences]
            bodies.append(json.dumps({"rows": rows, "lengths": lengths}))
    with _peer("ctranslate2", folder_for(Shape("mini-dense", dense), "ctranslate2", "fp32")) as (port, pid):
        yield port, pid, bodies


@contextmanager
def _transformers(sentences: list[str], target: str) -> Iterator[tuple[int, int, list[str]]]:
    from dragoman.languages import find

    codes = {"source": find("en").nllb, "target": find(target).nllb}
    with _peer("transformers", floats(locate(EMBEDDED))) as (port, pid):
        yield port, pid, [json.dumps({"text": text, **codes}) for text in sentences]


_OTHERS: dict[str, Callable[..., Any]] = {"ctranslate2": _ctranslate2, "transformers": _transformers}


def _processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    return 1024.0 * int(found[1]) if found else 0.0


if __name__ == "__main__":
    main()
