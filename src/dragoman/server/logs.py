"""Logs as lines of JSON; neither texts nor keys are in them."""

import json
import logging
import sys
import time
import traceback
from typing import Any

LOGGER = logging.getLogger("dragoman.server")


def set_up(level: str) -> None:
    """Have all that the server and its libraries log written to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("dragoman", "opentelemetry", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler] if name != "uvicorn.error" else []
        # Below warnings uvicorn tells its own steps, which say nothing to those who didn't write it.
        quiet = name != "dragoman" and level == "info"
        logger.setLevel("WARNING" if quiet else level.upper())
        logger.propagate = name == "uvicorn.error"


class JsonLines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        data: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[1]:
            data["error"] = told(record.exc_info[1])
        return json.dumps(data, ensure_ascii=False, default=str)


def told(error: BaseException) -> dict[str, Any]:
    """An error's type and where it came from, but not its message, which may quote a text."""
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "type": type(error).__name__,
        "at": [f"{frame.filename}:{frame.lineno}" for frame in frames[-12:]],
    }


def event(message: str, level: int = logging.INFO, **facts: Any) -> None:
    """Log that something happened."""
    LOGGER.log(level, message, extra={"facts": facts})
