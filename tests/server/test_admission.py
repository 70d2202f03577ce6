"""The queue: fair over its owners, and bounded."""

import asyncio

import pytest

from dragoman.server.admission import Admission, Bounds
from dragoman.server.faults import Fault


def bounds(**changes) -> Bounds:
    usual = {"active": 1, "waiting": 10, "waiting_per_owner": 5, "characters_per_owner": 100, "seconds": 5}
    return Bounds(**{**usual, **changes})


def run(main) -> None:
    asyncio.run(asyncio.wait_for(main(), 20))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def queued(admission: Admission, owners: str) -> list[str]:
    """In which order those wait who come in this order, each a letter, while somebody works."""
    first = await admission.enter("first", 1)
    order: list[str] = []

    async def come(owner: str) -> None:
        place = await admission.enter(owner, 1)
        order.append(owner)
        place.leave()

    tasks = [asyncio.create_task(come(owner)) for owner in owners]
    await settle()
    first.leave()
    await asyncio.gather(*tasks)
    assert admission.working == admission.waiting == 0
    return order


def test_owners_take_turns_however_much_one_of_them_wants():
    async def main() -> None:
        assert await queued(Admission(bounds()), "aaaabbc") == list("abcabaa")

    run(main)


def test_who_works_already_comes_behind_who_does_not():
    async def main() -> None:
        admission = Admission(bounds(active=2))
        kept, other = await admission.enter("a", 1), await admission.enter("x", 1)
        tasks = {owner: asyncio.create_task(admission.enter(owner, 1)) for owner in "ab"}
        await settle()
        other.leave()
        await settle()
        assert tasks["b"].done()
        assert not tasks["a"].done()
        kept.leave()
        (await tasks["a"]).leave()
        (await tasks["b"]).leave()
        assert admission.working == 0

    run(main)


@pytest.mark.parametrize(
    ("changes", "owners", "status"),
    [
        ({"waiting_per_owner": 2}, "aaa", 429),
        ({"waiting": 2}, "abc", 503),
        ({"characters_per_owner": 1}, "aa", 429),
    ],
)
def test_what_is_too_much_is_refused_at_once(changes, owners, status):
    async def main() -> None:
        admission = Admission(bounds(**changes))
        first = await admission.enter("first", 1)
        tasks = [asyncio.create_task(admission.enter(owner, 1)) for owner in owners]
        await settle()
        *waiting, refused = tasks
        assert not any(task.done() for task in waiting)
        with pytest.raises(Fault) as caught:
            refused.result()
        assert caught.value.status == status
        assert int(caught.value.headers["Retry-After"]) >= 1
        first.leave()
        for task in waiting:
            (await task).leave()

    run(main)


def test_one_request_may_have_more_characters_than_wait_at_a_time():
    async def main() -> None:
        admission = Admission(bounds())
        first = await admission.enter("a", 1)
        large = asyncio.create_task(admission.enter("a", 10**6))
        await settle()
        first.leave()
        (await large).leave()

    run(main)


def test_who_waits_too_long_is_told_and_takes_no_place():
    async def main() -> None:
        admission = Admission(bounds(seconds=0.01))
        first = await admission.enter("a", 1)
        with pytest.raises(Fault, match="too long"):
            await admission.enter("b", 1)
        assert admission.waiting == 0
        first.leave()
        (await admission.enter("c", 1)).leave()

    run(main)


def test_who_goes_away_takes_no_place():
    async def main() -> None:
        admission = Admission(bounds())
        first = await admission.enter("a", 1)
        gone, stays = (asyncio.create_task(admission.enter(owner, 1)) for owner in "bc")
        await settle()
        gone.cancel()
        await settle()
        assert admission.waiting == 1
        first.leave()
        (await stays).leave()
        assert admission.working == 0

    run(main)


def test_who_goes_away_at_the_very_moment_of_his_turn_gives_it_back():
    async def main() -> None:
        admission = Admission(bounds())
        first = await admission.enter("a", 1)
        gone, stays = (asyncio.create_task(admission.enter(owner, 1)) for owner in "bc")
        await settle()
        first.leave()
        gone.cancel()
        (await stays).leave()
        assert admission.working == 0

    run(main)


def test_a_place_is_left_once():
    async def main() -> None:
        admission = Admission(bounds())
        place = await admission.enter("a", 1)
        place.leave()
        place.leave()
        assert admission.working == 0

    run(main)


def test_what_has_been_accepted_waits_however_many_wait_and_however_long():
    async def scene() -> int:
        admission = Admission(Bounds(1, 0, 0, 0, None))
        place = await admission.enter("anna", 1)
        with pytest.raises(Fault):
            await admission.enter("otto", 1)
        waiting = [asyncio.create_task(admission.enter("otto", 10**9, is_accepted=True)) for _ in range(3)]
        await asyncio.sleep(0)
        count = admission.waiting
        place.leave()
        for each in waiting:
            (await each).leave()
        return count

    assert asyncio.run(scene()) == 3
