"""API keys: made, found, limited, revoked."""

import json
import stat

import pytest

from dragoman.errors import InvalidOption
from dragoman.server.faults import Fault
from dragoman.server.keys import Key, KeyFile
from dragoman.server.metering import Meter


@pytest.fixture
def keys(tmp_path) -> KeyFile:
    return KeyFile(tmp_path / "own" / "keys.json")


def test_a_key_is_kept_as_a_hash_in_a_file_of_its_owner(keys):
    key = keys.add("anna", requests_per_minute=5)
    text = keys.path.read_text()
    assert key not in text
    assert len(key) > 40
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    found = KeyFile(keys.path).find(key)
    assert (found.name, found.requests_per_minute) == ("anna", 5)
    assert keys.find(key + "x") is None
    assert keys.find("\ud800") is None


def test_a_file_that_has_changed_is_read_again(keys):
    key = keys.add("anna")
    other = KeyFile(keys.path)
    assert other.find(key)
    keys.revoke("anna")
    assert other.find(key) is None


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 65, "a\n"])
def test_a_name_that_could_be_anything_else_is_refused(keys, name):
    with pytest.raises(InvalidOption):
        keys.add(name)


def test_names_are_there_once_and_revoked_by_name(keys):
    keys.add("anna")
    with pytest.raises(InvalidOption, match="already"):
        keys.add("anna")
    with pytest.raises(InvalidOption, match="the names are: anna"):
        keys.revoke("otto")
    with pytest.raises(InvalidOption, match="requests_per_minute is 0"):
        keys.add("otto", requests_per_minute=0)


@pytest.mark.parametrize("text", ["[]", "{", '{"anna": {}}', '{"anna": {"digest": "1"}}', '{"a": {"x": 1}}'])
def test_a_broken_file_lets_nobody_in(keys, text):
    keys.path.parent.mkdir()
    keys.path.write_text(text)
    with pytest.raises(InvalidOption, match="holds no API keys"):
        keys.all()


def test_a_key_may_have_so_many_requests_and_characters_in_a_minute():
    meter = Meter(None)
    key = Key("anna", "", requests_per_minute=2, characters_per_minute=100)
    meter.take(key, 90)
    with pytest.raises(Fault) as caught:
        meter.take(key, 11)
    assert caught.value.status == 429
    assert 50 < caught.value.retry_after <= 60
    meter.take(key, 10)
    with pytest.raises(Fault):
        meter.take(key, 0)
    meter.take(Key("otto", "", requests_per_minute=1), 10**6)


def test_the_month_is_remembered_by_the_next_process(tmp_path):
    key = Key("anna", "", characters_per_month=100)
    meter = Meter(tmp_path / "usage.json")
    meter.take(key, 60)
    meter.give_back(key, 10)
    meter.save()
    meter = Meter(tmp_path / "usage.json")
    assert meter.used(key) == 50
    with pytest.raises(Fault) as caught:
        meter.take(key, 51)
    assert caught.value.status == 456
    (tmp_path / "usage.json").write_text(json.dumps({"anna": ["1999-12", 10**9]}))
    assert Meter(tmp_path / "usage.json").used(key) == 0
    (tmp_path / "usage.json").write_text("no JSON")
    assert Meter(tmp_path / "usage.json").used(key) == 0


def test_commands_make_list_and_revoke_keys(dragoman, tmp_path):
    file = tmp_path / "keys.json"
    made = dragoman("keys", "add", "anna", "--file", file, "--characters-per-month", "5000")
    key = made.out.strip()
    assert KeyFile(file).find(key).name == "anna"
    listed = dragoman("keys", "list", "--file", file)
    assert "anna" in listed.out
    assert "5,000" in listed.out
    assert key not in listed.out
    assert dragoman("keys", "revoke", "anna", "--file", file).code == 0
    assert KeyFile(file).find(key) is None
    assert dragoman("keys", "revoke", "anna", "--file", file).code == 2


def test_a_server_learns_of_a_revoked_key_at_the_next_request(serve, keys):
    key = keys.add("anna")
    served = serve(keys=keys.path)
    headers = {"Authorization": f"Bearer {key}"}
    assert served.get("/v1/models", headers=headers).status_code == 200
    keys.revoke("anna")
    assert served.get("/v1/models", headers=headers).status_code == 401


def test_guessing_is_stopped(serve, keys):
    key = keys.add("anna")
    served = serve(keys=keys.path)
    statuses = [
        served.get("/v1/models", headers={"Authorization": f"Bearer {n}"}).status_code for n in range(25)
    ]
    assert statuses == [401] * 20 + [429] * 5
    response = served.get("/v1/models", headers={"Authorization": "Bearer 25"})
    assert int(response.headers["Retry-After"]) <= 60
    known = served.get("/v1/models", headers={"Authorization": f"Bearer {key}"})
    assert known.status_code == 200  # others behind its address are no fault of its owner's


def test_while_the_file_is_broken_the_last_good_keys_count(serve, keys):
    key = keys.add("anna")
    served = serve(keys=keys.path)
    headers = {"Authorization": f"Bearer {key}"}
    assert served.get("/v1/models", headers=headers).status_code == 200
    keys.path.write_text("{")
    assert served.get("/v1/models", headers=headers).status_code == 200
    later = serve(keys=keys.path)
    response = later.get("/v1/models", headers=headers)
    assert response.status_code == 503
    assert str(keys.path) not in response.text
