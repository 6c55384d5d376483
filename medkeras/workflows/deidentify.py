"""De-identifies files: what may be passed on is written anew, what may not is held back and told."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import json
import os
import pathlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any

from medkeras import errors, version
from medkeras.data import labels
from medkeras.guard import pool, tasks
from medkeras.privacy import file, names, options, patients, pseudonyms, table, words
from medkeras.workflows import terminal, translating

REPORT = "deidentify.json"

_WORKERS = 2
# Bytes: a file, its copy, and the libraries.
_MEMORY = 4 * 2**30
# Seconds that a file may take, and one more for so many bytes.
_DEADLINE, _BYTES_A_SECOND = 60.0, 1e7
_MODULE = file.__name__
_SENTENCES = tasks.Sentences(
    damaged="the file is damaged",
    slow="the file takes too long",
    died="the file brought its reader down, or used too much memory",
    large="there is too little memory for the file",
    full="there is too little memory for the file",
)
_PATH_PREFIX = "f"
_SEVERAL_TABLES = f"of several {labels.NAME} none is translated: the output has one; clean each folder by itself"


@dataclasses.dataclass(frozen=True)
class _Job:
    """One file: where it is, where the new one goes, its name below the folder that the user named, and whose it is.

    The identity is that of a DICOM file, and None for any other.
    """

    path: str
    target: str
    relative: str
    patient: str = dataclasses.field(default="", repr=False)
    identity: patients.Identity | None = dataclasses.field(default=None, repr=False)


@dataclasses.dataclass(frozen=True)
class Deidentified:
    """What was done.

    Attributes:
        folder: The output folder.
        written: Number of files written.
        held_back: Number of files that were not.
        report: What `deidentify.json` holds.
    """

    folder: pathlib.Path
    written: int
    held_back: int
    report: Mapping[str, Any]

    @property
    def sentences(self) -> tuple[str, ...]:
        """A summary for the terminal: why files were held back, the frequent reasons first."""
        reasons = (f"  {count} held back: {reason}" for reason, count in self.report["reasons"].items())
        return (f"{self.written} files written, {self.held_back} held back", *reasons, *self._tables)

    @property
    def _tables(self) -> Iterator[str]:
        for entry in self.report["files"]:
            if entry["kind"] == translating.KIND and not entry["held_back"]:
                done = entry["actions"]
                yield (
                    f"{entry['output']}: {done['rows']} rows translated, {done['rows_dropped']} without a written file "
                    f"and {done['columns_dropped']} other columns left out"
                )


def deidentify(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    output: str | os.PathLike[str],
    key: str | os.PathLike[str] | None = None,
    options: Sequence[str] = (),
) -> Deidentified:
    """Writes files without identity into a new folder, and `deidentify.json` beside them.

    DICOM files follow the Basic Application Level Confidentiality Profile; images lose their metadata, NIfTI files
    their texts. The originals are never touched, and no file stops the others. Where texts were burned into pixels, or
    may be, the file is held back. A table `labels.csv` is translated: its rows find the new files. The result is
    pseudonymous, not anonymous: faces stay faces.

    Args:
        inputs: Files, or folders that are searched for files.
        output: A folder that is new or empty, and neither in an input nor around one.
        key: The file of the secret that all new identifiers come from; None for the user's own.
        options: Names of `medkeras.privacy.options.OPTIONS`.

    Raises:
        ConfigError: An option is unknown, or there is no input.
        DataError: An input does not exist, or the output would overwrite something or cannot be written.

    Reference:
        DICOM PS3.15, annex E.
    """
    chosen = _checked(options)
    found = _files(inputs)
    folder = _output(pathlib.Path(output), inputs)
    secret = pseudonyms.load_key(key)
    try:
        return _written_to(folder, found, secret=secret, chosen=chosen)
    except OSError as error:
        raise errors.DataError(
            f"The output is a folder that can be written to. Received: {errors.printable(folder)!r} ({error.strerror})"
        ) from None


def _written_to(
    folder: pathlib.Path, found: Sequence[tuple[pathlib.Path, str]], *, secret: bytes, chosen: frozenset[str]
) -> Deidentified:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".deidentify-", dir=folder) as scratch:
        ready = pathlib.Path(scratch, "ready")
        ready.mkdir()
        entries = _cleaned(found, ready, pathlib.Path(scratch), secret=secret, chosen=chosen)
        report = _report(entries, chosen)
        _write(json.dumps(report, indent=1).encode("ascii"), ready / REPORT)
        # All together at the end, the report last: what is interrupted leaves nothing that may be taken for the whole.
        for entry in sorted(ready.iterdir(), key=lambda entry: (entry.name == REPORT, entry.name)):
            os.replace(entry, folder / entry.name)
    held_back = sum(entry["held_back"] for entry in entries)
    return Deidentified(folder, len(entries) - held_back, held_back, report)


def _checked(names: Sequence[str]) -> frozenset[str]:
    return options.checked(names)


def _files(inputs: Sequence[str | os.PathLike[str]]) -> list[tuple[pathlib.Path, str]]:
    """Returns every file and its name below the input that it was found in, sorted by these names input by input."""
    if not inputs:
        raise errors.ConfigError("De-identification needs at least one input, a file or a folder. Received: none")
    found: list[tuple[pathlib.Path, str]] = []
    for place in map(pathlib.Path, inputs):
        if place.is_dir():
            below = [(path, path.relative_to(place).as_posix()) for path in _walk(place)]
            found += sorted(below, key=lambda entry: entry[1])
        elif os.path.lexists(place):
            found.append((place, place.name))
        else:
            raise errors.DataError(f"An input is a file or a folder. Received: {errors.printable(place)!r}")
    if not found:
        raise errors.DataError("The inputs hold no file.")
    return found


def _walk(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields every file, and every folder that is not searched: links, and folders that cannot be opened."""
    closed: list[OSError] = []
    for folder, inner, plain in os.walk(place, onerror=closed.append):
        links = (name for name in inner if os.path.islink(os.path.join(folder, name)))
        yield from (pathlib.Path(folder, name) for name in (*plain, *links))
    yield from (pathlib.Path(error.filename) for error in closed)


