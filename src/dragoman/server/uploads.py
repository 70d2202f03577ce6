"""Files that are translated while their senders do something else, and ask now and then."""

import asyncio
import hmac
import secrets
import time
from dataclasses import dataclass, field
from typing import Literal

from dragoman.errors import DragomanError
from dragoman.server import logs
from dragoman.server.faults import Fault, fault_of
from dragoman.server.filework import FileOrder, FileResult, translate
from dragoman.server.state import Caller, State
from dragoman.server.work import Calls

Status = Literal["queued", "translating", "done", "downloaded", "error"]

MOST = 1000
"""Uploads that are remembered."""


@dataclass
class Upload:
    """A file on its way."""

    id: str
    key: str
    """What is to be said to learn of it, or to fetch it."""
    began: float
    status: Status = "queued"
    share: float = 0.0
    """How much of it is done, from 0 to 1, as far as is known."""
    characters: int = 0
    error: str = ""
    token: str = ""
    """Of its result."""
    task: "asyncio.Task[None] | None" = None
    working: float = field(default=0.0)
    """When it was begun to be worked on."""

    @property
    def is_over(self) -> bool:
        return self.status in ("done", "downloaded", "error")

    @property
    def seconds_left(self) -> int | None:
        """A guess, from what is done."""
        if self.status != "translating" or self.share < 0.02:
            return None
        spent = time.monotonic() - self.working
        return max(1, round(spent * (1 - self.share) / self.share))


class Uploads:
    """The files that a server translates in the background; they don't outlive it."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._uploads: dict[str, Upload] = {}

    def begin(self, caller: Caller, order: FileOrder) -> Upload:
        """Translate a file once it is its turn. Raises a Fault (429, 503) if too many wait."""
        self._forget()
        self._state.workshop.files.refuse(caller.owner, len(order.data))
        upload = Upload(secrets.token_hex(16).upper(), secrets.token_hex(32).upper(), time.monotonic())
        self._uploads[upload.id] = upload
        upload.task = asyncio.create_task(self._work(caller, order, upload))
        return upload

    def find(self, id: str, key: object) -> Upload:
        """The upload of an id and its key. Raises a Fault if there is none."""
        self._forget()
        found = self._uploads.get(id)
        if (
            found is None
            or not isinstance(key, str)
            or not hmac.compare_digest(found.key.encode(), _bytes(key))
        ):
            raise Fault(404, "not_found", "there is no such document, or not any more")
        return found

    async def remove(self, upload: Upload) -> None:
        """Stop it, and forget it with its result."""
        self._uploads.pop(upload.id, None)
        if upload.task is not None and not upload.task.done():
            upload.task.cancel()
            await asyncio.wait({upload.task})
        self._state.results.remove(upload.token)

    async def _work(self, caller: Caller, order: FileOrder, upload: Upload) -> None:
        state = self._state

        def tell(done: int, known: int) -> None:
            upload.share = done / max(known, 1)

        def work(calls: Calls) -> FileResult:
            upload.status, upload.working = "translating", time.monotonic()
            return translate(state, caller, order, calls, tell)

        try:
            made = await state.workshop.do_file(caller.owner, len(order.data), work)
            upload.token = await asyncio.to_thread(state.results.add, made.data, made.name)
            upload.characters = made.characters
            upload.status = "done"
        except (DragomanError, Fault) as error:
            upload.error = fault_of(error).message if isinstance(error, DragomanError) else error.message
            upload.status = "error"
        except Exception as error:
            logs.event("a file could not be translated", 40, error=logs.told(error))
            upload.error, upload.status = "the server failed on this file; its log has more", "error"

    def _forget(self) -> None:
        """Forget what nobody has asked for in time, and the oldest of what is over if there are too many."""
        oldest = time.monotonic() - 60 * self._state.settings.file_minutes - self._state.settings.file_timeout
        for id, upload in list(self._uploads.items()):
            if upload.is_over and (upload.began < oldest or len(self._uploads) > MOST):
                del self._uploads[id]
        if len(self._uploads) > MOST:
            raise Fault(503, "overloaded", "too many files are on their way", None, 60)


def _bytes(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")
