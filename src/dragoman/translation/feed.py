"""Texts from any iterable, read a bounded number ahead of their translation."""

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dragoman.errors import InvalidText
from dragoman.translation.results import Text

CHARACTERS = 4_000_000
"""So many are read ahead at most, or one text."""

NOTHING = object()
"""There is no text yet, or no more."""

_NO_TEXTS = (str, bytes, bytearray, memoryview, Mapping, Text)


class Feed:
    """The texts of an iterable in their order.

    A list or tuple is read where it is asked. Anything else may block, so a thread reads it, in the caller's
    context (`contextvars`). That thread is a daemon: it can't be woken from the iterator it waits in.
    """

    def __init__(self, texts: Iterable[Any], ahead: int, wake: Callable[[], None]) -> None:
        """ahead: texts taken and not yet released, at most; wake: called when there is something new."""
        self._iterator = iter(texts)
        self._is_sequence = isinstance(texts, (list, tuple))
        self._ahead, self._wake = ahead, wake
        self._read: deque[Any] = deque()
        self._held: deque[int] = deque()  # characters of what is read and not yet released
        self._characters = 0
        self._change = threading.Condition()
        self._ended = self._closed = False
        self._thread: threading.Thread | None = None
        self.error: BaseException | None = None
        """What the iterator raised, after the texts that came before."""

    @property
    def is_exhausted(self) -> bool:
        """Whether all texts have been taken."""
        with self._change:
            return self._ended and not self._read

    def take(self) -> Any:
        """The next text, or NOTHING if there is none yet or too many are held."""
        if self._is_sequence:
            if not self._read and not self._ended and self._has_room():
                self._read_one()
        elif self._thread is None:
            run = contextvars.copy_context().run
            self._thread = threading.Thread(target=run, args=(self._read_all,), daemon=True)
            self._thread.name = "dragoman texts"
            self._thread.start()
        with self._change:
            return self._read.popleft() if self._read else NOTHING

    def release(self) -> None:
        """The oldest text that is held is done with."""
        with self._change:
            self._characters -= self._held.popleft()
            self._change.notify()

    def close(self) -> None:
        """Read no more."""
        with self._change:
            self._closed = True
            self._change.notify()

    def _has_room(self) -> bool:
        return not self._held or (len(self._held) < self._ahead and self._characters < CHARACTERS)

    def _read_all(self) -> None:
        while not self._ended:
            with self._change:
                self._change.wait_for(lambda: self._closed or self._has_room())
                if self._closed:
                    return
            self._read_one()
            self._wake()

    def _read_one(self) -> None:
        try:
            text = next(self._iterator)
        except StopIteration:
            self._ended = True
        except BaseException as error:
            if self._is_sequence:
                raise
            self.error, self._ended = error, True
        else:
            with self._change:
                self._read.append(text)
                self._held.append(_size(text))
                self._characters += self._held[-1]


def several(texts: object) -> Iterable[Any]:
    """`texts` if they may be several; InvalidText for one text, bytes, a dict, or what isn't iterable."""
    if isinstance(texts, _NO_TEXTS) or not isinstance(texts, Iterable):
        if isinstance(texts, (str, Text)):
            raise InvalidText("a single text came where several belong; put it in a list")
        raise InvalidText(
            "a text must be a str, and several a list or another iterable of them, "
            f"not {type(texts).__name__}"
        )
    return texts


def _size(text: object) -> int:
    if isinstance(text, Text):
        text = text.text
    return len(text) if isinstance(text, str) else 0
