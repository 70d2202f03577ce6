"""What runs on Ray Serve: the server without its models, once, and replicas that have them.

The server has all that there is one of: keys, limits, queues, glossaries and files. What it sends to replicas
are sentences as ids. They are two applications, so that the server can end what it has begun while replicas
are still there. `translators` and `server` are what a Serve config's `import_path` names.
"""

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from dragoman.errors import DragomanError, InvalidOption
from dragoman.generation.remote import RemoteEngine
from dragoman.generation.tickets import Job
from dragoman.server import logs
from dragoman.server.crew import Crew
from dragoman.server.replica import Heard, Named, Outcome, Replica, identities
from dragoman.server.settings import Settings, of_mapping, read_settings

if TYPE_CHECKING:
    from dragoman.server.door import Door
    from dragoman.server.keys import KeyFile
    from dragoman.server.models import Model
    from dragoman.translation.translator import Translator

TRANSLATORS, SERVER = "dragoman-translators", "dragoman"
"""Names of the applications."""
LOGGING: dict[str, Any] = {"log_level": "ERROR", "enable_access_log": False}
"""Of Ray Serve, whose logs have addresses with what is asked for in them."""
_REQUESTS = 4096
"""That the server has at a time: it refuses what is too much itself, as each dialect does."""
_CONSTRUCTIONS = 3
"""So often a replica is begun that can't load its models."""
_LOOK = 2.0
"""Seconds between two looks whether a process is there and well."""
_MISSES = 3
"""So many looks in a row have to fail before Serve replaces a process."""
_PAUSE, _PATIENCE = 0.2, 120.0
"""Seconds between two looks whether the folder, or the other application, is there; and for all of them."""


def settings_of(given: "Mapping[str, Any]") -> Settings:
    """Settings from a Serve config's `args`, spelled as in a TOML file, over the environment's."""
    return read_settings(None, os.environ, of_mapping(given, "args"))


def translators(given: "Mapping[str, Any] | Settings") -> serve.Application:
    """The replicas; given: settings, or a Serve config's `args`."""
    settings = given if isinstance(given, Settings) else settings_of(given)
    most = settings.replicas_at_most
    scaling: dict[str, Any] = {"num_replicas": settings.replicas}
    if most > settings.replicas:
        scaling = {
            "autoscaling_config": {
                "min_replicas": settings.replicas,
                "max_replicas": most,
                "target_ongoing_requests": settings.replica_load,
            }
        }

    @serve.deployment(
        name="Translators",
        max_ongoing_requests=2 * settings.replica_load,
        ray_actor_options=needs(settings),
        graceful_shutdown_timeout_s=settings.drain_seconds,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=_LOOK,
        health_check_timeout_s=settings.hang_seconds / _MISSES,
        max_constructor_retry_count=_CONSTRUCTIONS,
        logging_config=LOGGING,
        **scaling,
    )
    class Translators:
        def __init__(self) -> None:
            from dragoman.server.running import load_models, model_names

            logs.set_up(settings.log)
            # Of the files as they are before they are read: whatever replaces them then is another model.
            known = identities(model_names(settings), settings.vocabulary)
            device = "cuda" if settings.device.startswith("cuda") else settings.device
            # Of whatever number: Ray shows a replica only the accelerator that it has for itself.
            models = load_models(replace(settings, threads=settings.threads or 1, device=device))
            self._replica = Replica(models, known, settings.stall_seconds, _LOOK)

        @serve.multiplexed(max_num_models_per_replica=settings.replica_models)
        async def load(self, part: str) -> str:
            return await self._replica.load(part)

        async def about(self) -> dict[str, tuple[str, str]]:
            return self._replica.about()

        async def generate(self, model: Named, job: Job) -> Outcome:
            problem = await self._prepared()
            return problem or await self._replica.generate(model, job)

        async def listen(self, model: Named, job: Job) -> AsyncGenerator[Heard, None]:
            if problem := await self._prepared():
                yield [], problem
                return
            async with contextlib.aclosing(self._replica.listen(model, job)) as heard:
                async for each in heard:
                    yield each

        async def _prepared(self) -> DragomanError | None:
            part = serve.get_multiplexed_model_id()
            try:
                if part:
                    await self.load(part)
            except DragomanError as error:
                return error
            return None

        async def check_health(self) -> None:
            self._replica.check()

    return _bound(Translators)


def server(given: "Mapping[str, Any] | Settings") -> serve.Application:
    """The application of all dialects, keys and limits; given: settings, or a Serve config's `args`."""
    return server_at(given if isinstance(given, Settings) else settings_of(given), {})


