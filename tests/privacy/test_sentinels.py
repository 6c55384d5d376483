"""Nothing that any mode leaves behind holds what was planted in the data, wherever it was planted."""

from __future__ import annotations

import base64
import csv
import dataclasses
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin

from medkeras import config
from medkeras.data import phantom, schemes, split
from medkeras.privacy import pseudonyms
from tests.privacy import sentinels

ROOT = pathlib.Path(__file__).parents[2]
PATIENTS, SLICES = 12, 2
LABELS = ("sound", "ill")
SMALL = (
    *("model.name=cnn", "model.weights=none", "train.epochs=1", "train.batch_size=4", "augment.noise=0"),
    *("data.validation=0.25", "data.test=0.25", "data.on_error=skip", "data.max_errors=0.5"),
)
# What runs that did their work leave behind, and how many of it.
LEFT = {
    "saved_models/*/1/saved_model.pb": 2,
    "saved_models/*/1/report.html": 2,
    "saved_models/*/1/assets.extra/tf_serving_warmup_requests": 2,
    "runs/*/1/tensorboard/**/events*": 2,
    "runs/*/1/split.csv": 2,
    "evaluated/predictions.csv": 1,
    "exported/scans/1/card.json": 1,
    "heatmaps/*.png": 20,
    "answers.csv": 1,
    "audit/*/audit.json": 3,
    "audit/*/audit.html": 3,
    "audit/*/contact_*.png": 6,
    "deidentified/scans/**/*.dcm": 24,
    "deidentified/pictures/*.*": 20,
    "deidentified/volumes/*.nii.gz": 4,
    "deidentified/by_name/**/*.*": 3,
}
DRIVER = """
import json, sys, traceback
from absl.testing import flagsaver
import main, medkeras
sys.argv = ["main"]
runs, codes = json.load(sys.stdin), {}
for name, arguments in runs.items():
    print("==", name, flush=True)
    print("==", name, flush=True, file=sys.stderr)
    with flagsaver.flagsaver():
        try:
            main.parse(["main", *arguments])
            codes[name] = main.main([])
        except SystemExit as stop:
            codes[name] = stop.code
        except Exception:
            codes[name] = 1
            traceback.print_exc()
json.dump(codes, open("codes.json", "w"))
"""


def write_scans(folder: pathlib.Path) -> None:
    """Writes DICOM files of the phantom as hospitals do, every third one with something in every attribute."""
    phantom.write(phantom.slices(patients=PATIENTS, slices_per_patient=SLICES, image_size=32), folder, layout="dicom")
    (folder / "labels.csv").unlink()
    everything = sentinels.planted()
    for number, path in enumerate(sorted(folder.rglob("*.dcm"))):
        header = pydicom.dcmread(path)
        if number % 3 == 0:
            whole = pydicom.Dataset()
            whole.update(everything)
            whole.update({tag: element for tag, element in header.items() if tag not in everything})
            header = whole
        sentinels.identify(header, number // SLICES, number)
        header.save_as(path, enforce_file_format=True)


def write_broken(folder: pathlib.Path, whole: pathlib.Path) -> None:
    """Writes files that readers fail on, each in a place where their own words would repeat what the file says."""
    folder.mkdir()
    header = pydicom.dcmread(whole)
    header.RescaleIntercept, header.RescaleSlope = 0, 1
    header.save_as(folder / "slope.dcm")
    contents = (folder / "slope.dcm").read_bytes()
    slope = pydicom.dcmread(folder / "slope.dcm").get_item("RescaleSlope")
    place = slope.value_tell
    name = sentinels.STEM.encode()
    longer = contents[: place - 2] + (16).to_bytes(2, "little") + name.ljust(16) + contents[place + 2 :]
    (folder / "slope.dcm").write_bytes(longer)
    (folder / "cut.dcm").write_bytes(whole.read_bytes()[:-1200])
    (folder / "head.dcm").write_bytes(whole.read_bytes()[:50_000])
    (folder / "none.dcm").write_bytes(b"PatientName %s^JANE\n" % name * 40)
    header = pydicom.dcmread(whole)
    header.Rows = 60_000
    header.save_as(folder / "lying.dcm")
    header = pydicom.dcmread(whole)
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [4096, 0, 16])
    item.add_new("LUTData", "US", [1] * 10)
    item.add_new("ModalityLUTType", "LO", sentinels.value("LO", 1))
    item.add_new("LUTExplanation", "LO", sentinels.value("LO", 2))
    header.ModalityLUTSequence = [item]
    header.save_as(folder / "lut.dcm")
    header = pydicom.dcmread(whole)
    header._dict.pop(0x00080005, None)
    header.add_new("PhotometricInterpretation", "CS", sentinels.STEM)
    header.save_as(folder / "photometric.dcm")
    (folder / "charset.dcm").write_bytes(_with_charset(whole, name))


