"""The simulated video says the truth about itself."""

import hashlib
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import simulate
from engine.colon import Camera, Colon, View
from engine.encode import encode
from engine.endoscope import Screen
from engine.simulate import EVENTS, Moment, Recording, Truth, clip, content_box, still, text_boxes, write_clip, write_clips, write_pairs

SMALL = {"height": 120, "width": 140}
PLAIN = next(seed for seed in range(50) if not Screen(seed, 120, 140).label)  # a clip without text in the picture
LABELLED = next(seed for seed in range(50) if Screen(seed, 120, 140).label)
BLURRED = next(
    seed
    for seed in range(50)
    if not Screen(seed, 120, 140).label and any("motion_blur" in simulate.planned(seed, 8.0, t / 5) for t in range(40))
)


@pytest.fixture(scope="module")
def moments() -> list[Moment]:
    return [moment for seed in range(PLAIN, PLAIN + 2) for moment in clip(seed, fps=10, **SMALL)]


def of(moments: list[Moment], kind: str) -> list[np.ndarray]:
    """The middle of the picture in the frames where `kind` happens, without text."""
    y0, x0, y1, x1 = content_box(**SMALL)
    return [moment.image[y0 + 20 : y1 - 20, x0 + 35 : x1 - 20] for moment in moments if kind in moment.events]


def clear(moment: Moment) -> bool:
    return not {"out_of_body", "motion_blur", "bubbles", "glare", "dark"} & set(moment.events)


