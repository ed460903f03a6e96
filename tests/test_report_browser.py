import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from engine import report
from tests.test_report import full

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not on PATH")]

PROBE = """<!DOCTYPE html><iframe src="report.html" style="width:WIDTHpx;height:900px;border:0"></iframe><script>
document.querySelector("iframe").onload = event => {
  const page = event.target.contentDocument, seen = [...page.images].filter(picture => picture.naturalWidth > 0);
  const lost = [...page.querySelectorAll(".span b")].filter(dot => {
    const [at, track] = [dot.getBoundingClientRect(), dot.parentElement.getBoundingClientRect()];
    return !at.width || at.left < track.left - 6 || at.right > track.right + 6 || at.top < track.top || at.bottom > track.bottom;
  });
  const cut = [...page.querySelectorAll("td")].filter(cell => cell.scrollWidth > cell.clientWidth + 1);
  document.title = [page.documentElement.scrollWidth - page.documentElement.clientWidth, seen.length, lost.length, cut.length].join(" ");
}
</script>"""


@pytest.mark.parametrize("width", [360, 390, 1280])
def test_a_real_browser_shows_every_picture_dot_and_number_and_needs_no_sideways_scrolling(tmp_path, width):
    findings = full()
    long = [replace(row, run="8c1d7e0a" * 4) for row in findings.outcomes]
    report.write(replace(findings, outcomes=long), str(tmp_path / "report.html"))
    (tmp_path / "probe.html").write_text(PROBE.replace("WIDTH", str(width)))
    dom = browse(tmp_path, "--allow-file-access-from-files", "--dump-dom", tmp_path.joinpath("probe.html").as_uri())
    assert "<title>0 6 0 0</title>" in dom


@pytest.mark.parametrize(("scheme", "ground"), [(1, "#f6f5f2"), (0, "#121416")])
def test_a_real_browser_draws_the_page_light_and_dark(tmp_path, scheme, ground):
    report.write(full(), str(tmp_path / "report.html"))
    shot = tmp_path / "shot.png"
    options = (f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}", "--window-size=1280,2000", "--hide-scrollbars")
    browse(tmp_path, *options, tmp_path.joinpath("report.html").as_uri())
    pixels = cv2.imread(str(shot))
    assert pixels[5, 5, ::-1].tolist() == [int(ground[at : at + 2], 16) for at in (1, 3, 5)]
    assert pixels.std() > 10


def browse(folder: Path, *options: str) -> str:
    quiet = ["--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={folder / 'profile'}", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
