"""`dragoman jobs`: files that are being translated, and those whose translation can go on."""

import os
import sys
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dragoman.cli.commands import HELP, Command
from dragoman.cli.durable import VARIABLES
from dragoman.cli.messages import put, say
from dragoman.cli.records import as_json
from dragoman.cli.tables import print_table
from dragoman.errors import JobError

if TYPE_CHECKING:
    from dragoman.jobs import Job, Jobs

app = typer.Typer(
    no_args_is_help=True,
    context_settings=HELP,
    help="Translations of files: what has been done of them is kept until all is written.",
)
_Number = Annotated[int, typer.Argument(metavar="NUMBER", help="The job's, as in the list.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON, for programs.")]


@app.command("list", cls=Command)
def list_jobs(json: _Json = False) -> None:
    """Show all jobs, the latest first."""
    with _jobs() as jobs:
        found = jobs.all()
    if json:
        for job in found:
            put(as_json(_record(job)))
        return
    if not found:
        say("no jobs: they begin with files, as in `dragoman translate report.md --to de`")
        return
    print_table(
        ["job", "state", "done", "sentences", "time", "began", "to", "files"],
        [
            [
                str(job.id),
                job.state,
                f"{job.share:.0%}",
                f"{job.done:,}",
                _duration(job.seconds),
                time.strftime("%Y-%m-%d %H:%M", time.localtime(job.began)),
                job.target,
                _files(job),
            ]
            for job in found
        ],
    )


@app.command("show", cls=Command)
def show_job(number: _Number, json: _Json = False) -> None:
    """Show a job and its files."""
    with _jobs() as jobs:
        job = jobs.get(number)
    if json:
        put(as_json(_record(job)))
        return
    put(f"job {job.id}: {job.state}, {job.share:.0%}, {job.done:,} sentences in {_duration(job.seconds)}")
    put(f"  model {job.model}, from {job.source or 'what is detected'} to {job.target}")
    put(f"  in {job.folder}: dragoman {' '.join(job.command)}")
    if job.error:
        put(f"  {job.error}")
    for file in job.files:
        facts = f", {file.segments} segments, {file.flagged} to look at" if file.segments else ""
        put(f"  {file.input} -> {file.output}: {file.error or file.state}{facts}")


@app.command("resume", cls=Command)
def resume(number: _Number) -> None:
    """Go on with a job, as the command that began it would."""
    from dragoman import cli

    with _jobs() as jobs:
        job = jobs.get(number)
    if not job.is_unfinished:
        raise JobError(f"job {number} is {job.state}; there is nothing to go on with")
    if "DRAGOMAN_STATE" in os.environ:
        os.environ["DRAGOMAN_STATE"] = os.path.abspath(os.environ["DRAGOMAN_STATE"])
    try:
        os.chdir(job.folder)
    except OSError as error:
        raise JobError(
            f"{job.folder}, where job {number} began, can't be entered: {error.strerror}"
        ) from None
    for name in VARIABLES:
        os.environ.pop(name, None)
    os.environ.update(job.environment)
    sys.argv[1:] = job.command
    raise typer.Exit(cli.app(prog_name="dragoman", standalone_mode=False) or 0)


@app.command("cancel", cls=Command)
def cancel(number: _Number) -> None:
    """Stop a job for good; what it has translated is forgotten."""
    with _jobs() as jobs:
        job = jobs.cancel(number)
    say(f"job {number} " + ("stops with its next sentence" if job.state == "running" else f"is {job.state}"))


@app.command("remove", cls=Command)
def remove(number: _Number) -> None:
    """Strike a job off the list; the files stay."""
    with _jobs() as jobs:
        jobs.remove(number)


def _jobs() -> "Jobs":
    from dragoman.jobs import Jobs

    return Jobs()


def _record(job: "Job") -> dict[str, Any]:
    return {
        "id": job.id,
        "state": job.state,
        "share": job.share,
        "sentences": job.done,
        "seconds": round(job.seconds, 3),
        "began": job.began,
        "changed": job.changed,
        "model": job.model,
        "source": job.source,
        "target": job.target,
        "command": list(job.command),
        "folder": job.folder,
        "error": job.error,
        "files": [
            {
                "input": str(file.input),
                "output": str(file.output),
                "state": file.state,
                "segments": file.segments,
                "flagged": file.flagged,
                "error": file.error,
            }
            for file in job.files
        ],
    }


def _files(job: "Job") -> str:
    names = [file.input.name for file in job.files[:2]]
    return ", ".join(names) + (f" and {len(job.files) - 2} more" if len(job.files) > 2 else "")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
