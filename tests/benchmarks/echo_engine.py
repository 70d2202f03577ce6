"""An engine for tests, run as a process: it prints where it shouldn't, and dies if told to."""

import os

from benchmarks.peers.protocol import serve


class Echo:
    def load(self, **fields: object) -> dict[str, object]:
        print("noise on standard output")
        return {"fields": fields}

    def run(self, sources: list[list[int]]) -> dict[str, object]:
        return {"seconds": 0.5, "tokens": sum(map(len, sources))}

    def die(self) -> dict[str, object]:
        os.write(2, b"out of luck")
        os._exit(3)


if __name__ == "__main__":
    serve(Echo())
