"""The web page in a real Chromium, where there is one."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman.checkpoints.catalog import find_card
from dragoman.text.checks import Finding
from dragoman.translation import attempts
from tests.server.browser import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
HEBREW = "בוקר טוב! איפה תחנת הרכבת? אני רוצה לקנות כרטיס לעיר העתיקה (3 ימים)."
TEXT = "Where is the station? I would like to buy a ticket."
LISTED = f"document.querySelectorAll('#target-language option').length === {len(find_card('mini').languages)}"
SIZES = [(360, "light"), (360, "dark"), (1280, "light"), (1280, "dark")]
AXE = os.environ.get("DRAGOMAN_AXE")
PICTURES = os.environ.get("DRAGOMAN_PICTURES")


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser, server) -> Iterator[Browser]:
    """The page as somebody sees it who comes for the first time; nothing may go wrong in it."""
    browser.size(1280, 900)
    browser.open(server.url)
    browser.run("localStorage.clear(); sessionStorage.clear()")
    browser.open(server.url)
    browser.until(LISTED)
    yield browser
    assert not browser.complaints


def output(page: Browser, text: str) -> None:
    page.until(f"document.getElementById('target').textContent === {text!r}")


def choose(page: Browser, selector: str, value: str) -> None:
    fill(page, selector, value, "change")


def fill(page: Browser, selector: str, value: str, event: str) -> None:
    """Give a field a value, and have its page told."""
    change = f"e.value = '{value}'; e.dispatchEvent(new Event('{event}'))"
    page.run(f"(e => {{ {change} }})(document.querySelector('{selector}'))")


def look(page: Browser, state: str, sizes: list[tuple[int, str]] = SIZES) -> None:
    """No sideways scrolling; nothing too small for a finger; no violation that axe knows, where axe is."""
    for width, theme in sizes:
        page.size(width, 900, theme)
        if PICTURES:
            page.picture(Path(PICTURES) / f"page-{state}-{width}-{theme}.png")
        assert page.run("document.documentElement.scrollWidth") <= width
        small = (
            "[...document.querySelectorAll('main button, main select')]"
            ".filter(e => e.offsetParent && e.getBoundingClientRect().height < 24).length"
        )
        assert page.run(small) == 0
        nameless = (
            "[...document.querySelectorAll('button, select, textarea, input')].filter(e => !e.labels?.length"
            " && !e.getAttribute('aria-label') && !e.textContent.trim()).map(e => e.id)"
        )
        assert page.run(nameless) == []
        if AXE:
            axe = Path(AXE).read_text(encoding="utf-8")
            page.call("Runtime.evaluate", expression=axe)
            found = page.run(
                "axe.run().then(r => [r.passes.length, r.violations.map(v => v.id + v.nodes[0].html)])"
            )
            assert found[0] > 10
            assert found[1] == []


def test_a_text_is_translated_as_it_is_typed(page, translator):
    choose(page, "#target-language", "fra_Latn")
    page.type("#source", TEXT)
    output(page, translator.translate(TEXT, "en", "fr"))
    assert (
        page.run("document.querySelector('#source-language').selectedOptions[0].text") == "Detected: English"
    )
    assert page.run("document.getElementById('target').lang") == "fr"
    assert page.run("document.getElementById('said').textContent") == "Translated to French."
    assert page.run("document.getElementById('count').textContent").startswith(f"{len(TEXT)} /")


def test_nothing_is_asked_of_other_servers_and_the_policy_is_strict(page, server):
    page.type("#source", "Yes.")
    page.until("document.getElementById('target').textContent")
    assert page.requests
    assert all(url.startswith((server.url, "data:")) for url in page.requests)
    page.run(
        "let s = document.createElement('script'); s.textContent = 'window.x = 1'; document.body.append(s)"
    )
    assert page.run("window.x") is None
    page.events.clear()


def test_a_text_of_one_sentence_has_other_translations(page):
    choose(page, "#target-language", "fra_Latn")
    page.type("#source", "Good luck!")
    page.until("document.querySelectorAll('#alternatives li').length > 0")


def test_languages_are_swapped_by_a_key(page, translator):
    choose(page, "#target-language", "deu_Latn")
    page.type("#source", "Good morning!")
    made = translator.translate("Good morning!", "en", "de")
    output(page, made)
    page.press("s", "KeyS", 83, modifiers=1)
    assert page.run("document.getElementById('source').value") == made
    assert page.run("document.getElementById('source-language').value") == "deu_Latn"
    output(page, translator.translate(made, "de", "en"))


def test_what_is_typed_is_text_and_never_markup(page):
    page.type("#source", "<img src=x onerror=alert(1)> Hello <b>you</b>")
    page.until("document.getElementById('target').textContent")
    assert page.run("document.querySelectorAll('#target *, #history img, #history b').length") == 0


def test_a_file_is_translated_and_can_be_saved(page, translator, tmp_path):
    choose(page, "#target-language", "fra_Latn")
    file = tmp_path / "notes.txt"
    file.write_text(TEXT)
    page.choose_file("#file", file)
    page.until("document.querySelector('#files button')?.textContent === 'Save'")
    assert "done: 1 segment" in page.run("document.querySelector('#files .name').textContent")
    script = "fetch('v1/documents').then(r => r.json()).then(r => r.documents[0].id)"
    id = page.run(script)
    made = page.run(f"fetch('v1/documents/{id}/result').then(r => r.text())")
    assert made == translator.translate(TEXT, "en", "fr")
    page.run("document.querySelector('#files button:last-of-type').click()")
    page.until("!document.querySelector('#files li')")


def test_files_of_this_tab_are_still_there_when_the_page_is_loaded_again(page, server, tmp_path):
    files = [tmp_path / name for name in ("a.txt", "b.txt")]
    for file in files:
        file.write_text("Yes.")
    page.choose_file("#file", *files)
    page.until("document.querySelectorAll('#files .actions button:first-child').length === 2")
    page.until("[...document.querySelectorAll('#files .actions')].every(e => e.textContent === 'SaveRemove')")
    page.open(server.url)
    page.until("document.querySelectorAll('#files li').length === 2")
    page.until("[...document.querySelectorAll('#files .actions')].every(e => e.textContent === 'SaveRemove')")
    page.run("document.querySelectorAll('#files button:last-child').forEach(each => each.click())")
    page.until("sessionStorage.getItem('dragoman.files') === '[]'")
    page.open(server.url)
    page.until(LISTED)
    assert page.run("document.querySelectorAll('#files li').length") == 0


def test_a_glossary_is_written_chosen_changed_and_forgotten(page, server, translator):
    choose(page, "#target-language", "fra_Latn")
    page.run("document.getElementById('glossary-new').click()")
    choose(page, "#glossary-source", "eng_Latn")
    page.type("#glossary-name", "<b>Trains</b>")
    page.type("#glossary-entries", "station = Dragonia\nticket\tBillettus\n\nDragoman\n")
    page.run("document.querySelector('#glossary-form button').click()")
    page.until("document.getElementById('glossary').selectedOptions[0].text.startsWith('<b>Trains</b>')")
    (kept,) = server.get("/v1/glossaries").json()["glossaries"]
    assert server.get(f"/v1/glossaries/{kept['id']}").json()["entries"] == {
        "station": "Dragonia",
        "ticket": "Billettus",
        "Dragoman": "Dragoman",
    }
    page.type("#source", TEXT)
    page.until("document.getElementById('target').textContent.includes('Dragonia')")
    page.run("document.getElementById('glossary-edit').click()")
    page.until("!document.getElementById('glossary-form').hidden")
    fill(page, "#glossary-entries", "", "input")
    page.type("#glossary-entries", "station = " + "x" * 300)
    page.run("document.querySelector('#glossary-form button').click()")
    page.until("!document.getElementById('glossary-error').hidden")
    page.events.clear()  # the refused request is an error in the log
    fill(page, "#glossary-entries", "", "input")
    page.type("#glossary-entries", "station = Drakonia")
    page.run("document.querySelector('#glossary-form button').click()")
    page.until("document.getElementById('target').textContent.includes('Drakonia')")
    choose(page, "#target-language", "deu_Latn")
    assert page.run("document.getElementById('glossary').options.length") == 1
    choose(page, "#target-language", "fra_Latn")
    page.until("document.getElementById('target').textContent.includes('Drakonia')")
    page.run("document.getElementById('glossary-edit').click()")
    page.until("!document.getElementById('glossary-form').hidden")
    page.run("document.getElementById('glossary-delete').click()")
    output(page, translator.translate(TEXT, "en", "fr"))
    assert server.get("/v1/glossaries").json() == {"glossaries": []}


def test_what_comes_from_a_memory_says_so(browser, serve, tmp_path):
    from dragoman.translation.memory import TranslationMemory
    from dragoman.translation.tmx import Unit

    with TranslationMemory(tmp_path / "memory.sqlite") as memory:
        memory.add([Unit("Yes.", "Mais oui !", "eng_Latn", "fra_Latn")])
    browser.open(serve(tm=tmp_path / "memory.sqlite").url)
    browser.until(LISTED)
    choose(browser, "#target-language", "fra_Latn")
    choose(browser, "#source-language", "eng_Latn")
    browser.type("#source", "Yes.")
    output(browser, "Mais oui !")
    assert browser.run("document.getElementById('origin').textContent") == "from the translation memory"
    browser.run("localStorage.clear()")


def test_a_file_is_saved_under_its_name_in_any_script(page, tmp_path):
    file = tmp_path / "записки.txt"
    file.write_text("Yes.")
    page.choose_file("#file", file)
    page.until("document.querySelector('#files button')?.textContent === 'Save'")
    page.run("HTMLAnchorElement.prototype.click = function () { window.name = this.download }")
    page.run("document.querySelector('#files button').click()")
    page.until("window.name")
    assert page.run("window.name").startswith("записки.")
    page.run("window.name = ''")


def test_a_file_that_is_none_says_so(page, tmp_path):
    file = tmp_path / "notes.exe"
    file.write_bytes(b"MZ")
    page.choose_file("#file", file)
    page.until("!document.getElementById('error').hidden")
    assert "notes.exe" in page.run("document.getElementById('error').textContent")
    page.events.clear()  # the refused request is an error in the log


def test_the_history_is_in_the_browser_and_can_be_forgotten(page, server):
    page.type("#source", "Good evening!")
    page.until("document.querySelectorAll('#history li').length === 1")
    page.open(server.url)
    page.until("document.querySelectorAll('#history li').length === 1")
    page.run("document.querySelector('#history button').click()")
    assert page.run("document.getElementById('source').value") == "Good evening!"
    page.run("document.getElementById('remember').click()")
    assert page.run("localStorage.getItem('dragoman.history')") is None
    assert page.run("document.querySelectorAll('#history li').length") == 0


def test_the_model_and_its_licence_are_shown(page, translator):
    assert translator.card.licence in page.run("document.getElementById('licence').textContent")


def test_a_server_that_asks_for_a_key_gets_one(browser, serve, tmp_path):
    from dragoman.server.keys import KeyFile

    keys = KeyFile(tmp_path / "keys.json")
    key = keys.add("anna")
    served = serve(keys=keys.path)
    browser.size(1280, 900)
    browser.open(served.url)
    browser.until("!document.getElementById('key-form').hidden")
    assert browser.run("document.getElementById('error').hidden")
    look(browser, "key")
    browser.type("#key", "wrong")
    browser.run("document.querySelector('#key-form button').click()")
    browser.until("!document.getElementById('error').hidden")
    browser.run("document.getElementById('key').value = ''")
    browser.type("#key", key)
    browser.run("document.querySelector('#key-form button').click()")
    browser.until(LISTED)
    assert browser.run("document.getElementById('key-form').hidden")
    assert key not in browser.run("JSON.stringify(localStorage)")
    browser.type("#source", "Yes.")
    browser.until("document.getElementById('target').textContent")
    (tmp_path / "a.txt").write_text("Yes.")
    browser.choose_file("#file", tmp_path / "a.txt")
    browser.until("document.querySelector('#files button')?.textContent === 'Save'")
    assert browser.run("document.querySelectorAll('#files li').length") == 1


def test_what_is_written_from_right_to_left_is_shown_so(browser, serve, translator):
    """A model that speaks Hebrew, as far as the page knows."""
    from types import SimpleNamespace

    from dragoman.languages import find

    card = SimpleNamespace(licence="CC-BY-NC-4.0 (non-commercial)", pivot=None)
    system = SimpleNamespace(precision="fp32", engine=SimpleNamespace(busy=False), may_wait=False)
    speaks = SimpleNamespace(card=card, system=system, fingerprint="0", defaults={})
    speaks.languages = (find("he"), find("en"))
    served = serve(models={"hebrew": speaks, "mini": translator})
    browser.size(1280, 900)
    browser.open(served.url)
    count = 1 + len(translator.languages)
    browser.until(f"document.querySelectorAll('#target-language option').length === {count}")
    choose(browser, "#target-language", "heb_Hebr")
    browser.until("document.getElementById('target').dir === 'rtl'")
    events = "event: translation\\ndata: {}\\n\\nevent: done\\ndata: {{}}\\n\\n"
    made = {"text": HEBREW, "source": "heb_Hebr", "target": "heb_Hebr", "warnings": [], "detected": None}
    made |= {"alternatives": [], "translations": []}
    answer = events.format(json.dumps(json.dumps(made))[1:-1].replace("'", ""))
    browser.run(f"window.fetch = async () => new Response('{answer}')")
    browser.type("#source", HEBREW)
    output(browser, HEBREW)
    browser.run("document.querySelector('details').open = true")
    look(browser, "hebrew")
    browser.run("document.querySelector('details').open = false")
    assert browser.run("document.getElementById('target').lang") == "he"
    assert not browser.run("document.getElementById('model-label').hidden")
    assert "not for commercial use" in browser.run("document.getElementById('licence').textContent")
    choose(browser, "#model", "mini")
    assert "commercial" not in browser.run("document.getElementById('licence').textContent")
    browser.run("localStorage.clear()")


def test_it_fits_and_everybody_can_use_it_whatever_is_in_it(page, server, tmp_path, monkeypatch):
    # However well the model keeps what it should.
    lost = Finding("markup", "%(name)s is not there")
    monkeypatch.setattr(attempts, "check", lambda text, *rest: (lost,) if "%(name)s" in text else ())
    for state, text in {"empty": "", "text": TEXT, "warned": "Hello %(name)s, how are you?"}.items():
        fill(page, "#source", "", "input")
        page.until("!document.getElementById('target').textContent")
        if text:
            page.type("#source", text)
            page.until("document.getElementById('target').textContent")
            page.until("document.getElementById('target').getAttribute('aria-busy') === 'false'")
        assert (state == "warned") == page.run("!document.getElementById('warnings').hidden")
        look(page, state)
    fill(page, "#source", "Good luck!", "input")
    page.until("!document.getElementById('target').textContent.includes('Hallo')")
    page.until("document.querySelectorAll('#alternatives li').length > 0")
    look(page, "alternatives")
    page.run("document.getElementById('glossary-new').click()")
    page.type("#glossary-name", "Trains and all that runs on rails")
    page.type("#glossary-entries", "station = Hauptbahnhof\nticket = Fahrkarte\nDragoman")
    look(page, "glossary")
    page.type("#glossary-entries", "Fahrkarte" * 40)
    page.run("document.querySelector('#glossary-form button').click()")
    page.until("!document.getElementById('glossary-error').hidden")
    look(page, "refused")
    page.run("document.getElementById('glossary-cancel').click()")
    files = [
        tmp_path / name for name in ("notes.txt", "broken.docx", f"{'a-long-name-' * 8}.md", "notes.exe")
    ]
    for file in files:
        file.write_text("Yes.")
    page.choose_file("#file", *files)
    page.until("document.querySelectorAll('#files button:last-child').length === 3")
    page.until(
        "[...document.querySelectorAll('#files button:last-child')].every(e => e.textContent === 'Remove')"
    )
    running = '{"status": "translating", "progress": 0.42, "seconds_left": 12}'
    page.run(f"window.fetch = async () => new Response('{running}')")
    page.choose_file("#file", files[0])
    page.until("document.querySelector('#files .name').textContent.includes('42 %, about 12 s left')")
    page.until("!document.getElementById('error').hidden")
    look(page, "files")
    page.events.clear()  # what was refused is an error in the log


def test_the_apis_are_described_without_help_from_elsewhere(page, server):
    page.open(f"{server.url}/docs")
    page.until("document.querySelectorAll('h3').length > 15")
    assert page.run("document.querySelectorAll('section').length") >= 5
    look(page, "docs", SIZES[:1] + SIZES[3:])
    assert all(url.startswith(server.url) for url in page.requests)
