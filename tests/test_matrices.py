import pytest

from engine.report import Findings, render
from engine.standings import standings
from jobs import matrices
from tests.test_report import Page


def cell(method="random", pool="regions", contents="a", protocol="p", **told):
    """A row of the table results, as a cell of that pool left it."""
    row = {"method": method, "pool": pool, "budget": 0.1, "seed": 0, "dataset": "polyps", "architecture": "mae", "setting": "s"}
    row |= {"model": f"{method}-{contents}", "protocol": protocol, "reason": None, "retained": 0.1, "images": 9, "miou": 0.5}
    return row | {"unit": None, "names": ["x"], "counts": [1] * 8, "metrics": "{}", "measures": "{}"} | told


def test_on_a_board_are_results_of_the_newest_data_and_of_each_pool_those_of_its_newest_contents():
    old, other = cell("random", contents="a"), cell("meddel", "frames", contents="c")
    grown = cell("optidel", contents="b")
    assert {one.method for one in matrices.board([old, other]).entries} == {"random", "meddel"}
    made = matrices.board([old, other, grown])
    assert ({one.method for one in made.entries}, made.others) == ({"meddel", "optidel"}, 1)
    made = matrices.board([old, other, cell("optidel", protocol="of corrected masks")])
    assert ({one.method for one in made.entries}, made.others) == ({"optidel"}, 2)


def test_results_of_before_their_data_was_told_are_a_board_until_there_is_a_newer_one():
    before = [cell(name, protocol="recipes alone") | {"model": name} for name in ("random", "optidel")]
    assert (len(matrices.board(before).entries), matrices.board(before).others) == (2, 0)
    made = matrices.board([*before, cell(protocol="recipes and data")])
    assert (len(made.entries), made.others) == (1, 2)


def test_budgets_of_one_number_and_two_units_are_two_budgets():
    some = [cell("random", unit="bytes"), cell("random", unit="patches"), cell("optidel", unit="patches")]
    rows = standings(matrices.board([*some, cell("meddel", unit="gpu_hours", reason="none left")]))
    assert {(row.method, row.unit): set(row.over) for row in rows} == {
        ("random", "bytes"): set(),
        ("random", "patches"): set(),
        ("optidel", "patches"): {"random"},
    }
    (lost,) = matrices.board([cell("meddel", unit="gpu_hours", reason="none left")]).failures
    assert lost.what == "meddel at 0.1 gpu hours, seed 0"


def test_a_row_of_before_units_were_told_gives_way_to_a_newer_one_of_its_number_and_else_stands():
    before = [cell("random"), cell("optidel")]
    assert [one.spot for one in matrices.board(before).entries] == [("random", (0.1, "")), ("optidel", (0.1, ""))]
    made = matrices.board([*before, cell("random", unit="images")])
    assert [one.spot for one in made.entries] == [("optidel", (0.1, "")), ("random", (0.1, "images"))]
    assert [row.over for row in standings(matrices.board(before)) if row.method == "random"] == [{}]


def test_a_result_on_other_test_images_than_the_newest_of_its_seed_is_left_out_and_the_page_is_written_all_the_same():
    """As an older engine left them, which told nothing of lists in the name of the data."""
    some = [
        cell(names=["a"]),
        cell("meddel", names=["a"]),
        cell(names=["b"], seed=1),
        cell("optidel", names=["b"]),
        cell("random", names=["b"]),
    ]
    made = matrices.results_of("s", some)
    (board,) = made.boards
    assert ({(one.method, one.seed) for one in board.entries}, board.others) == ({("random", 0), ("random", 1), ("optidel", 0)}, 2)
    assert (
        "2 results of other settings, data or pools are in the table results" in Page(render(Findings("t", "now", matrices=[made]))).words()
    )


def test_a_method_that_chooses_from_another_pool_by_now_is_not_more_seeds_of_the_same():
    old = [cell("optidel", "regions", seed=seed, miou=0.5 + seed / 100) for seed in range(3)]
    other = [cell("random", "regions", seed=seed) for seed in range(3)]
    new = [cell("optidel", "crops", seed=seed, miou=0.7 + seed / 100) for seed in range(3)]
    found = matrices.board([*old, *other, *new])
    assert {one.method: (one.seeds, one.miou[0]) for one in standings(found)} == {
        "optidel": (3, pytest.approx(0.71)),
        "random": (3, pytest.approx(0.5)),
    }
    assert found.others == 3
