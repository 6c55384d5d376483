"""The device bundle: what it holds, that its self-test proves something, and that it needs no TensorFlow."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import interpreter as litert
from PIL import Image

from medkeras import errors
from medkeras.edge import bundle, bundle_readme

CLASSES = ["glioma", "no tumour", "méningiome"]
SIZE = (6, 8)
LIMITS = ["This is research software: no decision about a patient may rest on it."]


def facts_of(dtype: str = "uint8", channels: int = 3, **more: object) -> dict[str, object]:
    return {
        "classes": CLASSES,
        "multilabel": False,
        "dtype": dtype,
        "size": list(SIZE),
        "channels": channels,
        "version": 4,
        "fingerprint": "ab" * 32,
        "limits": LIMITS,
    } | more


def converted(dtype: str = "uint8", channels: int = 3, batch: int = 1) -> bytes:
    pixels, scale = SIZE[0] * SIZE[1] * channels, {"uint8": 255.0, "uint16": 65535.0, "float32": 1.0}[dtype]
    weights = np.random.default_rng(1).normal(size=(pixels, len(CLASSES))).astype(np.float32) / 4

    def answer(image: tf.Tensor) -> dict[str, tf.Tensor]:
        values = keras.ops.reshape(keras.ops.cast(image, "float32") / scale, (-1, pixels))
        probabilities = keras.ops.softmax(keras.ops.matmul(values, weights))
        familiarity = keras.ops.mean(values, axis=1)
        return {
            "probabilities": probabilities,
            "prediction_set": probabilities >= 0.3,
            "abstain": familiarity < 0.5,
            "familiarity": familiarity,
        }

    spec = tf.TensorSpec([batch or None, *SIZE, channels], dtype, name="image")
    function = tf.function(answer, input_signature=[spec])
    return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], tf.Module()).convert()


def pictures(dtype: str = "uint8", channels: int = 3, count: int = 10) -> np.ndarray:
    values = np.random.default_rng(0).uniform(
        0, {"uint8": 256, "uint16": 65536, "float32": 1}[dtype], (count, *SIZE, channels)
    )
    return values.astype(dtype)


def answers_of(content: bytes, images: np.ndarray) -> dict[str, np.ndarray]:
    run = litert.Interpreter(model_content=content).get_signature_runner()
    batch = max(1, int(run.get_input_details()["image"]["shape_signature"][0]))
    each = [run(image=np.stack([image] * batch)) for image in images]
    return {name: np.stack([one[name][0] for one in each]) for name in each[0]}


def written(
    folder: pathlib.Path, dtype: str = "uint8", channels: int = 3, batch: int = 1, **more: object
) -> pathlib.Path:
    content, images = converted(dtype, channels, batch), pictures(dtype, channels)
    bundle.write(
        folder,
        name="brain",
        content=content,
        facts=facts_of(dtype, channels, batch=batch, **more),
        images=images,
        answers=answers_of(content, images),
        tolerance=1e-4,
    )
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> pathlib.Path:
    return written(tmp_path_factory.mktemp("bundle") / "brain")


@pytest.fixture
def copied(made, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(made, tmp_path / "copy"))


def run(folder: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", cwd=folder.parent)


def changed(path: pathlib.Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def listed_again(folder: pathlib.Path) -> None:
    """Writes SHA256SUMS anew, as somebody would who changes a file on purpose."""
    names = [line[66:] for line in (folder / bundle.SUMS).read_text(encoding="utf-8").splitlines()]
    sums = (f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names)
    (folder / bundle.SUMS).write_text("".join(sums), encoding="utf-8")


def test_selftest_passes(made) -> None:
    done = run(made, "--selftest")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASSED: largest difference 0, ")


@pytest.mark.parametrize(
    ("dtype", "channels", "batch"), [("uint8", 1, 0), ("uint16", 1, 4), ("uint16", 3, 1), ("float32", 1, 0)]
)
def test_every_form_of_a_file_is_proven(tmp_path, dtype, channels, batch) -> None:
    folder = written(tmp_path / "made", dtype, channels, batch)
    done = run(folder, "--selftest")
    assert done.returncode == 0, done.stderr
    answer = json.loads(run(folder, str(folder / "cases/04.npy")).stdout)
    expected = json.loads((folder / "cases/expected.json").read_text(encoding="utf-8"))["cases"][4]["answer"]
    assert list(answer["probabilities"].values()) == pytest.approx(expected["probabilities"], abs=1e-6)


def test_nothing_but_the_runtime_numpy_and_pillow_is_imported() -> None:
    tree = ast.parse(bundle_readme.template("run.py"))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) == {"numpy", "ai_edge_litert", "PIL"}
    assert len(bundle_readme.template("run.py").splitlines()) <= 100


def test_selftest_passes_where_tensorflow_cannot_be_imported(made) -> None:
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(['tensorflow', 'keras', 'medkeras', 'PIL']))\n"
        "sys.argv = ['run.py', '--selftest']\n"
        f"runpy.run_path({str(made / 'run.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=made)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("PASSED")


@pytest.mark.slow
def test_selftest_passes_in_a_fresh_environment(made, tmp_path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "fresh")], check=True)
    python = tmp_path / "fresh" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    installed = subprocess.run([*install, "ai-edge-litert", "numpy", "pillow>=12"], capture_output=True, text=True)
    if installed.returncode:
        pytest.skip(f"no package index can be reached: {installed.stderr.strip().splitlines()[-1:]}")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    absent = subprocess.run([str(python), "-c", "import tensorflow"], capture_output=True, text=True, env=clean)
    assert "ModuleNotFoundError" in absent.stderr
    command = [str(python), str(made / "run.py")]
    proof = subprocess.run([*command, "--selftest"], capture_output=True, text=True, env=clean)
    assert proof.returncode == 0, proof.stderr
    assert proof.stdout.startswith("PASSED")
    Image.fromarray(pictures()[0]).save(tmp_path / "a.png")
    answer = subprocess.run([*command, str(tmp_path / "a.png")], capture_output=True, text=True, env=clean)
    assert json.loads(answer.stdout)["class"] in CLASSES


@pytest.mark.parametrize("name", ["model.tflite", "model.json", "labels.txt", "README.md", "run.py"])
@pytest.mark.parametrize("position", [0, -1])
def test_one_changed_byte_is_found_and_named(copied, name, position) -> None:
    # The first and last bytes of run.py that may change and leave a program: two of its first sentence.
    changed(copied / name, {0: 10, -1: 20}[position] if name == "run.py" else position)
    done = run(copied, "--selftest")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: was changed or damaged")
    assert "PASSED" not in done.stdout


@pytest.mark.parametrize("name", ["cases/00.npy", "cases/09.npy", "cases/expected.json"])
@pytest.mark.parametrize("position", [0, 200, -1])
def test_one_changed_byte_of_a_case_is_found_and_named(copied, name, position) -> None:
    changed(copied / name, position)
    done = run(copied, "--selftest")
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: was changed or damaged")


@pytest.mark.parametrize("name", ["model.tflite", "cases/05.npy", bundle.SUMS])
def test_a_missing_file_is_named(copied, name) -> None:
    (copied / name).unlink()
    done = run(copied, "--selftest")
    assert (done.returncode, done.stderr) == (1, f"{name}: is missing from the bundle\n")


@pytest.mark.parametrize("name", ["model.tflite", "model.json"])
def test_no_answer_comes_from_a_changed_model(copied, name) -> None:
    changed(copied / name, -2)
    done = run(copied, str(copied / "cases/00.npy"))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{name}: was changed or damaged")


def test_a_model_that_is_not_listed_is_not_run(copied) -> None:
    lines = (copied / bundle.SUMS).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = "".join(line for line in lines if "model.tflite" not in line)
    (copied / bundle.SUMS).write_text(kept, encoding="utf-8")
    for arguments in (["--selftest"], [str(copied / "cases/00.npy")]):
        done = run(copied, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("model.tflite: was changed or damaged")


@pytest.mark.parametrize(
    ("name", "shift", "printed"),
    [
        ("probabilities", 0.00009, "PASSED: largest difference 9"),
        ("probabilities", 0.00011, "FAILED: largest difference 0.00011, probabilities of cases/07.npy; allowed 0.0001"),
        ("abstain", True, "FAILED: largest difference 1, abstain of cases/07.npy; allowed 0.0001"),
    ],
)
def test_another_answer_than_expected_fails(copied, name, shift, printed) -> None:
    path = copied / "cases/expected.json"
    expected = json.loads(path.read_text(encoding="utf-8"))
    answer = expected["cases"][7]["answer"]
    answer[name] = (not answer[name]) if shift is True else [value + shift for value in answer[name]]
    path.write_text(json.dumps(expected), encoding="utf-8")
    listed_again(copied)
    done = run(copied, "--selftest")
    assert done.stdout.startswith(printed)
    assert done.returncode == (0 if printed.startswith("PASSED") else 1)


def test_a_model_with_other_weights_fails_although_its_checksum_fits(copied) -> None:
    path = copied / "model.tflite"
    run_it = litert.Interpreter(model_content=path.read_bytes())
    weights = next(
        run_it.get_tensor(one["index"]) for one in run_it.get_tensor_details() if len(one["shape"]) == 2 and
        tuple(one["shape"]) == (len(CLASSES), SIZE[0] * SIZE[1] * 3)
    )  # fmt: skip
    assert path.read_bytes().count(weights.tobytes()) == 1
    path.write_bytes(path.read_bytes().replace(weights.tobytes(), (weights * np.float32(1.05)).tobytes()))
    listed_again(copied)
    done = run(copied, "--selftest")
    assert done.returncode == 1
    assert done.stdout.startswith("FAILED: largest difference 0.")


def test_checksums_are_those_of_the_tool_of_that_name(made) -> None:
    lines = (made / bundle.SUMS).read_text(encoding="utf-8").splitlines()
    found = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    assert {line[66:] for line in lines} == found - {bundle.SUMS}
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", bundle.SUMS], cwd=made, check=True)


def test_pictures_are_answered_as_the_file_answers_for_their_pixels(made, tmp_path) -> None:
    image = pictures()[1]
    grey = image[..., 0]
    turned = Image.Exif()
    turned[0x0112] = 6  # Shown by turning it clockwise.
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(image).save(tmp_path / "b.bmp")
    Image.fromarray(image).save(tmp_path / "c.jpg", quality=90)
    Image.fromarray(grey).save(tmp_path / "d.png")
    Image.fromarray(np.rot90(image)).save(tmp_path / "e.png", exif=turned)
    np.save(tmp_path / "f.npy", image)
    names = ["a.png", "b.bmp", "c.jpg", "d.png", "e.png", "f.npy"]
    done = run(made, *(str(tmp_path / name) for name in names))
    assert (done.returncode, len(done.stdout.splitlines())) == (0, len(names))
    seen = [image, image, np.asarray(Image.open(tmp_path / "c.jpg")), np.repeat(grey[..., None], 3, 2), image, image]
    expected = answers_of((made / "model.tflite").read_bytes(), np.stack(seen))
    for number, line in enumerate(done.stdout.splitlines()):
        answer = json.loads(line)
        assert answer["file"] == str(tmp_path / names[number])
        assert answer["class"] == CLASSES[expected["probabilities"][number].argmax()]
        assert list(answer["probabilities"]) == CLASSES
        assert list(answer["probabilities"].values()) == pytest.approx(expected["probabilities"][number], abs=1e-7)
        chosen = [CLASSES[k] for k in np.flatnonzero(expected["prediction_set"][number])]
        assert answer["prediction_set"] == chosen
        assert answer["abstain"] is bool(expected["abstain"][number])
        assert answer["familiarity"] == pytest.approx(expected["familiarity"][number], abs=1e-7)


def test_a_16_bit_picture_keeps_its_bits(tmp_path) -> None:
    folder, image = written(tmp_path / "made", "uint16", 1), pictures("uint16", 1)[2]
    Image.fromarray(image[..., 0]).save(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", image[..., 0])
    done = run(folder, str(tmp_path / "a.png"), str(tmp_path / "b.npy"))
    picture, array = map(json.loads, done.stdout.splitlines())
    expected = answers_of((folder / "model.tflite").read_bytes(), image[np.newaxis])
    assert picture["familiarity"] == array["familiarity"] == pytest.approx(expected["familiarity"][0], abs=1e-7)


def test_of_several_labels_each_stands_for_itself(tmp_path) -> None:
    folder = written(tmp_path / "made", multilabel=True)
    answer = json.loads(run(folder, str(folder / "cases/00.npy")).stdout)
    assert answer["class"] == [name for name, value in answer["probabilities"].items() if value >= 0.5]


def test_each_refusal_is_one_sentence_and_the_others_are_answered(made, tmp_path) -> None:
    image = pictures()[0]
    png = Image.fromarray(image)
    Image.fromarray(image[:, :5]).save(tmp_path / "narrow.png")
    png.convert("RGBA").save(tmp_path / "alpha.png")
    png.quantize(4).save(tmp_path / "palette.png")
    deep = tf.io.encode_png(image.astype(np.uint16) * 257)
    (tmp_path / "deep.png").write_bytes(deep.numpy())
    png.save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:90])
    (tmp_path / "text.png").write_text("no picture", encoding="utf-8")
    np.save(tmp_path / "float.npy", image.astype(np.float32))
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    reasons = {
        "narrow.png": "the model takes finite uint8 [height, width, channels] [6, 8, 3]; export it so. "
        "Received: uint8 [6, 5, 3]",
        "alpha.png": "the model takes pictures of mode RGB or L. Received: mode RGBA",
        "palette.png": "the model takes pictures of mode RGB or L. Received: mode P",
        "deep.png": "the model takes pictures of mode RGB or L. Received: mode RGB of 16 bits",
        "half.png": "cannot be read (",
        "text.png": "cannot be read (UnidentifiedImageError)",
        "float.npy": "the model takes finite uint8 [height, width, channels] [6, 8, 3]; export it so. "
        "Received: float32 [6, 8, 3]",
        "pickled.npy": "cannot be read (ValueError)",
        "absent.png": "cannot be read (FileNotFoundError)",
    }
    done = run(made, *(str(tmp_path / name) for name in reasons), str(tmp_path / "whole.png"))
    assert done.returncode == 2
    assert [json.loads(line)["file"] for line in done.stdout.splitlines()] == [str(tmp_path / "whole.png")]
    said = [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]
    for line, (name, reason) in zip(said, reasons.items(), strict=True):
        assert line.startswith(f"{tmp_path / name}: {reason}")


def test_values_that_are_no_numbers_are_refused(tmp_path) -> None:
    folder, image = written(tmp_path / "made", "float32", 1), pictures("float32", 1)[0]
    image[0, 0] = np.nan
    np.save(tmp_path / "nan.npy", image)
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(tmp_path / "grey.png")
    done = run(folder, str(tmp_path / "nan.npy"), str(tmp_path / "grey.png"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "takes finite float32" in done.stderr
    assert "the model takes pictures of mode none, only .npy files. Received: mode L" in done.stderr


def test_asked_for_nothing_it_says_what_it_can(made) -> None:
    done = run(made)
    assert done.returncode == 1
    assert "python run.py FILE" in done.stderr


def test_an_archive_is_the_same_bytes_whenever_it_is_made(made, copied, tmp_path) -> None:
    for path in copied.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700)
    one, other = bundle.zip(made), bundle.zip(copied.rename(tmp_path / made.name))
    assert one == made.with_name(f"{made.name}.zip")
    assert one.read_bytes() == other.read_bytes()
    with zipfile.ZipFile(one) as archive:
        archive.extractall(tmp_path / "unpacked")
    one.unlink()
    assert run(tmp_path / "unpacked" / made.name, "--selftest").returncode == 0


def test_model_json_labels_and_cases_are_what_was_given(made) -> None:
    assert json.loads((made / "model.json").read_text(encoding="utf-8")) == facts_of(batch=1)
    assert (made / "labels.txt").read_text(encoding="utf-8").splitlines() == CLASSES
    for number, image in enumerate(pictures()):
        content = (made / f"cases/{number:02d}.npy").read_bytes()
        assert content[128:] == image.tobytes()


def test_the_readme_says_how_to_call_this_file(made) -> None:
    text = (made / "README.md").read_text(encoding="utf-8")
    for said in (
        "It is not a medical device.",
        LIMITS[0],
        "| `image` (input) | uint8 `[B, 6, 8, 3]` |",
        "| `probabilities` | float32 `[B, 3]` | calibrated, 0 to 1, their sum is 1 |",
        "| `abstain` | bool `[B]` |",
        "image.writeInt8(pixels)",
        'val prediction_set = outputs.getValue("prediction_set").readBoolean()',
        "uint8_t pixels[144];",
        "float probabilities[3];",
        "bool prediction_set[3];",
        "Pictures are 8 pixels wide and 6 high",
        "at most 0.0001",
        "Pass them on only where those data may go.",
    ):
        assert said in text
    assert "@" not in text


@pytest.mark.parametrize(
    ("dtype", "channels", "batch", "said", "unsaid"),
    [
        (
            "float32",
            1,
            1,
            ["image.writeFloat(pixels)", "float pixels[48];", "high: `.npy` of float32.**"],
            ["ResizeInput", "red, green"],
        ),
        ("uint16", 3, 1, ["no unsigned 16-bit", "uint16_t pixels[144];"], ["CompiledModel.create"]),
        ("uint8", 1, 0, ["B is any number", "const int shape[] = {1, 6, 8, 1};"], ["CompiledModel.create"]),
        ("uint8", 1, 4, ["B is 4", "uint8_t pixels[192];", "float probabilities[12];", "given 4 times"], ["Resize"]),
    ],
)
def test_the_readme_follows_the_form(dtype, channels, batch, said, unsaid) -> None:
    answers = {"probabilities": np.zeros((10, 3), np.float32), "abstain": np.zeros(10, bool)}
    text = bundle_readme.render("brain", facts_of(dtype, channels, batch=batch, cases="Nobody."), answers, 0.01)
    assert "\nNobody.\n" in text
    assert [part for part in said if part not in text] == []
    assert [part for part in unsaid if part in text] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": pictures(count=0)}, "one at least. Received: uint8"),
        ({"images": pictures("uint16")}, "Received: uint16"),
        ({"images": pictures(channels=1)}, r"Received: uint8 \[10, 6, 8, 1\]"),
        ({"facts": facts_of(classes=["a\nb", "c", "d"])}, "one line of labels.txt"),
        ({"facts": facts_of(classes=["a", "b"])}, r"Received: \[10, 3\]"),
        ({"answers": {"probabilities": np.full((10, 3), np.nan)}}, "finite, one a case"),
        ({"answers": {"probabilities": np.zeros((10, 3)), "abstain": np.zeros(9, bool)}}, "abstain for 9 of 10"),
    ],
)
def test_what_does_not_fit_together_is_not_written(tmp_path, change, message) -> None:
    given = {"facts": facts_of(), "images": pictures(), "answers": {"probabilities": np.zeros((10, 3))}} | change
    with pytest.raises(errors.ModelError, match=message):
        bundle.write(tmp_path / "made", name="brain", content=b"", tolerance=0.1, **given)
    assert not (tmp_path / "made").exists()


def test_a_folder_that_holds_something_is_not_written_into(made) -> None:
    with pytest.raises(errors.ModelError, match="new folder"):
        bundle.write(
            made,
            name="brain",
            content=b"",
            facts=facts_of(),
            images=pictures(),
            answers={"probabilities": np.zeros((10, 3))},
            tolerance=0.1,
        )
