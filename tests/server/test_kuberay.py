"""The manifest for KubeRay: valid, of one piece, and understood by Ray Serve and by the server."""

import copy
import importlib.util
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

if any(importlib.util.find_spec(name) is None for name in ("ray", "grpc", "jsonschema")):
    pytest.skip("needs Ray Serve: pip install 'dragoman[cluster]'", allow_module_level=True)

from jsonschema import Draft202012Validator, ValidationError  # comes with Ray

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as Ray Serve is imported
DEPLOY = Path(__file__).parents[2] / "deploy"
SERVICE, CLAIM = yaml.safe_load_all((DEPLOY / "rayservice.yaml").read_text(encoding="utf-8"))
CONFIG = yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
CLUSTER = SERVICE["spec"]["rayClusterConfig"]
HEAD = CLUSTER["headGroupSpec"]["template"]["spec"]


def validator() -> Draft202012Validator:
    path = Path(__file__).with_name("rayservice.schema.json")
    return Draft202012Validator(json.loads(path.read_text(encoding="utf-8")))


def test_the_manifest_is_what_kuberay_takes():
    validator().validate(SERVICE)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("kind",), "RayCluster"),
        (("spec", "upgradeStrategy", "type"), "Never"),
        (("spec", "serveConfigV2"), CONFIG),
        (("spec", "rayClusterConfig", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "rayClusterConfig", "workerGroupSpecs", 0, "maxReplicas"), "4"),
        (("spec", "rayClusterConfig", "workerGroupSpecs", 0, "maximum"), 4),
    ],
)
def test_the_schema_refuses_what_kuberay_refuses(path, value):
    broken: Any = copy.deepcopy(SERVICE)
    *way, last = path
    place = broken
    for step in way:
        place = place[step]
    place[last] = value
    with pytest.raises(ValidationError):
        validator().validate(broken)


@pytest.mark.slow
def test_the_manifest_is_valid_by_kuberay_s_own_definition():
    """DRAGOMAN_TEST_CRD: its file ray.io_rayservices.yaml."""
    path = os.environ.get("DRAGOMAN_TEST_CRD")
    if not path:
        pytest.skip("DRAGOMAN_TEST_CRD names no file")
    versions = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["spec"]["versions"]
    (schema,) = (each["schema"]["openAPIV3Schema"] for each in versions if each["name"] == "v1")
    closed(schema)
    Draft202012Validator(schema).validate({**SERVICE, "metadata": {}})


def closed(schema: Any) -> None:
    """Have a structural schema of Kubernetes refuse what it doesn't name, as `kubectl` does."""
    for each in schema.values() if isinstance(schema, dict) else schema:
        if isinstance(each, (dict, list)):
            closed(each)
    if isinstance(schema, dict):
        schema.pop("format", None)
        if schema.pop("x-kubernetes-int-or-string", False):
            schema.pop("type", None)
        if schema.get("type") == "object" and "properties" in schema:
            schema.setdefault("additionalProperties", False)


def test_serve_and_the_server_understand_the_config():
    from ray.serve.schema import ServeDeploySchema

    from dragoman.server import deployments

    found = ServeDeploySchema.model_validate(CONFIG)
    assert [each.name for each in found.applications] == [deployments.TRANSLATORS, deployments.SERVER]
    (settings,) = {deployments.settings_of(each.args) for each in found.applications}
    builders = [each.import_path.split(":") for each in found.applications]
    assert builders == [[deployments.__name__, name] for name in ("translators", "server")]
    for (_, name), application in zip(builders, found.applications, strict=True):
        deployment = getattr(deployments, name)(application.args)._bound_deployment
        assert {each.name for each in application.deployments} <= {deployment.name}
    assert settings.keys is not None  # it can be reached by everybody
    assert not settings.is_loopback
    assert settings.port == found.http_options.port


def test_no_second_cluster_wants_the_volume_of_the_first():
    assert CLAIM["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert SERVICE["spec"]["upgradeStrategy"] == {"type": "None"}


def test_pods_have_what_the_config_asks_for():
    (container,) = HEAD["containers"]
    settings = CONFIG["applications"][0]["args"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert mounts.keys() == {str(Path(settings["keys"]).parent), settings["data"]}
    volumes = {volume["name"]: volume for volume in HEAD["volumes"]}
    assert volumes.keys() == set(mounts.values())
    assert (
        volumes[mounts[settings["data"]]]["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]
    )
    assert {"containerPort": settings["port"], "name": "serve"} in container["ports"]
    (server,) = CONFIG["applications"][1]["deployments"]
    offered = json.loads(json.loads(CLUSTER["headGroupSpec"]["rayStartParams"]["resources"].strip("'")))
    assert server["ray_actor_options"]["resources"].keys() == offered.keys()
    (workers,) = CLUSTER["workerGroupSpecs"]
    (worker,) = workers["template"]["spec"]["containers"]
    assert int(worker["resources"]["limits"]["cpu"]) >= settings["threads"]
    assert workers["maxReplicas"] >= settings["most_replicas"]


def test_one_release_of_ray_is_meant():
    pinned = re.search(r"^ray==(.*)$", (DEPLOY.parent / "constraints.txt").read_text(), re.M)
    image = re.search(r"^FROM rayproject/ray:([\d.]+)-", (DEPLOY / "ray.Dockerfile").read_text(), re.M)
    assert pinned
    assert image
    assert pinned[1] == image[1] == CLUSTER["rayVersion"]
