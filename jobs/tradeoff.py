"""The trade-off of epochs and what is kept, as released scores have it: each rule along its one dial, none tuned where it is judged."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from engine import foresight, frontier, released, stopping, transfer
from engine.foresight import Lessons
from engine.monitor import Monitor, choose
from engine.released import Release, Variant
from engine.settings import TransferConfig, Watched
from engine.stopping import Draws, Stop
from engine.tradeoffs import Curve, Point

PATIENCES = range(1, 9)  # looks; with 9 looks after the first epoch there are no others that differ
GAINS = (0.005, 0.01, 0.02, 0.05)  # least, of robustness: from half of the median step between two lengths to five times it
BUDGET = 10  # mean epochs from one point of an oracle to the next
PRICES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # of all epochs, in units of the regret of the longest
CHOSEN = (0.0, 0.1, 0.2, 0.4, 0.8, 1.6)  # slacks that the choice without the left-out data set is from
NOTHING, NESTED, OUTCOME = "nothing chosen: all settings drawn", "each chosen without the data set left out", "knows the outcome"
GAINED = "○ least gains"
LONGEST, MIXED = "the longest", "fixed lengths, mixed"
OURS, THEIRS, VOTED, INK = "#0b6e69", "#9a3412", "#5b4b8a", "#1b1d1f"


def curves(release: Release, told: Lessons, draws: Draws) -> list[Curve]:
    """Mean regret and TIS by mean epochs: fixed lengths, robustness, the vote, our nested rule, and what no rule can pass."""
    robust = {gain: replayed(release, "robustness", (-2,), draws, gain) for gain in (0.0, *GAINS)}
    rings = {last: gained({gain: robust[gain][last] for gain in GAINS}) for last in (True, False)}
    found = foresight.nested(foresight.candidates(CHOSEN, without="dataset"), told, PRICES)
    learnt = {price: stopping.at(stops, release.lengths) for price, (stops, _) in zip(PRICES, found, strict=True)}
    ours = [held(release, stop, draws, f"{price:g}") for price, stop in learnt.items()]
    return [
        oracle(release, "oracle per setup", ("dataset", "encoder", "scheme", "frozen"), "1.5 3"),
        oracle(release, "oracle blind to frozen or not", ("dataset", "encoder", "scheme"), "9 4"),
        Curve("ours, by price of an epoch", NESTED, ours, OURS),
        Curve("robustness by patience, last kept", f"{NOTHING}; {GAINED}", robust[0.0][True], THEIRS, also=rings[True], side="right"),
        Curve("robustness by patience, best kept", f"{NOTHING}; {GAINED}", robust[0.0][False], THEIRS, "5 4", rings[False], side="below"),
        Curve("vote of levels by patience, last kept", NOTHING, replayed(release, "vote", levels(release), draws)[True], VOTED),
        Curve("fixed lengths", NOTHING, fixed(release), INK, joined=False, side="none"),
        Curve(MIXED, f"which two, {OUTCOME}", mixed(release), INK),
    ]


def rows(drawn: Sequence[Curve]) -> list[dict[str, Any]]:
    """The points of curves as rows of the study, with how each was chosen: those on a dial, those of what bounds them, and the rings."""
    found = [("curve" if point.told else "bounds", one, point) for one in drawn for point in one.points]
    found += [("gains", one, point) for one in drawn for point in one.also]
    return [
        {
            "table": table,
            "rule": f"{one.name}: {point.told}" if point.told else one.name,
            "how": one.how.removesuffix(f"; {GAINED}"),
            "epochs": point.epochs,
            "regret": point.regret,
            "tis": point.tis,
            **differences(point),
        }
        for table, one, point in found
    ]


def differences(one: Point) -> dict[str, Any]:
    """What a point has more than fixed lengths mixed to as many epochs, by the names of the study; nothing where that was not drawn."""
    if one.more_regret is None or one.more_tis is None:
        return {}
    names = "more_regret", "regret_low", "regret_high", "more_tis", "tis_low", "tis_high"
    return {"than": MIXED, **dict(zip(names, (*one.more_regret, *one.more_tis), strict=True))}


def gained(found: Mapping[float, list[Point]]) -> tuple[Point, ...]:
    """Points of every gain as one line, the gain told with each."""
    return tuple(one._replace(told=f"{one.told}, gain {gain:g}") for gain, points in found.items() for one in points)


def point(release: Release, stop: Stop, told: str = "") -> Point:
    """Epochs paid, regret and TIS of a rule's stops, means over all setups."""
    performance = release.performance
    regret, tis = ((stop.kept * table).sum(axis=1).mean() for table in (stopping.regrets(performance), stopping.ratios(performance)))
    return Point(float(stop.paid.mean()), float(regret), float(tis), told)


