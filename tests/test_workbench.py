"""Stages that stay loaded from call to call, and what came out of each."""

import pyarrow as pa

from engine import flow, ledger
from engine.flow import Step
from tests import rows

BUILT = []


class Pass:
    """A stage that lets rows pass, and says when it is built."""

    def __init__(self, *told):
        BUILT.append(told)
        self.told = told

    def __call__(self, table):
        yield table


class Other(Pass):
    """The same under another name."""


class Written:
    def __call__(self, table):
        yield ledger.written_rows(table, [])


def test_a_stage_is_built_once_and_anew_only_for_other_arguments():
    BUILT.clear()
    bench = flow.Workbench(lambda stage, frames: None)
    table = rows.scored("aa")
    for told in ("x", "x", "y", "y", "x"):
        steps = [Step(Pass, (told,), batch=2), Step(Other, ({"a": told},), batch=3)]
        assert pa.concat_tables(bench(steps, table)).equals(pa.concat_tables(flow.run_here(steps, table)))
        del BUILT[-2:]  # by run_here
    assert BUILT == [("x",), ({"a": "x"},), ("y",), ({"a": "y"},), ("x",), ({"a": "x"},)]
    assert {kind: stage.told for kind, (_, stage) in bench.kept.items()} == {Pass: ("x",), Other: ({"a": "x"},)}  # the ones before are gone


def test_a_call_that_is_given_up_half_way_leaves_stages_that_go_on():
    bench, steps = flow.Workbench(lambda stage, frames: None), [Step(Pass, (), batch=2)]
    next(bench(steps, rows.scored("aa")))
    assert pa.concat_tables(bench(steps, rows.scored("bb"))).equals(rows.scored("bb"))


def test_it_tells_the_frames_that_came_out_of_each_stage():
    found = {}
    bench = flow.Workbench(lambda stage, frames: found.update({stage: found.get(stage, 0) + frames}))
    table = pa.concat_tables([rows.scored("aa", frames=3, patches=2), rows.scored("bb", frames=1, patches=5)])
    list(bench([Step(Pass, (), batch=3), Step(Written, (), batch=4)], table))
    assert {name: round(frames, 9) for name, frames in found.items()} == {"Pass": 6, "Written": 6}  # one of each is dark
