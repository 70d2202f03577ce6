"""How a server is set up: defaults, a TOML file, the environment, and what the command line says on top."""

import ipaddress
import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from dragoman.errors import InvalidOption
from dragoman.limits import parse_size

PREFIX = "DRAGOMAN_"
"""What the environment's variables for the fields begin with."""


@dataclass(frozen=True)
class Settings:
    """What `dragoman serve` does; each field is a line of the file, a variable DRAGOMAN_... and an option."""

    model: tuple[str, ...] = ("mini",)
    """The models, as `--model` of `dragoman translate` takes them, or NAME=MODEL; the first is the one for
    requests that name none."""
    route: tuple[str, ...] = ()
    """SOURCE-TARGET=NAME: which model translates a pair of languages; * stands for any."""
    device: str = "auto"
    """A PyTorch device such as "cuda:0"; "auto" is the accelerator if there is one."""
    precision: str = "auto"
    """fp32, fp16, int8, int4 or auto, for all models."""
    memory: str | None = None
    """What all models may take together, such as "12GB"."""
    vocabulary: int | None = None
    """As `--vocabulary` of `dragoman translate`, for all models."""
    threads: int | None = None
    """Threads that the models work in."""
    tm: Path | None = None
    """A translation memory (.sqlite or .tmx): what it has is the answer, whatever model is asked for."""

    host: str = "127.0.0.1"
    """The address to listen at; other than loopback needs keys, or allow_open."""
    port: int = 5000
    """The port to listen at; 0 takes a free one."""
    allow_open: bool = False
    """Serve anybody who reaches the address, without keys."""
    hosts: tuple[str, ...] = ()
    """Host names by which clients may call the server (* for all); by default all if there are keys or
    allow_open, else only those of this computer, so that no page of the web can."""
    origins: tuple[str, ...] = ()
    """Origins of other web pages that may use the server from a browser, such as https://example.org."""
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """Addresses or networks (10.0.0.0/8) of proxies, whose X-Forwarded-For says who a client is; * is any."""
    public_url: str | None = None
    """The address that clients see, where links to files are to be absolute: https://example.org/translate."""
    keys: Path | None = None
    """The file of API keys; without it those of `dragoman keys` count, if there are any."""
    web: bool = True
    """Serve the web page."""

    max_json: str = "2MB"
    """Largest body of a request that holds no file."""
    max_upload: str = "32MB"
    """Largest body with a file."""
    max_texts: int = 128
    """Most texts of a request, counted once for each target language."""
    max_characters: int = 50_000
    """Most characters of a request, counted once for each target language."""
    max_beams: int = 8
    """Most beams."""
    max_alternatives: int = 4
    """Most hypotheses (n_best) of a sentence."""
    timeout: float = 120.0
    """Seconds that a request may be worked on, after which it ends with an error."""
    file_timeout: float = 3600.0
    """Seconds that a file may be worked on."""
    file_minutes: float = 60.0
    """How long a translated file waits to be fetched."""
    data: Path | None = None
    """The folder of glossaries and of files on their way, which go on after a restart; by default one a port
    where jobs are."""

    active: int = 64
    """Requests that are worked on at a time; the others wait."""
    batch: int = 32
    """Sentences of one request that are worked on at a time; fewer where many requests are."""
    queue: int = 256
    """Requests that may wait."""
    queue_per_key: int = 64
    """Requests that may wait of one key, or of one address where there are no keys."""
    queue_characters: int = 2_000_000
    """Characters that may wait of one key or address."""
    queue_seconds: float = 30.0
    """How long a request may wait."""
    body_seconds: float = 30.0
    """How long a request may take to arrive."""
    drain_seconds: float = 30.0
    """How long requests under way may take once the server is told to stop."""
    supervise: bool = True
    """Serve in a process below another one, which replaces it when it dies or hangs."""
    hang_seconds: float = 30.0
    """How long the serving process may give no sign of life before it is replaced."""
    stall_seconds: float = 300.0
    """How long one step of a model may take before the serving process is replaced."""
    cluster: str | None = None
    """Serve by replicas on this Ray cluster: an address; auto is that of RAY_ADDRESS, or one that is started
    here (extra cluster)."""
    replicas: int = 1
    """On a cluster: processes that have the models, the fewest."""
    most_replicas: int | None = None
    """On a cluster: how many there may be when they have too much to do; by default no more."""
    replica_load: int = 32
    """On a cluster: sentences under way in each replica, above which there are to be more."""
    replica_models: int = 3
    """On a cluster: models and language modules that a replica is taken to have at a time."""
    traces: str | None = None
    """Where OpenTelemetry's traces go, by OTLP over HTTP: http://localhost:4318/v1/traces (extra otel)."""
    log: str = "info"
    """What is logged: debug, info, warning or error."""

    def __post_init__(self) -> None:
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if not low <= value <= high:
                raise InvalidOption(f"{name} is {value!r}; it must be a number from {low} to {high:g}")
        if self.most_replicas is not None and self.most_replicas < self.replicas:
            raise InvalidOption(
                f"most_replicas is {self.most_replicas}; it must be at least replicas, {self.replicas}"
            )
        if not self.model:
            raise InvalidOption("model is empty; name one at least")
        if self.log not in LEVELS:
            raise InvalidOption(f"log is {self.log!r}; it must be one of {', '.join(LEVELS)}")
        for name in ("max_json", "max_upload"):
            parse_size(getattr(self, name))
        for proxy in self.proxies:
            _check_proxy(proxy)

    @property
    def json_bytes(self) -> int:
        """Most bytes of a body without a file."""
        return parse_size(self.max_json)

    @property
    def upload_bytes(self) -> int:
        """Most bytes of a body with a file."""
        return parse_size(self.max_upload)

    @property
    def replicas_at_most(self) -> int:
        """On a cluster: processes that have the models."""
        return self.most_replicas or self.replicas

    @property
    def is_loopback(self) -> bool:
        """Whether only this computer reaches the address."""
        try:
            return ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host == "localhost"


