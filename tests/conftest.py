"""What every test shares."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """Returns the folder of real data sets: `$MEDKERAS_DATA`, else `../shared/data`; skips where it is absent."""
    folder = pathlib.Path(os.environ.get("MEDKERAS_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MEDKERAS_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _a_key_that_is_not_the_users_own(tmp_path_factory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield
