"""The files of a deployment hold for those who read them: schemas, parsers, shells, and the pitfalls each avoids."""

from __future__ import annotations

import io
import itertools
import json
import pathlib
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from medkeras.serving import deploy
from tests.serving import deploy_schemas, deployed
from tests.serving.deployed import MODELS, rendered

# Names of conformance with TensorFlow Serving; a histogram also has _bucket, _sum and _count.
COUNTERS = {
    *(":tensorflow:serving:request_count", ":tensorflow:serving:request_example_count_total"),
    *(":tensorflow:serving:model_warmup_records_read", ":tensorflow:serving:batching_session:wrapped_run_count"),
    *(":tensorflow:cc:saved_model:load_attempt_count", ":tensorflow:cc:saved_model:load_latency"),
}
HISTOGRAMS = {
    *(":tensorflow:serving:request_latency", ":tensorflow:serving:runtime_latency"),
    *(":tensorflow:serving:request_example_counts", ":tensorflow:serving:model_warmup_latency"),
    ":tensorflow:serving:batching_session:queuing_latency",
}
METRICS = COUNTERS | {f"{name}_{part}" for name in HISTOGRAMS for part in ("bucket", "sum", "count")}


@pytest.mark.parametrize(
    "document", deployed.documents(rendered(), "kubernetes/", "kserve/"), ids=lambda each: f"{each.path}-{each.kind}"
)
def test_kubernetes_takes_every_object(document) -> None:
    if document.kind in deploy_schemas.SCHEMAS:
        jsonschema.validate(document.content, deploy_schemas.SCHEMAS[document.kind])
    else:
        kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="schemas of Kubernetes, for tests")
        kubernetes_validate.validate(document.content, "1.34", strict=True)


