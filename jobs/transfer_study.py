"""What rules of when to stop pre-training are worth on scores that others released: theirs, oracles, and ours on data sets left out.

TIS and regret are here those of the mean Dice over seeds, as in the earlier study. The job transfer has the mean over seeds of each seed's
own, by which the same choice looks worse, as a rule: the two are not to be compared.
"""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pyarrow as pa

from engine import aggregates, files, foresight, released, stopping, tradeoffs
from engine.config import Config
from engine.foresight import Lessons, Rule
from engine.released import Release
from engine.settings import TransferConfig, Watched
from engine.stopping import Draws, Stop
from engine.tradeoffs import Point
from jobs import oracles, output, tradeoff, uses
from jobs.oracles import BUDGETS, Row

log = logging.getLogger("jobs.transfer_study")
SLACKS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.2, 1.6, 2.0, 3.0, 4.0)  # scanned, and seen in doing so
PRICES = (0.0, 1.0, 2.0, 4.0)
# (regret, epochs) of the best rules before, tables by encoder and frozen on the scores of arXiv 2410.18677. Of no other release.
MARKS = {"a table whose trade-off was seen on the test": (0.125, 114), "the same, tuned without it": (0.158, 187)}
LEAST = 3  # data sets
PUBLISHED = "3c99909e8d6c"  # of the Dice of arXiv 2410.18677; see fingerprint
TITLE = "what rules of when to stop pre-training keep for the epochs that they take, on released scores"
GOAL_TIS, GOAL_EPOCHS = 0.994, 150  # with the regret of the longest pre-training: the goal set for a rule that pays
WORTH = ("tis", "least_tis", "regret", "epochs", "more_regret", "regret_low", "regret_high", "more_tis", "tis_low", "tis_high")
COLUMNS = ("table", "rule", *WORTH, "than", "how")  # than: what the differences more_* are to
ROWS = pa.schema([(name, pa.float64() if name in WORTH else pa.string()) for name in COLUMNS])


@dataclass(frozen=True)
class Study:
    """A release and what is computed from it once."""

    release: Release
    performance: np.ndarray  # (S, L)
    draws: Draws
    told: Lessons

    def row(self, table: str, rule: str, stop: Stop) -> Row:
        """One row of ROWS."""
        worth = stopping.worth(stop, self.performance, self.draws)
        values = (worth.tis, worth.least_tis, worth.regret, worth.epochs, *worth.more_regret, *worth.more_tis)
        return {"table": table, "rule": rule, "than": tradeoff.LONGEST, **dict(zip(WORTH, values, strict=True))}

    def stopped(self, table: str, rule: str, stops: np.ndarray) -> Row:
        """A row on a rule that stopped at these checkpoints (S,)."""
        return self.row(table, rule, stopping.at(stops, self.release.lengths))


def run(config: Config) -> None:
    """Print the tables baselines, frontier, ours, curve and uses, and the verdict; or give their rows to another program. Draw the last.

    ValueError for scores in a bucket, or of fewer than three data sets.
    """
    check_folder(config.study.uri)
    release = released.read(config.study.uri)
    check_data_sets(release, config.study.uri)
    log.info("%d setups, %d lengths up to %d epochs", len(release.setups), len(release.lengths), release.lengths[-1])
    study = studied(release)
    rows = list(baselines(study))
    log.info("the oracles, and every rule by one score")
    rows += [*oracles.oracles(release), *oracles.single_scores(release)]
    log.info("our rule, each data set left out: %d settings, then the choice among them at %d prices", len(scan()), len(PRICES))
    tried = [study.stopped("scanned", said(rule), foresight.left_out(rule, study.told)) for rule in scan()]
    rows += [*oracles.scanned(tried, oracles.longest(release)), *ours(study)]
    log.info("the trade-off, each rule along its dial, and of what is told by encoder and use")
    dials = uses.dials(release)
    rows += [study.stopped("ours", f"{one.name}: {told}", stops) for one in dials for told, stops in one.stops.items()]
    by_use = [uses.curve(one, release, study.draws) for one in dials]
    drawn = tradeoff.curves(release, study.told, study.draws)
    rows += [*tradeoff.rows(drawn), *(row | {"table": "uses"} for row in tradeoff.rows(by_use))]
    if config.study.picture:
        drawn += [curve for one, curve in zip(dials, by_use, strict=True) if one.colour]
        files.put(tradeoffs.picture(drawn, TITLE, aim(release)).encode(), config.study.picture)
    show(rows, config)
    log.info("%s", verdict(rows, tried, study))


