"""The list of jobs."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Self

from dragoman import files
from dragoman.database import transaction
from dragoman.errors import JobError, JobRunning
from dragoman.folders import state_folder
from dragoman.jobs.database import connect, told
from dragoman.jobs.records import CANCELLED, DONE, INTERRUPTED, RUNNING, UNFINISHED, Job, Plan
from dragoman.jobs.run import Run, end, job_files

KEPT_DAYS = 30
"""An unfinished job that nobody takes up is forgotten after so long, with what it had translated."""
KEPT_JOBS = 500
"""So many jobs are listed."""


class Jobs:
    """All jobs of a folder; a context manager. Raises JobError wherever the list can't be used."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: that of `state_folder` if None."""
        self.folder = state_folder() if folder is None else folder
        self._connection = connect(self.folder)

    def begin(self, plan: Plan, note: Callable[[str], None] = lambda said: None) -> Run:
        """Work on the unfinished job of this plan, or on a new one.

        note: told what the user should know. Raises JobRunning if another process works on it now.
        """
        with told(), transaction(self._connection):
            self._forget()
            found = self._unfinished(plan)
            id = self._insert(plan) if found is None else found
            held = self._hold(id)
            if held is None:
                raise JobRunning(
                    f"job {id} does the same now, in another process; wait for it, or stop it: "
                    f"dragoman jobs cancel {id}"
                )
            self._connection.execute(
                "UPDATE jobs SET state = ?, changed = ?, error = NULL, cancel = 0 WHERE id = ?",
                (RUNNING, time.time(), id),
            )
        return Run(self._connection, id, held, found is not None, note)

    def find(self, plan: Plan) -> Job | None:
        """The job that `begin` would go on with."""
        with told():
            found = self._unfinished(plan)
        return None if found is None else self.get(found)

    def all(self) -> list[Job]:
        """All jobs, the latest first."""
        with told():
            return [self._job(row) for row in self._rows("ORDER BY id DESC")]

    def get(self, id: int) -> Job:
        """The job of this number. Raises JobError if there is none."""
        with told():
            rows = self._rows("WHERE id = ?", id)
        if not rows:
            known = ", ".join(str(job.id) for job in self.all()[:10]) or "none"
            raise JobError(f"there is no job {id}; the latest are: {known}")
        return self._job(rows[0])

    def cancel(self, id: int) -> Job:
        """Stop a job for good, and forget what it has translated.

        One that is running stops with the next sentence that is done.
        """
        job = self.get(id)
        if not job.is_unfinished:
            raise JobError(f"job {id} is {job.state} already")
        with told(), transaction(self._connection):
            held = self._hold(id)
            if held is None:
                self._connection.execute("UPDATE jobs SET cancel = 1 WHERE id = ?", (id,))
            else:
                with held:
                    end(self._connection, id, CANCELLED)
        return self.get(id)

    def remove(self, id: int) -> None:
        """Strike a job off the list. Raises JobError if it is running."""
        self.get(id)
        with told(), transaction(self._connection):
            held = self._hold(id)
            if held is None:
                raise JobError(f"job {id} is running; cancel it first: dragoman jobs cancel {id}")
            with held:
                self._connection.execute("DELETE FROM jobs WHERE id = ?", (id,))
            self._lock_file(id).unlink(missing_ok=True)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    # Inside

    def _unfinished(self, plan: Plan) -> int | None:
        marks = ", ".join("?" * len(UNFINISHED))
        row = self._connection.execute(
            f"SELECT max(id) FROM jobs WHERE key = ? AND state IN ({marks})", (plan.key, *UNFINISHED)
        ).fetchone()
        found: int | None = row[0]
        return found

    def _insert(self, plan: Plan) -> int:
        now = time.time()
        cursor = self._connection.execute(
            "INSERT INTO jobs (key, state, began, changed, model, source, target, command, folder, "
            "environment) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(plan.key, RUNNING, now, now, plan.model, plan.source, plan.target),
                *(json.dumps([*plan.command]), os.fsencode(plan.folder), json.dumps({**plan.environment})),
            ),
        )
        id = cursor.lastrowid
        assert id is not None
        self._connection.executemany(
            "INSERT INTO files (job, number, input, output, state) VALUES (?, ?, ?, ?, ?)",
            # As bytes: a name may hold what is no UTF-8.
            [
                (id, number, os.fsencode(source), os.fsencode(output), RUNNING)
                for number, (source, output) in enumerate(plan.files)
            ],
        )
        return id

    def _rows(self, where: str, *values: object) -> list[Any]:
        return self._connection.execute(
            "SELECT id, state, began, changed, seconds, model, source, target, command, folder, environment, "
            f"done, share, error FROM jobs {where}",
            values,
        ).fetchall()

    def _job(self, row: tuple[Any, ...]) -> Job:
        id, state, began, changed, seconds, model, source, target, command, folder, environment, *rest = row
        done, share, error = rest
        if state == RUNNING and not self._is_held(id):
            state = INTERRUPTED
        return Job(
            id=id,
            state=state,
            began=began,
            changed=changed,
            seconds=seconds,
            model=model,
            source=source,
            target=target,
            command=tuple(json.loads(command)),
            folder=os.fsdecode(folder),
            environment=json.loads(environment),
            done=done,
            share=1.0 if state == DONE else share,
            error=error,
            files=tuple(job_files(self._connection, id)),
        )

    def _forget(self) -> None:
        """Strike off what is too old."""
        stale = self._connection.execute(
            "SELECT id FROM jobs WHERE changed < ? OR id <= (SELECT max(id) FROM jobs) - ?",
            (time.time() - KEPT_DAYS * 86400, KEPT_JOBS),
        ).fetchall()
        for (id,) in stale:
            if not self._is_held(id):
                self._connection.execute("DELETE FROM jobs WHERE id = ?", (id,))
                self._lock_file(id).unlink(missing_ok=True)

    def _lock_file(self, id: int) -> Path:
        return self.folder / f"job-{id}.lock"

    def _hold(self, id: int) -> BinaryIO | None:
        """The open file that says that this process works on a job; None if another does."""
        file = open(self._lock_file(id), "ab")  # noqa: SIM115  # open as long as the job is held
        if files.lock(file):
            return file
        file.close()
        return None

    def _is_held(self, id: int) -> bool:
        if not self._lock_file(id).exists():
            return False
        held = self._hold(id)
        if held is None:
            return True
        held.close()
        return False
