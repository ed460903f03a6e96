"""The questions that a frame and a region were asked before they were kept, each with its number and its threshold."""

from collections.abc import Mapping
from typing import Any

from engine import gate
from engine.schema import FRAME_PROPOSER

Tree = dict[str, Any]

UNSEEN = ("unreadable", "same millisecond")  # reasons of frames that were not measured at all


def gated(row: Tree, knobs: Mapping[str, str]) -> list[Tree]:
    """The questions that a frame was asked, in order, up to the one that rejected it."""
    if row["reason"] in UNSEEN:
        return []
    side = None if row["content"] is None else min(row["content"][2] - row["content"][0], row["content"][3] - row["content"][1])
    asked = [
        decision("shorter side of the picture", side, "frames.min_side", "at least", knobs) | {"passed": row["reason"] != "no content"}
    ]
    for one in gate.QUESTIONS:
        if not asked[-1]["passed"]:
            break
        told = decision(one.column, row[one.column], f"frames.{one.knob}", "at most" if one.is_most else "at least", knobs)
        asked.append(told | {"passed": row["reason"] != one.reason})
    return asked


def regional(row: Tree, frame: Tree, knobs: Mapping[str, str]) -> list[Tree]:
    """The numbers by which a patch was kept, as far as the table has them; a whole frame was asked nothing more."""
    if row["proposer"] == FRAME_PROPOSER:
        return []
    top, left, bottom, right = frame["content"]
    share = row["area"] / ((bottom - top) * (right - left))
    asked = [decision("area", share, "patches.min_area", "at least", knobs), decision("area", share, "patches.max_area", "at most", knobs)]
    if row["proposer"] == "sam":
        asked.append(decision("predicted_iou", row["predicted_iou"], "patches.min_predicted_iou", "at least", knobs))
        asked.append(decision("stability", row["stability"], "patches.min_stability", "at least", knobs))
    return [one | {"passed": True} for one in asked]


def decision(what: str, number: float | None, knob: str, bound: str, knobs: Mapping[str, str]) -> Tree:
    """A question with its number and its threshold; the threshold is null where the configuration is gone."""
    return {"what": what, "number": number, "bound": bound, "threshold": float(knobs[knob]) if knob in knobs else None, "knob": knob}
