"""Pictures of experts, and the page that holds them."""

import re
import sys
from base64 import b64decode

import numpy as np
import pytest

from dragoman.errors import InvalidOption
from dragoman.evaluation.expert_charts import charts, need_matplotlib
from dragoman.evaluation.expert_page import page
from dragoman.evaluation.experts import ExpertStatistics, Routing, Side

PNG = b"\x89PNG\r\n\x1a\n"


def statistics(*codes: str, experts: int = 8) -> ExpertStatistics:
    random = np.random.default_rng(3)

    def side(*layers: int) -> Side:
        shape = (len(layers), experts)
        shares = (random.dirichlet(np.ones(experts), len(layers)) for _ in range(2 * len(codes)))
        routings = (Routing(1234, next(shares), next(shares), np.full(shape, 0.7)) for _ in codes)
        return Side(layers, experts, dict(zip(codes, routings, strict=True)))

    return ExpertStatistics("a <b> model", {"encoder": side(1, 3), "decoder": side(2)})


def test_there_is_a_picture_for_each_side_and_one_for_both() -> None:
    found = dict(charts(statistics("eng_Latn", "zho_Hans")))
    assert set(found) == {
        "encoder-experts.png",
        "encoder-similarity.png",
        "decoder-experts.png",
        "decoder-similarity.png",
        "load-balance.png",
    }
    assert all(picture.startswith(PNG) for picture in found.values())


def test_one_language_is_compared_with_none() -> None:
    found = dict(charts(statistics("eng_Latn")))
    assert set(found) == {"encoder-experts.png", "decoder-experts.png", "load-balance.png"}


def test_many_languages_and_experts_stay_a_picture_of_bounded_size() -> None:
    from dragoman.languages import nllb_codes

    found = dict(charts(statistics(*nllb_codes()[:45], experts=40)))
    for picture in found.values():
        width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
        assert width < 3000
        assert height < 3000


def test_the_page_holds_its_pictures_and_figures_and_needs_nothing_else() -> None:
    found = statistics("eng_Latn", "fra_Latn")
    html = page(found, pictures := dict(charts(found)))
    inlined = [b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', html)]
    assert sorted(inlined) == sorted(pictures.values())
    assert not re.findall(r"https?://|<script|<link", html)
    assert "Experts of a &lt;b&gt; model" in html
    assert "French <small>fra_Latn</small>" in html
    assert "1,234" in html
    best = int(found.sides["decoder"].languages["fra_Latn"].importance[0].argmax())
    assert f"<td><b>{best}</b>" in html


def test_without_matplotlib_there_is_a_word_on_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InvalidOption, match=r"pip install 'dragoman\[training\]'"):
        need_matplotlib()
