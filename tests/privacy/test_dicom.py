"""What stays of a DICOM file: its pixels, its references, its codes; and what is held back."""

from __future__ import annotations

import io
import pathlib
import re
import shutil
import subprocess
import warnings

import numpy as np
import pydicom
import pydicom.encaps
import pydicom.uid
import pytest
from pydicom.dataset import Dataset

from medkeras import errors
from medkeras.privacy import dataset as datasets
from medkeras.privacy import file, jpeg, options, pseudonyms, values, words
from tests.privacy import canaries

KEY = bytes(range(32))
OTHER = bytes(32)


def clean(source: pathlib.Path, target: pathlib.Path, *chosen: str, key: bytes = KEY) -> file.Done:
    return file.deidentify_file(str(source), str(target), relative=source.name, key=key, chosen=frozenset(chosen))


def cleaned(source: pathlib.Path, folder: pathlib.Path, *chosen: str, key: bytes = KEY) -> pydicom.FileDataset:
    """Returns the cleaned dataset of a file that is not held back."""
    done = clean(source, folder / "out.dcm", *chosen, key=key)
    assert done.reason == ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pydicom.dcmread(folder / "out.dcm")


def refused(source: pathlib.Path, folder: pathlib.Path, *chosen: str) -> str:
    done = clean(source, folder / "out.dcm", *chosen)
    assert done.name == ""
    assert done.reason
    return done.reason


def saved(dataset: pydicom.FileDataset, folder: pathlib.Path) -> pathlib.Path:
    with canaries.unruly():
        return canaries.save(dataset, folder / "in.dcm")


@pytest.fixture
def ct() -> pydicom.FileDataset:
    return canaries.base("CT")


def test_the_file_says_what_was_done(ct, tmp_path) -> None:
    ct.DeidentificationMethod = "by hand, of John Smith"
    new = cleaned(saved(ct, tmp_path), tmp_path, "retain_uids", "clean_descriptors")
    assert new.PatientIdentityRemoved == "YES"
    assert new.DeidentificationMethod.startswith("medkeras ")
    codes = [(item.CodeValue, item.CodingSchemeDesignator) for item in new.DeidentificationMethodCodeSequence]
    assert codes == [("113100", "DCM"), ("113105", "DCM"), ("113110", "DCM")]
    assert new.LongitudinalTemporalInformationModified == "REMOVED"
    assert "BurnedInAnnotation" not in new


def test_patients_become_pseudonyms(ct, tmp_path) -> None:
    ct.PatientID, ct.PatientName = " 12-34 ", "Doe^Jane"
    source = saved(ct, tmp_path)
    new = cleaned(source, tmp_path)
    assert new.PatientID == new.PatientName == pseudonyms.pseudonym(KEY, "12-34")
    assert clean(source, tmp_path / "out.dcm").name.startswith(f"{new.PatientID}/st-")
    assert new.PatientBirthDate == ""
    assert cleaned(source, tmp_path, key=OTHER).PatientID == pseudonyms.pseudonym(OTHER, "12-34")


def test_one_number_of_two_hospitals_is_two_patients(ct, tmp_path) -> None:
    names = []
    for issuer in ("North", "South", "North"):
        ct.PatientID, ct.IssuerOfPatientID = "7", issuer
        names.append(cleaned(saved(ct, tmp_path), tmp_path).PatientID)
    assert names[0] == names[2] == pseudonyms.pseudonym(KEY, "North\\7")
    assert names[0] != names[1]


def test_a_file_without_meta_is_read(ct, tmp_path) -> None:
    ct.file_meta, ct.preamble = pydicom.dataset.FileMetaDataset(), None
    with canaries.unruly():
        ct.save_as(tmp_path / "in.dcm", implicit_vr=True)
    assert (tmp_path / "in.dcm").read_bytes()[:4] == b"\x08\0\x05\0"
    new = cleaned(tmp_path / "in.dcm", tmp_path)
    assert new.file_meta.TransferSyntaxUID == pydicom.uid.ImplicitVRLittleEndian
    assert new.file_meta.ImplementationVersionName == "MEDKERAS"


