"""Simulated bulk runs: what can be computed otherwise, what must never happen, and that it is bulk."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.scale import planning
from benchmarks.scale.calibration import Sample, even, fit_costs, fit_machine, fit_speed, halves, skewed
from benchmarks.scale.costs import MODELS, Processor, distinct, exchanged, hit_rate, read_again, skew
from benchmarks.scale.events import Clock, Shared
from benchmarks.scale.mixture import Language, draw, zipf
from benchmarks.scale.runs import Run
from benchmarks.scale.simulation import simulate
from benchmarks.scale.world import Corpus, Costs, Hazards, Machines, Rules, Store, steady_rate

COSTS = Costs(driver=10, plan_rate=1000, probe=4, pool=2, start=3, end=1, dispatch=1e-7)
OVERHEAD = 10 + 4 + 2 + 3 + 1
"""Seconds of these, for input without bytes."""


def corpus(*work: float, modules: tuple[int, ...] = (), bytes_: float = 0.0) -> Corpus:
    """Blocks of ten rows that take so many seconds."""
    count = len(work)
    tens, each = np.full(count, 10.0), np.full(count, bytes_)
    return Corpus(tens, tens, np.array(work, float), each, each, np.array(modules or (0,) * count))


def test_jobs_that_share_have_equal_parts_whenever_they_come():
    clock, done = Clock(), {}
    shared = Shared(clock, lambda n: min(1.0, 2 / n))  # two cores

    def note(name):
        done[name] = clock.now

    for name, at, work in (("a", 0, 2), ("b", 0, 4), ("c", 0, 4), ("d", 5, 1)):
        clock.after(at, shared.add, work, note, name)
    clock.run()
    # Three on two cores: a has its 2 at 3. Then b and c have a core each until 5, when d comes, alone.
    assert done == pytest.approx({"a": 3, "b": 5, "c": 5, "d": 6})
    assert shared.jobs == 0


def test_a_job_that_is_taken_out_leaves_its_part_to_the_others():
    clock, done = Clock(), {}
    shared = Shared(clock, lambda n: 1 / n)
    first = shared.add(10, done.setdefault, "first", 0)
    shared.add(2, lambda: done.setdefault("second", clock.now))
    clock.after(2, first.shared.cancel, first)
    clock.after(2.5, first.shared.cancel, first)
    clock.run()
    assert done == {"second": pytest.approx(3)}


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=30))
def test_one_worker_takes_the_time_of_all_blocks_and_of_what_comes_before_and_after(work):
    outcome = simulate(corpus(*work, bytes_=50), Machines(), costs=COSTS)
    assert outcome.seconds == pytest.approx(OVERHEAD + len(work) * 50 / 1000 + sum(work))
    assert outcome.busy == pytest.approx(sum(work))
    assert (np.diff(outcome.written) > 0).all()


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12))
def test_equal_blocks_are_done_in_rounds(blocks, workers):
    outcome = simulate(corpus(*[5] * blocks), Machines(1, workers, workers), costs=COSTS)
    assert outcome.seconds == pytest.approx(OVERHEAD + 5 * math.ceil(blocks / workers))


def test_workers_share_cores_and_daemons_and_neighbours_slow_them_down():
    blocks = corpus(*[6] * 16)
    alone = simulate(blocks, Machines(1, 2, 1)).seconds
    assert alone == pytest.approx(96)
    assert simulate(blocks, Machines(1, 2, 2)).seconds == pytest.approx(alone / 2)
    assert simulate(blocks, Machines(1, 2, 4)).seconds == pytest.approx(alone / 2)
    assert simulate(blocks, Machines(1, 2, 2, daemons=0.5)).seconds == pytest.approx(alone / 1.5)
    assert simulate(blocks, Machines(1, 2, 1, daemons=0.5)).seconds == pytest.approx(alone)
    assert simulate(blocks, Machines(1, 2, 2, crowding=0.25)).seconds == pytest.approx(alone / 2 * 1.25)
    shared = simulate(blocks, Machines(1, 2, 4, crowding=0.25, sharing=0.1)).seconds
    assert shared == pytest.approx(alone / 2 * 1.25 * 1.1)
    assert simulate(blocks, Machines(2, 2, 2)).seconds == pytest.approx(alone / 4)
    assert simulate(blocks, Machines(1, 2, 2, threads=2)).seconds == pytest.approx(alone)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_more_workers_are_never_slower_but_for_what_waits_at_one(seed, workers):
    work = np.random.default_rng(seed).uniform(1, 9, 60)
    fewer, more = (simulate(corpus(*work), Machines(n)).seconds for n in (workers, workers + 1))
    # Longest blocks that may wait at a worker while another has none.
    assert more <= fewer + 2 * work.max()
    # Nobody beats a perfect division.
    assert more >= work.sum() / (workers + 1) - 1e-9
    assert more <= work.sum() / (workers + 1) + 3 * work.max()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 4), st.floats(1, 60), st.integers(1, 40))
def test_failures_neither_lose_a_block_nor_do_one_twice(seed, machines, workers, failures, pieces):
    work = np.random.default_rng(seed).uniform(1, 20, 40)
    outcome = simulate(
        corpus(*work),
        Machines(machines, workers, workers),
        costs=COSTS,
        hazards=Hazards(failures=failures, replacement=30, restart=60, seed=seed),
        rules=Rules(pieces=pieces),
    )
    assert (outcome.writes == 1).all()
    assert not np.isnan(outcome.written).any()
    assert outcome.written.max() == pytest.approx(outcome.seconds - COSTS.end)
    # What workers had under way is what was done and what was lost.
    assert outcome.busy - outcome.lost == pytest.approx(work.sum())
    assert (outcome.lost > 0) <= (outcome.failures > 0)


def test_what_a_failure_costs_is_what_was_under_way_and_the_way_back():
    # One machine, one failure within the second of four blocks of 100 s.
    seed = next(
        seed
        for seed in range(1000)
        if OVERHEAD + 100 < _failures(seed)[0] < OVERHEAD + 180 and _failures(seed)[1] > 2000
    )
    at = _failures(seed)[0]
    outcome = simulate(
        corpus(*[100] * 4), Machines(), costs=COSTS, hazards=Hazards(failures=2, replacement=50, seed=seed)
    )
    began = OVERHEAD - COSTS.end + 100
    assert outcome.failures == 1
    assert outcome.lost == pytest.approx(at - began)
    assert outcome.seconds == pytest.approx(OVERHEAD + 400 + (at - began) + 50 + COSTS.start)


def _failures(seed: int) -> tuple[float, float]:
    """When a machine that fails twice an hour does so first, and how long after that it does again."""
    random = np.random.default_rng(np.random.SeedSequence(seed).spawn(2)[1])
    return tuple(random.exponential(1800, 2))


def test_a_piece_that_is_at_too_many_deaths_ends_the_command_and_another_goes_on():
    hazards = Hazards(failures=40, replacement=5, restart=100, seed=3)
    patient, strict = (
        simulate(
            corpus(*[30] * 30), Machines(), costs=COSTS, hazards=hazards, rules=Rules(pieces=1, tries=tries)
        )
        for tries in (1000, 2)
    )
    assert patient.failures > 5
    assert patient.reruns == 0
    assert strict.reruns > 0
    assert (strict.writes == 1).all()
    with pytest.raises(ArithmeticError, match="never ends"):
        simulate(corpus(10_000.0), Machines(), hazards=Hazards(failures=60, replacement=1, restart=1))


def test_the_same_seed_gives_the_same_run_and_another_another():
    def run(seed):
        hazards = Hazards(spread=0.3, slow=0.2, slowdown=2, failures=5, replacement=20, seed=seed)
        return simulate(corpus(*[7] * 50), Machines(4, 2, 2), costs=COSTS, hazards=hazards)

    one, same, other = run(1), run(1), run(2)
    assert one.seconds == same.seconds
    assert (one.written == same.written).all()
    assert one.seconds != other.seconds


def test_a_model_comes_over_a_network_that_all_share():
    costs, blocks = Costs(model=100.0), corpus(*[1] * 64)
    for store, machines, seconds in (
        (Store(bandwidth=100), Machines(4, 1, 1), 4),
        (Store(bandwidth=1000, link=50), Machines(4, 1, 1), 2),
        (Store(bandwidth=1000, link=50), Machines(1, 4, 4), 8),
    ):
        first = simulate(blocks, machines, costs=costs, store=store).written.min()
        assert first == pytest.approx(seconds + 1)


def test_requests_and_bytes_of_blocks_are_waited_for():
    costs, store = Costs(requests=4), Store(latency=0.5, bandwidth=100)
    outcome = simulate(corpus(*[1] * 5, bytes_=10), Machines(), costs=costs, store=store)
    assert outcome.seconds == pytest.approx(5 * (1 + 4 * 0.5 + 20 / 100))


def test_modules_stay_as_long_as_there_is_room_and_the_least_used_leaves():
    work, store = [1.0] * 8, Store(disk=10)
    sorted_ = corpus(*work, modules=(1, 1, 1, 1, 2, 2, 2, 2))
    turns = corpus(*work, modules=(1, 2) * 4)
    mixed = corpus(*work, modules=(3,) * 8)
    for blocks, resident, misses in (
        (sorted_, 1, 2),
        (turns, 1, 8),
        (mixed, 1, 16),
        (turns, 2, 2),
        (mixed, 2, 2),
    ):
        outcome = simulate(blocks, Machines(), costs=Costs(module=20, resident=resident), store=store)
        assert outcome.misses == misses
        assert outcome.seconds == pytest.approx(8 + 2 * misses)


def test_a_driver_that_hands_out_one_piece_after_the_other_is_the_limit_at_last():
    blocks = corpus(*[1] * 400)
    few, many = (simulate(blocks, Machines(n), costs=Costs(dispatch=0.1)).seconds for n in (5, 100))
    assert few == pytest.approx(80, rel=0.05)
    assert many == pytest.approx(40, rel=0.1)


def test_pieces_are_what_bulk_makes_of_blocks_and_its_rules_are_these():
    from dragoman.bulk import cluster

    assert Rules() == Rules(cluster._TASKS, 2, cluster._TRIES, cluster._RESTARTS)
    assert cluster._bounds() == {"max_task_retries": Rules().tries, "max_restarts": Rules().restarts}

    class Data:
        @staticmethod
        def ActorPoolStrategy(**options):
            return options

    ray = type("Ray", (), {"data": Data})
    assert cluster._pool(ray, 3)["max_tasks_in_flight_per_actor"] == Rules().in_flight
    # Seven blocks in pieces of 3, 2 and 2. The third waits at the first worker, though the other has none.
    outcome = simulate(corpus(*[1] * 7), Machines(2), costs=Costs(dispatch=1e-7), rules=Rules(pieces=3))
    assert outcome.written == pytest.approx([1, 2, 3, 1, 2, 4, 5])


def test_a_drawn_corpus_has_all_sentences_and_the_cost_of_its_languages():
    languages = zipf([Language("de", 0.01, 50, 1, 0), Language("fr", 0.02, 60, 1, 1)], 1)
    for is_mixed in (False, True):
        drawn = draw(languages, 100_050, 100, is_mixed=is_mixed, spread=1, seed=1)
        assert drawn.total == 100_050
        assert drawn.rows.max() == 100
        assert drawn.work.sum() == pytest.approx(100_050 * (2 / 3 * 0.01 + 1 / 3 * 0.02), rel=0.02)
        assert drawn.bytes_in.sum() == pytest.approx(100_050 * (2 / 3 * 50 + 1 / 3 * 60), rel=0.02)
        assert set(drawn.modules) == ({3} if is_mixed else {1, 2})
    assert (draw(languages, 1000, 100, seed=1).work == draw(languages, 1000, 100, seed=1).work).all()


def test_speed_is_found_in_the_times_of_files_of_one_process():
    texts = {"de": ["x" * (5 + n % 40) for n in range(400)], "fr": ["y" * (9 + n % 23) for n in range(400)]}
    sample = even(texts, 400, 20)
    at, written = 3.0, {}
    for name, language, _, characters in sample.blocks():
        at += 0.05 + {"de": 0.001, "fr": 0.002}[language] * characters
        written[name] = at
    run = Run(at + 1, 2.0, written, 400, 10.0, {"workers": 11.0, "daemons": 2.0, "command": 1.0})
    speed = fit_speed(sample, [run])
    assert speed.block == pytest.approx(0.05)
    assert speed.character == pytest.approx({"de": 0.001, "fr": 0.002})
    assert speed.spread == pytest.approx(0, abs=1e-9)
    costs, daemons = fit_costs(sample, speed, [run])
    assert simulate(sample.corpus(speed, 400), Machines(), costs=costs).seconds == pytest.approx(run.seconds)
    assert daemons == pytest.approx(2.0 / run.seconds)


def test_what_neighbours_cost_is_found_in_processors_seconds():
    def run(seconds):
        return Run(9.0, 1.0, {}, 10, seconds)

    machine = fit_machine(2, 0.1, [run(10), run(30), run(10.0)], [run(11.0)], [run(9.0)])
    assert (machine.cores, machine.daemons) == (2, 0.1)
    assert machine.crowding == pytest.approx(0.1)
    assert machine.sharing == 0  # noise is no gain


def test_published_shapes_have_the_weights_that_they_are_named_after():
    for name, billions in (
        ("NLLB-600M", 0.615),
        ("NLLB-3.3B", 3.34),
        ("NLLB-MoE 54B", 54.5),
        ("X-ALMA", 13.0),
    ):
        assert MODELS[name].weights() / 1e9 == pytest.approx(billions, rel=0.005)
    small = MODELS["NLLB-600M"]
    fitted = Processor.fitted(small, "int8", (4, 0.0132), (64, 0.0521))
    assert fitted.step(small, 4, "int8") == pytest.approx(0.0132)
    assert fitted.step(small, 64, "int8") == pytest.approx(0.0521)
    assert fitted.step(small, 128, "int8") == pytest.approx(2 * 0.0521)


def test_experts_that_a_pass_needs_and_those_it_must_read():
    even = skew(8, 0)
    assert distinct(even, 1) == pytest.approx(2)
    assert distinct(even, 10_000) == pytest.approx(8)
    assert read_again(even, 3, 10_000) == pytest.approx(5)
    assert read_again(even, 8, 5) == 0
    assert hit_rate(even, 2) == pytest.approx(0.25)
    assert hit_rate(skew(8, 1), 2) > 0.5
    drawn = np.random.default_rng(0)
    # Two different ones a token, as a router takes them, against the formula.
    seen = [len({e for _ in range(6) for e in drawn.choice(8, 2, replace=False)}) for _ in range(2000)]
    assert distinct(even, 6) == pytest.approx(np.mean(seen), rel=0.02)
    model = MODELS["NLLB-MoE 54B"]
    assert exchanged(model, 100, 2) == 4 * 100 * 1 / 4 * 2048 * 4 * 6
    assert exchanged(model, 100, 1) == 0


def test_a_plan_and_its_hazards_come_of_what_was_measured(capsys):
    parser = argparse.ArgumentParser()
    planning.add_arguments(parser)
    args = parser.parse_args(["--sentences", "2e4", "--rows", "50", "--workers", "1,8"])
    planning.plan(args)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    one, eight = told["plan"]
    assert told["blocks"] == pytest.approx(400, abs=6)
    assert one["hours, calm"] > told["serial_hours"]
    assert one["hours, calm"] > eight["hours, calm"] > told["serial_hours"] / 8
    assert one["dollars"] == pytest.approx(one["machine hours"] * told["dollars_an_hour"], rel=1e-3)
    planning.hazards(args)
    changes = json.loads(capsys.readouterr().out.splitlines()[-1])["hazards"]
    assert changes[0]["against calm"] == 1
    assert len({change["what"] for change in changes}) == len(changes)
    assert max(changes, key=lambda change: change["modules read"])["what"].startswith("the same, modules")


def test_samples_have_no_line_of_the_other_half_and_the_blocks_of_bulk(tmp_path: Path):
    from dragoman.bulk.places import find_inputs
    from dragoman.bulk.plan import make_plan

    texts = {"de": [f"de {n}" for n in range(100)], "fr": [f"fr {n}" for n in range(100)]}
    one, other = halves(texts)
    assert not {line for lines in one.values() for line in lines} & {
        x for lines in other.values() for x in lines
    }
    sample = skewed(other, 90, 20)
    assert [len(lines) for lines in sample.lines.values()] == [60, 30]
    paths = sample.write(tmp_path / "in")
    found = find_inputs([str(path) for path in paths], None, str(tmp_path / "out"))
    planned = list(make_plan(found, 20, ["text"], ["translation"]).blocks())
    assert [(block.name, block.rows) for block in planned] == [
        (name, rows) for name, _, rows, _ in sample.blocks()
    ]


def test_a_rate_is_that_of_the_blocks_in_the_middle():
    times = np.array([1, 9, 10, 11, 12, 13, 14, 40.0])
    assert steady_rate(times[::-1], 80) == pytest.approx(10)
    assert math.isnan(steady_rate(np.array([4.0]), 30))
    assert Sample({}, 5).blocks() == []
