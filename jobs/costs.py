"""What a matrix will still take: by what its finished cells took, else by what was measured before or is tried now.

A device is a GPU, or without any a processor, which Ray gives each task one of; in this process all processors are one device.
"""

import json
import logging
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from engine import datasets, evaluate, flow, plan, queues, simulate
from engine.config import Config
from engine.plan import Cost, Prices
from engine.pool import whole_frames
from engine.settings import PlanConfig
from engine.store import PatchStore
from jobs import places, pools, throughput
from jobs.matrix import Cell

log = logging.getLogger("jobs.costs")
TRIED = (3, 9)  # iterations of the two short fine-tunings whose difference tells the time of one
BATCH = 16  # tried at most without a GPU: there a larger one is hardly faster, and 18 of 256 images would take an hour
PAIRS = 6  # made up for these
Row = dict[str, Any]
Place = tuple[str, str]  # architecture and data set


@dataclass
class Costs:
    """Seconds of what the cells of a matrix are made of; finished cells teach it better."""

    config: Config
    images_per_s: dict[str, list[float]] = field(default_factory=dict)  # by architecture
    measure_s: dict[Place, list[float]] = field(default_factory=dict)
    choose_s: list[float] = field(default_factory=list)
    tried: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)  # by architecture and recipes
    trained: set[str] = field(default_factory=set)  # models, by name
    sizes: dict[tuple[str, str], int] = field(default_factory=dict)  # of pools, by store and kind
    weights: dict[tuple[str, str], float] = field(default_factory=dict)  # the same: bytes of a patch

    def learn(self, row: Row) -> None:
        """From a result that there is."""
        if row["reason"]:
            return
        self.trained.add(row["model"])
        self.measure_s.setdefault((row["architecture"], row["dataset"]), []).append(json.loads(row["metrics"])["seconds"])
        if row["images_per_s"]:
            self.images_per_s.setdefault(row["architecture"], []).append(row["images_per_s"])
        if row["choose_s"]:
            self.choose_s.append(row["choose_s"])

    def left(self, cells: Sequence[Cell], devices: int, share: tuple[float, float]) -> Cost:
        """What these cells cost on so many devices, one of which is so many processors and GPUs."""
        prices = Prices(self.config.plan.cpu_hour, self.config.plan.gpu_hour)
        chains: dict[str, list[Cell]] = {}
        for cell in cells:
            chains.setdefault(cell.model, []).append(cell)
        timed = [(self.training_s(some[0]), [self.measuring_s(cell) for cell in some]) for some in chains.values()]
        return queues.cost_of(timed, devices, share, prices)

    def training_s(self, cell: Cell) -> float:
        """Seconds to choose and pre-train, 0 where the model is there or none is needed."""
        if not cell.pool or cell.model in self.trained:
            return 0.0
        if cell.config.selection.unit == "gpu_hours":
            return cell.config.selection.budget * 3600
        passes = self.images(cell) * cell.config.pretrain.epochs
        return (median(self.choose_s) if self.choose_s else 0.0) + passes / self.speed(cell)

    def speed(self, cell: Cell) -> float:
        """Images a second of one device in the pre-training of a cell."""
        if cell.architecture not in self.images_per_s:
            told = told_speed(cell.config, cell.architecture)
            self.images_per_s[cell.architecture] = [told or tried_speed(cell.config.model_copy(update={"where": self.config.where}))]
        return median(self.images_per_s[cell.architecture])

    def measuring_s(self, cell: Cell) -> float:
        """Seconds to fine-tune and test, the median of cells alike; measured by a short trial where there is none."""
        place = (cell.architecture, cell.dataset)
        if place not in self.measure_s:
            iteration, picture = self.iteration_s(cell)
            trained, tested = sizes(cell)
            self.measure_s[place] = [iteration * cell.config.evaluate.steps(trained) + picture * tested]
        return median(self.measure_s[place])

    def iteration_s(self, cell: Cell) -> tuple[float, float]:
        """Seconds of an iteration and of a test image; of the same recipes they are tried once, whatever the data: that is made up."""
        told, how = told_pace(cell.config, cell.architecture), (cell.architecture, cell.recipes)
        if how not in self.tried:  # a test image is no dearer than one in training, which goes back through the network too
            self.tried[how] = (1 / told, 1 / told / cell.config.evaluate.batch) if told else tried(cell.config, self.config.where == "ray")
        return self.tried[how]

    def images(self, cell: Cell) -> float:
        """Training images of a cell, about."""
        asked, group = cell.config.selection, cell.config.synthesis.patches
        if asked.budget > 1 and asked.unit == "images":
            return asked.budget
        if asked.budget > 1:
            return asked.budget / (self.weight(cell, asked.of) if asked.unit == "bytes" else 1) / group
        if asked.unit == "images" or self.config.benchmark.frames:
            return asked.budget * self.size(cell, "images")
        return asked.budget * self.size(cell, asked.of) / group

    def size(self, cell: Cell, kind: str) -> int:
        """Frames of a pool, where images are counted, or its patches of a kind."""
        if self.config.benchmark.frames:
            return self.config.benchmark.frames
        uri = cell.config.store.uri
        if (uri, kind) not in self.sizes:
            rows = pool(uri, kind, "frame_id")
            self.sizes[uri, kind] = pc.count_distinct(rows["frame_id"]).as_py() if kind == "images" else len(rows)
        return self.sizes[uri, kind]

    def weight(self, cell: Cell, kind: str) -> float:
        """Mean bytes of a pool's patches of a kind; ValueError where it has none, for then bytes are no number of images."""
        uri = cell.config.store.uri
        if (uri, kind) not in self.weights:
            if not PatchStore(uri).has("videos") or not len(rows := pool(uri, kind, "bytes")):
                told = f"a budget of {cell.config.selection.budget:g} bytes"
                raise ValueError(f"{told} is told in images by the patches of {uri}, which has none: give a share")
            self.weights[uri, kind] = float(pc.mean(rows["bytes"]).as_py())
        return self.weights[uri, kind]