def _with_charset(whole: pathlib.Path, name: bytes) -> bytes:
    header = pydicom.dcmread(whole)
    header.SpecificCharacterSet = "ISO_IR 100"
    stream = io.BytesIO()
    header.save_as(stream, enforce_file_format=True)
    return stream.getvalue().replace(b"ISO_IR 100", name.ljust(10), 1)


def write_labels(folder: pathlib.Path, scans: pathlib.Path) -> None:
    """Writes one table by patient and one by image, each with somebody whom no image shows."""
    count = PATIENTS * SLICES
    tables = {
        "by_patient": ("PatientID", [sentinels.patient_id(patient) for patient in range(PATIENTS + 1)], 1),
        "by_image": ("SOPInstanceUID", [sentinels.instance_uid(number) for number in range(count + 1)], SLICES),
    }
    for name, (column, keys, per) in tables.items():
        rows = [f"{key},{LABELS[number // per % 2]}" for number, key in enumerate(keys)]
        (folder / f"{name}.csv").write_text("\n".join([f"{column},label", *rows]) + "\n")


def write_pictures(folder: pathlib.Path) -> None:
    """Writes PNG, JPEG and TIFF files with words in them, one of them damaged, and a table that names patients."""
    folder.mkdir()
    rows = ["path,label,patient_id,name"]
    for number, one in enumerate(phantom.slices(patients=PATIENTS, slices_per_patient=SLICES, image_size=32)):
        words = PngImagePlugin.PngInfo()
        words.add_text("Description", sentinels.value("LO", 1))
        words.add_text("Comment", sentinels.value("LO", 2), zip=True)
        words.add_itxt("Title", sentinels.value("LO", 3), zip=True)
        suffix = ("png", "jpg", "tif")[number % 3]
        exif = Image.Exif()
        exif[0x010E] = exif[0x013B] = sentinels.value("LO", 4)
        exif[0x0132] = "1853:02:17 03:14:15"
        options = {"png": {"pnginfo": words}, "jpg": {"comment": sentinels.value("LO", 5)}, "tif": {}}[suffix]
        path = folder / f"{number}.{suffix}"
        Image.fromarray(one.stored()).save(path, exif=exif, **options)
        patient = number // SLICES
        rows.append(f"{path.name},{LABELS[patient % 2]},{sentinels.patient_id(patient)},{sentinels.value('PN', 6)}")
    for name in ("1.jpg", "3.png", "5.tif"):
        path = folder / name
        path.write_bytes(path.read_bytes()[:-300])
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    (folder / "no_header.csv").write_text("\n".join(rows[1:]) + "\n")


