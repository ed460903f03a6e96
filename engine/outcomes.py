"""What evaluations came to side by side: only what was measured alike is compared, by method and budget, and said in sentences."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from statistics import fmean

from engine.charts import Interval, Tick, amount, intervals, seeds
from engine.standings import SURE

FOUND = 0.01  # of the foreground; a network that recalls less draws "all background"


@dataclass(frozen=True)
class Picture:
    """A JPEG with what to say under it, e.g. "difficulty 0.84" and "3f2a@12400 ms, box 10,20,90,100"."""

    jpeg: bytes
    caption: str
    detail: str = ""


@dataclass(frozen=True)
class Outcome:
    """One evaluated training set; `retained` 0 is a baseline without pre-training, which belongs to every budget of its comparison.

    `comparison` says what makes outcomes comparable: data, settings of the evaluation, recipe of the pre-training. Scores are fractions:
    mIoU with its interval, the foreground's IoU and Dice as means over the test images, `recall` as the share of all its pixels that was
    found. `run` is the MLflow run id.
    """

    comparison: str
    method: str
    budget: float
    retained: float
    patches: int
    images: int
    miou: float
    miou_low: float
    miou_high: float
    iou: float
    dice: float
    recall: float
    normdel: float
    seed: int
    run: str
    caution: str = ""  # a sentence on what flatters its scores
    unit: str = ""  # of the budget; "": nobody told
    examples: list[Picture] = field(default_factory=list)  # test images, best first: the truth outlined in blue, the prediction in yellow

    @property
    def found_nothing(self) -> bool:
        """Whether the network drew next to no foreground: its recall is below FOUND."""
        return self.recall < FOUND


@dataclass(frozen=True)
class Advantage:
    """The mIoU of `method` over `other` on the same seeds and test images, with its 95 % interval, as scores.contrast has both.

    `p` is corrected for all that is compared there; of one seed it is over images alone, and knows nothing of other trainings.
    """

    comparison: str
    budget: float
    method: str
    other: str
    seeds: int
    difference: float
    low: float
    high: float
    p: float
    unit: str = ""  # of the budget; "": nobody told

    @property
    def beyond_chance(self) -> bool:
        """Whether the corrected p-value is below SURE."""
        return self.p < SURE

    @property
    def told(self) -> str:
        """What chance was made of, if it is more than that."""
        if not self.beyond_chance:
            return "may be chance"
        return "is more than seeds and test images explain" if self.seeds > 1 else "is more than the choice of test images explains"


@dataclass(frozen=True)
class Comparison:
    """Outcomes that may be laid side by side, and what they say."""

    name: str
    verdicts: list[str]
    budgets: list[tuple[str, list[tuple[Outcome, Interval]]]]  # the best first; the baselines, of every budget, stand last
    axis: list[Tick]  # of the mIoU
    advantages: list[tuple[Advantage, Interval]]
    differences: list[Tick]
    shown: list[tuple[str, Outcome]]  # whose examples are shown


def comparisons(outcomes: Sequence[Outcome], advantages: Sequence[Advantage]) -> list[Comparison]:
    """One per `comparison`, in the order of the outcomes; ValueError for an advantage over what has no outcome to compare with."""
    rows = sorted(outcomes, key=lambda row: (standing(row), -row.miou, row.method, row.seed))
    for one in advantages:
        known = {row.method for row in rows if row.comparison == one.comparison and (row.retained == 0 or asked(row) == asked(one))}
        if not {one.method, one.other} <= known:
            raise ValueError(f"{one} compares methods without an outcome there: expected two of {sorted(known)}")
    rising = sorted(advantages, key=asked)
    names = dict.fromkeys(row.comparison for row in outcomes)
    return [
        compared(name, [row for row in rows if row.comparison == name], [one for one in rising if one.comparison == name]) for name in names
    ]


def compared(name: str, outcomes: list[Outcome], advantages: list[Advantage]) -> Comparison:
    """`outcomes` and `advantages` in the order in which they are shown."""
    drawn, ticks = intervals([(row.miou, row.miou_low, row.miou_high) for row in outcomes])
    pairs = list(zip(outcomes, drawn, strict=True))
    gains, differences = intervals([(one.difference, one.low, one.high) for one in advantages], 0)
    return Comparison(
        name=name,
        verdicts=[*verdicts(outcomes, advantages), *(row.caution for row in outcomes if row.caution)],
        budgets=[(where(rows[0][0]), rows) for _, group in groupby(pairs, key=lambda pair: standing(pair[0])) if (rows := list(group))],
        axis=ticks,
        advantages=list(zip(advantages, gains, strict=True)),
        differences=differences,
        shown=shown(outcomes),
    )


def asked(one: Outcome | Advantage) -> tuple[str, float]:
    """Unit and budget, by which they are sorted: no unit is more than another."""
    return one.unit, one.budget


def standing(outcome: Outcome) -> tuple[bool, str, float]:
    """Sorts by unit and budget, with the baselines last."""
    return (True, "", 0.0) if outcome.retained == 0 else (False, *asked(outcome))


def where(outcome: Outcome) -> str:
    """The budget in words, as the middle of a sentence."""
    return "without pre-training" if outcome.retained == 0 else f"at a budget of {amount(outcome.budget, outcome.unit)}"


def shown(outcomes: list[Outcome]) -> list[tuple[str, Outcome]]:
    """Of every method at every budget the lowest seed that has examples, with its title."""
    first: dict[tuple[tuple[bool, str, float], str], Outcome] = {}
    for row in sorted(outcomes, key=lambda row: (standing(row), row.method, row.seed)):
        if row.examples:
            first.setdefault((standing(row), row.method), row)
    return [
        (row.method + (f", budget {amount(row.budget, row.unit)}" if row.retained else "") + f", seed {row.seed}", row)
        for row in first.values()
    ]


def verdicts(outcomes: list[Outcome], advantages: list[Advantage]) -> list[str]:
    """Per budget one sentence on which method is ahead, and whether that may be chance; the baselines take part in each."""
    baselines = [row for row in outcomes if row.retained == 0]
    groups = groupby((row for row in outcomes if row.retained), key=asked)
    told = [
        verdict(where(rows[0]), rows + baselines, [one for one in advantages if asked(one) == budget])
        for budget, group in groups
        if (rows := list(group))
    ]
    return told or [verdict(where(baselines[0]), baselines, advantages)]


def verdict(place: str, outcomes: list[Outcome], advantages: list[Advantage]) -> str:
    """A sentence or two: who reaches what at this place, and what of a lead is beyond chance."""
    place = place[0].upper() + place[1:]
    if all(row.found_nothing for row in outcomes):
        return f"{place}, no network found any foreground, so the comparison says nothing."
    mean = means(outcomes)
    first, *others = mean
    told = f"{place}, {first} reaches {mean[first]:.3f} mIoU" + "".join(f", {method} {mean[method]:.3f}" for method in others)
    if not others:
        return f"{told}; there is no other method to compare with."
    measured = [one for one in advantages if first in (one.method, one.other)] or advantages
    if measured:
        return f"{told}. Paired over the same test images, {'; '.join(map(lead, measured))}."
    doubt = "do not overlap" if apart(outcomes, first, others[0]) else "overlap, so the difference may be chance"
    return f"{told}; the intervals {doubt}."


def means(outcomes: list[Outcome]) -> dict[str, float]:
    """The mIoU of every method, a mean over its seeds; the best first."""
    methods = sorted({row.method for row in outcomes})
    mean = {method: fmean(row.miou for row in outcomes if row.method == method) for method in methods}
    return dict(sorted(mean.items(), key=lambda pair: -pair[1]))


def apart(outcomes: list[Outcome], first: str, second: str) -> bool:
    """Every interval of `first` lies above every interval of `second`."""
    return min(row.miou_low for row in outcomes if row.method == first) > max(row.miou_high for row in outcomes if row.method == second)


def lead(one: Advantage) -> str:
    """Who is ahead of whom by how much, and whether that may be chance, as a clause."""
    if one.difference < 0:
        one = replace(one, method=one.other, other=one.method, difference=-one.difference, low=-one.high, high=-one.low)
    gap = f"ahead of {one.other} by {one.difference:.3f} mIoU" if one.difference else f"level with {one.other}"
    return f"{one.method} is {gap} (95 % interval {one.low:z.3f} to {one.high:z.3f}, p {one.p:.2g}, {seeds(one.seeds)}), which {one.told}"
