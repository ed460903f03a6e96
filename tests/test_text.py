"""Burnt-in text is found, kept hidden while it stays, and looked for again only when something changed."""

import os
import random
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from engine import decode, frames, schema, text, videos
from engine.config import FramesConfig
from engine.text import FindText, WatchText, filled_in, strokes
from tests.test_content import tissue

DATA = Path(__file__).resolve().parent.parent / "../shared/data"
LABEL = re.compile(r"\d+\s*[/:.\-]\s*\d+|[A-Za-z]{3,}")  # a date, a time, a number with a point, or a word
OPEN_GATE = FramesConfig(min_sharpness=0, min_brightness=0, max_glare=1, min_tissue=0, min_change=0)


@pytest.fixture(scope="module")
def find_text():
    return FindText()


def read_text(image):
    """The lines that the package reads in a picture."""
    read = text.load_reader(1)(np.ascontiguousarray(image[..., ::-1]), use_det=True, use_cls=True, use_rec=True, text_score=0.5)
    return [] if read.txts is None else [str(line) for line in read.txts]


def lettered(image, words="12/05/2013 DOE", at=(20, 60), colour=(255, 255, 255)):
    image = image.copy()
    cv2.putText(image, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.6, colour, 1, cv2.LINE_AA)
    return image


def shown(image):
    return np.zeros(image.shape[:2], bool)


def looked(watch, image, following=None):
    """The boxes in a picture of which nothing is hidden, before another one like it."""
    ahead = None if following is None else strokes(following)
    return watch(image, shown(image), strokes(image), ahead)


class Searches:
    """A search that finds what it is told and counts."""

    def __init__(self, *boxes):
        self.boxes, self.count, self.parts = list(boxes), 0, []

    def __call__(self, image, part=None):
        self.count += 1
        self.parts.append(part)
        return list(self.boxes)


class Finds:
    """A search that finds every one of some lines whose white letters it sees in the part where it looks."""

    def __init__(self, *boxes):
        self.boxes, self.parts = boxes, []

    def __call__(self, image, part=None):
        self.parts.append(part)
        return [box for box in self.boxes if self.letters(image, overlap(box, part or (0, 0, *image.shape[:2]))) > 20]

    def letters(self, image, box):
        return (image[box[0] : box[2], box[1] : box[3]] == 255).all(axis=2).sum() if box else 0


def overlap(one, other):
    """The box that two have in common, None where there is none."""
    y0, x0, y1, x1 = *np.maximum(one[:2], other[:2]), *np.minimum(one[2:], other[2:])
    return (y0, x0, y1, x1) if y0 < y1 and x0 < x1 else None


def test_letters_on_tissue_lie_in_the_boxes_and_can_be_read_before(find_text):
    plain = tissue(300, 400)
    image = lettered(plain)
    covered = shown(image)
    for y0, x0, y1, x1 in find_text(image):
        covered[y0:y1, x0:x1] = True
    assert covered[(image != plain).any(axis=2)].mean() > 0.99
    assert any("12/05/2013" in line for line in read_text(image))


def test_tissue_without_letters_is_left_alone(find_text):
    assert sum(len(find_text(tissue(300, 400, seed))) for seed in range(3)) == 0


def test_what_is_as_tall_as_no_burnt_in_line_is_no_text(find_text):
    image = tissue(300, 400)
    cv2.putText(image, "BIG", (60, 220), cv2.FONT_HERSHEY_SIMPLEX, 4, (255, 255, 255), 16)
    assert find_text(image) == []


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (9, 400), (400, 9)])
def test_a_picture_of_any_size_can_be_searched(find_text, size):
    assert isinstance(find_text(np.full((*size, 3), 90, np.uint8)), list)


def test_a_part_is_searched_as_finely_as_the_whole_and_nothing_beside_it(find_text):
    image = lettered(lettered(tissue(480, 560)), "NAME ROE", (300, 400))
    whole, part = find_text(image), find_text(image, (340, 200, 460, 540))
    (beside,) = [box for box in whole if box[0] > 300]
    (found,) = part
    assert len(whole) == 2
    assert np.abs(np.subtract(found, beside)).max() <= 4


def test_the_detector_says_nothing_of_its_own(capfd):
    FindText()(tissue(100, 100))
    assert capfd.readouterr() == ("", "")


def test_a_box_has_a_margin_and_stays_inside_the_picture():
    corners = np.array([[0, 1], [50, 1], [50, 21], [0, 21]], np.int32)
    assert text.around(corners, (0, 0, 24, 200)) == (0, 0, 24, 58)


def test_a_moving_picture_under_still_text_is_searched_once():
    search = Searches((40, 10, 70, 250))
    watch = WatchText(search, [])
    scenes = [lettered(tissue(300, 400, seed)) for seed in range(6)]
    for now, following in zip(scenes, [*scenes[1:], None], strict=True):
        assert looked(watch, now, following) == [(40, 10, 70, 250)]
    assert search.count == 1


