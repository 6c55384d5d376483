"""What runs inside the containers of a deployment: readiness, the disk, and the commands of its README."""

from __future__ import annotations

import contextlib
import http.server
import os
import pathlib
import re
import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.serving import deployed
from tests.serving.deployed import MODELS, rendered

PATHS = [each.metadata_path for each in MODELS]


@contextlib.contextmanager
def server(statuses: dict[str, int]) -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.get(self.path, 404))
            self.end_headers()
            self.wfile.write(b'{"model_spec": {}}\n')

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving.server_address[1]
        serving.shutdown()


@pytest.mark.parametrize(
    ("statuses", "code"),
    [({}, 1), ({PATHS[0]: 200}, 1), (dict.fromkeys(PATHS, 200), 0), ({PATHS[0]: 200, PATHS[1]: 400}, 1), (None, 1)],
)
def test_ready_is_who_answers_for_every_models_metadata(tmp_path, statuses, code) -> None:
    (tmp_path / "ready").write_text(rendered()["docker/ready.sh"])
    with server(statuses or {}) as port:
        place = str(port if statuses is not None else 1)
        command = ["bash", str(tmp_path / "ready"), "127.0.0.1", place]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout) == (code, "")


@pytest.fixture
def image(tmp_path) -> pathlib.Path:
    """Returns a folder as the image has it at /models, with sums that are right."""
    for each in MODELS:
        for one in each.versions:
            folder = tmp_path / "models" / each.name / str(one.number)
            (folder / "variables").mkdir(parents=True)
            (folder / "saved_model.pb").write_bytes(f"{each.name} {one.number}".encode())
            (folder / "variables" / "data").write_bytes(b"numbers")
    command = "find . -type f ! -name SHA256SUMS | sort | xargs sha256sum > SHA256SUMS"
    subprocess.run(["bash", "-c", command], cwd=tmp_path / "models", check=True)
    (tmp_path / "store").mkdir()
    return tmp_path


def fill_store(root: pathlib.Path) -> subprocess.CompletedProcess[str]:
    (init,) = deployed.pod()["initContainers"]
    (script,) = init["args"]
    script = re.sub(r"/(models|store)\b", lambda match: f"{root}/{match[1]}", script)
    environment = {**os.environ, "HOSTNAME": "pod-1"}
    return subprocess.run([*init["command"], script], capture_output=True, text=True, env=environment, check=False)


def names(root: pathlib.Path) -> list[str]:
    return sorted(path.relative_to(root / "store").as_posix() for path in (root / "store").glob("*/*"))


def test_the_disk_is_filled_from_the_image_once(image) -> None:
    for _ in range(2):
        done = fill_store(image)
        assert (done.returncode, done.stderr) == (0, "")
        assert names(image) == ["X-Ray.v2/1", "brain_mri/3", "brain_mri/4"]
    assert (image / "store" / "brain_mri" / "4" / "variables" / "data").read_bytes() == b"numbers"


def test_what_a_pod_left_half_done_is_done_again(image) -> None:
    half = image / "store" / "brain_mri" / "tmp-3-pod-1"
    half.mkdir(parents=True)
    (half / "saved_model.pb").write_bytes(b"half")
    assert fill_store(image).returncode == 0
    assert names(image) == ["X-Ray.v2/1", "brain_mri/3", "brain_mri/4"]
    assert (image / "store" / "brain_mri" / "3" / "saved_model.pb").read_bytes() == b"brain_mri 3"


def test_a_damaged_file_on_the_disk_keeps_the_pod_from_starting(image) -> None:
    assert fill_store(image).returncode == 0
    (image / "store" / "brain_mri" / "3" / "variables" / "data").write_bytes(b"numbres")
    done = fill_store(image)
    assert done.returncode != 0
    assert "brain_mri/3/variables/data: FAILED" in done.stdout


def test_shell_in_the_files_is_shell() -> None:
    blocks = re.findall(r"^```sh\n(.*?)^```", rendered()["README.md"], re.M | re.S)
    assert len(blocks) == 9
    for text in (*blocks, rendered()["docker/ready.sh"], *deployed.pod()["initContainers"][0]["args"]):
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_files_that_the_readme_names_are_there() -> None:
    text = rendered()["README.md"]
    for path in re.findall(r"`((?:config|docker|kubernetes|kserve|models)/[\w./-]+\.\w+)`", text):
        assert path in rendered(), path
    for option in re.findall(r"--(?:file|kustomize|filename)=((?:docker|kubernetes|kserve)/[\w./-]*)", text):
        assert any(path.startswith(option) for path in rendered()), option
