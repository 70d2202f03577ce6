"""Durable work: what a job has translated is kept until all of it is written, so it can go on after any end.

    with Jobs().begin(plan) as run:
        for result in translator.stream(texts, recall=run):
            ...

A job is a row in SQLite and a file that is locked while a process works on it. Each sentence is committed as
soon as the model is done with it.
"""

from dragoman.jobs.jobs import Jobs
from dragoman.jobs.records import Job, JobFile, Plan
from dragoman.jobs.run import Run, digest, digest_of

__all__ = ["Job", "JobFile", "Jobs", "Plan", "Run", "digest", "digest_of"]
