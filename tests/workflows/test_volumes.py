"""Volumes have no network yet, and a run says so before it begins."""

import pytest

from medkeras import config, errors
from medkeras.workflows import train


def test_training_on_volumes_is_refused_before_the_data_are_looked_at(tmp_path):
    settings = config.Config().override({"data.view": "volumes", "data.source": f"nifti:{tmp_path / 'absent'}"})
    with pytest.raises(errors.ConfigError, match="train with data.view=slices. Received: volumes"):
        train.train(settings, output=tmp_path / "models", workdir=tmp_path / "runs")
    assert list(tmp_path.iterdir()) == []
