"""What fills the files of a deployment: names, labels, memory; and that the files agree with each other."""

from __future__ import annotations

import hashlib
import json
import re

import pytest
import yaml

from medkeras import errors
from medkeras.serving import deploy, options
from tests.serving import deployed
from tests.serving.deployed import MEBIBYTE, MODELS, rendered, version

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
# Flags of TensorFlow Serving that our own server does not have.
ALIENS = {"enable_profiler", "per_process_gpu_memory_fraction"}
KNOWN = set(options.Options.__dataclass_fields__) | ALIENS
PORTS = {"grpc": 8500, "rest": 8501}
NAMES = (
    *(
        "brain_mri",
        "a",
        "9",
        "Z.9-x",
        "true",
        "null",
        "1e3",
        "0x10",
        "2024-01-01",
        "on",
        "x" * 63,
        "7_" * 31,
        "A__B.c-D",
    ),
)


def model(name: object, *numbers: object) -> deploy.Model:
    return deploy.Model(
        name, tuple(version(1) if not numbers else deploy.Version(each, {}, 1) for each in numbers or (1,))
    )


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            ".",
            "..",
            "a..b",
            "a/b",
            "../a",
            "a:b",
            "a b",
            "a\nb",
            "a\n",
            "\na",
            'a"b',
            "a'b",
            "a\\b",
            "a{b}",
            "@{app}",
        ),
        *(
            "$HOME",
            "$(id)",
            "`id`",
            "a;b",
            "a%2fb",
            "näme",
            "模型",
            "-a",
            "_a",
            ".a",
            "a.",
            "x" * 64,
            "a\x00",
            "a\u2028b",
        ),
    ],
)
def test_a_name_that_some_file_would_misread_is_refused(name) -> None:
    with pytest.raises(errors.ModelError, match="^A served model's name is .* Received: ") as raised:
        deploy.render([model(name)])
    assert repr(name) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("number", [0, -1, 2**63, "1", "1\n", 1.0, True, None])
def test_a_number_that_is_no_version_is_refused(number) -> None:
    with pytest.raises(errors.ModelError, match="A served version is a whole number from 1. Received: "):
        deploy.render([model("a", number)])


def test_versions_and_names_that_collide_are_refused() -> None:
    with pytest.raises(errors.ModelError, match=r"given once. Received: \[3, 3\] for 'a'"):
        deploy.render([model("a", 3, 3)])
    with pytest.raises(errors.ModelError, match="does not tell apart. Received: 'a_b' and 'A-b'"):
        deploy.render([model("a_b"), model("A-b")])
    with pytest.raises(errors.ModelError, match="does not tell apart"):
        deploy.render([model("x" * 50), model("x" * 51)])


@pytest.mark.parametrize("name", NAMES)
def test_every_name_in_kubernetes_is_a_dns_label_and_a_text(name) -> None:
    files = deploy.render([model(name, 2, 7)])
    for document in deployed.documents(files, "kubernetes/", "kserve/"):
        metadata = document.content.get("metadata", {})
        for each in (metadata.get("name", "a"), metadata.get("namespace", "a")):
            assert isinstance(each, str)
            assert DNS_LABEL.fullmatch(each), each
            assert each[0].isalpha()
        labels = {**metadata.get("labels", {}), **metadata.get("annotations", {})}
        assert all(isinstance(value, str) for value in labels.values()), document.path
    container = deployed.pod(files)["containers"][0]
    assert all(isinstance(value, str) for value in (*container["args"], container["image"]))
    assert re.fullmatch(r"medkeras/[a-z0-9-]+:[0-9a-f]{12}", container["image"])
    assert yaml.safe_load(files["docker/docker-compose.yml"])["services"]["serving"]["image"] == container["image"]


@pytest.mark.parametrize(
    ("numbers", "labels"),
    [((5,), {"stable": 5}), ((3, 4), {"stable": 3, "canary": 4}), ((9, 2, 4), {"stable": 9, "canary": 4})],
)
def test_the_first_version_is_stable_and_the_last_of_several_is_the_canary(numbers, labels) -> None:
    assert model("a", *numbers).labels == labels


def test_memory_is_the_server_and_every_version_and_one_more() -> None:
    one, two = deploy.Model("a", (version(1, 0),)), deploy.Model("b", (version(1, 10 * MEBIBYTE), version(2, MEBIBYTE)))
    assert one.memory == 2 * 96
    assert two.memory == 3 * 96 + 4 * (10 + 1 + 10)
    assert deploy.memory([one]) == 1216
    assert deploy.memory([one, two]) == 1600
    assert deploy.memory([one, two]) % 64 == 0
    assert deployed.container("serving")["resources"]["limits"]["memory"] == f"{deploy.memory(MODELS)}Mi"
    assert deployed.compose()["services"]["serving"]["mem_limit"] == f"{deploy.memory(MODELS)}m"
    assert f"{deploy.memory(MODELS)} MiB: 1024 for the server" in rendered()["README.md"]


