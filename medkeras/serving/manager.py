"""Which versions are in memory: found on disk, loaded before the old one goes, and never displaced by a bad one.

One thread looks at the disk, loads and unloads, a step at a time; requests go on meanwhile.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from tensorflow_serving.config import model_server_config_pb2

from medkeras.serving import lifecycle, servable, status
from medkeras.serving import versions as on_disk

Load = Callable[[str, int, pathlib.Path], lifecycle.Closable]
_CHECK = 0.2


@dataclasses.dataclass(frozen=True)
class Timing:
    """How often the manager looks and tries.

    Attributes:
        poll: Seconds between looks at the disk; 0: one look.
        retries: How often a failed load is tried again.
        interval: Seconds between tries.
    """

    poll: float = 1.0
    retries: int = 5
    interval: float = 60.0


class Manager:
    """Keeps the versions of the configured models, and lends them; a `servable.Registry`.

    Args:
        load: Loads a version of a model from its folder, or raises `StatusError`.
        timing: How often it looks and tries.
        early_labels: Whether a label may name a version that is not loaded.
        tell: Told what an operator should know, one line at a time.
        settle: Called when a version was loaded or unloaded.
    """

    def __init__(
        self,
        load: Load,
        timing: Timing | None = None,
        *,
        early_labels: bool = False,
        tell: Callable[[str], None] = lambda _: None,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self._load = load
        self._settle = settle
        self._timing = timing or Timing()
        self._early_labels = early_labels
        self._tell = tell
        self._changed = threading.Condition()
        self._reloading = threading.Lock()
        self._models: dict[str, on_disk.Configured] = {}
        self._versions: dict[str, lifecycle.Versions] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._wanted: dict[str, frozenset[int]] = {}
        self._looked: dict[str, str] = {}
        self._look_at = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="versions", daemon=True)

    def start(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Begins to load what a configuration lists; returns at once.

        Raises:
            StatusError: The configuration is refused.
        """
        self._configure(config)
        self._thread.start()

    def wait(self, stop: threading.Event) -> None:
        """Returns when each model has a version that answers, or when `stop` is set.

        Raises:
            StatusError: `UNKNOWN`: a model has none, and all its versions were given up.
        """
        told: set[str] = set()
        while not stop.is_set():
            with self._changed:
                missing = [name for name in self._models if not self._ready(name)]
                failed = [name for name in missing if self._given_up(name)]
                if failed:
                    raise self._unavailable(failed)
                if not missing:
                    return
                self._changed.wait(_CHECK)
            self._tell_waiting(missing, told)

    def reload(self, config: model_server_config_pb2.ModelServerConfig) -> None:
        """Replaces the configuration; models that it lacks are unloaded. Returns when the new ones answer or failed.

        Raises:
            StatusError: It is refused, and the old one stays; or a model that is new did not become available.
        """
        with self._reloading:
            new = self._configure(config)
            with self._changed:
                while not self._closed and not all(self._ready(name) or self._given_up(name) for name in new):
                    self._changed.wait(_CHECK)
                failed = [name for name in new if not self._ready(name) and self._given_up(name)]
                if failed:
                    raise self._unavailable(failed)

    def close(self) -> None:
        """Ends the thread, and unloads everything that nobody uses."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        for versions in self._versions.values():
            for version in versions.all.values():
                if version.loaded is not None and not version.leases:
                    version.loaded.close()
                    version.loaded, version.state = None, lifecycle.END

    def names(self) -> Sequence[str]:
        """The names of the configured models, in order."""
        with self._changed:
            return tuple(self._models)

    @contextlib.contextmanager
    def lease(self, name: str, *, version: int | None = None, label: str | None = None) -> Iterator[servable.Lease]:
        """Lends a version; see `servable.Registry`."""
        with self._changed:
            found, loaded = self._found(name, self._labelled(name, label) if label else version)
            found.leases += 1
        try:
            yield servable.Lease(name, found.number, loaded, found.folder)
        finally:
            with self._changed:
                found.leases -= 1
                if found.state == lifecycle.UNLOADING and not found.leases:
                    self._changed.notify_all()

    def states(self, name: str, version: int | None = None) -> Sequence[servable.VersionState]:
        """The states of the versions of a model, newest first; see `servable.Registry`."""
        with self._changed:
            versions = self._versions.get(name)
            found = [] if versions is None else versions.states(version)
        if found:
            return found
        which = f"any versions of model {name}" if version is None else f"version {version} of model {name}"
        raise status.StatusError(status.Code.NOT_FOUND, f"Could not find {which}")

    def _found(self, name: str, version: int | None) -> tuple[lifecycle.Version, lifecycle.Closable]:
        versions = self._versions.get(name)
        found = None
        if versions is not None:
            found = versions.available() if version is None else versions.all.get(version)
        if found is None or found.loaded is None or found.state != lifecycle.AVAILABLE:
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise status.StatusError(status.Code.NOT_FOUND, f"Servable not found for request: {which}")
        return found, found.loaded

    def _labelled(self, name: str, label: str) -> int:
        try:
            return self._labels[name][label]
        except KeyError:
            raise status.invalid(f"Unrecognized servable version label: {label}") from None

    def _configure(self, config: model_server_config_pb2.ModelServerConfig) -> list[str]:
        """Takes a configuration, whole or not at all; returns the names that are new, or that lie elsewhere now."""
        models = {model.name: model for model in on_disk.configured(config)}
        with self._changed:
            for model in models.values():
                self._check_labels(model)
            new = [name for name, model in models.items() if self._moved(model)]
            self._models = models
            self._labels = {name: dict(model.labels) for name, model in models.items()}
            for name in models:
                self._versions.setdefault(name, lifecycle.Versions(name))
            self._look_at = 0.0
            for name in new:
                self._looked.pop(name, None)
                self._wanted.pop(name, None)
            self._changed.notify_all()
        return new

    def _moved(self, model: on_disk.Configured) -> bool:
        before = self._models.get(model.name)
        return before is None or before.base_path != model.base_path

    def _check_labels(self, model: on_disk.Configured) -> None:
        versions = self._versions.get(model.name, lifecycle.Versions(model.name)).all
        for _, number in model.labels:
            if not self._early_labels and (
                number not in versions or versions[number].state != lifecycle.AVAILABLE or self._moved(model)
            ):
                raise status.StatusError(
                    status.Code.FAILED_PRECONDITION,
                    f"Request to assign label to version {number} of model {model.name}, which is not currently "
                    "available for inference",
                )

    def _ready(self, name: str) -> bool:
        return name in self._wanted and self._versions[name].available() is not None

    def _given_up(self, name: str) -> bool:
        wanted = self._wanted.get(name)
        return bool(wanted) and all(self._versions[name].all[number].failed for number in wanted or ())

    def _unavailable(self, names: Sequence[str]) -> status.StatusError:
        parts = []
        for name in names:
            for number in sorted(self._wanted[name]):
                error = self._versions[name].all[number].error
                if error is not None:
                    parts.append(f"{{name: {name} version: {number}}} due to error: {error.code.name}: {error.message}")
        listed = ", ".join(f"{{{part}}}" for part in parts)
        return status.StatusError(
            status.Code.UNKNOWN, f"{len(parts)} servable(s) did not become available: {{{listed}, }}"
        )

    def _tell_waiting(self, missing: Sequence[str], told: set[str]) -> None:
        for name in missing:
            with self._changed:
                reason = self._looked.get(name, "") if not self._wanted.get(name) else ""
            if reason and reason not in told:
                told.add(reason)
                self._tell(f"Waiting for model {name}: {reason}")

    def _work(self) -> None:
        while True:
            with self._changed:
                if self._closed:
                    return
                now = time.monotonic()
                if now >= self._look_at:
                    self._look()
                    self._look_at = now + self._timing.poll if self._timing.poll else float("inf")
                task = self._next(now)
                if task is None:
                    self._changed.wait(self._pause(now))
                    continue
            task()

    def _pause(self, now: float) -> float | None:
        dues = [each.due for versions in self._versions.values() for each in versions.all.values() if each.waits]
        soonest = min([self._look_at, *dues])
        return None if soonest == float("inf") else max(0.0, soonest - now)

    def _look(self) -> None:
        """Compares disk and configuration. A model whose folder is gone keeps what it has, and holds up no other."""
        for name, model in self._models.items():
            try:
                found = on_disk.on_disk(model.base_path)
            except OSError as error:
                self._looked[name] = f"its base path cannot be read ({error.strerror})"
                continue
            self._looked[name] = "" if found else "its base path holds no version yet"
            wanted = model.policy.wanted(found)
            if found and not wanted:
                self._looked[name] = "its base path holds none of the versions that are asked for"
            self._wanted[name] = wanted
            self._versions[name].want(found, wanted)
        for name in set(self._versions) - set(self._models):
            self._wanted[name] = frozenset()
            self._versions[name].want({}, frozenset())

    def _next(self, now: float) -> Callable[[], None] | None:
        """Returns the next thing to do, if any: unloading gives room before loading takes it."""
        for name, versions in self._versions.items():
            for version in versions.superfluous(self._wanted.get(name, frozenset())):
                version.state = lifecycle.UNLOADING
                self._tell(f"Unloading version {version.number} of model {name}")
            for version in versions.drained():
                return lambda version=version: self._unload(version)  # type: ignore[misc]
        for name, versions in self._versions.items():
            due = versions.due(now)
            if due is not None:
                due.state = lifecycle.LOADING
                return lambda name=name, version=due: self._try(name, version)  # type: ignore[misc]
        return None

    def _unload(self, version: lifecycle.Version) -> None:
        loaded, version.loaded = version.loaded, None
        if loaded is not None:
            loaded.close()
            del loaded
            self._settle()
        with self._changed:
            version.state = lifecycle.END
            self._changed.notify_all()

    def _try(self, name: str, version: lifecycle.Version) -> None:
        try:
            loaded = self._load(name, version.number, version.folder)
        except status.StatusError as error:
            self._failed(name, version, error)
            return
        except Exception as error:
            # Whatever a model does when it is loaded, the others are looked after.
            self._failed(name, version, status.StatusError(status.Code.INTERNAL, type(error).__name__))
            return
        self._settle()
        with self._changed:
            version.loaded, version.error, version.state = loaded, None, lifecycle.AVAILABLE
            self._changed.notify_all()
        self._tell(f"Version {version.number} of model {name} is available")

    def _failed(self, name: str, version: lifecycle.Version, error: status.StatusError) -> None:
        with self._changed:
            version.error, version.tries = error, version.tries + 1
            again = version.tries <= self._timing.retries
            version.due = time.monotonic() + self._timing.interval
            if not again:
                version.state = lifecycle.END
            self._changed.notify_all()
        then = f"trying again in {self._timing.interval:g} s" if again else "its number is not tried again"
        self._tell(f"Version {version.number} of model {name} cannot be loaded, {then}: {error.message}")