def test_the_kinds_are_all_there() -> None:
    assert sorted(each.kind for each in deployed.documents(rendered(), "kubernetes/", "kserve/")) == sorted(
        [
            *("ConfigMap", "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "Ingress", "Kustomization"),
            *("Namespace", "NetworkPolicy", "PersistentVolumeClaim", "PodDisruptionBudget", "PodMonitor"),
            *("Service", "Service", "ConfigMap", "InferenceService", "ConfigMap", "InferenceService"),
        ]
    )


def test_the_list_of_models_is_what_was_meant() -> None:
    expected = model_server_config_pb2.ModelServerConfig()
    for each in MODELS:
        entry = expected.model_config_list.config.add(
            name=each.name, base_path=f"/models/{each.name}", model_platform="tensorflow"
        )
        entry.model_version_policy.specific.versions.extend(one.number for one in each.versions)
        for label, number in each.labels.items():
            entry.version_labels[label] = number
    text = rendered()["config/models.config"]
    assert text_format.Parse(text, model_server_config_pb2.ModelServerConfig()) == expected
    for entry in expected.model_config_list.config:
        entry.base_path = "/mnt/models"
    under_kserve = [
        text_format.Parse(each.content["data"]["models.config"], model_server_config_pb2.ModelServerConfig())
        for each in deployed.documents(rendered(), "kserve/")
        if each.kind == "ConfigMap"
    ]
    entries = [entry for each in under_kserve for entry in each.model_config_list.config]
    assert sorted(entries, key=lambda each: each.name) == sorted(
        expected.model_config_list.config, key=lambda each: each.name
    )


def messages() -> dict[str, type]:
    """TensorFlow Serving's BatchingParameters and MonitoringConfig, whose Python classes no package carries."""
    file = descriptor_pb2.FileDescriptorProto(
        name="deploy_test.proto", package="deploy_test", dependency=["google/protobuf/wrappers.proto"], syntax="proto3"
    )
    batching = file.message_type.add(name="BatchingParameters")
    wrapped = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads")
    for number, name in enumerate(wrapped, 1):
        batching.field.add(name=name, number=number, type=11, label=1, type_name=".google.protobuf.Int64Value")
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=8, label=1)
    prometheus.field.add(name="path", number=2, type=9, label=1)
    monitoring = file.message_type.add(name="MonitoringConfig")
    monitoring.field.add(
        name="prometheus_config", number=1, type=11, label=1, type_name=".deploy_test.PrometheusConfig"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClassesForFiles(["deploy_test.proto"], pool)


def test_batching_and_monitoring_are_protobuf_text() -> None:
    found = messages()
    batching = text_format.Parse(rendered()["config/batching.config"], found["deploy_test.BatchingParameters"]())
    assert batching.max_batch_size.value == 32
    assert batching.batch_timeout_micros.value <= 5000
    assert batching.num_batch_threads.value == deploy.CPUS
    assert batching.max_enqueued_batches.value == 64
    monitoring = text_format.Parse(rendered()["config/monitoring.config"], found["deploy_test.MonitoringConfig"]())
    assert monitoring.prometheus_config.enable
    path = monitoring.prometheus_config.path
    assert path == yaml.safe_load(rendered()["docker/prometheus.yml"])["scrape_configs"][0]["metrics_path"]
    assert path == deployed.one("PodMonitor")["spec"]["podMetricsEndpoints"][0]["path"]
    assert f"location = {path} " in rendered()["docker/nginx.conf"]


def expressions() -> list[str]:
    panels = [target["expr"] for panel in deployed.dashboard()["panels"] for target in panel["targets"]]
    rules = [
        rule["expr"] for group in yaml.safe_load(rendered()["docker/alerts.yml"])["groups"] for rule in group["rules"]
    ]
    return panels + rules


@pytest.mark.parametrize("expression", expressions())
def test_what_is_asked_of_prometheus_is_promql_on_metrics_that_exist(expression) -> None:
    named = set(re.findall(r":tensorflow:[\w:]+", expression))
    assert named <= METRICS
    assert named or "up{" in expression
    promql_parser = pytest.importorskip("promql_parser", reason="a parser of PromQL, for tests")
    for name, value in {"$__rate_interval": "5m", "$__interval": "1m", "$model": "brain_mri"}.items():
        expression = expression.replace(name, value)
    promql_parser.parse(expression)


def test_the_dashboard_is_whole() -> None:
    found = deployed.dashboard()
    source = yaml.safe_load(rendered()["docker/grafana/datasource.yml"])["datasources"][0]
    panels = found["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) == 12
    for panel in panels:
        assert panel["title"]
        assert panel["description"]
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
        for each in (panel, *panel["targets"]):
            assert each["datasource"] == {"type": source["type"], "uid": source["uid"]}
    for one, other in itertools.combinations((panel["gridPos"] for panel in panels), 2):
        apart = [one[a] + one[s] <= other[a] or other[a] + other[s] <= one[a] for a, s in (("x", "w"), ("y", "h"))]
        assert any(apart), (one, other)
    (variable,) = found["templating"]["list"]
    assert f"${variable['name']}" in json.dumps(panels)
    assert set(re.findall(r":tensorflow:[\w:]+", variable["query"]["query"])) <= METRICS
    mounts = deployed.compose()["services"]["grafana"]["volumes"]
    provider = yaml.safe_load(rendered()["docker/grafana/dashboards.yml"])["providers"][0]
    assert f"./grafana/dashboard.json:{provider['options']['path']}/dashboard.json:ro" in mounts


def test_the_compose_file_is_one() -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="the Compose specification, for tests")
    assert set(compose_spec.ComposeSpecification.model_validate(deployed.compose()).services) == {
        *("serving", "gateway", "prometheus", "grafana"),
    }
    for name, service in deployed.compose()["services"].items():
        public = [port for port in service["ports"] if not port.startswith("127.0.0.1:")]
        assert public == (["8443:8443"] if name == "gateway" else [])
        for source in (volume.partition(":")[0] for volume in service["volumes"]):
            known = source.startswith("./secrets") or source in (
                "../models",
                "../config",
                *deployed.compose()["volumes"],
            )
            assert known or f"docker/{source[2:]}" in rendered()


def write(folder: pathlib.Path) -> pathlib.Path:
    for path, text in rendered().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_docker_itself_takes_the_compose_file(tmp_path) -> None:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    ):
        pytest.skip("no docker compose on this machine")
    command = ["docker", "compose", f"--file={write(tmp_path) / 'docker' / 'docker-compose.yml'}", "--profile=gateway"]
    done = subprocess.run([*command, "config", "--quiet"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_dockerfile_is_pinned_small_and_not_root() -> None:
    lists = deployed.dockerfile_lists()
    assert lists["ENTRYPOINT"] == ["/usr/bin/tini", "--", "/usr/bin/tensorflow_model_server"]
    parser = pytest.importorskip("dockerfile_parse", reason="a parser of Dockerfiles, for tests")
    parsed = parser.DockerfileParser(fileobj=io.BytesIO(rendered()["docker/Dockerfile"].encode()))
    assert parsed.baseimage == deploy.BASE_IMAGE
    steps = [each["instruction"] for each in parsed.structure if each["instruction"] != "COMMENT"]
    assert steps == [
        *("FROM", "LABEL", "RUN", "ENV", "COPY", "COPY", "COPY", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
    ]
    assert parsed.labels["org.opencontainers.image.title"] == deployed.one("Deployment")["metadata"]["name"]
    (user,) = [each["value"] for each in parsed.structure if each["instruction"] == "USER"]
    assert user == "10001:10001"
    assert f"{deployed.pod()['securityContext']['runAsUser']}:{deployed.pod()['securityContext']['runAsGroup']}" == user
    copied = {each["value"].split()[-2] for each in parsed.structure if each["instruction"] == "COPY"}
    seen = {line[1:] for line in rendered()["docker/Dockerfile.dockerignore"].splitlines() if line.startswith("!")}
    assert {name.rstrip("/") for name in copied} == seen


def test_every_image_is_pinned_to_a_version() -> None:
    used = [service["image"] for service in deployed.compose()["services"].values()]
    used += [each["image"] for each in (*deployed.pod()["containers"], *deployed.pod()["initContainers"])]
    used += [
        each.content["spec"]["predictor"]["model"]["image"]
        for each in deployed.documents(rendered(), "kserve/")
        if each.kind == "InferenceService"
    ]
    for image in used:
        assert re.fullmatch(r"[a-z0-9/.-]+:(v?\d+\.\d+\.\d+[a-z0-9.-]*|[0-9a-f]{12})", image), image
    assert len(set(used)) == 5


@pytest.mark.parametrize("upstream", ["serving", "127.0.0.1"])
def test_nginx_takes_the_gateway(tmp_path, upstream) -> None:
    crossplane = pytest.importorskip("crossplane", reason="a parser of nginx, for tests")
    config = deployed.documents(rendered(), "kubernetes/configmap")[1].content["data"]["nginx.conf"]
    text = rendered()["docker/nginx.conf"] if upstream == "serving" else config
    assert f"http://{upstream}:8501" in text
    (tmp_path / "nginx.conf").write_text(text)
    found = crossplane.parse(str(tmp_path / "nginx.conf"), strict=True)
    # Words that the parser does not know: a map's default, and a directive younger than it.
    unknown = {re.search(r'unknown directive "(\w+)"', each["error"]).group(1) for each in found["errors"]}
    assert unknown == {"default", "http2"}


# What goes wrong in practice: where it is avoided, how, and that the file says why.
PITFALLS = {
    "a half-copied version is served": ("kubernetes/deployment.yaml", r"never finds half a version", r"tmp-\$"),
    "whatever lies in the folder is served": ("config/models.config", r"# - `specific`", r"specific \{"),
    "relative base path": ("config/models.config", r"# - base_path is absolute", r'base_path: "/models/'),
    "one missing base path freezes all": ("config/models.config", r"NO model gets new versions", r"base_path"),
    "a failed number never reloads": ("config/models.config", r"never tried again under its number", r"versions:"),
    "a reload unloads what is left out": ("config/models.config", r"the whole list, always", r"config \{"),
    "labels at start": (
        "docker/Dockerfile",
        r"# Labels at the start",
        r"allow_version_labels_for_unavailable_models=true",
    ),
    "the bucket is listed every second": ("docker/Dockerfile", r"paid listing", r"file_system_poll_wait_seconds=60"),
    "SIGTERM is ignored": ("docker/Dockerfile", r"would ignore SIGTERM", r"/usr/bin/tini"),
    "a shell as process 1": ("docker/Dockerfile", r"passes no signal on", r'ENTRYPOINT \["'),
    "calls are dropped at the end": ("kubernetes/deployment.yaml", r"drops what it is doing", r"preStop"),
    "the status page is always 200": ("kubernetes/deployment.yaml", r"it is 200", r"labels/stable/metadata"),
    "retries outlast the probe": (
        "kubernetes/deployment.yaml",
        r"loading, warm-up and retries",
        r"failureThreshold: 60",
    ),
    "memory grows at every swap": ("docker/Dockerfile", r"memory grows at every swap", r"libjemalloc"),
    "memory for two versions": ("kubernetes/deployment.yaml", r"memory for two versions", r"memory: \d+Mi"),
    "a GPU's whole memory": ("docker/Dockerfile", r"takes all memory unless", r"per_process_gpu_memory_fraction"),
    "batching of two sizes": ("config/batching.config", r"fail both with", r"pad_variable_length_inputs is no way out"),
    "a larger request than a batch": ("config/batching.config", r"refused with 400", r"max_batch_size \{ value"),
    "metrics are 404": ("config/monitoring.config", r"Without it the path is 404", r"enable: true"),
    "KServe's metrics path": (
        "kserve/brain-mri.yaml",
        r"own path, /metrics, is 404",
        r"/monitoring/prometheus/metrics",
    ),
    "KServe's V2": ("kserve/brain-mri.yaml", r"V2 is not supported", r"protocolVersion: v1"),
    "JSON of 50,000 brackets": ("docker/nginx.conf", r"CVE-2025-0649", r"return 401"),
    "no authentication": ("kubernetes/networkpolicy.yaml", r"ask for no token", r"port: 8443"),
    "anybody reloads the list of models": ("docker/nginx.conf", r"HandleReloadConfigRequest", r"GetModelStatus \{"),
    "authentication by an annotation": ("kubernetes/ingress.yaml", r"open to everybody", r"tls:"),
    "a profiler for anybody": ("docker/Dockerfile", r"start a profiler", r"enable_profiler=false"),
    "more threads than processors": ("docker/Dockerfile", r"As many threads", r"intra_op_parallelism=2"),
    "images are logged or kept": ("docker/nginx.conf", r"none reaches a disk", r"client_body_temp_path /tmp"),
    "gRPC stays on one pod": ("kubernetes/service.yaml", r"stays on one pod for ever", r"clusterIP: None"),
    "a subPath is never renewed": ("kubernetes/configmap.yaml", r"mounted by subPath", r"immutable: true"),
    "no image for arm64": ("docker/docker-compose.yml", r"no image for arm64", r"platform: linux/amd64"),
    "images as JSON are slow": ("README.md", r"smaller and faster than images as JSON", r"serve_bytes"),
    "a URL with a label": ("config/models.config", r"/labels/stable:predict", r'key: "stable"'),
    "2,000 series a server": ("docker/prometheus.yml", r"About 2,000 series", r"action: keep"),
}


@pytest.mark.parametrize(("path", "reason", "means"), PITFALLS.values(), ids=PITFALLS)
def test_each_pitfall_is_avoided_and_the_reason_stands_beside_it(path, reason, means) -> None:
    lines = rendered()[path].splitlines()
    comments = [line for line in lines if path.endswith(".md") or line.lstrip().startswith("#")]
    assert re.search(reason, "\n".join(comments)), reason
    assert re.search(means, rendered()[path]), means