def test_references_resolve_within_a_study(tmp_path) -> None:
    image, report = canaries.base("CT"), canaries.base("SR")
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    report.ReferencedImageSequence = [reference]
    report.StudyInstanceUID = image.StudyInstanceUID
    new, told = cleaned(saved(image, tmp_path), tmp_path), cleaned(saved(report, tmp_path), tmp_path)
    assert told.ReferencedImageSequence[0].ReferencedSOPInstanceUID == new.SOPInstanceUID
    assert told.ReferencedImageSequence[0].ReferencedSOPClassUID == image.SOPClassUID
    assert told.StudyInstanceUID == new.StudyInstanceUID
    assert new.file_meta.MediaStorageSOPInstanceUID == new.SOPInstanceUID
    assert new.SOPInstanceUID.startswith("2.25.")


def test_identifiers_depend_on_the_key_alone(ct, tmp_path) -> None:
    source = saved(ct, tmp_path)
    first, again, other = (cleaned(source, tmp_path, key=key) for key in (KEY, KEY, OTHER))
    assert first == again
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "PatientID"):
        assert first[keyword].value != other[keyword].value


def test_new_identifiers_are_valid_and_the_standards_own_stay() -> None:
    made = [values.new_uid(KEY, f"1.2.3.{number}") for number in range(500)]
    assert len(set(made)) == 500
    assert all(pydicom.uid.UID(uid).is_valid and int(uid.split(".")[2]) < 2**128 for uid in made)
    assert values.new_uid(KEY, str(pydicom.uid.CTImageStorage)) == pydicom.uid.CTImageStorage
    assert values.new_uid(KEY, "1.2.840.10008.99.5") != "1.2.840.10008.99.5"


@pytest.mark.parametrize(
    ("vr", "old", "new"),
    [("DA", "20240229", "20240225"), ("DA", "2024.02.29", ""), ("DA", "20240230", ""), ("DA", "", ""),
     ("DT", "2024022923", "2024022523"), ("DT", "20240229235959.123456+0100", "20240225235959.123456+0100"),
     ("DT", "2024", ""), ("TM", "235959.123", "235959.123"), ("TM", "John", ""), ("DA", "00010102", "")]
)  # fmt: skip
def test_dates_go_back_by_whole_days(vr, old, new) -> None:
    assert values.shifted(vr, old, days=4) == new


def test_intervals_stay_to_the_day_and_patients_differ(ct, tmp_path) -> None:
    moved = []
    for day, patient in (("20200101", "A"), ("20200331", "A"), ("20200101", "B")):
        ct.StudyDate, ct.PatientID = day, patient
        moved.append(cleaned(saved(ct, tmp_path), tmp_path, "retain_longitudinal_modified_dates"))
    first, second, other = (
        np.datetime64(f"{new.StudyDate[:4]}-{new.StudyDate[4:6]}-{new.StudyDate[6:]}") for new in moved
    )
    assert (second - first).astype(int) == 90
    assert first != other
    assert moved[0].LongitudinalTemporalInformationModified == "MODIFIED"


def test_known_words_alone_are_left_of_descriptions(ct, tmp_path) -> None:
    ct.PatientName, ct.OperatorsName = "Brain^Walter", "Long^John"
    ct.StudyDescription = "CT Head without contrast, Mr Walter Brain, room 42, long axis"
    new = cleaned(saved(ct, tmp_path), tmp_path, "clean_descriptors")
    assert new.StudyDescription == "CT Head without contrast Mr room axis"


def test_coded_strings_name_nobody(ct, tmp_path) -> None:
    ct.PatientName, ct.ContentLabel, ct.BodyPartExamined = "Doe^Jane", "LIVER SMITHSON", "JANE HEAD"
    with canaries.unruly():
        ct.add_new("ScanOptions", "CS", ["HELICAL", "Jane's scan"])
        ct.ImageType = ["ORIGINAL", "PRIMARY", "DOE"]
    new = cleaned(saved(ct, tmp_path), tmp_path)
    assert (new.ContentLabel, new.BodyPartExamined) == ("LIVER", "")
    assert (list(new.ScanOptions), list(new.ImageType)) == (["HELICAL", ""], ["ORIGINAL", "PRIMARY", ""])


