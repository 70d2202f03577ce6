"""How a server is set up, and what it refuses to be."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from dragoman.checkpoints.catalog import find_card
from dragoman.errors import InvalidOption
from dragoman.server import running
from dragoman.server.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def no_keys(monkeypatch, tmp_path) -> None:
    """The keys of whoever runs the tests are left alone."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    for name in ("DRAGOMAN_MODEL", "DRAGOMAN_KEYS"):
        monkeypatch.delenv(name, raising=False)


def test_the_environment_goes_over_the_file_and_the_command_line_over_both(tmp_path):
    file = tmp_path / "server.toml"
    file.write_text('port = 1\nhost = "::1"\nmodel = ["a", "b"]\ntimeout = 5\nkeys = "k.json"\n')
    environment = {"DRAGOMAN_PORT": "2", "DRAGOMAN_HOSTS": "a.org, b.org", "DRAGOMAN_WEB": "no"}
    settings = read_settings(file, environment, {"port": 3, "log": None})
    assert (settings.port, settings.host, settings.hosts) == (3, "::1", ("a.org", "b.org"))
    assert settings.model == ("a", "b")
    assert settings.timeout == 5.0
    assert settings.web is False
    assert settings.keys == tmp_path / "k.json"
    assert read_settings(file, environment, {}).port == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prot = 1", "do you mean 'port'"),
        ('port = "1"', "whole number"),
        ("port = true", "whole number"),
        ("port = 99999", "from 0 to"),
        ("timeout = nan", "timeout"),
        ("web = 1", "true or false"),
        ("model = [1]", "list of strings"),
        ("model = []", "name one"),
        ('log = "loud"', "debug"),
        ('max_json = "huge"', "size"),
        ('proxies = ["10.0.0.1/8"]', "10.0.0.1/8"),
        ('proxies = ["example.org"]', "no address"),
        ("port =", "no TOML"),
    ],
)
def test_a_file_that_says_nonsense_is_refused(tmp_path, text, message):
    (tmp_path / "server.toml").write_text(text)
    with pytest.raises(InvalidOption, match=message):
        read_settings(tmp_path / "server.toml", {}, {})


@pytest.mark.parametrize("value", ["x", "1.5", ""])
def test_an_environment_that_says_nonsense_is_refused(value):
    if value:
        with pytest.raises(InvalidOption, match="DRAGOMAN_PORT"):
            read_settings(None, {"DRAGOMAN_PORT": value}, {})
    else:
        assert read_settings(None, {"DRAGOMAN_PORT": value}, {}).port == 5000


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.1", False),
        ("example.org", False),
    ],
)
def test_which_addresses_are_loopback(host, loopback):
    assert Settings(host=host).is_loopback == loopback


def test_an_address_for_others_needs_keys_or_permission(tmp_path):
    with pytest.raises(InvalidOption, match="dragoman keys add"):
        running.key_file(Settings(host="0.0.0.0"))
    assert running.key_file(Settings(host="0.0.0.0", allow_open=True)) is None
    assert running.key_file(Settings()) is None
    (tmp_path / "keys.json").write_text("{}")
    assert running.key_file(Settings(host="0.0.0.0", keys=tmp_path / "keys.json")) is not None


def test_a_file_of_keys_that_is_not_there_lets_nobody_in(tmp_path):
    found = running.key_file(Settings(keys=tmp_path / "lost.json"))
    assert found is not None
    assert found.find("any") is None


def test_models_are_called_by_their_last_name_or_as_is_said():
    settings = Settings(model=("mini", "facebook/nllb-200-3.3B", "big=/models/x-alma/"))
    assert running.model_names(settings) == {
        "mini": "mini",
        "nllb-200-3.3B": "facebook/nllb-200-3.3B",
        "big": "/models/x-alma/",
    }
    with pytest.raises(InvalidOption, match="two models"):
        running.model_names(Settings(model=("a/mini", "mini")))
    with pytest.raises(InvalidOption, match="NAME=MODEL"):
        running.model_names(Settings(model=("=mini",)))


def test_a_check_says_what_the_settings_come_to(dragoman, tmp_path):
    memory = tmp_path / "memory.tmx"
    memory.write_text('<tmx version="1.4"><header srclang="en"/><body/></tmx>')
    more = ("--tm", memory, "--traces", "http://127.0.0.1:1/v1/traces")
    result = dragoman("serve", "--check", "--port", "5001", "--route", "en-fr=mini", *more)
    assert result.code == 0
    assert "translation memory: 0 units" in result.out
    assert "traces: http://127.0.0.1:1" in result.out
    assert f"model mini: {len(find_card('mini').languages)} languages" in result.out
    assert "route en-fr=mini" in result.out
    assert "http://127.0.0.1:5001" in result.out


@pytest.mark.skipif(find_spec("ray") is None, reason="needs Ray")
def test_a_check_says_how_many_replicas_there_are(dragoman):
    result = dragoman("serve", "--check", "--cluster", "auto", "--replicas", 2, "--most-replicas", 5)
    assert "cluster auto: 2 to 5 replicas" in result.out
    result = dragoman("serve", "--check", "--cluster", "auto", "--port", 0)
    assert (result.code, "port is 0" in result.err) == (2, True)


def test_a_check_misses_ray(monkeypatch):
    monkeypatch.setattr("dragoman.cluster.find_spec", lambda name: None)
    with pytest.raises(InvalidOption, match=r"pip install 'dragoman\[cluster\]'"):
        running.check(Settings(cluster="auto"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--host", "0.0.0.0"), "--allow-open"),
        (("--route", "en-fr=other"), "no model 'other'"),
        (("--model", "no-such-model"), "no-such-model"),
        (("--port", "-1"), "port is -1"),
        (("--replicas", "3", "--most-replicas", "2"), "most_replicas is 2"),
        (("--tm", "lost.sqlite"), "lost.sqlite is not there"),
        (("--config", "/no/such/file.toml"), "can't be read"),
    ],
)
def test_a_check_finds_what_is_wrong(dragoman, args, message):
    result = dragoman("serve", "--check", *args)
    assert result.code == 2
    assert message in result.err


def test_settings_are_all_documented():
    page = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
    for name in Settings.__dataclass_fields__:
        assert f"`{name}`" in page, name
