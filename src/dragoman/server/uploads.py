"""Files that clients bring: kept on the disk, translated in the background, fetched for a while.

A folder a file: what came, what became of it, and a record. Each sentence is kept as soon as it is done
(`dragoman.jobs`), so that after the end of the process the next one goes on where it ended.
"""

import asyncio
import contextlib
import hmac
import json
import logging
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from dragoman import files
from dragoman.errors import DragomanError, InvalidOption
from dragoman.jobs import Jobs, Plan
from dragoman.languages import of_code
from dragoman.server import logs
from dragoman.server.faults import Fault, fault_of
from dragoman.server.filework import FileOrder, FileResult, safe_name, translate
from dragoman.server.records import Progress, Status, Upload
from dragoman.server.state import Caller, State
from dragoman.server.work import Calls
from dragoman.translation.pipeline import Cancelled

MOST = 1000
"""Files that are kept at a time, translated or not."""
LARGEST = 4 << 30
"""Bytes that all of them may have."""
ATTEMPTS = 3
"""How often a file is begun, where each time the process ends at it: it may be what ends the process."""
_RECORD, _LOCK = "record.json", "lock"
_ID = re.compile("[0-9A-F]{32}")


@dataclass
class Uploads:
    """The files of a server."""

    state: State
    folder: Path
    """Where they are kept."""
    _uploads: dict[str, Upload] = field(default_factory=dict)
    _progress: dict[str, Progress] = field(default_factory=dict)
    _lock: BinaryIO | None = None
    _turn: Lock = field(default_factory=Lock)
    """Held while a record is written or a folder goes, and while it is decided whether a file is over."""
    _alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by a file beside which no other is worked on."""

    @classmethod
    def open(cls, state: State) -> "Uploads":
        """Those of the settings' folder, or of a new one that goes with the server. InvalidOption if
        another server has them."""
        folder = state.settings.data
        if folder is None:
            return cls(state, Path(tempfile.mkdtemp(prefix="dragoman-")))
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = open(folder / _LOCK, "ab")  # noqa: SIM115  # open as long as the server lives
        if not files.lock(lock):
            lock.close()
            raise InvalidOption(f"{folder} is another server's; give this one a folder of its own (data)")
        found = cls(state, folder, _lock=lock)
        for home in folder.iterdir():
            if _ID.fullmatch(home.name) and not (home / _RECORD).exists():
                shutil.rmtree(home, ignore_errors=True)  # the process ended while the file came
        for upload in _read_all(folder):
            found._uploads[upload.id] = upload
            if upload.is_over:
                age = time.time() - (upload.ended or upload.began)
                found._progress[upload.id] = Progress(share=1.0, goes=found._end_of(age))
        found.forget()
        return found

    def resume(self) -> None:
        """Go on with what an earlier process didn't complete, first with what it may have ended at."""
        for upload in sorted(self._uploads.values(), key=lambda upload: (not upload.attempts, upload.began)):
            if not upload.is_over and upload.attempts >= ATTEMPTS:
                upload.error = f"the server has ended {upload.attempts} times while it worked on this file"
                self._drop_job(upload)
                self._end(upload, self._progress.setdefault(upload.id, Progress()), "error")
            elif not upload.is_over:
                upload.status = "queued"
                self._start(upload, Caller(upload.owner))

    async def begin(
        self, caller: Caller, order: FileOrder, content: BinaryIO, size: int
    ) -> tuple[Upload, str]:
        """Keep a file, and translate it once it is its turn; returns the key with which it is asked for.

        Raises a Fault (429, 503) if too much waits.
        """
        self.forget()
        self.state.workshop.files.refuse(caller.owner, size)
        self._refuse_behind(caller.owner, size)
        taken = size + sum(2 * each.size for each in self._uploads.values())
        if len(self._uploads) >= MOST or taken > LARGEST:
            raise Fault(503, "overloaded", "too many files are kept already; try again later", None, 60)
        key = secrets.token_hex(32).upper()
        upload = Upload(
            id=secrets.token_hex(16).upper(),
            digest=sha256(key.encode()).hexdigest(),
            owner=caller.owner,
            name=safe_name(order.name),
            source=order.source.nllb if order.source else None,
            target=order.target.nllb,
            model=order.model,
            glossaries=order.glossaries,
            keeper=caller.keeper,
            size=size,
            began=time.time(),
        )
        self._uploads[upload.id] = upload
        progress = self._progress[upload.id] = Progress()
        try:
            await asyncio.to_thread(self._keep, upload, content)
        except OSError as error:
            self._let_go(upload)
            logs.event("a file could not be kept", logging.ERROR, error=logs.told(error))
            raise Fault(503, "no_room", "the file could not be kept", None, 60) from None
        if upload.id not in self._uploads:
            await asyncio.to_thread(self._delete, upload)
            raise Fault(409, "removed", "the file was removed while it came")
        if not progress.is_removed:
            self._start(upload, caller)
        return upload, key

    async def done(self, upload: Upload) -> None:
        """Wait for the end of the work on a file."""
        task = self.progress(upload).task
        if task is not None:
            await asyncio.wait({task})

    def find(self, id: str, key: object) -> Upload:
        """The file of an id and its key. Raises a Fault if there is none."""
        self.forget()
        digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest() if isinstance(key, str) else ""
        found = self._uploads.get(id)
        if found is None or not hmac.compare_digest(found.digest, digest):
            raise Fault(404, "not_found", "there is no such document, or not any more")
        return found

    def of(self, caller: Caller) -> list[Upload]:
        """The files of a caller, the latest first."""
        self.forget()
        own = [upload for upload in self._uploads.values() if upload.owner == caller.owner]
        return sorted(own, key=lambda upload: -upload.began)

    def owned(self, caller: Caller, id: str) -> Upload:
        """The file of an id, if it is the caller's. Raises a Fault."""
        found = next((upload for upload in self.of(caller) if upload.id == id), None)
        if found is None:
            raise Fault(404, "not_found", "there is no such document, or not any more")
        return found

    def progress(self, upload: Upload) -> Progress:
        """How far a file is."""
        return self._progress.get(upload.id, Progress(share=float(upload.is_over)))

    def output(self, upload: Upload) -> Path:
        """The translated file."""
        return self.folder / upload.id / "output"

    async def remove(self, upload: Upload) -> None:
        """Stop the work on a file, and forget all of it."""
        await self._stop(upload)
        self._let_go(upload)
        await asyncio.to_thread(self._delete, upload)

    async def cancel(self, upload: Upload) -> None:
        """Stop the work on a file, of which is left that there was any; what is over stays as it is."""
        progress = self.progress(upload)
        with self._turn:  # a thread that is about to begin sees all of it, or has begun
            if upload.is_over:
                return
            progress.is_removed = True
            upload.status, upload.error, upload.error_status = "cancelled", "it was cancelled", 409
        self._end(upload, progress, "cancelled")
        await self._stop(upload)
        await asyncio.to_thread(self._drop_job, upload)

    async def _stop(self, upload: Upload) -> None:
        progress = self.progress(upload)
        progress.is_removed = True
        if progress.task is not None and not progress.task.done():
            progress.task.cancel()
            await asyncio.wait({progress.task})

    def fetched(self, upload: Upload) -> None:
        """The result has been fetched, by a dialect in which that is possible once."""
        upload.status = "downloaded"
        self._note(upload)

    def close(self) -> None:
        """Leave what isn't done to the next process, if there is one for this folder."""
        if self._lock is not None:
            self._lock.close()
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    # Inside

    def _start(self, upload: Upload, caller: Caller) -> None:
        progress = self._progress.setdefault(upload.id, Progress())
        progress.task = asyncio.create_task(self._work(upload, caller, progress))

    async def _work(self, upload: Upload, caller: Caller, progress: Progress) -> None:
        def work(calls: Calls) -> FileResult:
            with self._turn:
                if progress.is_removed:
                    raise Cancelled
                upload.status, progress.began = "translating", time.monotonic()
                upload.attempts += 1
            self._note(upload)  # first: the work may be the end of the process
            try:
                return self._translate(upload, caller, calls, progress)
            except Cancelled:
                if progress.is_removed:
                    self._drop_job(upload)
                else:  # the next process goes on with it
                    upload.attempts = 0
                    self._note(upload)
                raise
            except Exception:
                self._drop_job(upload)
                raise

        status: Status = "error"
        try:
            tracing = self.state.tracing
            traced = work if tracing is None else tracing.apart("file", work)
            async with self._room(upload):
                made = await self.state.workshop.do_file(upload.owner, upload.size, traced)
            upload.result, upload.spoken = made.name, made.source.nllb if made.source else None
            upload.characters, upload.segments, upload.flagged = made.characters, made.segments, made.flagged
            status, progress.share = "done", 1.0
        except Fault as fault:
            if fault.code == "shutting_down":
                return  # the next process goes on with it
            upload.error, upload.error_status = fault.message, fault.status
        except DragomanError as error:
            found = fault_of(error)
            upload.error, upload.error_status = found.message, found.status
        except Exception as error:
            logs.event("a file could not be translated", logging.ERROR, error=logs.told(error))
            upload.error = "the server failed on this file; its log has more"
        self._end(upload, progress, status)

    def _refuse_behind(self, owner: str, size: int) -> None:
        """Raise a Fault if one more file may not wait behind one that is worked on alone: those that do have
        not come to the queue yet, which would refuse it."""
        if not self._alone.locked():
            return
        bounds = self.state.workshop.files.bounds
        own = [each.size for each in self._uploads.values() if each.owner == owner and not each.is_over]
        too_large = own and sum(own) + size > bounds.characters_per_owner
        if len(own) >= bounds.waiting_per_owner or too_large:
            raise Fault(429, "rate_limited", f"{len(own)} of your files wait already", None, 60)

    @contextlib.asynccontextmanager
    async def _room(self, upload: Upload) -> AsyncIterator[None]:
        """Wait until a file may be worked on. One at which a process has ended has that for itself: should
        this one end, too, it was no other."""
        if upload.attempts:
            async with self._alone:
                yield
        else:
            async with self._alone:
                pass
            yield

    def _end(self, upload: Upload, progress: Progress, status: Status) -> None:
        """The file is over; one that has been cancelled stays so."""
        if upload.status != "cancelled":
            upload.status = status
        upload.ended, progress.goes = time.time(), self._end_of(0.0)
        self._note(upload)

    def _translate(self, upload: Upload, caller: Caller, calls: Calls, progress: Progress) -> FileResult:
        """In a thread."""
        source = of_code(upload.source) if upload.source else None
        data = (self.folder / upload.id / "input").read_bytes()
        order = FileOrder(upload.name, source, of_code(upload.target), upload.model)

        def tell(done: int, known: int) -> None:
            progress.share = min(0.99, done / max(known, 1))

        def count(characters: int) -> None:
            while not upload.is_counted:
                try:
                    self.state.meter.take(caller.key, characters)
                except Fault as fault:
                    if fault.retry_after is None:
                        raise
                    calls.wait(fault.retry_after)  # a limit of a minute delays what has been accepted
                    continue
                upload.is_counted = True
                self._note(upload)

        glossary = None
        if upload.glossaries:
            glossary = self.state.glossaries.together(upload.keeper, upload.glossaries)
        with Jobs(self.folder) as jobs:
            with jobs.begin(self._plan(upload)) as run:
                made = translate(self.state, order, data, calls, tell, count, glossary, run)
                with files.replacing_file(self.output(upload)) as file:
                    file.write(made.data)
            jobs.remove(run.id)
        return made

    def _drop_job(self, upload: Upload) -> None:
        """Forget the sentences of a file that nobody goes on with."""
        with contextlib.suppress(DragomanError), Jobs(self.folder) as jobs:
            if job := jobs.find(self._plan(upload)):
                jobs.remove(job.id)

    def _plan(self, upload: Upload) -> Plan:
        home = self.folder / upload.id
        models = {name: each.fingerprint for name, each in self.state.registry.translators.items()}
        return Plan(
            decisive={"upload": upload.id, "models": models},
            files=[(str(home / "input"), str(home / "output"))],
            model=upload.model or "",
            source=upload.source,
            target=upload.target,
        )

    def _keep(self, upload: Upload, content: BinaryIO) -> None:
        home = self.folder / upload.id
        home.mkdir(mode=0o700)
        try:
            with open(home / "input", "xb") as file:
                shutil.copyfileobj(content, file)
            self._note(upload)
        except OSError:
            shutil.rmtree(home, ignore_errors=True)
            raise

    def _note(self, upload: Upload) -> None:
        """Write the record, unless all of the file is forgotten; where that fails the file is still
        translated, by this process."""
        record = self.folder / upload.id / _RECORD
        with self._turn, contextlib.suppress(OSError):
            if upload.id in self._uploads:
                with files.replacing_file(record) as file:
                    file.write(json.dumps(asdict(upload)).encode())

    def forget(self) -> None:
        """Forget what nobody has fetched in time."""
        for upload in self._outdated():
            self._delete(upload)

    async def forget_aside(self) -> None:
        """As `forget`, with what takes time in a thread: what is kept changes on the event loop alone."""
        for upload in self._outdated():
            await asyncio.to_thread(self._delete, upload)

    def _outdated(self) -> list[Upload]:
        """What nobody has fetched in time, of which only the folders are left."""
        now, kept = time.monotonic(), list(self._uploads.values())
        found = [upload for upload in kept if upload.is_over and self.progress(upload).goes <= now]
        for upload in found:
            self._let_go(upload)
        return found

    def _let_go(self, upload: Upload) -> None:
        self._uploads.pop(upload.id, None)
        self._progress.pop(upload.id, None)

    def _end_of(self, age: float) -> float:
        """When a file is forgotten that was done so many seconds ago, or by a wrong clock will be."""
        return time.monotonic() + 60 * self.state.settings.file_minutes - max(0.0, age)

    def _delete(self, upload: Upload) -> None:
        if not upload.is_over:
            self._drop_job(upload)
        with self._turn:
            shutil.rmtree(self.folder / upload.id, ignore_errors=True)


def is_free(folder: Path) -> bool:
    """Whether no server has the files of a folder."""
    try:
        with open(folder / _LOCK, "rb") as lock:
            return files.lock(lock)
    except FileNotFoundError:
        return True


def _read_all(folder: Path) -> Iterator[Upload]:
    """The uploads that an earlier process has left; what can't be read is none."""
    for path in sorted(folder.glob(f"*/{_RECORD}")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            yield Upload(**json.loads(path.read_text(encoding="utf-8")))