def _output(folder: pathlib.Path, inputs: Sequence[str | os.PathLike[str]]) -> pathlib.Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise errors.DataError(
            f"The output is a folder that is new or empty: nothing is overwritten. "
            f"Received: {errors.printable(folder)!r}"
        )
    real = folder.resolve()
    for place in (pathlib.Path(name).resolve() for name in inputs):
        if place.is_relative_to(real) or (place.is_dir() and real.is_relative_to(place)):
            raise errors.DataError(
                f"The output lies neither in an input nor around one. Received: {errors.printable(folder)!r}"
            )
    return folder


def _cleaned(
    found: Sequence[tuple[pathlib.Path, str]], folder: pathlib.Path, scratch: pathlib.Path, *,
    secret: bytes, chosen: frozenset[str],
) -> list[dict[str, Any]]:  # fmt: skip
    """Cleans all files, then the table of labels, which follows from what became of them."""
    jobs = [
        _Job(str(path.absolute()), str((scratch / str(position)).absolute()), relative)
        for position, (path, relative) in enumerate(found)
    ]
    entries = []
    with _workers() as each:
        jobs = _with_patients(jobs, each(_identity, jobs))
        people = words.of_people(text for job in jobs if job.identity for text in _texts(job.identity))
        answers = each(functools.partial(_answer, secret=secret, chosen=chosen), jobs)
        told = terminal.track(answers, len(jobs), "De-identifying")
        for position, (job, done) in enumerate(zip(jobs, told, strict=True)):
            name = _placed(job, done, folder, people) if done.name else _thrown_away(job)
            entries.append(_entry(position, job, done, name=name, secret=secret))
    tables = [entry["position"] for entry in entries if _is_table(jobs[entry["position"]], entry)]
    for place in tables:
        done = file.Done(translating.KIND, reason=_SEVERAL_TABLES)
        if len(tables) == 1:
            done = _translated(jobs, entries, place, key=secret, options=chosen, people=people)
        name = _placed(jobs[place], done, folder, people) if done.name else _thrown_away(jobs[place])
        entries[place] = _entry(place, jobs[place], done, name=name, secret=secret)
    return entries


def _texts(identity: patients.Identity) -> tuple[str, str]:
    return identity.patient_id, identity.name


def _is_table(job: _Job, entry: Mapping[str, Any]) -> bool:
    return pathlib.PurePosixPath(job.relative).name == labels.NAME and not entry["kind"]


def _translated(
    jobs: Sequence[_Job], entries: Sequence[Mapping[str, Any]], place: int, *,
    key: bytes, options: frozenset[str], people: frozenset[str],
) -> file.Done:  # fmt: skip
    """Translates the table at a place in the list of files, for the files below its folder that were written."""
    source, root = pathlib.Path(jobs[place].path), pathlib.Path(jobs[place].path).parent
    moved = [
        translating.Moved(pathlib.Path(job.path).relative_to(root).as_posix(), entry["output"], job.identity)
        for job, entry in zip(jobs, entries, strict=True)
        if entry["output"] and pathlib.Path(job.path).is_relative_to(root)
    ]
    target = pathlib.Path(jobs[place].target)
    return translating.translate(source, target, moved, key=key, options=options, people=people)


