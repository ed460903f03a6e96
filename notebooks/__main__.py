"""Run every notebook on a store and put rendered copies beside its report, which links to them once it is made anew.

python -m notebooks STORE [knob=value ...]: knobs say where the runs are (tracking.uri), and what no run says of the scorer (difficulty.*).
"""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec
import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

from engine import report
from engine.knobs import amend
from jobs.recipes import RECIPES

FOLDER = Path(__file__).parent
QUIET = "ignore:IProgress not found"  # what tqdm says of itself in a kernel without widgets, with a path of this machine
PAGE = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
{palette}
body {{ font: 16px/1.55 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 24px 16px; }}
body {{ color: var(--ink); background: var(--page); }}
a {{ color: var(--accent); }}
pre {{ overflow-x: auto; font-size: .82rem; padding: 10px 12px; }}
pre {{ background: var(--card); border: 1px solid var(--line); border-radius: 8px; }}
img {{ max-width: 100%; background: #fff; border-radius: 8px; }}
table {{ border-collapse: collapse; font-size: .82rem; display: block; overflow-x: auto; }}
th, td {{ padding: 3px 9px; text-align: right; border-bottom: 1px solid var(--line); }} .anchor-link {{ display: none; }}
</style></head><body><p><a href="../report.html">report</a></p>{body}
<p>Pictures are cut from medical video: treat this file as you treat the videos.</p></body></html>
"""


def rendered(path: Path, store: str, knobs: Sequence[str] = ()) -> str:
    """The page of a notebook that was run on a store, with knobs as on a command line; nbclient's CellExecutionError where a cell fails."""
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    asked = {"ENDOCURATE_STORE": store, "ENDOCURATE_KNOBS": shlex.join(knobs)}
    asked |= {"PYTHONWARNINGS": ",".join(filter(None, [os.environ.get("PYTHONWARNINGS"), QUIET]))}
    where = os.environ | asked | {"PYTHONPATH": os.pathsep.join([str(FOLDER.parent), *sys.path])}
    NotebookClient(notebook, timeout=3600, kernel_name="python3").execute(env=where)
    exporter: Any = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)  # type: ignore[no-untyped-call]
    return page(path.stem, exporter.from_notebook_node(notebook)[0])


def page(title: str, body: str) -> str:
    """A rendered copy as a page of its own, in the colours of the others."""
    return PAGE.format(title=title, palette=report.palette(), body=body)


def main(store: str, *knobs: str) -> None:
    for path in sorted(FOLDER.glob("*.ipynb")):
        place = f"{store.rstrip('/')}/notebooks/{path.stem}.html"
        with fsspec.open(place, "w", encoding="utf-8", auto_mkdir=True) as file:
            file.write(rendered(path, store if "://" in store else os.path.abspath(store), knobs))
        print(place, flush=True)
    print(f"{store.rstrip('/')}/report.html links to them once the job report has made it anew", flush=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python -m notebooks STORE [knob=value ...]")
    try:
        amend(RECIPES["tiny"](), sys.argv[2:])
    except ValueError as wrong:
        sys.exit(str(wrong))
    main(*sys.argv[1:])
