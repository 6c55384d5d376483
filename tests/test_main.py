"""The front door: exit codes, one sentence for each mistake, and one JSON object at the end."""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import subprocess
import sys
import warnings

import numpy as np
import pytest
from absl.testing import flagsaver
from PIL import Image

import main
import medkeras
from medkeras.workflows import commands, crossval

ROOT = pathlib.Path(__file__).parents[1]
TINY = (
    *("--set=model.name=cnn", "--set=model.weights=none", "--set=train.epochs=1", "--set=train.batch_size=4"),
    *("--set=data.validation=0.25", "--set=data.test=0.25", "--set=name=tiny"),
)


def call(*arguments: str) -> int:
    """Runs the front door in this process and returns its exit code."""
    with flagsaver.flagsaver(), warnings.catch_warnings():
        # TensorFlow 2.21 and NumPy 2 on every array that Keras saves.
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)
        try:
            main.parse(["main", *arguments])
        except SystemExit as stop:
            return stop.code
        return main.main([])


@pytest.fixture(autouse=True)
def _program_name(monkeypatch) -> None:
    """Flags belong to the module that defines them, which is `main` when it is imported."""
    monkeypatch.setattr(sys, "argv", ["main"])


def tree(root: pathlib.Path, *folders: str, count: int = 8) -> str:
    for place, folder in enumerate(folders):
        (root / folder).mkdir(parents=True)
        for index in range(count):
            image = np.random.default_rng(index).integers(0, 128, (8, 8), np.uint8) + np.uint8(100 * (place % 2))
            Image.fromarray(image).save(root / folder / f"{index}.png")
    return f"--data=folder:{root}"


def table(root: pathlib.Path, *lines: str) -> str:
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return f"--data=csv:{root / 'table.csv'}"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("main")


@pytest.fixture(scope="module")
def trained(root) -> list[str]:
    """Trains through the front door, once, and returns the lines on standard output."""
    data, places = tree(root / "scans", "sound", "ill"), (f"--output={root / 'models'}", f"--workdir={root / 'runs'}")
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert call("--mode=train", data, *TINY, *places, "--json") == 0
    return out.getvalue().splitlines()


@pytest.fixture(scope="module")
def model(root, trained) -> pathlib.Path:
    return root / "models" / "tiny"


MISTAKES = {
    "no mode": (
        [],
        "A mode is needed, such as --mode=train. Known: audit, benchmark, compare, crossval, deidentify, deploy, "
        "evaluate, export, predict, serve, train. Received: none",
    ),
    "unknown mode": (
        ["--mode=trian"],
        "Unknown mode; did you mean 'train'? Known: audit, benchmark, compare, crossval, deidentify, deploy, evaluate, "
        "export, predict, serve, train. Received: 'trian'",
    ),
    "unknown flag": (["--mode=train", "--modle=x"], "Unknown command line flag 'modle'. Did you mean: mode, model, "),
    "no flag": (["--mode=train", "phantom"], "Every argument is a flag, --name=value. Received: 'phantom'"),
    "unknown setting": (
        ["--mode=train", "--set=train.epoch=3"],
        "Unknown setting; did you mean 'train.epochs' or ",
    ),
    "no value": (["--mode=train", "--set=seed"], "A setting is written section.field=value. Received: 'seed'"),
    "wrong value": (["--mode=train", "--set=train.epochs=3.5"], "train.epochs is a whole number. Received: '3.5'"),
    "out of range": (["--mode=train", "--set=train.epochs=0"], "train.epochs lies between 1 and 100000. Received: 0"),
    "a large bound": (["--mode=train", "--set=seed=-1"], "seed lies between 0 and 2147483647. Received: -1"),
    "unknown recipe": (["--mode=train", "--recipe=phantm"], "Unknown recipe; did you mean 'phantom'?"),
    "unknown scheme": (["--mode=train", "--data=foldr:x"], "Unknown data scheme; did you mean 'folder'?"),
    "unknown model name": (["--mode=train", "--set=model.name=resnt"], "Unknown model; did you mean 'resnet'"),
    "no such folder": (
        ["--mode=train", "--data=folder:/no/such/folder"],
        "folder: needs a folder that exists. Received: '/no/such/folder'",
    ),
    "no model": (["--mode=predict", "--input=x.png"], "--mode=predict needs --model. Received: none"),
    "no such model": (
        ["--mode=predict", "--model=/no/such/model", "--input=x.png"],
        "A model is a folder that exists. Received: '/no/such/model'",
    ),
    "a flag of another mode": (
        ["--mode=train", "--model=x"],
        "--model belongs to benchmark, compare, deploy, evaluate, export, predict and serve. Received: --mode=train",
    ),
}