def test_codes_of_public_schemes_stay_and_local_ones_become_hashes(ct, tmp_path) -> None:
    ct.ProcedureCodeSequence = [Dataset(), Dataset(), Dataset()]
    for item, code in zip(
        ct.ProcedureCodeSequence,
        [("113100", "DCM", "of John"), ("404684003", "SCT", "Finding of Zhukowski"), ("SMITH42", "99SITE", "CT Smith")],
        strict=True,
    ):
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
        item.MappingResource = "SMITH JOHN"
    known, public, local = cleaned(saved(ct, tmp_path), tmp_path).ProcedureCodeSequence
    assert known.CodeMeaning == words.concepts()["DCM", "113100"]
    assert (public.CodeValue, public.CodeMeaning) == ("404684003", "Finding")
    assert (local.CodingSchemeDesignator, local.CodeMeaning) == ("99LOCAL", "CT")
    assert "MappingResource" not in local
    assert local.CodeValue == pseudonyms.pseudonym(KEY, "99SITE\0SMITH42", prefix="c")[:16]


def test_ages_above_ninety_are_ninety(ct, tmp_path) -> None:
    ct.PatientAge, ct.PatientSex = "097Y", "F"
    new = cleaned(saved(ct, tmp_path), tmp_path, "retain_patient_characteristics")
    assert (new.PatientAge, new.PatientSex) == ("090Y", "F")
    assert cleaned(saved(ct, tmp_path), tmp_path).PatientSex == ""


def test_safe_private_numbers_alone_stay(ct, tmp_path) -> None:
    block = ct.private_block(0x0019, "GEMS_ACQU_01", create=True)
    block.add_new(0x23, "DS", "12.5")
    block.add_new(0x24, "LO", "Smith")
    block.add_new(0x99, "DS", "1971")
    new = cleaned(saved(ct, tmp_path), tmp_path, "retain_safe_private")
    assert [element.value for element in new if element.tag.is_private] == ["GEMS_ACQU_01", 12.5]
    assert not any(element.tag.is_private for element in cleaned(saved(ct, tmp_path), tmp_path))


def test_a_report_keeps_its_codes_and_numbers_when_asked(tmp_path) -> None:
    source = canaries.FILES / "test-SR.dcm"
    old, new = pydicom.dcmread(source), cleaned(source, tmp_path, "clean_structured_content")
    assert len(new.ContentSequence) == len(old.ContentSequence)
    assert [item.ValueType for item in new.ContentSequence] == [item.ValueType for item in old.ContentSequence]
    bare = cleaned(source, tmp_path)
    assert [item.TextValue for item in bare.ContentSequence] == [words.DUMMY]