def check_folder(uri: str) -> None:
    """ValueError for an address of what is no folder of the machine."""
    if "://" in uri:
        raise ValueError(f"study.uri={uri!r}: released scores are read from a folder of the machine; copy their two CSVs into one")


def check_data_sets(release: Release, uri: str) -> None:
    """ValueError for fewer than the nested choice takes: without the one that is judged, each of the others is left out in turn."""
    if len(names := sorted({one.dataset for one in release.setups})) < LEAST:
        raise ValueError(
            f"study.uri={uri} has scores of {len(names)} data sets ({', '.join(names)}), {LEAST} at least are needed: a rule is judged on "
            "one that had no part in choosing it, and chosen by how it does on each of the others when it has learnt from the rest"
        )


def studied(release: Release) -> Study:
    """A release with its performance, its draws and what is learnt from it, computed once."""
    performance = release.performance
    return Study(release, performance, stopping.drawn(release), foresight.lessons(foresight.seen(release), performance))


def baselines(study: Study) -> Iterator[Row]:
    """Fixed lengths, chance, the authors' rules, and the best of many curves heard as one."""
    lengths, count = study.release.lengths, len(study.release.setups)
    curve = study.release.robustness[released.Variant()]
    usual = aggregates.usual(study.release)
    scaled = aggregates.mean_z(usual)
    heard = {
        "mean rank of depths": aggregates.mean_rank(usual),
        "mean z of depths": scaled,
        "mean z of depths, late prior": aggregates.late_prior(scaled, study.release),
        "best variant elsewhere": aggregates.best_variant(study.release),
    }
    for index, length in enumerate(lengths):
        yield study.row("baselines", f"always {length}", stopping.always(index, count, lengths))
    yield study.row("baselines", "random pre-trained", stopping.by_chance(count, lengths))
    for name, one in {"most robust": curve, **heard}.items():
        yield study.row("baselines", f"offline, {name}", stopping.offline(one, lengths))
    for patience in (1, 2, 3):
        for keep_last in (False, True):
            name = f"online, patience {patience}, keep {'last' if keep_last else 'best'}"
            yield study.row("baselines", name, stopping.online(curve, lengths, patience, keep_last))


def scan() -> list[Rule]:
    """Every rule that is tried."""
    return foresight.candidates(SLACKS)


def ours(study: Study) -> Iterator[Row]:
    """The declared rule first; the others that have nothing to tune; then those chosen without the data set, or encoder, left out."""
    for number, rule in enumerate(foresight.candidates()):
        stops = foresight.left_out(rule, study.told)
        yield study.stopped("ours", f"{'' if number else 'declared: '}{said(rule)}", stops)
    for by in ("dataset", "encoder"):
        found = foresight.nested(foresight.candidates(tradeoff.CHOSEN, without=by), study.told, PRICES, by)
        for price, (stops, chosen) in zip(PRICES, found, strict=True):
            log.info("%s left out, price %g: chosen were %s", by, price, "; ".join(map(said, chosen)))
            yield study.stopped("ours", f"chosen, {by} left out, price {price:g}", stops)
    found = foresight.nested([Rule(slack=slack) for slack in tradeoff.CHOSEN], study.told, PRICES)
    for price, (stops, _) in zip(PRICES, found, strict=True):
        yield study.stopped("ours", f"declared, its slack chosen, price {price:g}", stops)
    yield from live(study)


def live(study: Study) -> Iterator[Row]:
    """What a monitor that hears every level makes of the curves of robustness, by vote and by mean rank: nothing is learnt or left out.

    Of a vote `pretrain` keeps the last, of a mean rank the best.
    """
    levels = tradeoff.levels(study.release)
    kinds: dict[str, Watched] = {"vote": "vote", "mean rank": "robustness"}
    for name, patience in product(kinds, (1, 2, 3)):
        how = TransferConfig(score=kinds[name], levels=levels, patience=patience)
        for kept, stop in zip(("best", "last"), tradeoff.watched(how, study.release), strict=True):
            yield study.row("ours", f"live, {name} of levels, patience {patience}, keep {kept}", stop)


def said(rule: Rule) -> str:
    """A rule in words."""
    cells = "pooled" if rule.pooled else "+".join(rule.cells)
    return f"{cells}, {rule.progress}, {'+'.join(rule.losses)}" + (f", slack {rule.slack:g}" if rule.slack else "")