def complaint(capfd) -> str:
    """Returns what was said, which is one line on standard error and nothing else."""
    out, err = capfd.readouterr()
    said = [line for line in err.splitlines() if line.startswith("medkeras: ")]
    assert out == ""
    assert "Traceback" not in err
    assert len(said) == 1
    return said[0].removeprefix("medkeras: ")


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_end_in_one_sentence_and_exit_code_2(capfd, arguments, message) -> None:
    assert call(*arguments) == 2
    assert complaint(capfd).startswith(message)


def test_mistakes_in_folders(capfd, tmp_path) -> None:
    one = tree(tmp_path / "one", "only")
    empty = tree(tmp_path / "empty", "a", "b")
    (tmp_path / "empty" / "c").mkdir()
    strange = tree(tmp_path / "strange", "train/a", "train/b", "test/a", "test/c")
    for data, message in (
        (one, "A classifier needs two classes or more. Received: only"),
        (empty, f"Every class folder holds an image. Received: {tmp_path}/empty/c, without one"),
        (strange, "Every class of the test split stands in training too. Received: 'c' in test only"),
    ):
        assert call("--mode=train", data, f"--workdir={tmp_path / 'runs'}") == 2
        assert complaint(capfd) == message
    assert not (tmp_path / "runs").exists()


TABLES = {
    "a missing column": (
        ["path,lable", "a.png,x"],
        "{}: a table of cases has the column 'label'; is 'lable' meant? Received: path, lable",
    ),
    "one path twice": (
        ["path,label", "a.png,x", "a.png,y"],
        "{}: each path stands in one row. Received: '{folder}/a.png' twice, labelled 'x' and 'y'",
    ),
    "a patient in two splits": (
        ["path,label,patient_id,split", "a.png,x,P,train", "b.png,y,P,test", "c.png,y,Q,train"],
        "A patient's cases stay in one split. Received: 'a.png' (train) and 'b.png' (test) of one patient; "
        "1 cases stand apart from their patient's first one; data.leakage=drop takes such cases out of training",
    ),
}


@pytest.mark.parametrize(("lines", "message"), TABLES.values(), ids=TABLES)
def test_mistakes_in_tables(capfd, tmp_path, lines, message) -> None:
    assert call("--mode=train", table(tmp_path, *lines)) == 2
    assert complaint(capfd) == message.format(tmp_path / "table.csv", folder=tmp_path)


def test_an_unreadable_image_is_named(capfd, tmp_path) -> None:
    data = tree(tmp_path / "scans", "a", "b")
    (tmp_path / "scans" / "b" / "3.png").write_text("no picture")
    assert call("--mode=train", data, *TINY, f"--workdir={tmp_path / 'runs'}") == 2
    said = complaint(capfd)
    assert said.startswith(f"{tmp_path}/scans/b/3.png: ")
    assert said.endswith("data.on_error=skip leaves such files out")


def test_a_model_folder_that_is_not_ours(capfd, tmp_path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"theirs")
    for mode in ("export", "predict --input=x.png", "evaluate --data=phantom"):
        assert call(f"--mode={mode.split()[0]}", f"--model={tmp_path}", *mode.split()[1:]) == 2
        assert complaint(capfd) == f"A medkeras model holds card.json. Received: '{tmp_path}', without one"


def test_an_output_that_cannot_be_written_is_the_users_mistake(capfd, model, tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    output = f"--output={tmp_path / 'file' / 'out.csv'}"
    assert call("--mode=predict", f"--model={model}", f"--input={ROOT / 'docs' / 'images'}", output) == 2
    assert complaint(capfd) == f"{tmp_path}/file/out.csv: Not a directory"


def test_ctrl_c_ends_with_130(capfd, monkeypatch) -> None:
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "MODES", {**commands.MODES, "train": interrupt})
    assert call("--mode=train") == 130
    assert complaint(capfd) == "Interrupted; no half-written version was left behind."


def last_json(capfd) -> tuple[dict[str, object], list[str]]:
    """Returns the object on the last line of standard output, and the lines before it."""
    *lines, last = capfd.readouterr().out.splitlines()
    return json.loads(last), lines


def test_train_answers_with_json(root, model, trained) -> None:
    answer = json.loads(trained[-1])
    assert (answer["mode"], answer["model"]) == ("train", str(model / "1"))
    assert answer["run"] == str(root / "runs" / "tiny" / "1")
    assert answer["metrics"] == json.loads((model / "1" / "metrics.json").read_text())["metrics"]
    assert "4 test cases, 95% intervals" in trained
    assert f"report  {model / '1' / 'report.html'}" in trained


