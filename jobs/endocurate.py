"""The command `endocurate`: python -m jobs by another name."""

import runpy


def main() -> None:
    """Run it as Python does, so that also a Ctrl-C amid its imports ends it without a traceback."""
    runpy.run_module("jobs", run_name="__main__", alter_sys=True)