@pytest.mark.parametrize("lasts", [True, False], ids=["that stays", "in a single frame"])
def test_new_text_is_searched_for_in_the_frame_in_which_it_appears(lasts):
    plain = [tissue(300, 400, seed) for seed in range(3)]
    written = [lettered(image, "P R E S E T  1 2", (60, 200)) for image in plain]
    search = Finds((180, 50, 210, 300))
    watch = WatchText(search, [])
    looked(watch, plain[0], plain[1])
    assert len(search.parts) == 1
    following = written[2] if lasts else plain[2]
    assert looked(watch, written[1], following) == [(180, 50, 210, 300)]
    assert search.parts[2:] == [(0, 0, 300, 400)]
    assert overlap(search.parts[1], (186, 60, 201, 290))


def glared(image, row):
    """A picture with six spots of glare on one line, as near to each other as letters."""
    image = image.copy()
    for number in range(6):
        cv2.ellipse(image, (220 + 14 * number, row), (3, 5), 0, 0, 360, (250, 250, 250), -1)
    return image


def test_glare_in_rows_is_looked_at_alone():
    search = Finds()
    watch = WatchText(search, [])
    scenes = [tissue(300, 400), *(glared(tissue(300, 400, number), 40 * number) for number in range(1, 6))]
    for now, following in zip(scenes, [*scenes[1:], None], strict=True):
        assert looked(watch, now, following) == []
    assert len(search.parts) == 6
    for number, (y0, x0, y1, x1) in enumerate(search.parts[1:], 1):
        assert y0 < 40 * number < y1
        assert x0 < 220 < 290 < x1
        assert (y1 - y0) * (x1 - x0) < 0.25 * 300 * 400


@pytest.mark.parametrize("at", [(20, 60), (210, 205)], ids=["elsewhere", "where glare was before"])
def test_letters_that_come_with_moving_glare_are_hidden_at_once(at):
    line = at[1] - 20, at[0] - 10, at[1] + 10, at[0] + 170
    watch = WatchText(Finds(line), [])
    for number in range(1, 6):
        scene, following = (glared(tissue(300, 400, seed), 40 * seed) for seed in (number, number + 1))
        assert looked(watch, scene, following) == []
    assert line in looked(watch, lettered(glared(tissue(300, 400, 6), 240), at=at), following)


def test_faint_letters_are_found_with_bright_ones_in_another_corner(find_text):
    plain = np.full((300, 400, 3), (150, 90, 70), np.uint8)
    bright = lettered(plain, "12/05/2013", (240, 280))
    drawn = cv2.putText(np.zeros_like(plain), "NAME ROE", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (25, 25, 25), 2, cv2.LINE_AA)
    watch = WatchText(find_text, [])
    assert looked(watch, plain, bright) == []
    assert not strokes(cv2.add(plain, drawn)).map.any()
    covered = shown(plain)
    for y0, x0, y1, x1 in looked(watch, cv2.add(bright, drawn)):
        covered[y0:y1, x0:x1] = True
    assert covered[drawn.any(axis=2)].mean() > 0.99
    assert covered[(bright != plain).any(axis=2)].mean() > 0.99


def test_known_letters_beside_glare_call_for_no_new_search():
    line = 180, 210, 210, 380
    search = Finds(line)
    watch = WatchText(search, [])
    scenes = [lettered(tissue(300, 400, number), at=(220, 200)) for number in range(3)]
    looked(watch, scenes[0])
    assert looked(watch, glared(scenes[1], 240)) == [line]
    assert [part == (0, 0, 300, 400) for part in search.parts] == [True, False]


def test_what_a_look_at_a_part_shows_is_hidden_even_if_the_search_misses_it():
    line = 180, 210, 210, 380
    watch = WatchText(lambda image, part: [line] if part != (0, 0, 300, 400) else [], [])
    assert looked(watch, tissue(300, 400)) == []
    assert looked(watch, lettered(tissue(300, 400, 1), at=(220, 200))) == [line]


@pytest.mark.parametrize("size", [0.6, 1.2])
def test_a_row_of_letters_is_marked_to_its_last(size):
    image = np.full((300, 400, 3), 90, np.uint8)
    cv2.putText(image, "X X X X", (40, 200), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), 2, cv2.LINE_AA)
    marks = strokes(image)
    assert len(marks.pieces[1]) == 5
    assert (text.letters(marks) == marks.map).all()


def test_boxes_that_are_found_again_and_again_do_not_pile_up():
    watch = WatchText(Searches((40, 10, 70, 250)), [])
    image = lettered(tissue(300, 400))
    for _ in range(3 * text.RENEWED):
        assert looked(watch, image, image) == [(40, 10, 70, 250)]


def test_a_line_that_flickers_while_marks_come_elsewhere_is_hidden_whenever_it_is_there():
    name, clock = (40, 10, 70, 250), (200, 10, 230, 250)
    watch, plain = WatchText(Finds(name, clock), []), [tissue(300, 400, seed) for seed in range(9)]
    named = [lettered(image, "DOE 12/05/2013", (20, 60)) for image in plain]
    marked = [cv2.rectangle(image.copy(), (20, 210), (60, 213), (255, 255, 255), -1) for image in plain]
    for now, following in [(named[0], named[1]), (named[1], plain[2]), (marked[2], marked[3]), (marked[3], named[4])]:
        looked(watch, now, following)
    for number in range(4, 8):
        assert name in looked(watch, named[number], named[number + 1])