def write_volumes(folder: pathlib.Path) -> None:
    """Writes NIfTI volumes with words in their headers and extensions, one of them damaged, and a table."""
    folder.mkdir()
    rows = ["path,label,patient_id"]
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 200, (12, 12, 4), np.uint8)
        volume = nibabel.Nifti1Image(pixels, np.diag([2.0, 2.0, 5.0, 1.0]))
        for field in ("descrip", "aux_file", "intent_name", "db_name"):
            volume.header[field] = sentinels.value("SH", number)
        volume.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", sentinels.value("LO", 7).encode()))
        nibabel.save(volume, folder / f"{number}.nii.gz")
        rows.append(f"{number}.nii.gz,{LABELS[number % 2]},{sentinels.patient_id(number)}")
    plain = gzip.decompress((folder / "3.nii.gz").read_bytes())
    (folder / "4.nii").write_bytes(plain[:-200])
    rows.append(f"4.nii,{LABELS[0]},{sentinels.patient_id(4)}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def write_by_name(data: pathlib.Path) -> None:
    """Copies a file of each kind into folders and under names that are those of a patient."""
    folder = data / "by_name" / sentinels.value("LO", 8) / sentinels.value("LO", 9)
    folder.mkdir(parents=True)
    scan = next(iter(sorted((data / "scans").rglob("*.dcm"))))
    for source in (scan, data / "pictures" / "0.png", data / "volumes" / "0.nii.gz", data / "pictures" / "1.jpg"):
        shutil.copy(source, folder / f"{sentinels.STEM}_{source.name}")


@dataclasses.dataclass(frozen=True)
class World:
    """Folders of the data and of all that was left behind, exit codes by run, and the key."""

    data: pathlib.Path
    left: pathlib.Path
    codes: dict[str, int]
    key: bytes


def runs(data: pathlib.Path) -> dict[str, list[str]]:
    """Returns the command line of each run: what works, and mistakes that users make."""
    small = [f"--set={each}" for each in SMALL]
    scans, pictures, volumes = f"--data=dicom:{data}/scans", f"--data=csv:{data}/pictures/table.csv", f"{data}/volumes"
    by_patient, by_image = (f"--set=data.labels={data}/{name}.csv" for name in ("by_patient", "by_image"))
    evaluate = ["--mode=evaluate", "--model=saved_models/scans", scans, by_image, *small[-2:], "--json"]
    predict = ["--mode=predict", "--model=saved_models/scans", "--json"]
    deidentify = ["--mode=deidentify", "--json"]
    return {
        "train": ["--mode=train", scans, by_patient, *small, "--set=name=scans", "--json"],
        "train and raise": ["--mode=train", scans, by_patient, *small, "--set=data.on_error=raise"],
        "train without labels": ["--mode=train", scans, *small],
        "evaluate": [*evaluate, "--output=evaluated"],
        "predict": [*predict, f"--input={data}/scans", "--heatmaps=heatmaps", "--output=answers.csv"],
        "predict volumes and pictures": [*predict, f"--input={volumes}", f"--input={data}/pictures"],
        "audit": ["--mode=audit", scans, by_image, *small, "--output=audit/scans", "--strict", "--json"],
        "export": ["--mode=export", "--model=saved_models/scans", "--output=exported"],
        "train on pictures": ["--mode=train", pictures, *small, "--set=name=pictures"],
        "train without a header": ["--mode=train", f"--data=csv:{data}/pictures/no_header.csv", *small],
        "audit pictures": ["--mode=audit", pictures, *small, "--output=audit/pictures"],
        "audit volumes": ["--mode=audit", f"--data=nifti:{volumes}", *small, "--output=audit/volumes"],
        "deidentify scans": [*deidentify, f"--input={data}/scans", "--output=deidentified/scans"],
        "deidentify pictures": [*deidentify, f"--input={data}/pictures", "--output=deidentified/pictures"],
        "deidentify volumes": [*deidentify, f"--input={volumes}", "--output=deidentified/volumes"],
        "deidentify by name": [*deidentify, f"--input={data}/by_name", "--output=deidentified/by_name"],
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    data, left = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("left")
    write_scans(data / "scans")
    write_broken(data / "scans" / "broken", next(iter(sorted((data / "scans").rglob("*.dcm")))))
    write_labels(data, data / "scans")
    write_pictures(data / "pictures")
    write_volumes(data / "volumes")
    write_by_name(data)
    config_home = tmp_path_factory.mktemp("config")
    (left / "tmp").mkdir()
    variables = {
        "TMPDIR": str(left / "tmp"),
        "XDG_CONFIG_HOME": str(config_home),
        "PYTHONPATH": str(ROOT),
        "TF_NUM_INTRAOP_THREADS": "1",
    }
    with open(left / "stdout", "wb") as out, open(left / "stderr", "wb") as err:
        subprocess.run(
            [sys.executable, "-c", DRIVER],
            input=json.dumps(runs(data)).encode(),
            cwd=left,
            env={**os.environ, **variables},
            stdout=out,
            stderr=err,
            timeout=600,
            check=False,
        )
    codes = json.loads((left / "codes.json").read_text())
    return World(data, left, codes, (config_home / "medkeras" / "key").read_bytes())


@pytest.mark.slow
def test_every_run_went_as_far_as_it_should(world) -> None:
    refused = {"train and raise", "train without labels", "train without a header"}
    assert {name for name, code in world.codes.items() if code == 2} >= refused
    assert "Traceback" not in (world.left / "stderr").read_text()
    for name in ("train", "evaluate", "export", "train on pictures", "audit pictures", "audit volumes"):
        assert world.codes[name] == 0, name
    # Some files were answered and written, and damaged ones were not.
    partly = {name for name in world.codes if name.startswith(("predict", "deidentify"))}
    assert {name for name in partly if world.codes[name] != 2} == set()
    for pattern, count in LEFT.items():
        assert len(list(world.left.glob(pattern))) >= count, pattern


@pytest.mark.slow
def test_nothing_that_is_left_behind_holds_what_was_planted(world) -> None:
    assert len(list(world.left.rglob("*"))) > 60
    assert sentinels.leaks(world.left) == []


@pytest.mark.slow
def test_the_key_is_nowhere(world) -> None:
    forms = (world.key, world.key.hex().encode(), base64.b64encode(world.key))
    for path in world.left.rglob("*"):
        if path.is_file():
            assert not any(form in path.read_bytes() for form in forms), path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scans", "pictures"])
def test_patients_are_there_by_their_pseudonyms(world, name) -> None:
    issuer = f"{sentinels.ISSUER}\\" if name == "scans" else ""
    known = {pseudonyms.pseudonym(world.key, f"{issuer}{sentinels.patient_id(patient)}") for patient in range(PATIENTS)}
    with open(world.left / "runs" / name / "1" / "split.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["patient_id"] for row in rows} == known
    assert len(rows) > PATIENTS
    with open(world.left / "saved_models" / name / "1" / "predictions.csv", newline="", encoding="utf-8") as file:
        assert {row["patient_id"] for row in csv.DictReader(file)} < known


@pytest.mark.slow
def test_without_the_door_the_search_finds_every_patient(world, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(schemes, "pseudonymised", lambda case_set, key: case_set)
    settings = config.DataConfig(source=f"csv:{world.data}/pictures/table.csv", validation=0.25, test=0.25)
    split.write_csv(schemes.load(settings, seed=0), tmp_path / "split.csv")
    found = sentinels.leaks(tmp_path)
    assert len(found) == PATIENTS
    assert all(re.match(rf"split.csv: {sentinels.STEM.lower()}5000\d\d", each) for each in found)


def packed_png(text: bytes) -> bytes:
    """Returns a PNG whose compressed text chunk holds a text."""
    words = PngImagePlugin.PngInfo()
    words.add_text("Comment", text.decode(), zip=True)
    stream = io.BytesIO()
    Image.new("L", (4, 4)).save(stream, format="PNG", pnginfo=words)
    return stream.getvalue()


NAME = sentinels.value("PN", 7)
CONTROLS = {
    "as it is": NAME.encode(),
    "lower case": NAME.lower().encode(),
    "upper case": NAME.upper().encode(),
    "UTF-16, low byte first": NAME.encode("utf-16-le"),
    "UTF-16, high byte first": NAME.encode("utf-16-be"),
    "among other bytes": b"\xff\x00" + NAME.encode() + b"\x80",
    "a UID": sentinels.value("UI", 3).encode(),
    "a day": b'{"date": "18530217"}',
    "a day with hyphens": b"born 1853-02-17",
    "a time": b"031415.926535",
    "an age": b"age 117Y.",
    "gzip": gzip.compress(NAME.encode()),
    "PNG": packed_png(NAME.encode()),
    "PNG within an event file": b"\x0a\x10" + packed_png(NAME.encode()) + b"\x00",
    "PNG within HTML": b'<img src="data:image/png;base64,' + base64.b64encode(packed_png(NAME.encode())) + b'">',
    "entities of HTML": "".join(f"&#{ord(letter)};" for letter in NAME).encode(),
    "a hash without a key": hashlib.sha256(sentinels.patient_id(3).encode()).hexdigest().encode(),
}


@pytest.mark.parametrize("leak", CONTROLS.values(), ids=CONTROLS)
def test_the_search_finds_what_leaks(tmp_path, leak) -> None:
    (tmp_path / "report.html").write_bytes(b"nothing here")
    assert sentinels.leaks(tmp_path) == []
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file.bin").write_bytes(leak)
    assert sentinels.leaks(tmp_path)


def test_the_search_looks_at_names_of_files_and_of_what_they_pack(tmp_path) -> None:
    (tmp_path / sentinels.STEM).mkdir()
    assert sentinels.leaks(tmp_path) == [f"name of {sentinels.STEM}: {sentinels.STEM.lower()}"]
    (tmp_path / sentinels.STEM).rmdir()
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", NAME * 50)
    assert sentinels.leaks(tmp_path)