def decoded(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.mp4" for name in "abc"]
    truths = [write_clip(file, seed, 1.0, **SMALL) for file, seed in zip(files, (3, 3, 4), strict=True)]
    first, second, third = (hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert first == second != third
    assert truths[0] == truths[1] != truths[2]


def test_the_bytes_do_not_depend_on_what_was_in_memory_before(tmp_path: Path) -> None:
    hashes = set()
    for filling in ("1", "170"):
        code = f"from engine.simulate import write_clip; write_clip({str(tmp_path / filling) + '.mp4'!r}, 1, 0.4)"
        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "MALLOC_PERTURB_": filling})
        hashes.add(hashlib.sha256((tmp_path / f"{filling}.mp4").read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_the_decoded_video_has_the_asked_frames_and_size_and_looks_as_drawn(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", 1, seconds=2.0, fps=10, **SMALL)
    frames, drawn = decoded(tmp_path / "clip.mp4"), list(clip(1, 2.0, 10, **SMALL))
    assert [frame.shape for frame in frames] == [(120, 140, 3)] * 20
    errors = [np.abs(frame.astype(int) - moment.image).mean() for frame, moment in zip(frames, drawn, strict=True)]
    assert max(errors) < 12


def test_the_video_is_h264_with_a_keyframe_a_second(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", 1, seconds=3.0, fps=10, **SMALL)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 10)
        assert [float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.is_keyframe] == [0, 1, 2]


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".avi"])
def test_other_containers_repeat_their_bytes_too(tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{name}{suffix}" for name in "ab"]
    for file in files:
        write_clip(file, 1, 0.4, **SMALL)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert len(decoded(files[0])) == 10


@pytest.mark.parametrize("seed", range(3))
def test_polyps_change_the_pixels_of_their_mask_and_no_others(seed: int) -> None:
    with_, without = (Recording(seed, 8.0, 5, 240, 280, polyps=polyps).moments() for polyps in (True, False))
    shares = []
    for moment, bare in zip(with_, without, strict=True):
        if not clear(moment):
            continue
        differs = (moment.image != bare.image).any(2)
        assert not (differs & ~moment.mask).any()
        assert not bare.mask.any()
        shares += [differs[moment.mask].mean()] if moment.mask.sum() > 200 else []
    assert len(shares) >= 3
    assert np.mean(shares) > 0.97


def test_a_polyp_stands_where_the_pinhole_camera_projects_it() -> None:
    colon = Colon(5, 300, 300)
    polyp = colon.polyp(3)
    camera = Camera(polyp.depth - 1.5, (150.0, 150.0))
    without_lobes = 0.36 * 300 * (1 - 0.55 * polyp.size) / 1.5  # focal length x distance from the axis / depth
    expected = 150 + without_lobes * np.sin(polyp.angle), 150 + without_lobes * np.cos(polyp.angle)
    y, x, radius = colon.place(polyp, camera)
    assert (y, x) == pytest.approx(expected)
    assert radius == pytest.approx(0.36 * 300 * polyp.size / 1.5)
    assert colon.view(camera).mask[int(y), int(x)]


def test_the_bend_of_the_tunnel_moves_a_polyp_as_it_moves_the_wall() -> None:
    colon = Colon(5, 300, 300)
    polyp = colon.polyp(3)
    camera = Camera(polyp.depth - 1.5, (150.0, 150.0), bend=(25.0, -30.0))
    y, x, _ = colon.place(polyp, camera)
    pull = np.exp(-np.hypot(y - 150, x - 150) * 2 / 300)
    straight = colon.place(polyp, Camera(camera.position, camera.centre))
    assert (y - 25 * pull, x + 30 * pull) == pytest.approx(straight[:2], abs=0.01)


def test_a_fold_before_a_polyp_hides_it() -> None:
    colon, polyp = Colon(5, 200, 200), Colon(5, 200, 200).polyp(3)
    camera = Camera(polyp.depth - 1.5, (100.0, 100.0))
    image = np.zeros((200, 200, 3), np.float32)
    free = colon.paint(image, np.full((200, 200), 9, np.float32), polyp, camera)[1]
    hidden = colon.paint(image, np.full((200, 200), 0.4, np.float32), polyp, camera)[1]
    assert free.sum() > 100
    assert not hidden.any()


def test_the_boxes_are_tight_around_the_mask(moments: list[Moment]) -> None:
    seen = 0
    for moment in moments:
        union = np.zeros_like(moment.mask)
        for y0, x0, y1, x1 in moment.boxes:
            part = moment.mask[y0:y1, x0:x1]
            assert part[0].any()
            assert part[-1].any()
            assert part[:, 0].any()
            assert part[:, -1].any()
            union[y0:y1, x0:x1] = True
            seen += 1
        assert not (moment.mask & ~union).any()
        assert ("polyp" in moment.events) == bool(moment.boxes) == moment.mask.any()
    assert seen > 10


def test_a_clip_begins_in_a_room_that_is_not_red(moments: list[Moment]) -> None:
    assert "out_of_body" in moments[0].events
    for frame in of(moments, "out_of_body"):
        assert frame[..., 0].mean() < frame[..., 2].mean()
    assert not any(moment.mask.any() for moment in moments if "out_of_body" in moment.events)


def test_tissue_is_reddish(moments: list[Moment]) -> None:
    for moment in moments:
        if clear(moment):
            red, green, blue = of([moment], moment.events[0])[0].reshape(-1, 3).mean(0)
            assert red > 1.25 * max(green, blue)


def test_dark_frames_are_dark_and_glare_is_blown_out(moments: list[Moment]) -> None:
    dark, glare = of(moments, "dark"), of(moments, "glare")
    assert dark
    assert glare
    assert max(frame.mean() for frame in dark) / 255 < 0.08
    assert min((frame.min(2) > 245).mean() for frame in glare) > 0.2
    assert max((frame.min(2) > 245).mean() for moment in moments if clear(moment) for frame in of([moment], moment.events[0])) < 0.2


def test_motion_blur_takes_the_sharpness() -> None:
    sharp, blurred = [], []
    for moment in clip(BLURRED, fps=5):
        y0, x0, y1, x1 = content_box()
        picture = cv2.resize(cv2.cvtColor(moment.image[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY), (256, 256), interpolation=cv2.INTER_AREA)
        measured = cv2.Laplacian(picture[50:-50, 50:-50], cv2.CV_64F).var()
        if "motion_blur" in moment.events:
            blurred.append(measured)
        elif clear(moment):
            sharp.append(measured)
    assert blurred
    assert max(blurred) < 20 < min(sharp)


def test_nothing_moves_while_the_camera_is_still(moments: list[Moment]) -> None:
    still, moving = [], []
    for before, after in itertools.pairwise(moments):
        change = np.abs(before.image.astype(int) - after.image)[20:-20, 70:-20].mean()
        if "still" in before.events and "still" in after.events:
            still.append(change)
        elif clear(before) and clear(after):
            moving.append(change)
    assert len(still) > 10
    assert max(still) < 2.5 < np.median(moving)


def test_bubbles_add_to_the_picture() -> None:
    recording = Recording(PLAIN, 8.0, 5, 240, 280)
    picture = recording.colon.view(Camera(2.0, (100.0, 100.0))).image
    foamed = recording.weather.change(picture, ("bubbles",), 1.0)
    share = (np.abs(foamed.astype(int) - picture) > 8).any(2).mean()
    assert 0.01 < share < 0.5


@pytest.mark.parametrize("seed", range(4))
def test_every_cycle_has_a_stillness_and_three_other_events_one_at_a_time(seed: int) -> None:
    for cycle in range(3):
        plans = [simulate.planned(seed, 8.0, cycle * 8 + t / 25) for t in range(200)]
        kinds = [kind for kind, _ in itertools.groupby(plans) if kind and kind != ("out_of_body",)]
        assert len(kinds) == len(set(kinds)) == 4
        assert ("still",) in kinds
        assert all(len(kind) == 1 for kind in kinds)
        assert (("out_of_body",) in plans) == (cycle == 0)


def test_the_truth_holds_every_event_of_every_frame_and_no_other(tmp_path: Path) -> None:
    truth = write_clip(tmp_path / "clip.mp4", 6, seconds=4.0, fps=8, **SMALL)
    told = json.loads(json.dumps(truth))
    for number, moment in enumerate(clip(6, 4.0, 8, **SMALL)):
        now = number * 1000 // 8
        running = [event["kind"] for event in told["events"] if event["start_ms"] <= now < event["end_ms"]]
        assert sorted(running) == sorted(moment.events)
        assert [one["box"] for one in told["polyps"] if one["time_ms"] == now] == [list(box) for box in moment.boxes]
    assert (told["seed"], told["fps"]) == (6, 8)


@given(st.lists(st.sets(st.sampled_from(EVENTS), max_size=4), min_size=1, max_size=30), st.integers(1, 60))
def test_truth_is_the_runs_of_each_event(frames: list[set[str]], fps: int) -> None:
    blank = np.zeros((2, 2, 3), np.uint8)
    truth = Truth(0, fps)
    list(truth.follow(Moment(blank, blank[..., 0] > 0, tuple(sorted(events))) for events in frames))
    for kind in EVENTS:
        runs, at = [], 0
        for on, group in itertools.groupby(kind in events for events in frames):
            length = len(list(group))
            runs += [(at * 1000 // fps, (at + length) * 1000 // fps)] if on else []
            at += length
        assert [(event["start_ms"], event["end_ms"]) for event in truth.events if event["kind"] == kind] == runs


def test_a_longer_clip_begins_like_a_shorter_one() -> None:
    short, long = clip(2, 8.0, 5, **SMALL), clip(2, 10_000_000.0, 5, **SMALL)
    for one, other in zip(short, long, strict=False):
        assert np.array_equal(one.image, other.image)
        assert one.events == other.events


@pytest.mark.parametrize("seed", [PLAIN, LABELLED])
def test_all_text_lies_in_its_boxes_and_the_panel_is_black_elsewhere(seed: int) -> None:
    boxes = text_boxes(seed)
    drawn = np.array([moment.image.max(2) for moment in clip(seed, 30.0, 1)]).max(0)
    for y0, x0, y1, x1 in boxes:
        assert drawn[y0:y1, x0:x1].max() > 200
    wiped = drawn.copy()
    for y0, x0, y1, x1 in boxes:
        wiped[y0:y1, x0:x1] = 0
    assert wiped[:, : content_box()[1]].max() == 0
    assert sum(box[1] >= content_box()[1] for box in boxes) == (seed == LABELLED)


def test_the_clock_ticks_every_second() -> None:
    (*_, (y0, x0, y1, x1)) = text_boxes(PLAIN)
    clocks = [moment.image[y0:y1, x0:x1] for moment in clip(PLAIN, 2.0, 4)]
    changes = [not np.array_equal(before, after) for before, after in itertools.pairwise(clocks)]
    assert changes == [False, False, False, True, False, False, False]


def test_text_in_the_picture_is_no_polyp() -> None:
    screen = Screen(LABELLED, 240, 280)
    everywhere = np.ones(screen.area.shape, np.bool_)
    _, seen = screen.compose(np.zeros((*screen.area.shape, 3), np.uint8), everywhere, screen.written(0))
    y0, x0, y1, x1 = screen.boxes()[-1]
    assert not seen[y0:y1, x0:x1].all()
    assert seen[y0 - 10 : y0, x0:x1].all()


@given(st.integers(-50, 700), st.integers(-50, 700), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_size_that_cannot_be_encoded_is_refused_before_drawing(height: int, width: int, seed: int) -> None:
    if min(height, width) >= 64 and height % 2 == 0 and width % 2 == 0:
        assert Recording(seed, 1.0, 25, height, width).frames == 25
    else:
        with pytest.raises(ValueError, match=f"{height}x{width} px; expected even sides"):
            clip(seed, 1.0, 25, height, width)


@pytest.mark.parametrize(("seconds", "fps"), [(0, 25), (-1, 25), (1, 0), (0.001, 25)])
def test_a_length_of_no_frame_is_refused(seconds: float, fps: int) -> None:
    with pytest.raises(ValueError, match="make no frame"):
        clip(0, seconds, fps)


def test_the_smallest_picture_can_be_drawn() -> None:
    assert next(clip(0, 1.0, 25, 64, 64)).image.shape == (64, 64, 3)


def test_many_clips_leave_only_video_in_their_folder_and_masks_beside_the_truth(tmp_path: Path) -> None:
    paths = write_clips(tmp_path / "videos", tmp_path / "truth", 2, seed=7, seconds=2.0, size=(120, 140))
    assert sorted((tmp_path / "videos").iterdir()) == paths
    assert [path.name for path in paths] == ["clip-0000.mp4", "clip-0001.mp4"]
    for seed, path in enumerate(paths, 7):
        truth = json.loads((tmp_path / "truth" / f"{path.stem}.json").read_text())
        assert truth["seed"] == seed
        assert (tmp_path / "truth" / f"{path.stem}.npz").stat().st_size < 120 * 140 / 8 * len(truth["polyps"])  # compressed
        with np.load(tmp_path / "truth" / f"{path.stem}.npz") as masks:
            assert {int(name) for name in masks.files} == {one["time_ms"] for one in truth["polyps"]}
            for number, moment in enumerate(clip(seed, 2.0, 25, **SMALL)):
                found = masks[str(number * 40)] if str(number * 40) in masks.files else np.zeros((120, 140), np.bool_)
                assert np.array_equal(found, moment.mask)


def test_a_broken_off_encoding_leaves_no_file(tmp_path: Path) -> None:
    def breaks() -> itertools.chain[np.ndarray]:
        return itertools.chain((moment.image for moment in clip(0, 0.2, **SMALL)), (1 / 0 for _ in "x"))  # type: ignore[arg-type]

    with pytest.raises(ZeroDivisionError):
        encode(tmp_path / "clip.mp4", breaks(), 25)
    assert list(tmp_path.iterdir()) == []


def test_pairs_are_pictures_with_masks_of_black_and_white_and_every_tenth_is_empty(tmp_path: Path) -> None:
    write_pairs(tmp_path, 11, seed=1, side=96)
    assert [path.name for path in sorted((tmp_path / "images").iterdir())] == [f"{n:05}.jpg" for n in range(11)]
    for number in range(11):
        image = cv2.imread(str(tmp_path / "images" / f"{number:05}.jpg"))
        mask = cv2.imread(str(tmp_path / "masks" / f"{number:05}.png"), cv2.IMREAD_UNCHANGED)
        assert image.shape == (96, 96, 3)
        assert mask.shape == (96, 96)
        assert set(np.unique(mask)) <= {0, 255}
        assert (mask.mean() / 255 == 0) if number == 9 else (0.0075 < mask.mean() / 255 < 0.6)
        blue, _, red = image.reshape(-1, 3).mean(0)
        assert red > 1.25 * blue


def test_a_longer_series_of_pairs_begins_alike_and_another_seed_draws_others(tmp_path: Path) -> None:
    few, same, many, others = (
        written(tmp_path / name, count, seed) for name, count, seed in (("a", 3, 1), ("b", 3, 1), ("c", 6, 1), ("d", 3, 2))
    )
    assert few == same
    assert few == {name: many[name] for name in few}
    assert len(many) == 12
    assert all(few[name] != others[name] for name in few)


def written(folder: Path, count: int, seed: int) -> dict[str, bytes]:
    """The files of some small pairs."""
    write_pairs(folder, count, seed, side=64)
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in folder.rglob("*.*g")}


@pytest.fixture(scope="module")
def colons() -> list[Colon]:
    return [Colon(seed, 64, 64) for seed in range(40)]


@pytest.fixture(scope="module")
def stills(colons: list[Colon]) -> list[View]:
    """Five views of each colon with a polyp."""
    return [still(colon, number, True)[0] for colon in colons for number in range(5)]


def test_polyps_of_stills_are_as_large_as_those_of_kvasir_seg(stills: list[View]) -> None:
    shares = [polyp.mask.mean() for polyp in stills]
    quartiles = (0.059, 0.114, 0.210)  # of the mask's share in its 998 different images
    assert np.abs(np.quantile(shares, (0.25, 0.5, 0.75)) - quartiles).max() < 0.03
    assert min(shares) > 0.0075
    assert max(shares) < 0.6


def test_polyps_of_stills_are_as_bright_against_the_wall_as_those_of_kvasir_seg(stills: list[View]) -> None:
    inside, around = np.array([contrasted(polyp) for polyp in stills]).T
    assert np.median(np.log(inside / around)) == pytest.approx(0.23, abs=0.07)  # the median there


def contrasted(view: View) -> tuple[float, float]:
    """The brightness of a polyp and of the wall around it, without glare and the dark."""
    reach = np.ones((2 * (len(view.mask) // 17) + 1,) * 2, np.uint8)
    ring = (cv2.dilate(view.mask.astype(np.uint8), reach) > 0) & ~view.mask
    seen = (view.image.min(2) < 230) & (view.image.max(2) > 30)
    return float(view.image[view.mask & seen].mean()), float(view.image[ring & seen].mean())


def test_a_still_without_a_polyp_differs_in_the_pixels_of_the_mask_and_no_others(colons: list[Colon], stills: list[View]) -> None:
    changed = []
    for polyp, bare in zip(stills[::5], [still(colon, 0, False)[0] for colon in colons], strict=True):
        differs = (polyp.image != bare.image).any(2)
        assert not bare.mask.any()
        assert not (differs & ~polyp.mask).any()
        changed.append(differs[polyp.mask].mean())
    assert np.mean(changed) > 0.97