def pool(uri: str, kind: str, column: str) -> pa.Table:
    """A column of the patches of a store: of its whole frames where these are the kind, of all for images, else of the others."""
    of = PatchStore(uri).patches([column, "proposer"])
    whole = whole_frames(of)
    return of if kind == "images" else of.filter(whole if kind == "frames" else ~whole)


def sizes(cell: Cell) -> tuple[int, int]:
    """Images that are trained and tested on; of a data set that is not here by evaluate.pairs, else by its published counts.

    ValueError where it is not here and nothing tells how large it is.
    """
    how = cell.config.evaluate
    if how.uri and not places.is_missing(how.uri):
        split = datasets.chosen(how, cell.seed)
        return len(split.train), len(split.test)
    told = datasets.SETS[how.dataset].published if how.dataset in datasets.SETS else {}
    every = how.pairs or told.get("pairs", 0)
    if not every:
        raise ValueError(
            f"matrix.sets.{cell.dataset}: evaluate.uri={how.uri} is not here, and how many pairs it has is not known: "
            "name them by evaluate.pairs there, or put the set in its place"
        )
    tested = told["test"] if "test" in told and every == told.get("pairs") else round(how.test_share * every)
    return min(every - tested, how.limit or every), tested


def told_speed(config: Config, architecture: str) -> float:
    """Images a second by the knobs; 0: they do not say."""
    return by_name(config.benchmark.speeds).get(architecture, config.benchmark.images_per_s)


def told_pace(config: Config, architecture: str) -> float:
    """Iterations of fine-tuning a second by the knobs; 0: they do not say."""
    return by_name(config.benchmark.paces).get(architecture, config.benchmark.iterations_per_s)


def by_name(words: Sequence[str]) -> dict[str, float]:
    """Numbers by architecture, of words as mae:900; ValueError where they name one twice."""
    told = {name: float(number) for name, number in (word.rsplit(":", 1) for word in words)}
    if len(told) < len(words):
        raise ValueError(f"{','.join(words)} names one twice, expected a number for each architecture")
    return told


def intake(cells: Sequence[Cell], cpus: float, gpus: float) -> tuple[Cost, list[str]]:
    """What taking in the frames of the pools costs by the times that the job plan left in their stores, and the stores that lack these."""
    config, without, spent = cells[0].config, list[str](), Cost(0, 0, 0, 0)
    prices = Prices(config.plan.cpu_hour, config.plan.gpu_hour)
    for uri in dict.fromkeys(cell.config.store.uri for cell in cells if cell.pool):
        if not (services := pools.kept(PatchStore(uri))):
            without.append(uri)
            continue
        frames = config.benchmark.frames or PatchStore(uri).open("frames").count_rows()
        one = plan.cost(plan.plan(services, max(cpus, flow.SLOTS), gpus), frames / 3600, 1, prices)
        spent = Cost(*(mine + its for mine, its in zip(astuple(spent), astuple(one), strict=True)))
    return spent, without


def tried_speed(config: Config) -> float:
    """Images a second in pre-training, as measured before or tried now."""
    if found := throughput.measured(config):
        return found.images_per_s
    batch = config.pretrain.batch if torch.cuda.is_available() else min(config.pretrain.batch, BATCH)
    fewer = config.pretrain.model_copy(update={"batch": batch, "accumulate": 1})
    return throughput.tried(config.model_copy(update={"pretrain": fewer})).images_per_s