@pytest.mark.parametrize("name", ["CT", "MR", "MR implicit", "RTDOSE", "SEG", "CR", "MR overlays"])
def test_pixels_stay_bit_for_bit(name, tmp_path) -> None:
    source = canaries.FILES / canaries.BASES[name]
    old, new = pydicom.dcmread(source), cleaned(source, tmp_path)
    assert new.PixelData == old.PixelData
    assert new.file_meta.TransferSyntaxUID == old.file_meta.TransferSyntaxUID
    for keyword in ("Rows", "Columns", "BitsStored", "RescaleSlope", "PixelSpacing", "ImagePositionPatient"):
        assert new.get(keyword) == old.get(keyword)


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_bigendian.dcm",
        "MR_small_RLE.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "J2K_pixelrep_mismatch.dcm",
    ],
)
def test_compressed_and_big_endian_pixels_decode_alike(name, tmp_path) -> None:
    old, new = pydicom.dcmread(canaries.FILES / name), cleaned(canaries.FILES / name, tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(new.pixel_array, old.pixel_array)


def test_comments_inside_compressed_frames_are_cut(tmp_path) -> None:
    for name in ("MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm"):
        dataset = pydicom.dcmread(canaries.FILES / name)
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        place = 2 if name.endswith("ls_lossless.dcm") else 4 + int.from_bytes(frame[4:6])
        marker = b"\xff\xfe\x00\x0c" if place == 2 else b"\xff\x64\x00\x0c"
        commented = frame[:place] + marker + b"John Smith" + frame[place:].rstrip(b"\0") + b"after the end"
        dataset.PixelData = pydicom.encaps.encapsulate([commented + b"\0" * (len(commented) % 2)])
        new = cleaned(saved(dataset, tmp_path), tmp_path)
        assert b"John Smith" not in (tmp_path / "out.dcm").read_bytes()
        assert b"after the end" not in (tmp_path / "out.dcm").read_bytes()
        np.testing.assert_array_equal(new.pixel_array, pydicom.dcmread(canaries.FILES / name).pixel_array)


def test_an_offset_table_holds_offsets_alone(tmp_path) -> None:
    dataset = pydicom.dcmread(canaries.FILES / "MR_small_RLE.dcm")
    assert dataset.PixelData[4:8] == bytes((4, 0, 0, 0))
    dataset["PixelData"].value = dataset.PixelData[:8] + b"Jane" + dataset.PixelData[12:]
    new = cleaned(saved(dataset, tmp_path), tmp_path)
    assert b"Jane" not in (tmp_path / "out.dcm").read_bytes()
    np.testing.assert_array_equal(new.pixel_array, pydicom.dcmread(canaries.FILES / "MR_small_RLE.dcm").pixel_array)


def test_run_length_coded_frames_end_where_they_should(tmp_path) -> None:
    source = canaries.FILES / "MR_small_RLE.dcm"
    dataset = pydicom.dcmread(source)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = pydicom.encaps.encapsulate([frame + b"Jane Doe"])
    new = cleaned(saved(dataset, tmp_path), tmp_path)
    assert b"Jane Doe" not in (tmp_path / "out.dcm").read_bytes()
    np.testing.assert_array_equal(new.pixel_array, pydicom.dcmread(source).pixel_array)


def test_parts_of_tiles_carry_no_comment(tmp_path) -> None:
    source = canaries.FILES / "MR_small_jp2klossless.dcm"
    dataset = pydicom.dcmread(source)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    comment, place = b"\xff\x64\0\x0c\0\1Jane Doe", frame.index(b"\xff\x90")
    size = int.from_bytes(frame[place + 6 : place + 10]) + len(comment)
    begin = frame[: place + 6] + size.to_bytes(4) + frame[place + 10 : place + 12]
    dataset.PixelData = pydicom.encaps.encapsulate([begin + comment + frame[place + 12 :]])
    new = cleaned(saved(dataset, tmp_path), tmp_path)
    assert b"Jane Doe" not in (tmp_path / "out.dcm").read_bytes()
    np.testing.assert_array_equal(new.pixel_array, pydicom.dcmread(source).pixel_array)


def test_tables_and_waveforms_at_every_level_end_where_they_should(ct, tmp_path) -> None:
    lut = Dataset()
    lut.add_new("LUTDescriptor", "US", [4, 0, 16])
    lut.add_new("LUTData", "OW", bytes(8) + b"Jane Doe")
    ct.VOILUTSequence = [lut]
    assert len(cleaned(saved(ct, tmp_path), tmp_path).VOILUTSequence[0].LUTData) == 8
    ecg = canaries.base("ECG")
    wave = ecg.WaveformSequence[0]
    data = wave.WaveformData
    wave["WaveformData"].value = data + b"Jane Doe"
    assert cleaned(saved(ecg, tmp_path), tmp_path).WaveformSequence[0].WaveformData == data


def test_palettes_end_where_they_should(ct, tmp_path) -> None:
    ct.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        ct.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [4, 0, 16])
        setattr(ct, f"{colour}PaletteColorLookupTableData", bytes(8) + b"Jane Doe")
    new = cleaned(saved(ct, tmp_path), tmp_path)
    assert len(new.RedPaletteColorLookupTableData) == 8


def test_floating_pixels_end_where_they_should(ct, tmp_path) -> None:
    ct.FloatPixelData = np.zeros((ct.Rows, ct.Columns), np.float32).tobytes() + b"Jane Doe"
    del ct.PixelData
    new = cleaned(saved(ct, tmp_path), tmp_path)
    assert b"Jane" not in (tmp_path / "out.dcm").read_bytes()
    assert len(new.FloatPixelData) == 4 * ct.Rows * ct.Columns


def test_overlays_in_unused_bits_are_wiped(ct, tmp_path) -> None:
    ct.BitsStored, ct.HighBit, ct.PixelRepresentation = 12, 11, 0
    clear = np.frombuffer(ct.PixelData, "<u2") & 0x0FFF
    ct["PixelData"].value = (clear | 0x4000).astype("<u2").tobytes()
    ct.add_new(0x60000102, "US", 14)
    new = cleaned(saved(ct, tmp_path), tmp_path)
    np.testing.assert_array_equal(np.frombuffer(new.PixelData, "<u2"), clear)


