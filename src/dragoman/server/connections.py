"""Connections that have to say what they want in time, and to take what they are answered."""

import asyncio
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_HEAD_BYTES = 64 * 1024
_PIECES = 4096
"""Pieces that any body may come in."""
_PIECE_BYTES = 512
"""Bytes a piece that a body in more pieces has on average at least: each costs time, however small it is."""

_GATHERED_BYTES = 64 * 1024
"""Bytes of an answer that are kept back within a turn of the event loop."""
_ON_ITS_WAY = 0.2
"""Seconds that an idle connection stays open once the server is about to end."""


class _Sparing(h11.Connection):
    """HTTP/1.1 whose bodies don't come in crumbs."""

    _pieces = 0
    _bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._bytes += len(event.data)
            if self._pieces > _PIECES + self._bytes // _PIECE_BYTES:
                raise h11.RemoteProtocolError("the body comes in too many pieces")
        return event


class _Gathering:
    """A transport that sends together what is written in one turn of the event loop: the head of an answer
    and its body are one packet, and one call of the system.
    """

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._pieces: list[bytes] = []
        self._bytes = 0

    def write(self, data: bytes) -> None:
        if not data:
            return
        if not self._pieces:
            self._loop.call_soon(self._flush)
        self._pieces.append(data)
        self._bytes += len(data)
        if self._bytes >= _GATHERED_BYTES:  # the transport says when the client is too slow
            self._flush()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        data, self._bytes = b"".join(self._pieces), 0
        self._pieces.clear()
        if data and not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def protocol(seconds: float) -> type[H11Protocol]:
    """HTTP/1.1 as uvicorn has it, on connections that bring the head of a request within so many seconds, and
    that take something of an answer within as many."""

    class Impatient(H11Protocol):
        _timer: asyncio.TimerHandle | None = None
        _writing: asyncio.TimerHandle | None = None
        _ends = False

        def connection_made(self, transport: Any) -> None:
            self.conn = _Sparing(h11.SERVER, self.config.h11_max_incomplete_event_size or _HEAD_BYTES)
            super().connection_made(cast("asyncio.Transport", _Gathering(transport, self.loop)))
            self._watch()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self._watch()

        def connection_lost(self, exc: Exception | None) -> None:
            self._rest()
            self._stop_writing_timer()
            super().connection_lost(exc)

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._writing is None:
                self._writing = self.loop.call_later(seconds, self.transport.abort)

        def resume_writing(self) -> None:
            self._stop_writing_timer()
            super().resume_writing()

        def shutdown(self) -> None:
            """The server is about to end; a request that is on its way already is answered."""
            self._ends = True
            if self.cycle is None or self.cycle.response_complete:
                self.loop.call_later(_ON_ITS_WAY, self._shut)
            else:
                super().shutdown()

        def handle_events(self) -> None:
            super().handle_events()
            if self._ends and self.cycle is not None:
                self.cycle.keep_alive = False

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            self._abort_later()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.transport.is_closing():
                self._abort_later()

        def send_400_response(self, msg: str) -> None:
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                super().send_400_response(msg)
            else:  # the answer has begun
                self.transport.abort()

        def _shut(self) -> None:
            if not self.transport.is_closing():
                super().shutdown()

        def _watch(self) -> None:
            """Wait for a head, unless a request is being answered."""
            if self.cycle is not None and not self.cycle.response_complete:
                self._rest()
            elif self._timer is None:
                self._timer = self.loop.call_later(seconds, self._give_up)

        def _give_up(self) -> None:
            self._timer = None
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()
                self._abort_later()

        def _abort_later(self) -> None:
            """Closing waits until all is sent, which a client that reads nothing never lets happen."""
            self.loop.call_later(seconds, self.transport.abort)

        def _rest(self) -> None:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _stop_writing_timer(self) -> None:
            if self._writing is not None:
                self._writing.cancel()
                self._writing = None

    return Impatient
