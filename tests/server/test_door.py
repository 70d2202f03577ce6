"""A door that is closed: newcomers are refused in their dialect, who is inside ends, probes are answered."""

import asyncio
from types import SimpleNamespace
from typing import Any

from dragoman.server.app import answer
from dragoman.server.door import Door


class Inside:
    """An application that answers once it is let."""

    def __init__(self) -> None:
        self.let = asyncio.Event()
        self.paths: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.paths.append(scope["path"])
        await self.let.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


async def ask(door: Door, path: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what is said to a request."""
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    await door({"type": "http", "path": path, "headers": []}, None, send)  # type: ignore[arg-type]
    headers = {name.decode(): value.decode() for name, value in said[0]["headers"]}
    return said[0]["status"], headers, said[1]["body"]


def closed(seconds: float, is_let: bool) -> tuple[Any, Inside, list[Any]]:
    """What becomes of a request inside, while the door closes, and of those that come then."""

    async def act() -> tuple[Any, Inside, list[Any]]:
        inside, state = Inside(), SimpleNamespace(is_draining=False)
        door = Door(inside, state, answer)  # type: ignore[arg-type]
        first = asyncio.create_task(ask(door, "/translate"))
        await asyncio.sleep(0)
        closing = asyncio.create_task(door.close(seconds))
        await asyncio.sleep(0)
        late = [await ask(door, path) for path in ("/translate", "/v1/translate", "/v2/translate")]
        if is_let:
            assert not closing.done()
            inside.let.set()
            late.append(await ask(door, "/health/ready"))
        await closing
        inside.let.set()
        return await first, inside, late

    return asyncio.run(act())


def test_newcomers_are_refused_and_those_inside_are_waited_for():
    first, inside, (libre, own, deepl, probe) = closed(60, is_let=True)
    assert first[0] == probe[0] == 200
    assert inside.paths == ["/translate", "/health/ready"]
    for status, headers, body in (libre, own, deepl):
        assert status == 503
        assert headers["retry-after"] == "10"
        assert b"about to end" in body
    assert libre[2].startswith(b'{"error":"')


def test_nobody_is_waited_for_longer_than_the_settings_say():
    first, inside, _ = closed(0.001, is_let=False)
    assert first[0] == 200  # as it was let in the end
    assert inside.paths == ["/translate"]