def test_programs_in_the_preamble_are_held_back(ct, tmp_path) -> None:
    for program in (b"MZ\x90", b"\x7fELF", b"#!/bin/sh"):
        ct.preamble = program.ljust(128, b"\0")
        assert "program" in refused(saved(ct, tmp_path), tmp_path)
    ct.preamble = b"II*\0".ljust(128, b"x")
    cleaned(saved(ct, tmp_path), tmp_path)
    assert (tmp_path / "out.dcm").read_bytes()[:128] == bytes(128)


@pytest.mark.parametrize("modality", ["US", "SC", "XA", "RF", "ES", "XC", "OT", "GM"])
def test_suspect_modalities_are_held_back(modality, ct, tmp_path) -> None:
    ct.Modality, ct.BurnedInAnnotation = modality, "NO"
    assert modality in refused(saved(ct, tmp_path), tmp_path)
    assert "region" in refused(saved(ct, tmp_path), tmp_path, "clean_pixel_data")


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("BurnedInAnnotation", "YES"), ("ImageType", ["DERIVED", "SECONDARY", "SCREEN SAVE"]), ("ConversionType", "WSD"),
     ("SOPClassUID", pydicom.uid.SecondaryCaptureImageStorage), ("SOPClassUID", pydicom.uid.EncapsulatedPDFStorage),
     ("SOPClassUID", pydicom.uid.GrayscaleSoftcopyPresentationStateStorage), ("SOPClassUID", "1.2.3.4"),
     ("EncapsulatedDocument", b"%PDF")]
)  # fmt: skip
def test_objects_that_may_show_the_patient_are_held_back(keyword, value, ct, tmp_path) -> None:
    setattr(ct, keyword, value)
    assert refused(saved(ct, tmp_path), tmp_path)


def test_presentation_states_lose_their_text(ct, tmp_path) -> None:
    ct.SOPClassUID = pydicom.uid.GrayscaleSoftcopyPresentationStateStorage
    del ct.PixelData
    text, line, item = Dataset(), Dataset(), Dataset()
    text.UnformattedTextValue, line.GraphicData, line.GraphicType = "Jane Doe", [1.0, 2.0], "POINT"
    item.TextObjectSequence, item.GraphicObjectSequence, item.GraphicLayer = [text], [line], "JANE DOE"
    ct.GraphicAnnotationSequence = [item]
    (new,) = cleaned(saved(ct, tmp_path), tmp_path, "clean_graphics").GraphicAnnotationSequence
    assert new.GraphicObjectSequence[0].GraphicData == [1.0, 2.0]
    assert re.fullmatch("L_[A-Z2-7]{14}", new.GraphicLayer)
    assert new.TextObjectSequence[0].UnformattedTextValue == words.DUMMY


@pytest.mark.parametrize("name", ["examples_palette.dcm", "examples_ybr_color.dcm"])
def test_ultrasound_is_blank_outside_its_regions(name, tmp_path) -> None:
    old = pydicom.dcmread(canaries.FILES / name)
    new = cleaned(canaries.FILES / name, tmp_path, "clean_pixel_data")
    inside = np.zeros((old.Rows, old.Columns), bool)
    for region in old.SequenceOfUltrasoundRegions:
        rows = slice(region.RegionLocationMinY0, region.RegionLocationMaxY1 + 1)
        inside[rows, region.RegionLocationMinX0 : region.RegionLocationMaxX1 + 1] = True
    frames = new.pixel_array.reshape(-1, old.Rows, old.Columns, old.SamplesPerPixel)
    assert not inside.all()
    assert not frames[:, ~inside].any()
    assert frames[:, inside].any()
    assert "113101" in [item.CodeValue for item in new.DeidentificationMethodCodeSequence]
    if name == "examples_palette.dcm":
        np.testing.assert_array_equal(frames[0, ..., 0][inside], old.pixel_array[inside])


def test_nested_too_deep_is_held_back(ct, tmp_path) -> None:
    item = Dataset()
    for _ in range(datasets.LARGEST_DEPTH + 1):
        outer = Dataset()
        outer.SharedFunctionalGroupsSequence = [item]
        item = outer
    ct.SharedFunctionalGroupsSequence = [item]
    assert "nest" in refused(saved(ct, tmp_path), tmp_path)


