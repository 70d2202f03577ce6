"""Small requests, which the event loop works on itself: what they may not do there."""

import asyncio

from dragoman.errors import DragomanError
from dragoman.server import state as states
from dragoman.server.keys import KeyFile
from dragoman.systems.modules import LanguageModules
from dragoman.translation.translator import Translator
from tests.server.waiting import wait_until


def test_a_language_module_is_never_read_by_the_event_loop(serve, combined, monkeypatch):
    readers = []
    lend = LanguageModules.lend

    def noted(self, job):
        readers.append(asyncio._get_running_loop())
        return lend(self, job)

    monkeypatch.setattr(LanguageModules, "lend", noted)
    with Translator.load(combined, device="cpu") as translator:
        served = serve(models={"x-alma": translator})
        assert wait_until(lambda: served.state.is_warm)
        body = {"text": "Hello.", "source": "en", "target": "zh", "max_new_tokens": 3}
        assert served.post("/v1/translate", body).status_code == 200
        assert readers == [None]  # in no event loop's thread


def test_what_fails_half_way_costs_nothing(serve, tmp_path, monkeypatch):
    path = tmp_path / "keys.json"
    key = KeyFile(path).add("anna", characters_per_month=1000)
    served = serve(keys=path)
    assert wait_until(lambda: served.state.is_warm)
    made = states.made

    async def failing(*args):
        async for result in made(*args):
            yield result
            raise DragomanError("no more")

    monkeypatch.setattr(states, "made", failing)
    headers = {"Authorization": f"DeepL-Auth-Key {key}"}
    body = {"text": ["Good night.", "Thank you."], "source_lang": "EN", "target_lang": "DE"}
    assert served.post("/v2/translate", body, headers=headers).status_code >= 400
    assert served.get("/v2/usage", headers=headers).json()["character_count"] == 0
    monkeypatch.undo()
    assert served.post("/v2/translate", body, headers=headers).status_code == 200
    assert served.get("/v2/usage", headers=headers).json()["character_count"] == 21