def aim(release: Release) -> Point:
    """The corner that a rule is to reach: with the regret of the longest pre-training."""
    return Point(GOAL_EPOCHS, oracles.longest(release), GOAL_TIS, "the goal")


def verdict(rows: list[Row], tried: list[Row], study: Study) -> str:
    """Whether the goal was reached: by the declared rule, which counts, and by any that was tried, which would not."""
    goal = oracles.longest(study.release)
    declared = next(row for row in rows if row["table"] == "ours")
    hits = sum(reaches(row, goal) for row in tried)
    return (
        f"goal: regret <= {goal:.3f} and TIS >= {GOAL_TIS} at <= {GOAL_EPOCHS} epochs on data sets left out. The declared rule "
        f"{'reaches' if reaches(declared, goal) else 'misses'} it with {declared['regret']:.3f} and {declared['tis']:.4f} at "
        f"{declared['epochs']:.0f}; of the {len(tried)} settings scanned here with the outcome in sight {hits or 'none'} would. "
        f"The longest pre-training has {goal:.3f}. TIS and regret are of the mean Dice over seeds. {marked(rows, declared, study.release)}"
    ).rstrip()


def marked(rows: list[Row], declared: Row, release: Release) -> str:
    """Who beats the marks, which are those of one release: no regret above theirs, at no more epochs. Of the table all prices are told."""
    if fingerprint(release) != PUBLISHED:
        return ""
    tables = {row["rule"].rpartition(" ")[2]: row for row in rows if row["table"] == "uses" and row["rule"].startswith(uses.CHOSEN)}
    told = []
    for name, (regret, epochs) in MARKS.items():
        beaten = " and ".join(price for price, row in tables.items() if beats(row, regret, epochs)) or "none"
        told.append(
            f"{regret} at {epochs} ({name}) is {'beaten' if beats(declared, regret, epochs) else 'not beaten'} by the declared rule; "
            f"by that table with its rate chosen on the other data sets at {beaten} of the prices {', '.join(tables)}"
        )
    return f"The marks to beat: {'; '.join(told)}"


def beats(row: Row, regret: float, epochs: float) -> bool:
    """Whether a row has no more regret than that, at no more epochs."""
    return bool(row["regret"] <= regret and row["epochs"] <= epochs)


def fingerprint(release: Release) -> str:
    """Twelve hex digits that change with any setup, length or Dice."""
    told = repr((release.setups, release.lengths.tolist())).encode() + np.nan_to_num(release.dice, nan=-1.0).round(9).tobytes()
    return hashlib.sha256(told).hexdigest()[:12]


def reaches(row: Row, regret: float) -> bool:
    """Whether a row is at most this regret and within both goals."""
    return bool(row["regret"] <= regret and row["tis"] >= GOAL_TIS and row["epochs"] <= GOAL_EPOCHS)


def show(rows: list[Row], config: Config) -> None:
    """Five tables for a person; for a program or a file the rows as they are."""
    if config.output.format != "table" or config.output.path:
        output.give(pa.Table.from_pylist(rows, ROWS), config.output)
        return
    for table in ("baselines", "ours"):
        output.give(part(rows, table, ("rule", *WORTH)), config.output)
    output.give(pa.Table.from_pylist(wide([row for row in rows if row["table"] == "frontier"])), config.output)
    for table in ("curve", "uses"):
        output.give(part(rows, table, ("rule", "how", "epochs", "regret", "tis")), config.output)


def part(rows: list[Row], table: str, columns: tuple[str, ...]) -> pa.Table:
    """The rows of one table, these columns, rounded."""
    return pa.Table.from_pylist([{name: rounded(row[name]) for name in columns} for row in rows if row["table"] == table])


def wide(rows: list[Row]) -> list[Row]:
    """The frontier with a column for each budget, and a row for the regret of each rule and one for its TIS."""
    columns = ["rule", *(f"@{budget}" for budget in BUDGETS), "epochs to match"]
    found: dict[str, Row] = {}
    for row in rows:
        name, _, matches = row["rule"].partition(": ")
        column = "epochs to match" if matches else f"@{row['epochs']}"
        told = {name: row["epochs"]} if matches else {name: row["regret"], f"{name}, its TIS": row["tis"]}
        for rule, value in told.items():
            if value is not None:
                found.setdefault(rule, dict.fromkeys(columns) | {"rule": rule})[column] = rounded(value)
    return list(found.values())


def rounded(value: Any) -> Any:
    """Numbers to four digits behind the point, everything else as it is."""
    return round(value, 4) if isinstance(value, float) else value