def test_values_of_the_wrong_kind_are_dropped(ct, tmp_path) -> None:
    contents = io.BytesIO()
    with canaries.unruly():
        ct.save_as(contents, enforce_file_format=True)
    data = contents.getvalue()
    spacing = data.index(b"\x18\x00\x50\x00DS") + 8
    size = int.from_bytes(data[spacing - 2 : spacing], "little")
    (tmp_path / "in.dcm").write_bytes(data[:spacing] + b"Jane Smith"[:size].ljust(size) + data[spacing + size :])
    new = cleaned(tmp_path / "in.dcm", tmp_path)
    assert new.SliceThickness is None


def test_an_object_without_identifier_is_held_back(ct, tmp_path) -> None:
    source = saved(ct, tmp_path)
    data = source.read_bytes()
    source.write_bytes(data.replace(b"\x08\0\x18\0UI", b"\x08\0\x19\0UI"))
    assert "SOP Instance UID" in refused(source, tmp_path)


def test_a_truncated_file_is_told_without_its_contents(ct, tmp_path) -> None:
    source = saved(ct, tmp_path)
    source.write_bytes(source.read_bytes()[:700])
    done = clean(source, tmp_path / "out.dcm")
    assert "Compressed" not in done.reason
    assert not done.reason or not done.name


def test_unknown_options_are_told_with_the_nearest_name() -> None:
    with pytest.raises(errors.ConfigError, match="clean_graphics"):
        options.checked(["clean_graphic"])


def test_codes_are_those_of_cid_7050() -> None:
    from_the_standard = {
        option.code: option.meaning for option in options.codes(frozenset(options.OPTIONS)) if option.code != "113100"
    }
    for code, meaning in from_the_standard.items():
        assert meaning == words.concepts()["DCM", code]


def test_an_exif_structure_states_its_orientation() -> None:
    assert [jpeg.exif_orientation(jpeg.minimal_exif(number)) for number in range(1, 9)] == list(range(1, 9))


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> list[tuple[pathlib.Path, pathlib.Path]]:
    """Returns each of pydicom's files that is passed on, and what became of it."""
    folder = tmp_path_factory.mktemp("outputs")
    pairs = [(source, folder / f"{number}.dcm") for number, source in enumerate(sorted(canaries.FILES.rglob("*")))]
    chosen = ("clean_pixel_data", "clean_graphics")
    return [(old, new) for old, new in pairs if old.is_file() and clean(old, new, *chosen).name]


def test_most_of_pydicoms_files_are_passed_on(outputs) -> None:
    assert len(outputs) > 100


def test_no_value_of_pydicoms_files_is_left(outputs) -> None:
    rules = options.actions(frozenset())
    assert rules == {}
    for old, new in outputs:
        left = new.read_bytes().lower()
        for text in texts(old):
            assert text.lower().encode() not in left, old.name


def texts(path: pathlib.Path) -> set[str]:
    """Returns the names, numbers and texts that the table removes from a file, long enough not to turn up by chance."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        elements = list(pydicom.dcmread(path, force=True, stop_before_pixels=True).iterall())
    kinds = ("PN", "LO", "SH", "ST", "LT", "UT", "UI")
    found = {str(value) for element in elements if element.VR in kinds and int(element.tag) in datasets.table.ACTIONS
             for value in (element.value if isinstance(element.value, list | tuple) else [element.value])}  # fmt: skip
    return {text for text in found if len(text) > 7 and text not in pydicom.uid.UID_dictionary}


def test_dcmdump_reads_every_output(outputs) -> None:
    if not shutil.which("dcmdump"):
        pytest.skip("dcmdump of DCMTK is not installed")
    for old, new in outputs:
        done = subprocess.run(["dcmdump", "-q", str(new)], capture_output=True, check=False)
        assert done.returncode == 0, old.name
        assert b"PatientIdentityRemoved" in done.stdout


def test_dciodvfy_finds_no_new_errors(outputs) -> None:
    if not shutil.which("dciodvfy"):
        pytest.skip("dciodvfy of dicom3tools is not installed")
    whole = [(old, new) for old, new in outputs if "truncated" not in old.name]
    found = {old.name: faults(new) - faults(old) for old, new in whole}
    assert {name: sentences for name, sentences in found.items() if sentences} == {}


def faults(path: pathlib.Path) -> set[str]:
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, errors="replace", check=False)
    return {re.sub("<[0-9.]+>", "", line) for line in done.stderr.splitlines() if line.startswith("Error")}