def server_at(settings: Settings, place: Mapping[str, float], mark: str = "") -> serve.Application:
    """The server where a machine offers `place`, resources of Ray: where its keys and folders are; mark: of
    whoever begins it, who thereby knows it again."""
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    @serve.deployment(
        name="Server",
        num_replicas=1,
        max_ongoing_requests=_REQUESTS,
        max_queued_requests=_REQUESTS,  # in each proxy, while there is no server
        ray_actor_options={"num_cpus": 0, "resources": dict(place)},
        graceful_shutdown_timeout_s=settings.drain_seconds,
        graceful_shutdown_wait_loop_s=0.5,
        health_check_period_s=_LOOK,
        health_check_timeout_s=settings.hang_seconds / _MISSES,
        max_constructor_retry_count=_CONSTRUCTIONS,
        logging_config=LOGGING,
    )
    @serve.ingress()
    class Server:
        _door: "Door"

        async def __serve_build_asgi_app__(self) -> Any:
            self._door = await _application(settings)
            app: Any = self._door
            return ProxyHeadersMiddleware(app, trusted_hosts=list(settings.proxies))

        async def check_health(self) -> None:
            """Answered, it shows that the event loop turns."""

        async def mark(self) -> str:
            """Whose this is."""
            return mark

        async def end(self) -> None:
            """Take nothing new, and wait for what is under way, as long as the settings say."""
            await self._door.close(settings.drain_seconds)

    return _bound(Server)


def _bound(deployment: Any) -> serve.Application:
    """As an application; what `serve.deployment` makes of a class, types don't tell."""
    found: serve.Application = deployment.bind()
    return found


def needs(settings: Settings) -> dict[str, Any]:
    """What a replica takes of its machine. Raises InvalidOption if that has to be said, and isn't."""
    if settings.device == "auto" and ray.is_initialized() and ray.cluster_resources().get("GPU"):
        raise InvalidOption(
            "device is auto, and the cluster has GPUs, which Ray shows only to replicas that ask for one; "
            "choose --device cuda, with a GPU for each replica, or --device cpu"
        )
    on_gpu = settings.device.startswith("cuda")
    return {"num_cpus": settings.threads or 1, "num_gpus": int(on_gpu)}


async def _application(settings: Settings) -> "Door":
    """The server, once an earlier one has let go of the folder with what it keeps."""
    from dragoman.folders import state_folder
    from dragoman.server.app import answer, create_app
    from dragoman.server.door import Door
    from dragoman.server.models import Away
    from dragoman.server.running import model_names
    from dragoman.server.uploads import is_free
    from dragoman.server.worker import GARBAGE

    logs.set_up(settings.log)
    gc.set_threshold(GARBAGE)
    keys = keys_at(settings, await asyncio.to_thread(listening_at))
    folder = settings.data or state_folder() / f"server-{settings.port}"
    most = settings.replica_load * settings.replicas_at_most
    settings = replace(settings, data=folder, active=max(settings.active, most))
    loop = asyncio.get_running_loop()
    handle = await _translators()
    names = model_names(settings)
    known = await asyncio.to_thread(identities, names, settings.vocabulary)
    precisions = await _precisions(handle, known)
    models: dict[str, Translator | Model] = {}
    for name, model in names.items():
        crew = Crew(handle, (name, known[name], precisions[name]), len(names) > 1)
        engine = RemoteEngine(crew, loop)
        models[name] = Away.open(model, precisions[name], settings.vocabulary, engine, not models)
    async with asyncio.timeout(_PATIENCE + settings.drain_seconds):
        while not is_free(folder):
            await asyncio.sleep(_PAUSE)
    app = create_app(settings, models, keys)
    return Door(app, app.state.dragoman, answer)


def listening_at() -> tuple[str, int]:
    """Host and port of Serve's proxies. They are whoever's who started Serve first; Ray has no public
    way to ask."""
    from ray.serve.context import _get_global_client

    client = _get_global_client()
    assert client is not None  # or it has raised
    return client.http_config.host, client.http_config.port


def keys_at(settings: Settings, address: tuple[str, int]) -> "KeyFile | None":
    """The keys that callers need where Serve's proxies listen at an address. Raises InvalidOption if the
    file is missing here, or if anybody could come."""
    from dragoman.server.running import key_file

    host, port = address
    if settings.keys is not None and not settings.keys.exists():
        raise InvalidOption(
            f"there are no keys in {settings.keys} on this machine; make one with dragoman keys"
        )
    return key_file(replace(settings, host=host, port=port))


async def _translators() -> DeploymentHandle:
    """The replicas, which may be begun at the same time as this."""
    async with asyncio.timeout(_PATIENCE):
        while True:
            try:
                return await asyncio.to_thread(serve.get_app_handle, TRANSLATORS)
            except RayServeException:
                await asyncio.sleep(_PAUSE)


async def _precisions(handle: DeploymentHandle, wanted: Mapping[str, str]) -> dict[str, str]:
    """In which precision replicas run each model, once one has those of these identities."""
    about = handle.options(method_name="about")
    end = time.monotonic() + _PATIENCE
    while True:
        found: dict[str, tuple[str, str]] = await about.remote()
        if {name: identity for name, (identity, _) in found.items()} == wanted:
            return {name: precision for name, (_, precision) in found.items()}
        if time.monotonic() > end:
            raise InvalidOption(f"replicas have other models than the server: {found} instead of {wanted}")
        await asyncio.sleep(_PAUSE)
