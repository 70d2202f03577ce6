"""The warning about releases of transformers that nobody tried."""

import warnings

import pytest

from dragoman.huggingface import releases

DECLARED = ["numpy>=2", 'transformers<5.25,>=5.23; extra == "huggingface"', "peft"]


@pytest.mark.parametrize("installed", ["5.23.0", "5.24.0", "5.24.7"])
def test_release_in_the_declared_range_says_nothing(installed: str) -> None:
    assert releases.untried_release(installed, DECLARED) is None


@pytest.mark.parametrize("installed", ["5.22.1", "5.25.0", "6.0.0"])
def test_release_outside_is_named_with_the_range(installed: str) -> None:
    message = releases.untried_release(installed, DECLARED)
    assert message is not None
    assert "\n" not in message
    assert installed in message
    assert "transformers<5.25,>=5.23" in message


def test_package_that_asks_for_no_transformers_says_nothing() -> None:
    assert releases.untried_release("9.0", ["numpy"]) is None


def test_warning_is_given_once_for_the_installed_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases.metadata, "requires", lambda _: ["transformers<2"])
    with pytest.warns(UserWarning, match="transformers<2") as said:
        releases.warn_of_untried_release()
    assert len(said) == 1


def test_source_without_an_installation_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise releases.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(releases.metadata, "requires", missing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        releases.warn_of_untried_release()