def test_a_blank_takes_lines_and_indents_them_and_an_unknown_one_is_a_fault() -> None:
    assert deploy.fill("x:\n    @{a}\n", {"a": "1\n\n2"}) == "x:\n    1\n\n    2\n"
    assert deploy.fill("@{a}@{a} @b $x {{c}}", {"a": "1"}) == "11 @b $x {{c}}"
    with pytest.raises(KeyError):
        deploy.fill("@{b}", {"a": "1"})


def test_no_blank_is_left_and_no_template_is_left_out() -> None:
    for path, text in rendered().items():
        assert "@{" not in text, path
        assert text.endswith("\n")
        assert not re.search(r"[ \t]+$", text, re.M), path
    named = {f"kserve/{each.label}.yaml" for each in MODELS} | {"manifest.json", "models/SHA256SUMS"}
    assert set(rendered()) == (set(deploy.templates()) - {"kserve/inferenceservice.yaml"}) | named


def test_the_same_models_give_the_same_files_and_others_another_release() -> None:
    assert deploy.render(MODELS) == rendered()
    other = deploy.render([deploy.Model("brain_mri", (version(5),))])
    assert json.loads(other["manifest.json"])["release"] != json.loads(rendered()["manifest.json"])["release"]


def test_the_manifest_says_what_was_deployed() -> None:
    manifest = json.loads(rendered()["manifest.json"])
    assert [each["name"] for each in manifest["models"]] == ["brain_mri", "X-Ray.v2"]
    assert manifest["models"][0]["labels"] == {"stable": 3, "canary": 4}
    assert manifest["models"][0]["versions"][1] == {
        "version": 4, "bytes": 17 * MEBIBYTE, "published_card": "0" * 64, "files": dict(version(4).files),
    }  # fmt: skip
    assert set(manifest["files"]) == set(rendered()) - {"manifest.json"}
    for path, digest in manifest["files"].items():
        assert hashlib.sha256(rendered()[path].encode()).hexdigest() == digest
    sums = rendered()["models/SHA256SUMS"].splitlines()
    assert sums[0] == f"{'c' * 64}  X-Ray.v2/1/card.json"
    assert len(sums) == 6
    assert manifest["release"] == hashlib.sha256(rendered()["models/SHA256SUMS"].encode()).hexdigest()[:12]


def all_flags() -> dict[str, dict[str, str]]:
    lists = {
        "Dockerfile": deployed.dockerfile_lists()["CMD"],
        "Deployment": deployed.container("serving")["args"],
        **{
            document.path: document.content["spec"]["predictor"]["model"]["args"]
            for document in deployed.documents(rendered(), "kserve/")
            if document.kind == "InferenceService"
        },
    }
    return {place: deployed.flags(arguments) for place, arguments in lists.items()}


def test_flags_are_the_servers_own_and_the_same_in_docker_and_kubernetes() -> None:
    for place, given in all_flags().items():
        assert set(given) <= KNOWN, place
        ours = {name: value for name, value in given.items() if name not in ALIENS}
        assert options.from_flags(
            {name: json.loads(value) if value[0] != "/" else value for name, value in ours.items()}
        )
    assert all_flags()["Dockerfile"] == all_flags()["Deployment"]
    assert len(all_flags()) == 4


def test_flags_that_are_switched_off_can_be_switched_on() -> None:
    text = rendered()["kubernetes/deployment.yaml"]
    on = yaml.safe_load(re.sub(r'#- "--', '- "--', text))
    given = deployed.flags(on["spec"]["template"]["spec"]["containers"][0]["args"])
    assert set(given) - set(all_flags()["Deployment"]) == {
        *("enable_batching", "batching_parameters_file", "per_process_gpu_memory_fraction"),
    }
    assert set(given) <= KNOWN
    docker = re.sub(r'#("--)', r"\1", rendered()["docker/Dockerfile"])
    lines = "".join(line for line in docker.split("CMD [", 2)[2].splitlines() if not line.lstrip().startswith("#"))
    assert deployed.flags(json.loads("[" + lines.replace("\\", ""))) == given