@contextlib.contextmanager
def _workers() -> Iterator[Callable[..., Iterator[Any]]]:
    """Yields what calls a function for each job, and gives the answers in their order; whoever leaves ends the rest."""
    with pool.Pool(_WORKERS, memory=_MEMORY) as workers, futures.ThreadPoolExecutor(_WORKERS) as threads:
        try:
            yield lambda function, jobs: threads.map(functools.partial(function, workers), jobs)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            workers.close()


def _with_patients(jobs: Sequence[_Job], identities: Iterator[patients.Identity | None]) -> list[_Job]:
    """Returns the files with what names their patients, for which all of them are looked at before one is cleaned."""
    told = terminal.track(identities, len(jobs), "Reading headers")
    found = {job.target: identity for job, identity in zip(jobs, told, strict=True) if identity}
    owners = patients.of_files(found)
    return [
        dataclasses.replace(job, patient=owners.get(job.target, ""), identity=found.get(job.target)) for job in jobs
    ]


def _identity(workers: pool.Pool, job: _Job) -> patients.Identity | None:
    """Returns what a file says of its patient; None for one that is not DICOM, or that cannot be read."""
    task = tasks.Task(_MODULE, file.identify.__name__, job.path, _limits(job.path), _SENTENCES)
    with contextlib.suppress(errors.RefusalError):
        said = workers.facts(task)
        return patients.Identity(**said) if said else None
    return None


def _answer(workers: pool.Pool, job: _Job, *, secret: bytes, chosen: frozenset[str]) -> file.Done:
    """Cleans one file; whatever happens to its worker, the answer says what became of the file."""
    arguments = {
        "target": job.target,
        "relative": job.relative,
        "patient": job.patient,
        "key": secret.hex(),
        "chosen": sorted(chosen),
    }
    task = tasks.Task(_MODULE, file.clean.__name__, job.path, _limits(job.path), _SENTENCES, arguments)
    try:
        return file.Done(**workers.facts(task))
    except errors.RefusalError as refusal:
        return file.Done("", reason=str(refusal))


def _limits(path: str) -> tasks.Limits:
    size = 0
    with contextlib.suppress(OSError):
        size = os.stat(path).st_size
    seconds = _DEADLINE + size / _BYTES_A_SECOND
    return tasks.Limits(processor=seconds, wall=seconds)


def _placed(job: _Job, done: file.Done, folder: pathlib.Path, people: frozenset[str]) -> str:
    """Moves a new file to its place and returns its name; one that another file took gets a number."""
    wanted = pathlib.PurePosixPath(*(names.classes(job.relative, people) if job.identity else ()), done.name)
    stem, suffix = wanted.name.partition(".")[::2]
    name, number = wanted, 1
    while os.path.lexists(folder / name):
        number += 1
        name = wanted.with_name(f"{stem}_{number}.{suffix}")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    os.replace(job.target, folder / name)
    return name.as_posix()


def _thrown_away(job: _Job) -> str:
    pathlib.Path(job.target).unlink(missing_ok=True)
    return ""


def _entry(position: int, job: _Job, done: file.Done, *, name: str, secret: bytes) -> dict[str, Any]:
    """Returns what the report says of a file: the hash of its name, and nothing that was in it."""
    return {
        "file": pseudonyms.pseudonym(secret, job.relative, prefix=_PATH_PREFIX),
        "position": position,
        "kind": done.kind,
        "output": name,
        "held_back": not name,
        "reason": done.reason,
        "actions": done.actions,
    }


def _report(entries: Sequence[dict[str, Any]], chosen: frozenset[str]) -> dict[str, Any]:
    held_back = [entry for entry in entries if entry["held_back"]]
    return {
        "medkeras": version.VERSION,
        "profile": f"DICOM PS3.15 annex E, table E.1-1 of {table.EDITION}",
        "options": [{"code": option.code, "meaning": option.meaning} for option in options.codes(chosen)],
        "written": len(entries) - len(held_back),
        "held_back": len(held_back),
        "reasons": dict(collections.Counter(entry["reason"] for entry in held_back).most_common()),
        "files": list(entries),
    }


def _write(contents: bytes, target: pathlib.Path) -> None:
    with open(target, "wb") as written:
        written.write(contents)
        written.flush()
        os.fsync(written.fileno())
