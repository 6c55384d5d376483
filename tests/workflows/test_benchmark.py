"""`--mode=benchmark`: numbers that fit together, of the right models on the right cases; never what the times are."""

from __future__ import annotations

import json
import pathlib
import re
import shutil

import numpy as np
import pytest

from medkeras import errors
from medkeras.edge import forms, lite, machine, metadata, timing
from medkeras.evaluation import edge_page, intervals, predictions
from medkeras.workflows import accuracies, benchmark, export, opening, publishing

SECONDS = 0.05


@pytest.fixture(scope="module")
def file(trained, tmp_path_factory) -> pathlib.Path:
    """The trained model as a TFLite file that says what its classes are."""
    opened = opening.open_model(trained.published.folder)
    form = forms.Form(size=opened.canvas.size, channels=opened.canvas.channels)
    network = export.load_keras(opened.folder / publishing.KERAS_FILE)
    content = lite.convert(network, opened.task.outputs, opened.canvas, form).content
    facts = {
        "name": opened.card.name,
        "version": opened.card.version,
        "classes": list(opened.task.classes),
        "multilabel": False,
        "dtype": form.dtype,
        "size": list(form.size),
        "channels": form.channels,
        "value_range": list(opened.card.input["value_range"]),
        "units": opened.card.input["units"],
        "resize": opened.canvas.mode,
        "limits": [],
    }
    path = tmp_path_factory.mktemp("files") / "small.tflite"
    path.write_bytes(metadata.embed(content, facts))
    return path


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("broken") / "broken.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(range(256)))
    return path


@pytest.fixture(scope="module")
def done(trained, file, broken, tmp_path_factory) -> benchmark.Benchmarked:
    """One benchmark of a SavedModel, its file and a broken one, with data."""
    output = tmp_path_factory.mktemp("out") / "benchmark"
    models = [trained.published.folder, file, broken]
    with pytest.MonkeyPatch.context() as patch:
        # Each number of threads would start TensorFlow once more.
        patch.setattr(machine, "processors", lambda: 1)
        return benchmark.benchmark(models, trained.settings, output=output, seconds=SECONDS)


def test_a_broken_file_is_named_and_the_others_are_measured(done, trained, file, broken) -> None:
    saved = f"{trained.published.folder.parent.name}-{trained.published.folder.name}"
    assert list(done.result["models"]) == [saved, "small.tflite"]
    assert done.result["models"]["small.tflite"]["file"] == str(file)
    (reason,) = done.failed
    assert reason.startswith(f"{broken}: cannot be run (ValueError: ")
    assert done.result["failed"] == [{"file": str(broken), "reason": reason}]
    assert f"Not measured: {reason}" in edge_page.notes(done.result)


def test_the_numbers_fit_together(done, trained, file) -> None:
    saved, small = done.result["models"].values()
    assert (saved["runtime"], small["runtime"]) == ("tensorflow", "litert")
    assert small["size_bytes"] == file.stat().st_size
    folder = trained.published.folder
    graph = [folder / "saved_model.pb", *(folder / "variables").iterdir()]
    assert saved["size_bytes"] == sum(path.stat().st_size for path in graph)
    for entry in (saved, small):
        latency = entry["latency_ms"]
        assert 0 < latency["median"] <= latency["p95"] <= latency["p99"]
        assert list(entry["throughput"]) == [str(count) for count in done.result["threads"]]
        assert all(list(rates) == ["1", "4", "16", "32"] for rates in entry["throughput"].values())
        assert entry["peak_mib"] > 5
        assert entry["start_ms"] >= entry["import_ms"] + entry["load_ms"]
    # TensorFlow alone takes hundreds of MiB, and LiteRT does not load it.
    assert saved["peak_mib"] > 3 * small["peak_mib"]


def test_accuracy_is_that_of_the_test_split_with_wilsons_interval(done, trained) -> None:
    table = predictions.read_csv(trained.published.folder / "predictions.csv")
    hits = (table.decisions == table.target).all(axis=1)
    low, high = intervals.wilson(hits.sum(), len(hits))
    for entry in done.result["models"].values():
        accuracy = entry["accuracy"]
        assert (accuracy["n"], accuracy["n_patients"]) == (8, 8)
        assert (accuracy["value"], accuracy["low"], accuracy["high"]) == pytest.approx((hits.mean(), low, high))
    assert done.result["data"] == {"source": trained.settings.data.source, "cases": "the test split: 8 images"}


def test_the_folder_holds_both_files_and_they_agree(done) -> None:
    assert sorted(path.name for path in done.folder.iterdir()) == [benchmark.HTML, benchmark.JSON]
    assert json.loads((done.folder / benchmark.JSON).read_text()) == done.result
    assert (done.folder / benchmark.HTML).read_text() == edge_page.render(done.result)


def test_the_page_stands_alone_and_says_what_json_says(done) -> None:
    page = (done.folder / benchmark.HTML).read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    for name in done.result["models"]:
        assert page.count(f">{name}<") >= 3
    for sentence in done.sentences:
        assert sentence in page
    assert done.failed[0] in page.replace("&#x27;", "'")
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    assert page.count("<figure") == 2


@pytest.fixture
def quick(monkeypatch) -> list[list[str]]:
    """Measures nothing, and notes what would have been."""
    asked: list[list[str]] = []

    def measure(subjects, plan, *, track):
        asked.append([each.title for each in subjects])
        return {each.title: _figures(each) for each in subjects}, {}

    monkeypatch.setattr(benchmark.timing, "measure", measure)
    return asked


def _figures(subject: timing.Subject) -> dict:
    latency = {"median": 2.0, "p95": 3.0, "p99": 4.0, "calls": 10}
    threads = timing.Plan().threads
    return {
        "runtime": subject.runtime,
        "size_bytes": subject.size_bytes,
        "import_ms": 1.0,
        "load_ms": 2.0,
        "first_ms": 3.0,
        "start_ms": 6.0,
        "starts": 2,
        "latency_ms": latency,
        "threads": threads[-1],
        "latency_ms_by_threads": {str(count): latency for count in threads},
        "throughput": {str(count): {str(batch): 500.0 for batch in timing.BATCHES} for count in threads},
        "peak_mib": 9.0,
        "spread": 1.5,
        "input": {"shape": [4, 3, 1], "dtype": "uint8"},
    }


def test_folders_mean_the_models_in_them_each_once(trained, file, tmp_path, quick) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(file, tmp_path / name / "model.tflite")
    models = [trained.published.folder.parent, trained.published.folder, tmp_path / "one", tmp_path / "two", file]
    result = benchmark.benchmark(models, output=tmp_path / "out").result
    saved = f"{trained.published.folder.parent.name}-{trained.published.folder.name}"
    assert quick == [[saved, "one/model.tflite", "two/model.tflite", "small.tflite"]]
    assert result["data"] is None
    assert all(entry["accuracy"] is None for entry in result["models"].values())
    assert "The machine was not steady" in edge_page.render(result)


def test_a_saved_model_that_was_changed_is_not_measured(trained, file, tmp_path, quick) -> None:
    folder = tmp_path / "model" / "1"
    shutil.copytree(trained.published.folder, folder)
    with open(folder / "variables" / "variables.index", "ab") as index:
        index.write(b"x")
    done = benchmark.benchmark([folder, file], output=tmp_path / "out")
    assert quick == [["small.tflite"]]
    assert "does not have the SHA-256 that the card gives" in done.failed[0]


def test_a_file_that_says_nothing_is_measured_without_accuracy(trained, file, tmp_path, quick) -> None:
    silent = tmp_path / "silent.tflite"
    silent.write_bytes(_without_metadata(file.read_bytes()))
    result = benchmark.benchmark([silent, file], trained.settings, output=tmp_path / "out").result
    assert result["models"]["silent.tflite"]["accuracy"] is None
    assert result["models"]["small.tflite"]["accuracy"]["n"] == 8
    assert result["notes"] == ["silent.tflite does not say what its classes are: its accuracy is not known."]


def _without_metadata(content: bytes) -> bytes:
    return content.replace(b"medkeras", b"anything")


@pytest.mark.parametrize("name", ["model.h5", "nothing", "a folder/"])
def test_what_is_no_model_is_refused_at_once(name, tmp_path, quick) -> None:
    place = tmp_path / name
    if name.endswith("/"):
        place.mkdir()
    elif name != "nothing":
        place.write_bytes(b"")
    with pytest.raises(errors.ModelError, match="Received: "):
        benchmark.benchmark([place], output=tmp_path / "out")
    assert not quick
    assert not (tmp_path / "out").exists()


def test_a_benchmark_of_nothing_is_refused(tmp_path) -> None:
    with pytest.raises(errors.ConfigError, match="--model=FILE or FOLDER"):
        benchmark.benchmark([], output=tmp_path / "out")


def test_where_no_model_runs_nothing_is_written(broken, tmp_path) -> None:
    with pytest.raises(errors.ModelError, match="cannot be run"):
        benchmark.benchmark([broken], output=tmp_path / "out", seconds=SECONDS)
    assert list(tmp_path.iterdir()) == []


def test_results_are_not_written_over(file, tmp_path, quick) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(errors.ModelError, match="new folder"):
        benchmark.benchmark([file], output=tmp_path)
    assert not quick


def test_data_of_other_classes_are_refused_before_anything_is_measured(
    file, trained, write_scans, tmp_path, quick
) -> None:
    source = write_scans(tmp_path / "scans", labels=("down", "sideways"))
    with pytest.raises(errors.ModelError, match="tells down, up apart.*sideways"):
        benchmark.benchmark([file], trained.settings.override({"data.source": source}), output=tmp_path / "out")
    assert not quick


def test_cases_that_a_model_has_seen_do_not_count_where_data_hold_no_test(
    trained, source, tmp_path, quick, monkeypatch
) -> None:
    asked = []
    entry = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8, "n_patients": 8}
    monkeypatch.setattr(accuracies, "_accuracy", lambda model, data: asked.append(data.stores["test"].cases) or entry)
    everything = tmp_path / "scans"
    for split in ("train", "test"):
        for path in pathlib.Path(source.removeprefix("folder:"), split).glob("*/*"):
            (everything / path.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, everything / path.parent.name / f"{split}-{path.name}")
    settings = trained.settings.override({"data.source": f"folder:{everything}"})
    result = benchmark.benchmark([trained.published.folder], settings, output=tmp_path / "out").result
    (counted,) = asked
    assert len(counted) == 8
    assert all("test-" in case.path for case in counted)
    assert "hold no test split" in result["notes"][0]


def test_wilson_counts_patients_and_not_images() -> None:
    rows = 12
    table = predictions.Predictions(
        case_id=tuple(map(str, range(rows))),
        patient_id=tuple(str(row // 3) for row in range(rows)),
        path=("",) * rows,
        split=("test",) * rows,
        classes=("a", "b"),
        target=np.tile([[1, 0]], (rows, 1)),
        probabilities=np.array([[0.9, 0.1]] * 9 + [[0.2, 0.8]] * 3),
    )
    found = accuracies.wilson(table)
    assert (found["value"], found["n"], found["n_patients"]) == (0.75, 12, 4)
    # Three of four patients wholly right: worth no more than four cases.
    assert found["high"] - found["low"] > np.diff(intervals.wilson(9, 12))[0] * 1.3