def test_ports_agree() -> None:
    given, services = all_flags()["Deployment"], deployed.compose()["services"]
    assert {"grpc": int(given["port"]), "rest": int(given["rest_api_port"])} == PORTS
    ports = {each["name"]: each["containerPort"] for name in ("serving", "gateway") for each in
             deployed.container(name)["ports"]}  # fmt: skip
    assert ports == {**PORTS, "https": 8443, "metrics": 9100}
    assert "EXPOSE 8500 8501\n" in rendered()["docker/Dockerfile"]
    assert services["serving"]["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    assert services["gateway"]["ports"] == ["8443:8443"]
    for text in (
        rendered()["docker/nginx.conf"],
        deployed.documents(rendered(), "kubernetes/configmap")[1].content["data"]["nginx.conf"],
    ):
        assert set(re.findall(r"listen (\d+)", text)) == {"8443", "9100"}
        assert set(re.findall(r"(?:http|grpc)://[\w.]+:(\d+)", text)) == {"8500", "8501"}
    assert yaml.safe_load(rendered()["docker/prometheus.yml"])["scrape_configs"][0]["static_configs"] == [
        {"targets": ["serving:8501"]}
    ]
    rules = deployed.one("NetworkPolicy")["spec"]
    assert [[each["port"] for each in rule["ports"]] for rule in rules["ingress"]] == [[8443], [9100]]
    assert rules["egress"] == []
    assert deployed.one("PodMonitor")["spec"]["podMetricsEndpoints"][0]["port"] == "metrics"
    services = [each.content for each in deployed.documents(rendered(), "kubernetes/service")]
    assert {port["port"] for service in services for port in service["spec"]["ports"]} == {8443}


def test_files_named_in_flags_are_where_the_volumes_put_them() -> None:
    for place in ("Dockerfile", "Deployment"):
        named = {value for value in all_flags()[place].values() if value.startswith("/")}
        assert named == {"/etc/medkeras/models.config", "/etc/medkeras/monitoring.config"}
    config, gateway = (each.content for each in deployed.documents(rendered(), "kubernetes/configmap"))
    assert set(config["data"]) == {"models.config", "batching.config", "monitoring.config"}
    volumes = {each["name"]: each for each in deployed.pod()["volumes"]}
    assert volumes["config"]["configMap"]["name"] == config["metadata"]["name"]
    assert volumes["gateway"]["configMap"]["name"] == gateway["metadata"]["name"]
    mounts = {each["name"]: each["mountPath"] for each in deployed.container("serving")["volumeMounts"]}
    assert mounts == {"config": "/etc/medkeras", "models": "/models", "scratch": "/tmp"}
    assert deployed.compose()["services"]["serving"]["volumes"] == [
        "../models:/models:ro", "../config:/etc/medkeras:ro",
    ]  # fmt: skip
    assert {each["name"] for each in (*deployed.container("serving")["volumeMounts"],
            *deployed.container("gateway")["volumeMounts"])} == set(volumes)  # fmt: skip


def test_the_texts_in_the_config_maps_are_the_files() -> None:
    config, gateway = (each.content for each in deployed.documents(rendered(), "kubernetes/configmap"))
    for name, text in config["data"].items():
        assert text == rendered()[f"config/{name}"]
    assert gateway["data"]["nginx.conf"].replace("127.0.0.1:85", "serving:85") == rendered()["docker/nginx.conf"]
    digest = hashlib.sha256(
        "".join(rendered()[f"config/{name}.config"] for name in ("models", "batching", "monitoring")).encode()
    )
    assert config["metadata"]["name"].endswith(f"-{digest.hexdigest()[:8]}")


def test_selectors_find_the_pods() -> None:
    labels = deployed.one("Deployment")["spec"]["template"]["metadata"]["labels"].items()
    for document in deployed.documents(rendered(), "kubernetes/"):
        spec = document.content.get("spec", {})
        selector = spec.get("selector") or spec.get("podSelector") or {}
        assert (selector.get("matchLabels", selector)).items() <= labels, document.path
    app = deployed.one("Deployment")["metadata"]["name"]
    assert deployed.one("HorizontalPodAutoscaler")["spec"]["scaleTargetRef"]["name"] == app
    claims = [
        each["persistentVolumeClaim"]["claimName"]
        for each in deployed.pod()["volumes"]
        if "persistentVolumeClaim" in each
    ]
    assert claims == [deployed.one("PersistentVolumeClaim")["metadata"]["name"]]
    paths = deployed.one("Ingress")["spec"]["rules"][0]["http"]["paths"]
    assert {each["backend"]["service"]["name"] for each in paths} == {app}
    for document in deployed.documents(rendered(), "kserve/"):
        if document.kind == "InferenceService":
            assert document.content["spec"]["predictor"]["model"]["storageUri"].startswith(f"pvc://{claims[0]}/")


def test_every_resource_is_in_the_kustomization() -> None:
    listed = deployed.one("Kustomization")
    assert {f"kubernetes/{name}" for name in listed["resources"]} == {
        each.path for each in deployed.documents(rendered(), "kubernetes/") if each.kind != "Kustomization"
    }
    (image,) = listed["images"]
    assert deployed.container("serving")["image"] == f"{image['name']}:{image['newTag']}"
