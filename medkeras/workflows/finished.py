"""What a comparison has finished, kept so that one that was stopped goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from medkeras import errors, version
from medkeras.evaluation import predictions

PREDICTIONS, FINISHED = "predictions", "finished"


@dataclasses.dataclass(frozen=True, eq=False)
class Answered:
    """What a contender has to show.

    Attributes:
        table: Its predictions for the test split.
        facts: What it cost and what it is, ready for JSON.
    """

    table: predictions.Predictions
    facts: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Shelf:
    """Finished contenders in the folder of a comparison: `predictions/NAME.csv` and `finished/NAME.json`.

    Attributes:
        folder: The folder.
        sources: What every contender depends on, ready for JSON: the data's fingerprint and the settings.
    """

    folder: pathlib.Path
    sources: Mapping[str, Any]

    def get(self, name: str, identity: Mapping[str, Any]) -> Answered | None:
        """Returns a contender that was finished from the same sources, or None."""
        try:
            kept = json.loads(self._facts(name).read_text(encoding="utf-8"))
            if kept["key"] != self._key(name, identity):
                return None
            table = predictions.read_csv(self.predictions(name))
            return Answered(table, kept["facts"])
        except (OSError, ValueError, KeyError, TypeError, errors.DataError):
            return None

    def put(self, name: str, identity: Mapping[str, Any], answered: Answered) -> None:
        """Keeps a contender; its facts appear last, so that half of one is none."""
        self._facts(name).unlink(missing_ok=True)
        for path in (self.predictions(name), self._facts(name)):
            path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.predictions(name).with_suffix(".partial")
        answered.table.write_csv(partial)
        partial.replace(self.predictions(name))
        partial = self._facts(name).with_suffix(".partial")
        text = json.dumps({"key": self._key(name, identity), "facts": answered.facts}, indent=2, ensure_ascii=False)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self._facts(name))

    def predictions(self, name: str) -> pathlib.Path:
        """Returns where a contender's predictions are."""
        return self.folder / PREDICTIONS / f"{name}.csv"

    def _facts(self, name: str) -> pathlib.Path:
        return self.folder / FINISHED / f"{name}.json"

    def _key(self, name: str, identity: Mapping[str, Any]) -> str:
        whole = {"name": name, "identity": identity, "sources": self.sources, "version": version.VERSION}
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()