def held(release: Release, stop: Stop, draws: Draws, told: str) -> Point:
    """A point with its difference to the best mixture of fixed lengths for as many epochs, one by regret and one by TIS."""
    found, performance = point(release, stop, told), release.performance
    regret, tis = stopping.regrets(performance), stopping.ratios(performance)
    mixed = [frontier.shares(table, release.lengths, found.epochs) for table in (regret, 1 - tis)]
    return found._replace(
        more_regret=stopping.more(stop.kept, mixed[0], regret, draws.regrets, draws.weights),
        more_tis=stopping.more(stop.kept, mixed[1], tis, draws.ratios, draws.weights),
    )


def fixed(release: Release) -> list[Point]:
    """A point for each fixed length of pre-training."""
    every = range(len(release.lengths))
    return [point(release, stopping.always(one, len(release.setups), release.lengths), str(release.lengths[one])) for one in every]


def mixed(release: Release) -> list[Point]:
    """The best that lengths can do which some setups have and some not; by regret and by TIS, each for itself."""
    tables = stopping.regrets(release.performance), 1 - stopping.ratios(release.performance)
    found = ((budget, *(frontier.mixture(table, release.lengths, budget) for table in tables)) for budget in budgets(release))
    return [Point(budget, regret, 1 - lost) for budget, regret, lost in found]


def budgets(release: Release) -> range:
    """Epochs that may be spent, up to the longest pre-training, BUDGET apart."""
    return range(0, int(release.lengths[-1]) + 1, BUDGET)


def oracle(release: Release, name: str, fields: tuple[str, ...], dashes: str) -> Curve:
    """The least regret for every budget; TIS is that of the same stops, so it is not the best that there is."""
    setups, groups = len(release.setups), released.numbered(release.setups, fields)
    found = frontier.grouped(stopping.regrets(release.performance), release.lengths, groups)
    stops = [found.stops(budget * setups)[groups] for budget in budgets(release)]
    points = [point(release, stopping.at(stop, release.lengths)) for stop in stops]
    return Curve(name, OUTCOME, points, dashes=dashes)


def levels(release: Release) -> tuple[int, ...]:
    """The levels of the encoder that were scored."""
    return tuple(sorted({one.level for one in release.robustness}))


def replayed(release: Release, score: Watched, levels: tuple[int, ...], draws: Draws, gain: float = 0.0) -> dict[bool, list[Point]]:
    """What a monitor comes to by each patience, where the last model is kept, and where the best is."""
    found: dict[bool, list[Point]] = {True: [], False: []}
    for patience in PATIENCES:
        best, last = watched(TransferConfig(score=score, levels=levels, patience=patience, min_delta=gain), release)
        found[True].append(held(release, last, draws, str(patience)))
        found[False].append(held(release, best, draws, str(patience)))
    return found


def watched(how: TransferConfig, release: Release) -> tuple[Stop, Stop]:
    """What a monitor comes to where the best model is kept, and where the last is; either pays for all until the last."""
    one = np.eye(len(release.lengths))
    best, last = np.array([halted(how, release, setup) for setup in range(len(release.setups))]).T
    return Stop(one[best], release.lengths[last]), Stop(one[last], release.lengths[last])


def halted(how: TransferConfig, release: Release, setup: int) -> tuple[int, int]:
    """Index of the length that is best by what is watched, and of the one at which a monitor ends the training; by the levels there are."""
    curves = {transfer.reading("robustness", level): release.robustness[Variant(level=level)][setup] for level in how.levels}
    monitor = Monitor(how)
    scores = {name: dict(enumerate(curve.tolist(), 1)) for name, curve in curves.items() if not np.isnan(curve).any()}
    monitor.load_state_dict({"scores": scores, "gaps": {}, "seconds": dict.fromkeys(range(1, len(release.lengths)), 0.0)})
    last = monitor.stopped or len(release.lengths) - 1
    return choose(monitor.among(1, last), lower=True).epoch, last
