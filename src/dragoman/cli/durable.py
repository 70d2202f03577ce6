"""Commands as jobs: what they have translated is kept, and they go on where an earlier process ended."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dragoman.cli.messages import say
from dragoman.errors import JobError, JobRunning
from dragoman.files import OutputFile
from dragoman.generation.options import GenerationOptions

if TYPE_CHECKING:
    from dragoman.jobs import Job, Jobs, Run
    from dragoman.translation.translator import Translator

VARIABLES = (
    "DRAGOMAN_MODEL",
    "DRAGOMAN_PRECISION",
    "DRAGOMAN_KERNELS",
    "LANGUAGE",
    "LC_ALL",
    "LC_MESSAGES",
    "LANG",
)
"""What a command depends on besides its arguments."""
_OF_RESULTS = ("source", "target", "direct", "retry")


class Durable:
    """A command's job; a context manager, to be entered before the output is opened.

    A list of jobs that can't be used is said, and the command works without one.
    """

    def __init__(self, is_wanted: bool) -> None:
        self.run: Run | None = None
        """What the command works on, once `begin` was called; None if nothing is kept."""
        self._is_wanted = is_wanted
        self._jobs: Jobs | None = None

    def begin(
        self,
        translator: "Translator",
        options: Mapping[str, Any],
        files: Sequence[tuple[str, str]],
        how: Mapping[str, Any],
        check: "Callable[[Job | None], None]" = lambda job: None,
    ) -> None:
        """Take up the unfinished job of the same work, or begin one.

        files: inputs and outputs; how: what else decides the outputs; check: told of the unfinished job, if
        there is one, before anything begins; what it raises stops the command.
        """
        if not self._is_wanted:
            check(None)
            return
        from dragoman.jobs import Jobs, Plan

        memory = options.get("translation_memory")
        plan = Plan(
            decisive={
                "how": dict(how),
                "model": translator.fingerprint,
                "texts": {name: options.get(name) for name in _OF_RESULTS},
                "aids": {
                    name: options[name].fingerprint for name in ("glossary", "fallback") if name in options
                },
                "translation_memory": str(memory.path.absolute()) if memory else None,
                "generation": asdict(generation_of(translator, options)),
            },
            files=[(os.path.abspath(source), os.path.abspath(output)) for source, output in files],
            command=sys.argv[1:],
            folder=os.getcwd(),
            environment={name: os.environ[name] for name in VARIABLES if name in os.environ},
            model=translator.card.name,
            source=options.get("source"),
            target=options["target"],
        )
        job = None
        try:
            self._jobs = Jobs()
            job = self._jobs.find(plan)
        except JobError as error:
            self._do_without(error)
        check(job)
        if self._jobs is None:
            return
        try:
            self.run = self._jobs.begin(plan, note=say)
        except JobRunning:
            raise
        except JobError as error:
            self._do_without(error)
            return
        if self.run.is_resumed:
            known = "1 sentence is" if self.run.known == 1 else f"{self.run.known:,} sentences are"
            say(f"job {self.run.id} goes on: {known} done already")

    def open_file(self, number: int, data: bytes | str, output: "str | OutputFile") -> bool:
        """A file's turn has come; False if the job has done it already.

        data: what it holds, or its path if that is too much to hold; output: where the translation goes.
        """
        part = output.part if isinstance(output, OutputFile) else None
        left = output.left_behind if isinstance(output, OutputFile) else []
        if self.run is not None:
            digest = self._digest(data)
            before = self.run.file(number)
            if before.state == "done" and before.digest == digest and before.output.exists():
                return False
            if before.part is not None and before.part in left:
                left.remove(before.part)
                before.part.unlink(missing_ok=True)
            if before.digest not in (None, digest):
                say(
                    f"note: {before.input} has changed since the job began; what is the same in it is not "
                    "translated again"
                )
            self.run.open_file(number, digest, part)
        for part in left:
            say(f"note: {part} holds what an earlier run did and did not complete; it stays as it is")
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self.run is not None:
                self.run.__exit__(kind, error, traceback)
        finally:
            if self._jobs is not None:
                self._jobs.close()

    def _digest(self, data: bytes | str) -> str:
        from dragoman.jobs import digest, digest_of

        return digest(data) if isinstance(data, str) else digest_of(data)

    def _do_without(self, error: JobError) -> None:
        say(f"note: {error}; should this command end early, it couldn't go on where it was")
        if self._jobs is not None:
            self._jobs.close()
            self._jobs = None


class Watched:
    """An input file, and whether it stays as it is."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._facts = self._look()

    def tell(self) -> None:
        """Say so if the file has changed meanwhile."""
        if self._look() != self._facts:
            say(f"note: {self._path} has changed while it was translated; run again for what it is now")

    def _look(self) -> tuple[int, int] | None:
        try:
            facts = os.stat(self._path)
        except OSError:
            return None
        return facts.st_size, facts.st_mtime_ns


def generation_of(translator: "Translator", options: Mapping[str, Any]) -> GenerationOptions:
    """All options of generation that a command works with."""
    known = GenerationOptions.__dataclass_fields__
    chosen = {name: value for name, value in options.items() if name in known}
    return GenerationOptions(**{**translator.defaults, **chosen})
