"""The same cases as PNG, DICOM and NIfTI: the same pixels in, and answers for what the files store."""

from __future__ import annotations

import csv
import json
import pathlib

import numpy as np
import pytest
from PIL import Image

from medkeras import config, errors
from medkeras.data import cases, dicom, nifti, phantom, prepare, schemes
from medkeras.data.phantom import writers
from medkeras.export import saved_model
from medkeras.workflows import evaluate, predict, questions
from tests.data.dicom import scans

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SIZE, PATIENTS, SLICES = 16, 28, 2


@pytest.fixture(scope="module")
def drawn() -> list[phantom.PhantomSlice]:
    return list(phantom.slices(patients=PATIENTS, slices_per_patient=SLICES, image_size=SIZE, seed=3))


@pytest.fixture(scope="module")
def places(drawn, tmp_path_factory) -> dict[str, pathlib.Path]:
    """The phantom in every layout; the DICOM files lie in class folders, so that no table gives splits or labels."""
    root = tmp_path_factory.mktemp("formats")
    for layout in ("folder", "csv", "dicom", "nifti"):
        phantom.write(drawn, root / layout, layout=layout)
    (root / "dicom" / "labels.csv").unlink()
    with open(root / "dicom" / "labels.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("PatientID", "label"))
        table.writerows(sorted({(one.patient_id, one.label) for one in drawn}))
    return {layout: root / layout for layout in ("folder", "csv", "dicom", "nifti")}


@pytest.fixture(scope="module")
def from_dicom(places, fit):
    return fit(data__source=f"dicom:{places['dicom']}", name="from-dicom", data__validation=0.3, data__test=0.3)


def pixels(source: str, drawn) -> dict[str, np.ndarray]:
    """Prepared images by the phantom's names."""
    settings = config.Config().override({"data.source": source, "data.validation": 0.3, "data.test": 0.3})
    data = prepare.prepare(schemes.load(settings.data, seed=0), settings.data)
    names = {one.case_id for one in drawn}
    found = {}
    for store in data.stores.values():
        for case, batch in zip(store.cases, _images(store), strict=True):
            (name,) = names & {pathlib.Path(case.case_id).stem, case.case_id}
            found[name] = batch
    return found


def _images(store) -> np.ndarray:
    return store._gather(np.arange(len(store.cases)))


def test_dicom_gives_the_pixels_of_the_png_with_four_more_bits(places, drawn) -> None:
    png = pixels(f"folder:{places['folder']}", drawn)
    twelve = pixels(f"dicom:{places['dicom']}", drawn)
    assert set(png) == set(twelve) == {one.case_id for one in drawn}
    for one in drawn:
        assert (png[one.case_id].dtype, twelve[one.case_id].dtype) == (np.uint8, np.uint16)
        np.testing.assert_array_equal(twelve[one.case_id][..., 0], np.rint(one.image * writers.DICOM_SCALE))
        np.testing.assert_allclose(twelve[one.case_id] / writers.DICOM_SCALE, png[one.case_id], atol=0.5 + 1 / 32)
    assert max(np.mod(image, writers.DICOM_SCALE).max() for image in twelve.values()) == writers.DICOM_SCALE - 1


def test_a_series_and_a_nifti_volume_of_one_head_are_one_volume(places) -> None:
    settings = config.Config().override({"data.view": "volumes"}).data
    stored, grey = (module.load(str(places[name]), settings) for name, module in (("dicom", dicom), ("nifti", nifti)))
    assert len(stored.cases) == len(grey.cases) == PATIENTS
    for one, two in zip(stored.cases, grey.cases, strict=True):
        assert (one.case_id, one.label, one.patient_id) == (two.case_id[: -len(".nii.gz")], two.label, two.patient_id)
        values, other = stored.images.read(one, 1), grey.images.read(two, 1)
        np.testing.assert_allclose(values / writers.DICOM_SCALE, other, atol=0.5 / writers.DICOM_SCALE + 1e-5)


def test_a_training_from_dicom_parts_no_patient(from_dicom) -> None:
    with open(from_dicom.published.run / "split.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == PATIENTS * SLICES
    homes = {(row["patient_id"], row["split"]) for row in rows}
    assert len(homes) == len({row["patient_id"] for row in rows}) == PATIENTS
    assert {row["split"] for row in rows} == set(cases.SPLITS)
    given = json.loads((from_dicom.published.folder / "card.json").read_text(encoding="utf-8"))["input"]
    assert (given["dtype"], given["stored"], given["units"]) == (
        "uint16",
        ["uint16"],
        "the values that the image file stores",
    )
    assert 255 < given["value_range"][1] <= 4095


def test_the_saved_model_takes_the_stored_values(from_dicom, places, drawn) -> None:
    served = saved_model.Served(from_dicom.published.folder)
    found = predict.predict(from_dicom.published.folder, [places["dicom"]])
    assert len(found.answers) == len(drawn)
    answers = {pathlib.Path(answer.path).stem: answer.probabilities for answer in found.answers}
    for one in drawn:
        stored = np.rint(one.image * writers.DICOM_SCALE).astype(np.float32)[np.newaxis, ..., np.newaxis]
        np.testing.assert_allclose(answers[one.case_id], served.predict(stored)["probabilities"][0], atol=1e-6)


def test_evaluating_on_its_own_dicom_gives_its_own_numbers(from_dicom, places, tmp_path) -> None:
    settings = config.Config().override({"data.source": f"dicom:{places['dicom']}"})
    again = evaluate.evaluate(from_dicom.published.folder, settings, output=tmp_path)
    assert again.metrics["metrics"] == from_dicom.published.metrics["metrics"]


def test_a_table_of_dicom_files_works(from_dicom, places, drawn, tmp_path) -> None:
    with open(tmp_path / "table.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("path", "label", "patient_id"))
        for one in drawn:
            table.writerow((places["dicom"] / one.patient_id / f"{one.case_id}.dcm", one.label, one.patient_id))
    settings = config.Config().override({"data.source": f"csv:{tmp_path / 'table.csv'}"})
    found = evaluate.evaluate(from_dicom.published.folder, settings, output=tmp_path / "out")
    assert found.metrics["overlap"]["of"] == len(drawn)
    assert found.metrics["metrics"] == from_dicom.published.metrics["metrics"]


def test_frames_are_answered_one_by_one(from_dicom, tmp_path) -> None:
    frames = np.stack([scans.plain(value, (SIZE, SIZE)) for value in (100, 900, 1700)])
    scans.save(scans.dataset(frames, NumberOfFrames=3), tmp_path / "in" / "cine.dcm")
    (tmp_path / "in" / "broken.dcm").write_bytes((tmp_path / "in" / "cine.dcm").read_bytes()[:700])
    found = predict.predict(from_dicom.published.folder, [tmp_path / "in"], heatmaps=tmp_path / "maps")
    assert [answer.path for answer in found.answers if not answer.error] == [
        str(tmp_path / "in" / f"cine.dcm#{frame}") for frame in range(3)
    ]
    (broken,) = found.unreadable
    assert broken.path == str(tmp_path / "in" / "broken.dcm")
    served = saved_model.Served(from_dicom.published.folder)
    for answer, frame in zip(found.answers, frames, strict=False):
        expected = served.predict(frame[np.newaxis, ..., np.newaxis])["probabilities"][0]
        np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["cine_0.png", "cine_1.png", "cine_2.png"]


def test_dicom_under_the_name_of_a_picture_is_asked_for_once(tmp_path) -> None:
    scans.write(tmp_path / "a.png")
    scans.write(tmp_path / "b.dcm")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "c.png")
    asked = questions.expand([tmp_path], config.DataConfig())
    assert [pathlib.Path(one.name).name for one in asked] == ["c.png", "a.png", "b.dcm"]


def test_a_heatmap_lies_over_the_window_of_the_file(from_dicom, tmp_path) -> None:
    """Outside of the window everything is black or white, whatever the values; the heatmap alone adds colour."""
    values = np.where(np.indices((SIZE, SIZE))[1] < SIZE // 2, 900, 1100)
    for name, window in (("narrow", (1000, 10)), ("none", (None, None))):
        scans.write(tmp_path / f"{name}.dcm", values, WindowCenter=window[0], WindowWidth=window[1])
    scans.write(tmp_path / "far.dcm", values, WindowCenter=3000, WindowWidth=10)
    predict.predict(from_dicom.published.folder, [tmp_path], heatmaps=tmp_path / "maps")
    narrow, none, far = (
        np.asarray(Image.open(tmp_path / "maps" / f"{name}.png").convert("L")).astype(int)
        for name in ("narrow", "none", "far")
    )
    np.testing.assert_array_equal(narrow, none)
    assert narrow[:, -1].mean() > far[:, -1].mean() + 50


def test_png_for_a_model_of_dicom_and_dicom_for_a_model_of_png_are_refused(
    from_dicom, trained, places, tmp_path
) -> None:
    Image.fromarray(np.full((SIZE, SIZE), 200, np.uint8)).save(tmp_path / "eight.png")
    Image.fromarray(np.full((SIZE, SIZE), 60000, np.uint16)).save(tmp_path / "sixteen.png")
    found = predict.predict(from_dicom.published.folder, [tmp_path])
    assert [answer.probabilities for answer in found.answers] == [None, None]
    assert "Received: 8 bits, on another scale" in found.answers[0].error
    assert "Received: 60000 to 60000, on another scale" in found.answers[1].error
    (answer, *_) = predict.predict(trained.published.folder, [places["dicom"]]).answers
    assert answer.error == "the model takes uint8 values. Received: uint16"
    settings = config.Config().override({"data.source": f"csv:{places['csv'] / 'cases.csv'}"})
    with pytest.raises(errors.BadInputError, match="on another scale"):
        evaluate.evaluate(from_dicom.published.folder, settings, output=tmp_path / "out")


def write_ct(folder: pathlib.Path, *, patients: int = 12) -> None:
    """Two classes of CT slices: a dense or a fatty disc in air."""
    rows, columns = np.indices((SIZE, SIZE)) - SIZE // 2
    for number in range(patients):
        label = ("dense", "fatty")[number % 2]
        inside = rows**2 + columns**2 < 30 + number
        stored = np.where(inside, 1024 + (60 if label == "dense" else -90) + number, 24)
        scans.write(folder / label / f"{number}.dcm", stored, SOPClassUID=scans.CT, Modality="CT", RescaleSlope=1,
                    RescaleIntercept=-1024, PatientID=f"P{number}", StudyInstanceUID=scans.uid("ct", number),
                    SeriesInstanceUID=scans.uid("ct series", number), RescaleType="HU")  # fmt: skip


def test_hounsfield_units_reach_the_card_and_nothing_else_is_answered_for(fit, from_dicom, places, tmp_path) -> None:
    write_ct(tmp_path / "ct")
    trained = fit(data__source=f"dicom:{tmp_path / 'ct'}", name="ct", data__validation=0.3, data__test=0.3)
    given = json.loads((trained.published.folder / "card.json").read_text(encoding="utf-8"))["input"]
    assert (given["units"], given["dtype"]) == ("Hounsfield units (HU)", "float32")
    assert given["value_range"][0] == -1000
    assert 60 <= given["value_range"][1] <= 72
    (own,) = predict.predict(trained.published.folder, [tmp_path / "ct" / "dense" / "0.dcm"]).answers
    assert own.probabilities is not None
    (stored, *_) = predict.predict(trained.published.folder, [places["dicom"]]).answers
    assert stored.error == (
        "the model was trained on Hounsfield units (HU). Received: the values that the image file stores"
    )
    (answer,) = predict.predict(from_dicom.published.folder, [tmp_path / "ct" / "dense" / "0.dcm"]).answers
    assert "uint16" in answer.error or "Hounsfield" in answer.error


def test_two_units_in_one_set_are_refused(tmp_path) -> None:
    write_ct(tmp_path / "set")
    scans.write(tmp_path / "set" / "dense" / "mr.dcm", scans.plain(3, (SIZE, SIZE)), PatientID="MR")
    settings = (
        config.Config()
        .override({"data.source": f"dicom:{tmp_path / 'set'}", "data.test": 0.3, "data.validation": 0.3})
        .data
    )
    with pytest.raises(errors.DataError, match=r"in one unit. Received: stored values in 1 \(.*mr.dcm, …\), HU in 12"):
        prepare.prepare(schemes.load(settings, seed=0), settings)


def test_real_series_are_found_and_right_side_up(real_data) -> None:
    """Two heads, each with a crop whose geometry is made up; names of files have nothing to do with places."""
    settings = config.Config().override({"data.view": "volumes"}).data
    found = dicom.load(str(real_data / "dicom_mri"), settings)
    claims = [problem for problem in found.problems if problem.kind == "identity"]
    assert [(pathlib.Path(problem.path).name, problem.reason) for problem in claims] == [
        ("12-T1post-05670", "22 of 22 files say that the patient's identity was removed, and hold a name"),
        ("14-T1post-22014", "24 of 24 files say that the patient's identity was removed, and hold a name"),
    ]
    depths = {case.case_id: found.images.header(case).depth for case in found.cases}
    assert depths == {
        "Study1/12-T1post-05670": 22,
        "Study1/13_HCropVolume": 32,
        "Study2/14-T1post-22014": 24,
        "Study2/14_HCropVolume": 35,
    }
    assert len({case.patient_id for case in found.cases}) == 2
    for case in found.cases:
        if "T1post" in case.case_id:
            head = found.images.volume(case, 1)
            np.testing.assert_allclose(head.spacing, (6.5, 0.4297, 0.4297), atol=1e-4)
            bright = head.values[..., 0] > 0.08 * head.values.max()
            # The vertex is smaller than the base, and the nose, in front, narrower than the back of the head.
            assert bright[-1].sum() < bright[8].sum() / 2
            rows = np.flatnonzero(bright[4].sum(axis=1) > 12)
            assert bright[4, rows[0] : rows[0] + 40].sum() < 0.8 * bright[4, rows[-1] - 40 : rows[-1]].sum()
