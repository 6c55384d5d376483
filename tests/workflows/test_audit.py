"""The audit as a user meets it: every planted fault is found, in numbers, sentences and on the page."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys
import types

import numpy as np
import pytest
from PIL import Image

from medkeras import config
from medkeras.workflows import audit
from tests.audit import scenes

ROOT = pathlib.Path(__file__).parents[2]
KEYS = {
    *("format", "medkeras", "data", "cases", "classes", "fingerprint", "invalidating", "warnings", "notes"),
    *("unreadable", "unpaired", "series", "identity", "headers", "masks"),
    *("exact_duplicates", "near_duplicates", "patients_across_splits"),
    *("shortcuts", "shortcut_details", "suspects", "counts", "seed", "settings"),
}


def save(path: pathlib.Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def plant(root: pathlib.Path) -> str:
    """Writes 48 scenes in two splits and two classes, and one fault of every kind."""
    for index in range(48):
        split, label = ("train", "test")[index % 3 == 2], ("ill", "sound")[index % 2]
        save(root / split / label / f"{index:02d}.png", scenes.scene(index))
    save(root / "test" / "ill" / "copy.bmp", scenes.scene(0))
    save(root / "test" / "sound" / "two_labels.png", scenes.scene(6))
    save(root / "train" / "ill" / "twin.png", scenes.scene(12))
    brighter = np.clip(scenes.scene(18, side=192)[::-1] * 0.8 + 9, 0, 255).astype(np.uint8)
    save(root / "train" / "ill" / "near.png", brighter)
    save(
        root / "test" / "ill" / "near.jpg", np.asarray(Image.fromarray(brighter).resize((96, 96), Image.Resampling.BOX))
    )
    save(root / "train" / "ill" / "constant.png", np.full((96, 96), 200, np.uint8))
    save(root / "train" / "ill" / "black.png", scenes.scene(50) // 40)
    save(root / "train" / "ill" / "negative.png", 255 - scenes.scene(51))
    save(root / "train" / "ill" / "written.png", scenes.written(scenes.scene(52), "DOE JOHN 1961"))
    save(root / "train" / "ill" / "framed.png", np.pad(scenes.scene(53), 8, constant_values=180))
    (root / "train" / "ill" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
    save(root / "test" / "unseen" / "54.png", scenes.scene(54))
    return f"folder:{root}"


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> types.SimpleNamespace:
    root = tmp_path_factory.mktemp("audit")
    settings = config.Config().override({"data.source": plant(root / "scans"), "seed": 3})
    done = audit.audit_data(settings, output=root / "out")
    return types.SimpleNamespace(done=done, root=root, json=json.loads((root / "out" / "audit.json").read_text()))


def test_the_json_has_its_keys_and_is_what_the_function_returns(planted) -> None:
    assert set(planted.json) == KEYS
    assert planted.json == json.loads(json.dumps(planted.done.findings))
    assert (planted.json["cases"], planted.json["seed"]) == (60, 3)
    assert re.fullmatch("[0-9a-f]{64}", planted.json["fingerprint"])


def test_counts(planted) -> None:
    counts = planted.json["counts"]
    assert counts["split"] == {"train": 40, "test": 20}
    assert counts["split_class"]["test"] == {"ill": 10, "sound": 9, "unseen": 1}
    assert sum(counts["size"].values()) == 59
    assert (counts["size"]["192x192"], counts["size"]["112x112"]) == (1, 1)
    assert (counts["format"]["BMP"], counts["format"]["JPEG"]) == (1, 1)
    assert counts["channels"] == {"1": 59}
    assert counts["bit_depth"] == {"uint8": 59}
    assert counts["patient"] == {"known": False}


def test_the_broken_file_is_named(planted) -> None:
    ((path, reason),) = [(each["path"], each["reason"]) for each in planted.json["unreadable"]]
    assert path == str(planted.root / "scans" / "train" / "ill" / "broken.png")
    assert reason


def test_exact_copies(planted) -> None:
    found = planted.json["exact_duplicates"]
    assert {key: found[key] for key in ("groups", "cases", "across_splits", "conflicting_labels")} == {
        "groups": 3,
        "cases": 6,
        "across_splits": 2,
        "conflicting_labels": 1,
    }
    members = {frozenset(group["case_ids"]) for group in found["members"]}
    assert members == {
        frozenset({"train/ill/00.png", "test/ill/copy.bmp"}),
        frozenset({"train/ill/06.png", "test/sound/two_labels.png"}),
        frozenset({"train/ill/12.png", "train/ill/twin.png"}),
    }


def test_near_copies(planted) -> None:
    found = planted.json["near_duplicates"]
    assert {"train/ill/near.png", "test/ill/near.jpg"} in [set(group["case_ids"]) for group in found["members"]]
    assert found["across_splits"] >= 1


def test_suspects(planted) -> None:
    named = {kind: [each["case_id"] for each in members] for kind, members in planted.json["suspects"].items()}
    assert named == {
        "constant": ["train/ill/constant.png"],
        "nearly_black": ["train/ill/black.png"],
        "inverted": ["train/ill/negative.png"],
        "burned_in_header": [],
        "burned_in_text": ["train/ill/written.png"],
        "borders": ["train/ill/framed.png"],
    }


def test_what_would_invalidate_a_test_comes_first(planted) -> None:
    done = planted.done
    assert list(done.invalidating) == planted.json["invalidating"]
    assert done.invalidating[0] == "Groups of identical pictures in two splits: 2 (cases: 2 train, 2 test)."
    assert "Groups of identical pictures with two labels, test or validation among them: 1." in done.invalidating
    assert "Classes of the test split that training never sees: unseen." in done.invalidating
    grave = done.sentences.index("This would invalidate a test result:")
    assert grave < done.sentences.index("Worth a look:")
    assert "  - Files that cannot be read: 1." in done.sentences
    assert max(map(len, done.sentences)) < 200


def test_the_page_is_one_file_without_scripts_or_links(planted) -> None:
    page = (planted.root / "out" / "audit.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert re.findall(r"(?:href|src)=\"(?!data:)", page) == []
    assert re.findall(r"https?://", page) == []
    assert page.count("<figure") >= 9
    for words in ("Identical pictures", "two labels", "two splits", "Inverted polarity", "broken.png", "Shortcuts"):
        assert words in page
    assert page.index("would invalidate a test result") < page.index("What there is") < page.index("Copies</h2>")
    assert page.index("two_labels.png") < page.index("test/ill/copy.bmp")


def test_a_contact_sheet_a_class_and_split(planted) -> None:
    sheets = sorted(path.name for path in (planted.root / "out").glob("contact_*.png"))
    assert sheets == [
        f"contact_{name}.png" for name in ("test_ill", "test_sound", "test_unseen", "train_ill", "train_sound")
    ]
    with Image.open(planted.root / "out" / sheets[0]) as page:
        assert page.size[0] > 500


def clean(root: pathlib.Path) -> str:
    for index in range(12):
        save(root / ("train", "test")[index % 3 == 2] / ("a", "b")[index % 2] / f"{index}.png", scenes.scene(index))
    return f"folder:{root}"


def test_clean_data_invalidate_nothing_and_the_same_seed_gives_the_same_bytes(tmp_path) -> None:
    settings = config.Config().override({"data.source": clean(tmp_path / "scans")})
    done = audit.audit_data(settings, output=tmp_path / "one")
    assert done.invalidating == ()
    assert done.findings["exact_duplicates"]["groups"] == done.findings["near_duplicates"]["groups"] == 0
    audit.audit_data(settings, output=tmp_path / "two")
    for name in ("audit.json", "audit.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_the_page_says_how_each_pair_differs_and_what_cannot_be_told(tmp_path) -> None:
    source = clean(tmp_path / "scans")
    save(tmp_path / "scans" / "test" / "a" / "mirror.png", scenes.scene(0)[:, ::-1])
    save(tmp_path / "scans" / "test" / "b" / "copy.png", scenes.scene(1))
    (tmp_path / "scans" / "train" / "a" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = audit.audit_data(config.Config().override({"data.source": source}), output=tmp_path / "out")
    assert [pair["kind"] for pair in done.findings["near_duplicates"]["pairs"]] == ["flipped left to right"]
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert page.count("flipped left to right, likeness 1.000</figcaption>") == 1
    assert page.count('<span class="badge bad">two splits</span></figcaption>') == 1
    for words in (
        ">1 file cannot be read<",
        ">in 1 group<",
        ">the data name no patients<",
        "1 group, 2 cases; 1 group",
    ):
        assert words in page
    assert "patients in two splits" not in page


def test_patients_in_two_splits_by_pseudonym(tmp_path) -> None:
    rows = ["path,label,patient_id,split"]
    for index in range(8):
        save(tmp_path / f"{index}.png", scenes.scene(index))
        rows.append(f"{index}.png,{'ab'[index % 2]},DOE^{index % 5},{('train', 'test')[index > 5]}")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    (tmp_path / "key").write_bytes(bytes(range(32)))
    settings = config.Config().override({"data.source": f"csv:{tmp_path / 'table.csv'}"})
    done = audit.audit_data(settings, output=tmp_path / "out", key=tmp_path / "key")
    assert [each["cases"] for each in done.findings["patients_across_splits"]] == [
        {"train": ["1.png"], "test": ["6.png"]},
        {"train": ["2.png"], "test": ["7.png"]},
    ]
    assert "Patients in two splits: 2, with 4 cases." in done.invalidating
    for path in (tmp_path / "out").iterdir():
        assert b"DOE" not in path.read_bytes()


def test_strict_is_an_exit_code(planted, tmp_path) -> None:
    command = [sys.executable, str(ROOT / "main.py"), "--mode=audit", "--json"]
    grave = [*command, f"--data=folder:{planted.root / 'scans'}", f"--output={tmp_path / 'grave'}", "--strict"]
    done = subprocess.run(grave, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["invalidating"] == list(planted.done.invalidating)
    fine = [*command, f"--data={clean(tmp_path / 'scans')}", f"--output={tmp_path / 'fine'}", "--strict"]
    done = subprocess.run(fine, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