def test_evaluate_answers_with_json_and_refuses_strangers(capfd, root, model, tmp_path) -> None:
    arguments = ("--mode=evaluate", f"--model={model}", f"--output={tmp_path / 'out'}")
    assert call(*arguments, f"--data=folder:{root / 'scans'}", "--json") == 0
    answer, _ = last_json(capfd)
    assert answer["metrics"] == json.loads((model / "1" / "metrics.json").read_text())["metrics"]
    assert answer["output"] == str(tmp_path / "out")
    assert call(*arguments, tree(tmp_path / "new", "sound", "broken"), "--json") == 2
    assert complaint(capfd) == "This model tells ill, sound apart. Received: data with the class 'broken'"
    assert call(*arguments) == 2
    assert complaint(capfd) == "--mode=evaluate needs --data. Received: none"


def test_predict_answers_for_what_it_can_and_exits_with_2_for_the_rest(capfd, root, model, tmp_path) -> None:
    good, bad = root / "scans" / "ill" / "0.png", tmp_path / "bad.png"
    bad.write_bytes(b"")
    capfd.readouterr()
    arguments = ("--mode=predict", f"--model={model}", f"--input={good}")
    assert call(*arguments, "--json") == 0
    answer, lines = last_json(capfd)
    assert answer.items() >= {"mode": "predict", "predicted": 1, "unreadable": 0}.items()
    assert [line.split(",")[0] for line in lines] == ["path", str(good)]
    assert call(*arguments, f"--input={bad}", f"--output={tmp_path / 'out.csv'}", "--json") == 2
    out, err = capfd.readouterr()
    said, answer = out.splitlines()
    assert said == f"answers {tmp_path / 'out.csv'}: 1, unreadable: 1"
    assert json.loads(answer).items() >= {"predicted": 1, "unreadable": 1}.items()
    assert f"medkeras: {bad}: the file is empty\n" in err
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert rows[1:] == [lines[1], f"{bad},,,,,,,the file is empty"]
    assert call("--mode=predict", f"--model={model}") == 2
    said = "predict needs --input, image files or folders that hold some. Received: none"
    assert complaint(capfd) == said


def test_export_answers_with_json(capfd, model, tmp_path) -> None:
    capfd.readouterr()
    assert call("--mode=export", f"--model={model}", f"--output={tmp_path}", "--json") == 0
    answer, _ = last_json(capfd)
    assert answer == {"mode": "export", "model": str(tmp_path / "tiny" / "1")}


def process(*arguments: str, cwd: pathlib.Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "main.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def test_a_real_process_says_one_sentence_and_nothing_else(tmp_path) -> None:
    done = process("--mode=train", "--set=train.epoch=3", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("medkeras: Unknown setting; did you mean 'train.epochs'")
    assert list(tmp_path.iterdir()) == []


def test_a_real_process_predicts_without_chatter(root, model, tmp_path) -> None:
    done = process("--mode=predict", f"--model={model}", f"--input={root / 'scans' / 'ill'}", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 1 + 8 + 1
    assert json.loads(lines[-1])["predicted"] == 8


def test_crossval_says_where_its_models_are(capfd, monkeypatch, tmp_path) -> None:
    result = {"ensemble": "models/a-ensemble/1", "final": None, "pooled": {"metrics": {}}}
    monkeypatch.setattr(crossval.CrossValidated, "sentences", ("Found.",))
    monkeypatch.setattr(medkeras, "crossval", lambda *_, **__: crossval.CrossValidated(tmp_path, result), raising=False)
    assert call("--mode=crossval", f"--output={tmp_path}", "--json") == 0
    answer, lines = last_json(capfd)
    folder = f"{tmp_path}/models/a-ensemble/1"
    assert lines == ["Found.", "", f"model   {folder}", f"report  {tmp_path}/crossval.html"]
    assert (answer["ensemble"], answer["final"]) == (folder, None)


def test_a_table_of_one_patient_and_one_class_is_told_in_good_words(capfd, tmp_path) -> None:
    (tmp_path / "p.csv").write_text("case_id,patient_id,y_true,prob_a,prob_b\n1,p,a,0.9,0.1\n2,p,a,0.8,0.2\n")
    arguments = (f"--predictions={tmp_path / 'p.csv'}", f"--output={tmp_path / 'out'}", "--set=evaluation.resamples=20")
    assert call("--mode=evaluate", *arguments) == 0
    lines = capfd.readouterr().out.splitlines()
    assert lines[1] == "2 test cases of 1 patient, 95% intervals"
    assert "  auroc_macro        n/a  no interval" in lines


def test_sigterm_ends_it_as_ctrl_c_does() -> None:
    program = """
import os, runpy, signal, sys
import medkeras
medkeras.train = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)
sys.argv = ["main.py", "--mode=train"]
runpy.run_path("main.py", run_name="__main__")
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (130, "")
    assert ended.stderr == "medkeras: Interrupted; no half-written version was left behind.\n"
