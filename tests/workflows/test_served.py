"""A model that was trained and exported, served: every signature, both protocols, one and many and all at once."""

from __future__ import annotations

import contextlib
import io
import pathlib
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2

from medkeras.export import saved_model
from medkeras.serving import (
    access_log,
    batching,
    client,
    grpc_protocol,
    grpc_server,
    loading,
    manager,
    metrics,
    options,
    process,
    rest,
    status,
    verified,
    versions,
)
from tests.serving import sockets, test_process

CLIENTS = 8


@pytest.fixture(scope="module", params=[False, True], ids=["alone", "batched"])
def running(trained, request):
    """Both ports of a server of the trained model, without and with batching; and the registry behind them."""
    base = pathlib.Path(trained.published.folder).parent
    chosen = options.from_flags({"port": test_process.free_port(), "enable_batching": request.param})
    measured = metrics.Metrics()
    kept = manager.Manager(loading.Loader(chosen, verified.Verifier(), measured))
    kept.start(versions.single("scans", str(base)))
    log = access_log.AccessLog(io.StringIO())
    answer = lambda asked, registry: rest.answer(asked, registry, chosen)  # noqa: E731
    rpc = grpc_server.build(kept, kept, chosen)
    with contextlib.closing(kept), contextlib.closing(log):
        kept.wait(threading.Event())
        rpc.start()
        with sockets.serving(process.Parts(chosen, kept, answer, measured, log)) as run:
            yield {"http": run.port, "grpc": chosen.port}, kept
        rpc.stop(None).wait()


@pytest.fixture(scope="module")
def direct(trained):
    return saved_model.Served(trained.published.folder)


def images(draw, count: int) -> np.ndarray:
    return np.stack([draw(number, "up" if number % 2 else "down") for number in range(count)])[..., None]


def assert_equal(found, expected) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(np.asarray(found[name], float), np.asarray(value, float), atol=1e-6, err_msg=name)


def test_the_model_is_batched_or_not(running, request) -> None:
    _, kept = running
    with kept.lease("scans") as lease:
        assert isinstance(lease.servable, batching.Batched) == ("[batched" in request.node.name)


@pytest.mark.parametrize("scheme", ["http", "grpc"])
@pytest.mark.parametrize("count", [1, 5])
def test_every_signature_answers_as_the_saved_model_does(running, direct, draw, scheme, count) -> None:
    ports, _ = running
    given = images(draw, count)
    encoded = [tf.io.encode_png(image).numpy() for image in given]
    with client.Client(f"{scheme}://127.0.0.1:{ports[scheme]}", "scans") as asking:
        assert_equal(asking.predict(given), direct.predict(given))
        assert_equal(asking.explain(given), direct.explain(given))
        assert_equal(asking.predict_bytes(encoded), direct.predict_bytes(encoded))


def test_classify_gives_the_probabilities(running, direct, draw) -> None:
    _, kept = running
    given = images(draw, 3)
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "scans", "classify"
    for image in given:
        example = request.input.example_list.examples.add()
        example.features.feature["image_bytes"].bytes_list.value.append(tf.io.encode_png(image).numpy())
    found = grpc_protocol.classify(request, kept).result.classifications
    scores = [{each.label: each.score for each in one.classes} for one in found]
    expected = direct.predict(given)["probabilities"]
    np.testing.assert_allclose([[row["down"], row["up"]] for row in scores], expected, atol=1e-6)


def test_clients_that_ask_at_once_each_get_their_own_answer(running, direct, draw) -> None:
    ports, _ = running
    given = images(draw, CLIENTS)
    expected = direct.predict(given)["probabilities"]
    found = np.zeros((CLIENTS, 6, 2))

    def ask(number: int) -> None:
        scheme = ("http", "grpc")[number % 2]
        with client.Client(f"{scheme}://127.0.0.1:{ports[scheme]}", "scans") as asking:
            for turn in range(6):
                found[number, turn] = asking.predict(given[number : number + 1])["probabilities"][0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_allclose(found, np.repeat(expected[:, None], 6, axis=1), atol=1e-6)


def test_the_card_guards_the_model(trained, tmp_path) -> None:
    folder = tmp_path / "scans" / "1"
    shutil.copytree(trained.published.folder, folder)
    (variables,) = (folder / "variables").glob("*.data*")
    content = bytearray(variables.read_bytes())
    content[len(content) // 2] ^= 1
    variables.write_bytes(bytes(content))
    chosen = options.Options(max_num_load_retries=0)
    load = loading.Loader(chosen, verified.Verifier(), metrics.Metrics())
    with pytest.raises(status.StatusError, match="card"):
        load("scans", 1, folder)
