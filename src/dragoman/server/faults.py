"""What the server says when it doesn't do what was asked. Each dialect writes it in a shape of its own."""

import re

from dragoman.errors import (
    DragomanError,
    InvalidDocument,
    InvalidOption,
    InvalidText,
    NotEnoughMemory,
    Overloaded,
    TranslationTimeout,
    UnknownLanguage,
)


class Fault(Exception):
    """A request that is not answered as its sender hoped.

    status: of HTTP; code: a short name for programs; param: the field that is to blame; retry_after: seconds
    after which the same request may succeed.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.param, self.retry_after = param, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        if self.retry_after is None:
            return {}
        return {"Retry-After": str(max(1, round(self.retry_after)))}


def invalid(message: str, param: str | None = None) -> Fault:
    """A request that can't be right."""
    return Fault(400, "invalid_request", message, param)


_FLAG = re.compile(r" \(--[a-z-]+\)")
"""How an option is spelled on the command line."""
_KINDS: tuple[tuple[type[DragomanError], int, str, str | None, float | None], ...] = (
    (UnknownLanguage, 400, "unknown_language", None, None),
    (InvalidText, 400, "invalid_text", None, None),
    (InvalidDocument, 400, "invalid_document", "file", None),
    (InvalidOption, 400, "invalid_request", None, None),
    (TranslationTimeout, 504, "timeout", None, None),
    (Overloaded, 503, "overloaded", None, 5.0),
    (NotEnoughMemory, 503, "no_memory", None, 30.0),
)


def fault_of(error: DragomanError) -> Fault:
    """What an error of the translator's is over HTTP; what the model is to blame for is a 500."""
    for kind, status, code, param, retry_after in _KINDS:
        if isinstance(error, kind):
            return Fault(status, code, _FLAG.sub("", str(error)), param, retry_after)
    return Fault(500, "translation_failed", "the model failed on a text")
