from engine.standings import standings
from jobs import matrices


def cell(method="random", pool="regions", contents="a", protocol="p", reason=None, unit=None):
    """A row of the table results, as a cell of that pool left it."""
    row = {"method": method, "pool": pool, "budget": 0.1, "seed": 0, "dataset": "polyps", "architecture": "mae", "setting": "s"}
    row |= {"model": f"{method}-{contents}", "protocol": protocol, "reason": reason, "retained": 0.1, "images": 9, "miou": 0.5}
    return row | {"unit": unit, "names": ["x"], "counts": [1] * 8, "metrics": "{}", "measures": "{}"}


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
