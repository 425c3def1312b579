"""The ten-line model: valid, saved as built, and its next commands printed."""

from __future__ import annotations

import numpy as np

from examples import own_model
from icsmdp_jax.exact.constants import analyse
from icsmdp_jax.models.files import load_model
from tests.examples.shipped import assert_file_holds


def test_main_saves_the_model_and_says_what_to_run_next(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.npz"
    monkeypatch.setattr("sys.argv", ["own_model.py", "--out", str(path)])
    own_model.main()
    assert_file_holds(path, own_model.build_own_model() | {"reward_noise": np.array(0.0)})
    model = load_model(path)
    assert (model.num_states, model.num_interfaces, model.num_options, model.num_agents) == (4, 2, 2, 2)
    analysis = analyse(model)
    assert analysis.a6_certified and analysis.gap.gap > 0 and np.isfinite(analysis.clock(0.25))
    out = capsys.readouterr().out
    assert f"icsmdp analyse {path}" in out and f"icsmdp learn {path}" in out
