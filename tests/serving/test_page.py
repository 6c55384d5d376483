"""The page's routes: what they serve, what they refuse, and that nothing of it needs another host."""

from __future__ import annotations

import re

import pytest
from starlette import applications, testclient

from medkeras import errors
from medkeras.serving import page, status


class Parrot:
    """Says what it was asked."""

    def models(self):
        return [{"name": "lungs"}]

    def answer(self, model, content, frame=None):
        if model != "lungs":
            raise status.StatusError(status.Code.NOT_FOUND, f"Servable not found for request: Latest({model})")
        if content == b"text":
            raise errors.RefusalError("a file that looks like text")
        return {"model": model, "length": len(content), "frame": frame}


@pytest.fixture(scope="module")
def client():
    return testclient.TestClient(applications.Starlette(routes=page.routes(Parrot())))


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/page/page.css", "text/css"), ("/page/page.js", "text/javascript")]
)
def test_the_page_and_its_parts(client, path, kind) -> None:
    reply = client.get(path)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == f"{kind}; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in reply.headers["content-security-policy"]
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_the_page_names_no_other_host_and_says_what_it_is_not(client) -> None:
    parts = [client.get(path).text for path in ("/", "/page/page.css", "/page/page.js")]
    assert set(re.findall(r"https?://[^\s\"']+", "".join(parts))) == {"http://www.w3.org/2000/svg"}
    assert "not a medical device" in parts[0]
    assert "innerHTML" not in parts[2]


def test_every_element_that_the_script_asks_for_is_in_the_page(client) -> None:
    markup, script = client.get("/").text, client.get("/page/page.js").text
    names = re.search(r"\[([^\]]+)\]\.map\(\(id\)", script)
    assert names is not None
    asked = re.findall(r'"(\w+)"', names.group(1))
    assert asked == ["model", "drop", "files", "state", "answers", "card", "answer"]
    assert all(f'id="{name}"' in markup for name in asked)


def test_models(client) -> None:
    assert client.get("/page/models").json() == [{"name": "lungs"}]


@pytest.mark.parametrize(("query", "frame"), [("", None), ("&frame=3", 3), ("&frame=-1", None), ("&frame=x", None)])
def test_a_file_is_answered_for(client, query, frame) -> None:
    reply = client.post(f"/page/answer?model=lungs{query}", content=b"\x00" * 1000)
    assert reply.json() == {"model": "lungs", "length": 1000, "frame": frame}


@pytest.mark.parametrize("frame", ["9" * 19, "9" * 5000, "\u0663"])
def test_numbers_of_frames_are_bounded(client, frame) -> None:
    chosen = client.post("/page/answer", params={"model": "lungs", "frame": frame}, content=b"x").json()["frame"]
    assert chosen is None or chosen <= 10**6


def test_a_refusal_is_an_answer_and_a_missing_model_is_not(client) -> None:
    refused = client.post("/page/answer?model=lungs", content=b"text")
    assert (refused.status_code, refused.json()) == (200, {"error": "a file that looks like text"})
    missing = client.post("/page/answer?model=none", content=b"x")
    assert missing.status_code == 404
    assert missing.json() == {"error": "Servable not found for request: Latest(none)"}


def test_methods(client) -> None:
    assert client.post("/").status_code == 405
    assert client.get("/page/answer").status_code == 405
