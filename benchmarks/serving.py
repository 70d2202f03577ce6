"""Many clients of one server: `python -m benchmarks.serving --clients 64 --seconds 600`.

Each client sends one sentence after the other over a connection of its own, of Tatoeba's test sentences in
turn. Beside it stands what the engine does of the same sentences by itself, without anybody beside it. Memory
is that of the server's process; the clients share the processors with it.
"""

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks import ROOT, report, rounded, table

WARM_UP = 0.2
"""The share of the time after which memory is taken for the first time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--target", default="de")
    args = parser.parse_args()
    sentences = _sentences()
    command = [sys.executable, "-m", "dragoman", "serve", "--port", "0", "--log", "error", "--active", "256"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "XDG_STATE_HOME": "/tmp/dragoman-serving"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            assert server.stderr is not None
            found = re.search(r":(\d+)$", server.stderr.readline().strip())
            assert found
            figures = _run(int(found[1]), server.pid, sentences, args)
        finally:
            server.terminate()
    figures["engine_sentences_per_second"] = _engine(sentences, args.target)
    rate = figures["sentences_per_second"] / figures["engine_sentences_per_second"]
    print(table(["figure", "value"], list(figures.items())))
    print(f"ratio to the engine's own {rate:.2f}")
    facts = {"benchmark": "serving", "clients": args.clients, "seconds": args.seconds}
    report({**facts, **{name: rounded(value) for name, value in figures.items()}, "ratio": rounded(rate)})


def _sentences() -> list[str]:
    rows = []
    for path in sorted((ROOT / "tests" / "data" / "tatoeba").glob("*.tsv")):
        rows += [line.split("\t")[1] for line in path.read_text(encoding="utf-8").splitlines()]
    return list(dict.fromkeys(rows))


def _run(port: int, pid: int, sentences: list[str], args: argparse.Namespace) -> dict[str, float]:
    times: list[float] = []
    failures: list[str] = []
    began = time.monotonic()
    end = began + args.seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        at = number * 37
        while time.monotonic() < end:
            body = {"text": sentences[at % len(sentences)], "source": "en", "target": args.target}
            start = time.monotonic()
            try:
                connection.request(
                    "POST", "/v1/translate", json.dumps(body), {"Content-Type": "application/json"}
                )
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    failures.append(str(answer.status))
            except OSError as error:
                failures.append(type(error).__name__)
                connection.close()
            times.append(time.monotonic() - start)
            at += 1
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(args.clients)]
    for thread in threads:
        thread.start()
    time.sleep(args.seconds * WARM_UP)
    warm = _memory(pid)
    for thread in threads:
        thread.join()
    ordered = sorted(times)
    return {
        "sentences_per_second": len(times) / (time.monotonic() - began),
        "errors": float(len(failures)),
        "p50_seconds": statistics.median(ordered),
        "p99_seconds": ordered[int(0.99 * len(ordered))],
        "memory_mb_warm": warm,
        "memory_mb_end": _memory(pid),
    }


def _memory(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return int(found[1]) / 1000 if found else 0.0


def _engine(sentences: list[str], target: str) -> float:
    from dragoman import Translator

    with Translator.load() as translator:
        list(translator.stream(sentences[:64], "en", target))
        start = time.monotonic()
        count = sum(1 for _ in translator.stream(sentences, "en", target))
        return count / (time.monotonic() - start)


if __name__ == "__main__":
    main()
