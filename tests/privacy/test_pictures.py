"""Pictures decode to the same values, and say nothing more than how to turn them upright."""

from __future__ import annotations

import io
import pathlib
import struct
import warnings
import zlib

import numpy as np
import PIL.ExifTags
import PIL.Image
import PIL.PngImagePlugin
import pytest
import tifffile

from medkeras.data import cases, files
from medkeras.privacy import file, jpeg, pseudonyms

SECRET = "QZ17SECRETXJ"
KEY = bytes(range(32))


def picture(height: int = 21, width: int = 34, channels: int = 3) -> np.ndarray:
    values = np.random.default_rng(3).integers(0, 255, (height // 3 + 1, width // 3 + 1, channels), np.uint8)
    return np.kron(values, np.ones((3, 3, 1), np.uint8))[:height, :width]


def exif(orientation: int) -> PIL.Image.Exif:
    found = PIL.Image.Exif()
    found[PIL.ExifTags.Base.Orientation] = orientation
    found[PIL.ExifTags.Base.Artist] = found[PIL.ExifTags.Base.ImageDescription] = SECRET
    found.get_ifd(PIL.ExifTags.IFD.GPSInfo)[PIL.ExifTags.GPS.GPSAreaInformation] = SECRET
    return found


def written(folder: pathlib.Path, suffix: str, orientation: int = 1) -> pathlib.Path:
    """Writes a picture with secrets wherever its format has room for them."""
    path, image = folder / f"{SECRET}{suffix}", PIL.Image.fromarray(picture())
    told = {"exif": exif(orientation), "xmp": SECRET.encode(), "icc_profile": b"profile of " + SECRET.encode()}
    if suffix in (".jpg", ".webp"):
        extra = {"comment": SECRET} if suffix == ".jpg" else {"lossless": True}
        image.save(path, quality=95, **told, **extra)
    elif suffix == ".png":
        texts = PIL.PngImagePlugin.PngInfo()
        texts.add_text("Author", SECRET)
        texts.add_itxt("Title", SECRET)
        texts.add_text("Zipped", SECRET, zip=True)
        image.save(path, pnginfo=texts, exif=told["exif"], icc_profile=told["icc_profile"])
    elif suffix == ".tif":
        extra = [("Artist", "s", 0, SECRET, True), (65000, "s", 0, SECRET, True)]
        tifffile.imwrite(
            path, picture(), photometric="rgb", description=SECRET, software=SECRET, compression="zlib",
            extratags=[*extra, ("Orientation", "H", 1, orientation, True)], metadata=None,
        )  # fmt: skip
    elif suffix == ".gif":
        image.quantize(64).save(path, comment=SECRET.encode(), save_all=True, append_images=[image], loop=0)
    else:
        image.save(path)
    if suffix != ".bmp":
        path.write_bytes(path.read_bytes() + SECRET.encode())
    return path


def cleaned(path: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    target = folder / f"new{path.suffix}"
    done = file.deidentify_file(str(path), str(target), relative=path.name, key=KEY, chosen=frozenset())
    assert done.reason == ""
    assert SECRET not in done.name
    return target


def decoded(path: pathlib.Path) -> np.ndarray:
    """Returns the stored values as medkeras reads them."""
    return files.FileImages().read(cases.Case(case_id="a", path=str(path), patient_id="a", label="a"), 3)


def mentions(path: pathlib.Path) -> bool:
    contents = path.read_bytes()
    return any(SECRET.encode(code) in contents for code in ("ascii", "utf-16-le", "utf-16-be"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".gif", ".webp"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_pixels_stay_and_secrets_go(suffix, orientation, tmp_path) -> None:
    path = written(tmp_path, suffix, orientation)
    assert mentions(path) or suffix == ".bmp"
    new = cleaned(path, tmp_path)
    assert not mentions(new)
    np.testing.assert_array_equal(decoded(new), decoded(path))
    with PIL.Image.open(new) as image:
        kept = image.getexif()
        assert (kept.get(PIL.ExifTags.Base.Orientation, 1) == 1) == (orientation == 1 or suffix in (".bmp", ".gif"))
        assert not set(image.info) & {"comment", "xmp", "icc_profile", "Author", "Title", "Zipped"}
        if suffix != ".tif":
            assert set(kept) <= {PIL.ExifTags.Base.Orientation}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".bmp", ".gif", ".webp"])
def test_cleaning_twice_changes_nothing(suffix, tmp_path) -> None:
    new = cleaned(written(tmp_path, suffix, 6), tmp_path)
    (tmp_path / "again").mkdir()
    assert cleaned(new, tmp_path / "again").read_bytes() == new.read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".gif", ".webp"])
def test_a_cut_file_is_held_back(suffix, tmp_path) -> None:
    path = written(tmp_path, suffix)
    contents = path.read_bytes()
    for size in (len(contents) // 2, 40):
        path.write_bytes(contents[:size])
        done = file.deidentify_file(str(path), str(tmp_path / "new"), relative="a", key=KEY, chosen=frozenset())
        assert done.name == "" or suffix in (".jpg",), size
        assert done.reason or size > 40


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_kind_of_jpeg_decodes_alike(mode, progressive, tmp_path) -> None:
    path = tmp_path / "a.jpg"
    PIL.Image.fromarray(picture()).convert(mode).save(
        path, progressive=progressive, comment=SECRET, restart_marker_blocks=2, exif=exif(3)
    )
    new = cleaned(path, tmp_path)
    assert not mentions(new)
    with PIL.Image.open(path) as old_image, PIL.Image.open(new) as new_image:
        np.testing.assert_array_equal(np.asarray(new_image), np.asarray(old_image))
    np.testing.assert_array_equal(decoded(new), decoded(path))


def test_gaps_and_ends_of_a_bmp_are_gone(tmp_path) -> None:
    contents = written(tmp_path, ".bmp").read_bytes()
    path = tmp_path / "gap.bmp"
    begin = int.from_bytes(contents[10:14], "little")
    assert begin == 54
    gap = SECRET.encode()
    offset = struct.pack("<I", begin + len(gap))
    path.write_bytes(contents[:10] + offset + contents[14:54] + gap + contents[54:] + gap)
    new = cleaned(path, tmp_path)
    assert not mentions(new)
    assert new.read_bytes() == contents


def test_a_jpeg_thumbnail_is_gone(tmp_path) -> None:
    path = written(tmp_path, ".jpg")
    contents = path.read_bytes()
    assert contents[6:11] == b"JFIF\0"
    size = int.from_bytes(contents[4:6])
    thumbnail = struct.pack(">H", size + 12) + contents[6:18] + b"\x02\x02" + SECRET.encode()
    path.write_bytes(contents[:4] + thumbnail + contents[4 + size :])
    assert not mentions(cleaned(path, tmp_path))


@pytest.mark.parametrize(("depth", "colour"), [(8, "I;16"), (16, "I;16"), (1, "1"), (8, "P"), (8, "LA"), (8, "RGBA")])
def test_every_kind_of_png_decodes_alike(depth, colour, tmp_path) -> None:
    path = tmp_path / "a.png"
    if colour == "I;16":
        PIL.Image.fromarray(picture()[..., 0].astype(np.uint16) * 257).save(path, exif=exif(8))
    else:
        PIL.Image.fromarray(picture()).convert(colour).save(path, exif=exif(8))
    new = cleaned(path, tmp_path)
    assert not mentions(new)
    np.testing.assert_array_equal(decoded(new), decoded(path))


def test_bytes_after_the_compressed_pixels_of_a_png_are_cut(tmp_path) -> None:
    stream = zlib.compress(b"\0" + bytes(4)) + SECRET.encode()
    header = struct.pack(">IIBBBBB", 4, 1, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", stream), (b"IEND", b""))
    body = (
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in chunks
    )
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    assert not mentions(cleaned(path, tmp_path))


@pytest.mark.parametrize(
    "settings",
    [{"compression": "jpeg"}, {"compression": "lzw", "predictor": True}, {"tile": (16, 16)}, {"byteorder": ">"},
     {"bigtiff": True}, {"rowsperstrip": 4, "compression": "deflate"}, {"planarconfig": "separate"}]
)  # fmt: skip
def test_every_kind_of_tiff_decodes_alike(settings, tmp_path) -> None:
    path = tmp_path / "a.tif"
    pixels = np.moveaxis(picture(), -1, 0) if "planarconfig" in settings else picture()
    tifffile.imwrite(path, pixels, photometric="rgb", description=SECRET, metadata=None, **settings)
    if settings.get("bigtiff"):
        done = file.deidentify_file(str(path), str(tmp_path / "new"), relative="a", key=KEY, chosen=frozenset())
        assert done.kind == "TIFF"
    new = cleaned(path, tmp_path)
    assert not mentions(new)
    np.testing.assert_array_equal(tifffile.imread(new), tifffile.imread(path))


@pytest.mark.parametrize("dtype", ["u2", "f4", "u1"])
def test_grey_tiffs_of_every_depth_stay(dtype, tmp_path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture()[..., 0].astype(dtype), description=SECRET, resolution=(300, 300))
    new = cleaned(path, tmp_path)
    assert tifffile.imread(new).dtype == np.dtype(dtype)
    np.testing.assert_array_equal(tifffile.imread(new), tifffile.imread(path))
    np.testing.assert_array_equal(decoded(new), decoded(path))


def test_names_are_hashes_in_the_same_folders(tmp_path) -> None:
    path = written(tmp_path, ".png")
    names = {
        file.deidentify_file(str(path), str(tmp_path / "n"), relative=name, key=KEY, chosen=frozenset()).name
        for name in ("Training/glioma/a.png", "Training/glioma/b.png", "Testing/no_tumor/a.png", "Jane Doe/1/a.png")
    }
    assert len(names) == 4
    folders = {pathlib.PurePath(name).parent.as_posix() for name in names}
    hashed = f"{pseudonyms.pseudonym(KEY, 'Jane Doe', prefix='d')}/1"
    assert folders == {"Training/glioma", "Testing/no_tumor", hashed}
    assert all(pathlib.PurePath(name).name.startswith("n-") for name in names)


@pytest.mark.parametrize(("first", "second"), [("images/a.png", "masks/a.png"), ("images/a.jpg", "masks/a.png")])
def test_an_image_and_its_mask_stay_a_pair(first, second, tmp_path) -> None:
    path = written(tmp_path, ".png")
    names = [
        file.deidentify_file(str(path), str(tmp_path / "n"), relative=name, key=KEY, chosen=frozenset()).name
        for name in (first, second)
    ]
    assert names[0].replace("images", "masks") == names[1]


def test_damaged_pictures_are_told_without_their_contents(tmp_path) -> None:
    generator = np.random.default_rng(1)
    for suffix in (".jpg", ".png", ".tif", ".bmp", ".gif", ".webp"):
        contents = written(tmp_path, suffix).read_bytes()
        for _ in range(25):
            changed = bytearray(contents)
            for place in generator.integers(12, len(contents), 4):
                changed[place] = generator.integers(256)
            path = tmp_path / "changed"
            path.write_bytes(changed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                done = file.deidentify_file(str(path), str(tmp_path / "new"), relative="a", key=KEY, chosen=frozenset())
            assert SECRET not in done.reason


def test_frames_of_a_stream_stay_alone() -> None:
    file_of = io.BytesIO()
    PIL.Image.fromarray(picture()).save(file_of, "JPEG", comment=SECRET)
    stream = jpeg.strip_stream(file_of.getvalue() + b"behind")
    assert SECRET.encode() not in stream
    assert b"behind" not in stream
    assert len(stream) % 2 == 0