def test_a_line_that_is_replaced_in_the_frame_in_which_marks_come_elsewhere_is_hidden():
    name, clock = (40, 10, 70, 250), (200, 10, 230, 250)
    watch, plain = WatchText(Finds(name, clock), []), [tissue(300, 400, seed) for seed in range(4)]
    scenes = [lettered(plain[0], "DOE 12/05/2013", (20, 60)), *(lettered(image, "IIIIII 4 7 1 1", (20, 62)) for image in plain[1:])]
    scenes = [scenes[0], *(cv2.rectangle(image, (20, 210), (60, 213), (255, 255, 255), -1) for image in scenes[1:])]
    for now, following in zip(scenes, [*scenes[1:], None], strict=True):
        assert name in looked(watch, now, following)


@pytest.mark.parametrize(("lasts", "searches"), [(True, 2), (False, 1)], ids=["that stands still", "that is gone in the next"])
def test_a_mark_without_letters_is_searched_only_if_it_stands_still(lasts, searches):
    plain = [tissue(300, 400, seed) for seed in range(3)]
    marked = [cv2.rectangle(image.copy(), (60, 200), (90, 203), (255, 255, 255), -1) for image in plain]
    search = Searches()
    watch = WatchText(search, [])
    looked(watch, plain[0], plain[1])
    following = (marked if lasts else plain)[2]
    looked(watch, marked[1], following)
    assert search.count == searches
    if lasts:
        y0, x0, y1, x1 = search.parts[1]
        assert (x0, x1) == (0, 400)
        assert y0 < 200 < 204 < y1
        assert y1 - y0 < 150


def test_a_box_that_a_later_search_misses_stays_while_its_letters_do():
    image = lettered(tissue(300, 400))
    search = Searches((40, 10, 70, 250))
    watch = WatchText(search, [])
    looked(watch, image)
    search.boxes = []
    watch.age = text.RENEWED
    assert looked(watch, image) == [(40, 10, 70, 250)]
    watch.age = text.RENEWED
    assert looked(watch, tissue(300, 400)) == []
    assert search.count == 3


def test_a_search_is_renewed_after_a_while_even_if_nothing_moves():
    search = Searches()
    watch = WatchText(search, [])
    image = tissue(120, 160)
    for _ in range(2 * text.RENEWED + 1):
        looked(watch, image, image)
    assert search.count == 3


def test_what_stands_still_over_the_whole_video_is_hidden_in_every_frame():
    watch = WatchText(Searches(), [(0, 0, 10, 50)])
    assert looked(watch, tissue(120, 160)) == [(0, 0, 10, 50)]


def test_filling_in_changes_hidden_pixels_only_and_gives_them_the_colour_around():
    image = tissue(200, 300)
    hidden = shown(image)
    hidden[50:90, 60:120] = True
    filled = filled_in(np.where(hidden[..., None], 0, image).astype(np.uint8), hidden)
    assert (filled[~hidden] == image[~hidden]).all()
    assert np.abs(filled[hidden].mean(axis=0) - image[~hidden].mean(axis=0)).max() < 25


def kept_pictures(uri):
    identified = next(videos.IdentifyVideos()(videos.find(str(uri))))
    for table in frames.DecodeFrames(OPEN_GATE)(identified):
        for row in schema.check(table, schema.FRAME, "here").to_pylist():
            if row["image"] is not None:
                yield np.frombuffer(row["image"], np.uint8).reshape(row["frame_height"], row["frame_width"], 3)


def labels(pictures):
    return [line for picture in pictures for line in read_text(picture) if LABEL.search(line)]


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["kvasir_seg_256", "polypgen_352"])
def test_no_date_time_or_label_is_left_in_real_images(name, tmp_path):
    folder = DATA / "seg" / name / "images"
    if not folder.exists():
        pytest.skip("../shared/data is absent")
    chosen = sorted(random.Random(11).sample(sorted(folder.iterdir()), 100))
    for path in chosen:
        os.symlink(path.resolve(), tmp_path / path.name)
    before = labels(np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]) for path in chosen)
    after = labels(kept_pictures(tmp_path))
    print(f"{name}: {len(before)} labels before, {len(after)} after: {after}")
    assert len(before) > 100
    assert after == []


@pytest.mark.data
@pytest.mark.slow
def test_no_label_is_left_in_the_videos_with_overlay():
    folder = DATA / "video" / "with_burnt_in_overlay"
    if not folder.exists():
        pytest.skip("../shared/data is absent")
    found = 0
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            before = labels(moment.image for moment in decode.sampled(file, OPEN_GATE))
        after = labels(kept_pictures(path))
        print(f"{path.name}: {len(before)} labels before, {len(after)} after: {after}")
        assert after == []
        found += len(before)
    assert found > 20
