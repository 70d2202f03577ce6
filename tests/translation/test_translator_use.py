"""A translator in use: timeouts, interruptions, asyncio, pickles, loading and options."""

import asyncio
import copy
import json
import pickle
import signal
import threading
from pathlib import Path

import pytest

from dragoman.checkpoints.catalog import CARD, embedded_folder
from dragoman.errors import (
    CheckpointError,
    ConfigError,
    InvalidOption,
    TranslationTimeout,
)
from dragoman.kernels.threads import set_threads, threads
from dragoman.translation.translator import Translator

pytestmark = pytest.mark.usefixtures("one_thread")


LONG = [f"I would like to have {number} very big houses in the south of France." for number in range(80)]


def test_a_timeout_ends_a_translation_and_frees_the_engine(translator):
    with pytest.raises(TranslationTimeout):
        translator.translate(LONG, "en", "fr", timeout=0.01)
    assert not translator.system.engine.busy


@pytest.mark.usefixtures("no_collection")
def test_what_a_signal_handler_raises_comes_through_at_once(translator):
    class Stop(Exception):
        pass

    def handler(*_):
        raise Stop

    def alarm():
        while not translator.system.engine.busy:
            threading.Event().wait(0.01)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    watcher = threading.Thread(target=alarm)
    watcher.start()
    try:
        with pytest.raises(Stop):
            translator.translate(LONG, "en", "fr")
    finally:
        watcher.join()
        signal.signal(signal.SIGUSR1, before)
    assert not translator.system.engine.busy


def test_a_run_is_read_without_waiting_by_who_is_told_its_news(translator):
    texts, made, news = ["Good night.", "I am tired. Where is the station?"], [], threading.Event()
    run = translator.run("en", "fr", news=news.set)
    for step in run.steps(texts):
        if step is not None:
            made.append(step.text)
            continue
        while not run.pipeline.look():
            assert news.wait(300)
            news.clear()
    assert made == translator.translate(texts, "en", "fr")


def test_asyncio_translates_beside_other_tasks(translator):
    async def work():
        return await asyncio.gather(
            translator.translate_async("Good night.", "en", "fr"),
            translator.translate_async(["Good night.", "I am tired."], "en", "de"),
        )

    assert asyncio.run(work()) == [
        translator.translate("Good night.", "en", "fr"),
        translator.translate(["Good night.", "I am tired."], "en", "de"),
    ]


def test_cancelling_an_asyncio_translation_frees_the_engine(translator):
    engine = translator.system.engine

    async def work():
        task = asyncio.create_task(translator.translate_async(LONG, "en", "fr"))
        while not engine.busy:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())  # waits for the thread
    assert not engine.busy


def test_a_pickle_or_copy_is_loaded_as_the_original_was():
    translator = Translator.load(device="cpu", precision="int8")
    for copied in (pickle.loads(pickle.dumps(translator)), copy.deepcopy(translator)):
        assert copied.system is not translator.system
        assert copied.system.precision == "int8"
        assert copied.translate("Good night.", "en", "fr") == translator.translate("Good night.", "en", "fr")


def test_a_pickle_of_a_relative_folder_can_be_read_elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(embedded_folder().parent)
    pickled = pickle.dumps(Translator.load("mini", device="cpu"))
    again = pickle.dumps(Translator.load(Path("./mini"), device="cpu"))
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickled).card == pickle.loads(again).card


def test_a_translator_of_a_system_that_was_made_by_hand_is_not_pickled(translator):
    with pytest.raises(TypeError, match="how it was loaded"):
        pickle.dumps(Translator(translator.system))


def test_a_translator_says_what_it_is(translator):
    languages = len(translator.card.languages)
    assert repr(translator) == f"<Translator: mini, {languages} languages, {translator.system.precision}>"


def test_a_closed_translator_translates_no_more():
    with Translator.load(device="cpu") as translator:
        translator.translate("Good night.", "en", "fr")
    with pytest.raises(RuntimeError, match="closed"):
        translator.translate("Good night.", "en", "fr")


def test_loading_refuses_options_that_it_does_not_know():
    with pytest.raises(InvalidOption, match="do you mean 'precision'"):
        Translator.load(precison="int8")


def test_target_is_english_unless_said_otherwise(translator):
    assert translator.translate("Ich bin müde.", "de") == translator.translate("Ich bin müde.", "de", "en")


@pytest.mark.parametrize(
    "options",
    [{"beams": 0}, {"beams": 2.5}, {"beam": 4}, {"temperature": 0}, {"n_best": 9}, {"batch_size": 0}],
)
def test_bad_options_are_errors(translator, options):
    with pytest.raises(InvalidOption):
        translator.translate("Hello.", "en", "fr", **options)


def test_progress_counts_every_sentence(translator):
    seen = []
    list(
        translator.stream(
            ["One dog. Two dogs.", "Three dogs.", "7"], "en", "fr", progress=lambda *c: seen.append(c)
        )
    )
    assert seen[-1] == (4, 4)
    assert seen == sorted(seen)


def test_folder_that_is_no_model_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json"):
        Translator.load(tmp_path)
    with pytest.raises(CheckpointError, match="no folder and no model"):
        Translator.load("no-such-model")
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(CheckpointError, match="is a file"):
        Translator.load(file)


def test_threads_are_those_of_kernels_and_pytorch():
    torch = pytest.importorskip("torch")
    try:
        Translator.load(device="cpu", threads=1)
        assert (threads(), torch.get_num_threads()) == (1, 1)
        Translator.load(device="cpu", threads=3)
        assert (threads(), torch.get_num_threads()) == (3, 3)
        with pytest.raises(InvalidOption, match="threads is 0"):
            Translator.load(device="cpu", threads=0)
    finally:
        set_threads(None)


def test_what_the_models_card_says_of_generation_holds_where_the_caller_says_nothing(tmp_path):
    for file in embedded_folder().iterdir():
        if file.name != CARD:
            (tmp_path / file.name).symlink_to(file)
    card = json.loads((embedded_folder() / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "generation": {"beams": 2, "n_best": 2}}))
    translator = Translator.load(tmp_path, device="cpu")
    (two,) = translator.stream(["Good night."], "en", "fr")
    (one,) = translator.stream(["Good night."], "en", "fr", n_best=1)
    assert [len(result.sentences[0].candidates) for result in (two, one)] == [2, 1]
    (tmp_path / CARD).write_text(json.dumps({**card, "generation": {"beam": 2}}))
    with pytest.raises(ConfigError, match="do you mean 'beams'"):
        Translator.load(tmp_path, device="cpu")
