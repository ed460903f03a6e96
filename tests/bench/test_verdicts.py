"""How often noise alone is called a difference by the two tests of all cells together, by what it is made of; printed."""

import numpy as np
import pytest

from engine import scores, verdicts
from tests.test_verdicts import noise

TRIALS = 4000
MIXTURES = {  # deviations of what a seed gives all its cells, of a model, of a cell, and of images that all seeds are tested on
    "cells": (0, 0, 0.02, 0),
    "models, cells": (0, 0.02, 0.02, 0),
    "seeds": (0.02, 0, 0, 0),
    "a tenth of the variance of models is of seeds": (0.006, 0.017, 0.008, 0),
    "a quarter": (0.01, 0.0153, 0.0115, 0),
    "half": (0.02, 0.014, 0.02, 0),
    "images, cells": (0, 0, 0.02, 0.01),
    "all": (0.01, 0.01, 0.02, 0.01),
}


@pytest.mark.bench
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("name", MIXTURES)
def test_noise_is_beyond_chance_in_a_twentieth(name, seeds, monkeypatch):
    monkeypatch.setattr(scores, "chance", lambda *_: float("nan"))  # slow, and not asked for: an interval beside 0 is a p below 0.05
    rng = np.random.default_rng(seeds)
    sure, units = 0, []
    for _ in range(TRIALS):
        looked = noise(rng, seeds, *MIXTURES[name])
        units.append(verdicts.models(looked))
        one = scores.averaged(list(looked.values()))
        sure += one.low > 0 or one.high < 0
    by_flips = np.mean([verdicts.chance(some.ravel()) < 0.05 for some in units])
    print(f"\n{name}, {seeds} seeds: by seeds {sure / TRIALS:.3f}, by flips {by_flips:.3f}, likeness {verdicts.likeness(units)[0]:+.2f}")
    assert sure / TRIALS < 0.05 + 3 * (0.05 * 0.95 / TRIALS) ** 0.5