def tried(config: Config, alone: bool) -> tuple[float, float]:
    """Seconds of an iteration of the fine-tuning, and at most of a test image, by two short ones on made-up pairs; alone: on one thread."""
    log.info(
        "no measurement with these settings is done: trying some iterations of %s at %d px",
        config.evaluate.architecture,
        config.evaluate.side,
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if alone else threads)
    try:
        with tempfile.TemporaryDirectory() as folder:
            simulate.write_pairs(Path(folder), PAIRS, side=256)
            split = datasets.pairs(folder, 0.5, 0)
            few, many = (seconds(config, split, count) for count in TRIED)
    finally:
        torch.set_num_threads(threads)
    iteration = max(many - few, 0.0) / (TRIED[1] - TRIED[0])
    return iteration, max(few - TRIED[0] * iteration, 0.0) / len(split.test)


def seconds(config: Config, split: datasets.Split, iterations: int) -> float:
    """Seconds that so many iterations of fine-tuning an untrained encoder take, tests included."""
    how = config.evaluate.model_copy(update={"iterations": iterations, "warmup": 1})
    return evaluate.evaluate(None, config.pretrain.mae, split, how, 0).seconds


def here(config: Config) -> tuple[int, tuple[float, float]]:
    """How many devices there are to work on, and what processors and GPUs one of them is."""
    if config.where == "here":
        return 1, (float(os.cpu_count() or 1), float(torch.cuda.is_available()))
    found, gpu = flow.devices()
    return config.benchmark.at_once or found, (1.0, float(gpu))


def planned(config: Config, cells: Sequence[Cell]) -> tuple[int, tuple[float, float]]:
    """The same of the cluster that plan.* names.

    ValueError for one that is not whole, for one with GPUs of which nothing can be measured here, and for a number of no architecture.
    """
    asked = config.plan
    places.check_cluster(asked)
    refuse_parts(asked)
    refuse_strangers(config, cells)
    if not asked.gpus:
        return (int(asked.cpus), (1.0, 0.0)) if asked.cpus else here(config)
    if not torch.cuda.is_available() and (lacking := unnamed(cells)):
        raise ValueError(
            f"plan.gpus={asked.gpus:g}: this machine has no GPU to measure on; run it where there is one, or name as it was measured there "
            + " and ".join(lacking)
        )
    return int(asked.gpus), (asked.cpus / asked.gpus, 1.0)


def refuse_parts(asked: PlanConfig) -> None:
    """ValueError for a part of a device: a model, or a measurement, is given a whole one."""
    knob, devices = ("plan.gpus", asked.gpus) if asked.gpus else ("plan.cpus", asked.cpus)
    if devices % 1:
        raise ValueError(f"{knob}={devices:g}: expected a whole number, since each model and each measurement has one to itself")


def refuse_strangers(config: Config, cells: Sequence[Cell]) -> None:
    """ValueError where a number is named of an architecture that the matrix lacks, as one that is misspelt."""
    own = dict.fromkeys(cell.architecture for cell in cells)
    for knob, words in {"speeds": config.benchmark.speeds, "paces": config.benchmark.paces}.items():
        if vain := [name for name in by_name(words) if name not in own]:
            raise ValueError(f"benchmark.{knob} names {', '.join(vain)}, and the architectures of the matrix are {', '.join(own)}")


def unnamed(cells: Sequence[Cell]) -> list[str]:
    """The knobs that would say what nobody told of the speed of some architectures."""
    trained = dict.fromkeys(cell.architecture for cell in cells if cell.pool and not told_speed(cell.config, cell.architecture))
    tuned = dict.fromkeys(cell.architecture for cell in cells if not told_pace(cell.config, cell.architecture))
    speeds = f"images a second of {', '.join(trained)} (benchmark.speeds={','.join(f'{name}:N' for name in trained)})"
    paces = f"iterations a second of {', '.join(tuned)} (benchmark.paces={','.join(f'{name}:N' for name in tuned)})"
    return [speeds] * bool(trained) + [paces] * bool(tuned)


def only_named(config: Config, device: tuple[float, float]) -> str:
    """Says of a cost on GPUs that nothing of it was measured on one here; "": it was, or it is of processors."""
    if not device[1] or torch.cuda.is_available():
        return ""
    known = config.benchmark
    listed = {knob: ",".join(words) for knob, words in {"speeds": known.speeds, "paces": known.paces}.items() if words}
    single = {"images_per_s": known.images_per_s, "iterations_per_s": known.iterations_per_s}
    named = listed | {knob: f"{number:g}" for knob, number in single.items() if number}
    order = ("speeds", "images_per_s", "paces", "iterations_per_s")
    told = " and ".join(f"benchmark.{knob}={named[knob]}" for knob in order if knob in named) or "the numbers of the matrix"
    return f"no GPU was measured: all of this is as true as {told}, which were named. Measure them where there is a GPU"


def learnt(config: Config, rows: Iterable[Row]) -> Costs:
    """What the results that there are taught."""
    costs = Costs(config)
    for row in rows:
        costs.learn(row)
    return costs
