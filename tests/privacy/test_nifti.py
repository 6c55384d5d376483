"""NIfTI files keep voxels, affine and scaling to the bit, and lose every text."""

from __future__ import annotations

import gzip
import pathlib

import nibabel
import numpy as np
import pytest

from medkeras.privacy import file, nifti

SECRET = "QZ17SECRETXJ"
KEY = bytes(range(32))


def volume(path: pathlib.Path, kind: type, order: str = "<") -> pathlib.Path:
    """Writes a volume with secrets in every text of its header, in an extension, and behind its voxels."""
    values = np.random.default_rng(5).normal(0, 300, (5, 6, 7)).astype(np.float32)
    header = kind.header_class(endianness=order)
    header.set_data_dtype(np.int16)
    for name in ("descrip", "aux_file", "intent_name", "db_name"):
        if name in header:
            header[name] = SECRET.encode()
    affine = np.array([[0.9, 0.1, 0, -20], [-0.1, 1.1, 0, 3], [0, 0, 2.5, 7], [0, 0, 0, 1]])
    image = kind(values, affine, header)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", SECRET.encode()))
    image.header["intent_name"] = SECRET.encode()
    nibabel.save(image, path)
    return path


def clean(path: pathlib.Path, target: pathlib.Path) -> file.Done:
    return file.deidentify_file(str(path), str(target), relative=f"x/{path.name}", key=KEY, chosen=frozenset())


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_stay_and_texts_go(kind, suffix, order, tmp_path) -> None:
    path, target = volume(tmp_path / f"{SECRET}{suffix}", kind, order), tmp_path / f"new{suffix}"
    done = clean(path, target)
    assert done.name.startswith("x/n-")
    assert done.name.endswith(suffix)
    assert done.actions["texts_blanked"] >= 3
    assert done.actions["bytes_removed"] > len(SECRET)
    contents = gzip.decompress(target.read_bytes()) if suffix == ".nii.gz" else target.read_bytes()
    assert SECRET.encode() not in contents + target.read_bytes()
    old, new = nibabel.load(path), nibabel.load(target)
    np.testing.assert_array_equal(new.dataobj.get_unscaled(), old.dataobj.get_unscaled())
    np.testing.assert_array_equal(new.affine, old.affine)
    assert (new.dataobj.slope, new.dataobj.inter) == (old.dataobj.slope, old.dataobj.inter)
    assert new.header.get_zooms() == old.header.get_zooms()
    assert not new.header.extensions


def test_gzip_names_no_file_and_no_time(tmp_path) -> None:
    path = volume(tmp_path / "a.nii", nibabel.Nifti1Image)
    with open(tmp_path / "b.nii.gz", "wb") as packed, gzip.GzipFile(f"{SECRET}.nii", "wb", fileobj=packed) as new:
        new.write(path.read_bytes())
    assert SECRET.encode() in (tmp_path / "b.nii.gz").read_bytes()
    clean(tmp_path / "b.nii.gz", tmp_path / "new.nii.gz")
    assert (tmp_path / "new.nii.gz").read_bytes()[3:8] == bytes(5)


def test_bytes_behind_the_voxels_are_cut(tmp_path) -> None:
    path = volume(tmp_path / "a.nii", nibabel.Nifti1Image)
    path.write_bytes(path.read_bytes() + SECRET.encode())
    clean(path, tmp_path / "new.nii")
    assert (tmp_path / "new.nii").stat().st_size == 352 + 2 * 5 * 6 * 7


@pytest.mark.parametrize("cut", [300, 360, 500])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_cut_file_is_held_back(cut, suffix, tmp_path) -> None:
    path = volume(tmp_path / f"a{suffix}", nibabel.Nifti1Image)
    path.write_bytes(path.read_bytes()[:cut])
    done = clean(path, tmp_path / "new")
    assert done.name == ""
    assert done.reason


def test_two_files_are_held_back(tmp_path) -> None:
    nibabel.save(nibabel.Nifti1Pair(np.zeros((3, 3, 3), np.int16), np.eye(4)), tmp_path / "a.hdr")
    assert "one file" in clean(tmp_path / "a.hdr", tmp_path / "new").reason
    assert clean(tmp_path / "a.img", tmp_path / "new").name == ""


def test_a_header_that_lies_about_its_size_is_held_back(tmp_path) -> None:
    path = volume(tmp_path / "a.nii", nibabel.Nifti1Image)
    contents = bytearray(path.read_bytes())
    contents[40:56] = np.array([7, *[32767] * 7], "<i2").tobytes()
    path.write_bytes(contents)
    assert "too large" in clean(path, tmp_path / "new").reason


def test_real_volumes_stay(real_data, tmp_path) -> None:
    for path in sorted((real_data / "hippocampus" / "images").glob("*.nii.gz"))[:3]:
        assert clean(path, tmp_path / "new.nii.gz").reason == ""
        old, new = nibabel.load(path), nibabel.load(tmp_path / "new.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(new.dataobj), np.asanyarray(old.dataobj))
        np.testing.assert_array_equal(new.affine, old.affine)


def test_other_gzip_files_are_no_nifti() -> None:
    assert not nifti.looks_like(gzip.compress(b"text" * 400))
    assert not nifti.looks_like(b"\x1f\x8b" + bytes(30))