LEVELS = ("debug", "info", "warning", "error")
_RANGES = (
    ("port", 0, 65535),
    ("max_texts", 1, 10_000),
    ("max_characters", 1, 10_000_000),
    ("max_beams", 1, 64),
    ("max_alternatives", 1, 64),
    ("timeout", 0.1, 86_400),
    ("file_timeout", 0.1, 7 * 86_400),
    ("file_minutes", 0.1, 10_080),
    ("active", 1, 1024),
    ("batch", 1, 4096),
    ("queue", 0, 100_000),
    ("queue_per_key", 0, 100_000),
    ("queue_characters", 0, 10**9),
    ("queue_seconds", 0, 3600),
    ("body_seconds", 0.1, 3600),
    ("drain_seconds", 0, 3600),
    ("hang_seconds", 2, 86_400),
    ("stall_seconds", 2, 86_400),
    ("replicas", 1, 10_000),
    ("replica_load", 1, 4096),
    ("replica_models", 1, 1000),
)


def _check_proxy(proxy: str) -> None:
    try:
        if proxy != "*":
            ipaddress.ip_network(proxy)
    except ValueError as error:
        raise InvalidOption(f"proxies has {proxy!r}, which is no address and no network: {error}") from None


def read_settings(file: Path | None, environment: Mapping[str, str], given: Mapping[str, Any]) -> Settings:
    """The settings of a file (None: no file), over them the environment's, over all what was `given`.

    Raises InvalidOption for a name that is none, with the nearest that is, and for a value of a wrong type.
    """
    values = {} if file is None else _read_file(file)
    for name, hint in get_type_hints(Settings).items():
        text = environment.get(PREFIX + name.upper())
        if text:
            values[name] = _of_text(name, hint, text)
    values |= {name: value for name, value in given.items() if value is not None}
    return replace(Settings(), **values)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidOption(f"{path} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidOption(f"{path} is no TOML: {error}") from None
    values = of_mapping(data, str(path))
    for name in ("keys", "data", "tm"):
        if values.get(name) is not None:  # relative to the file, wherever the server is started
            values[name] = path.parent / values[name]
    return values


def of_mapping(data: Mapping[str, Any], called: str) -> dict[str, Any]:
    """Settings by name, with values as TOML has them; called: what they are in. Raises InvalidOption."""
    hints = get_type_hints(Settings)
    known = [field.name for field in fields(Settings)]
    values = {}
    for name, value in data.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"do you mean {near[0]!r}?" if near else f"the settings are {', '.join(known)}"
            raise InvalidOption(f"{called}: {name!r} is no setting; {hint}")
        values[name] = _of_toml(f"{called}: {name}", hints[name], value)
    return values


def _of_toml(name: str, hint: Any, value: object) -> Any:
    kind = _kind(hint)
    if kind is tuple:
        entries = value if isinstance(value, list) else [value]
        if all(isinstance(entry, str) for entry in entries):
            return tuple(entries)
        raise InvalidOption(f"{name} is {value!r}; it must be a list of strings")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if type(value) is not kind:
        raise InvalidOption(f"{name} is {value!r}; it must be {_CALLED[kind]}")
    return value


def _of_text(name: str, hint: Any, text: str) -> Any:
    kind = _kind(hint)
    if kind is tuple:
        return tuple(filter(None, (entry.strip() for entry in text.split(","))))
    if kind is bool:
        if text.lower() not in _TRUTHS:
            raise InvalidOption(f"{PREFIX}{name.upper()} is {text!r}; it must be true or false")
        return _TRUTHS[text.lower()]
    if kind is Path:
        return Path(text).expanduser()
    try:
        value = kind(text)
    except ValueError:
        raise InvalidOption(f"{PREFIX}{name.upper()} is {text!r}; it must be {_CALLED[kind]}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidOption(f"{PREFIX}{name.upper()} is {text!r}; it must be {_CALLED[kind]}")
    return value


_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False}
_TRUTHS |= {"off": False}
_CALLED = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
_CALLED |= {Path: "a path"}


def _kind(hint: Any) -> type:
    """The type of a field, without None; tuple for one that holds several strings."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    found = next(option for option in options if option is not type(None))
    return tuple if get_origin(found) is tuple else found


def default_keys_file(environment: Mapping[str, str] | None = None) -> Path:
    """Where `dragoman keys` keeps API keys unless it is told another place."""
    environment = os.environ if environment is None else environment
    home = environment.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "dragoman" / "keys.json"
