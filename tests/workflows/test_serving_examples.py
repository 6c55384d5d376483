"""The commands and the Python of docs/serving.md, run as they stand there, against a server started as it says."""

from __future__ import annotations

import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.serving import test_process

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory) -> pathlib.Path:
    """A folder like the reader's: a model and an image, under the names of the page."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(pathlib.Path(trained.published.folder).parent, folder / "saved_models" / "scans")
    Image.fromarray(np.full((12, 10), 99, np.uint8)).save(folder / "scan.png")
    return folder


@pytest.fixture(scope="module")
def ports(place):
    """Starts the server by the page's first command, on ports of its own; ends it with SIGTERM."""
    command = re.search(r"^python (main\.py --mode=serve .*)$", PAGE, re.M)
    assert command is not None
    free = test_process.free_port(), test_process.free_port()
    arguments = [ROOT / "main.py", *command.group(1).split()[1:], f"--rest_api_port={free[0]}", f"--port={free[1]}"]
    with open(place / "server.log", "w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, *arguments], cwd=place, stdout=log, stderr=subprocess.PIPE, text=True
        )
        assert server.stderr is not None
        lines = iter(server.stderr.readline, "")
        assert any(f"REST and page at http://127.0.0.1:{free[0]}" in line for line in lines), "it did not start"
        yield free
        server.terminate()
        server.communicate(timeout=60)
        assert server.returncode == 0


def moved(text: str, ports: tuple[int, int]) -> str:
    return text.replace("127.0.0.1:8501", f"127.0.0.1:{ports[0]}").replace("127.0.0.1:8500", f"127.0.0.1:{ports[1]}")


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_the_commands(place, ports) -> None:
    commands = re.findall(r"^curl .*$", PAGE, re.M)
    assert len(commands) == 4
    for command in commands:
        ran = subprocess.run(
            ["bash", "-c", moved(command, ports)], cwd=place, capture_output=True, text=True, check=True, timeout=60
        )
        assert '"error":' not in ran.stdout, command
        assert any(word in ran.stdout for word in ("AVAILABLE", "signature_def", "probabilities")), command


def test_the_python(place, ports) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    ran = subprocess.run(
        [sys.executable, "-c", moved(block, ports)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.endswith("(1, 64, 64, 1)\n")


def test_the_log_holds_nothing_of_the_calls(place, ports) -> None:
    text = (place / "server.log").read_text(encoding="utf-8")
    assert "scan.png" not in text
    assert str(place) not in text
