"""A store to look into, and the browser's server in this process, for the tests of the page."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from urllib.parse import urlencode

import cv2
import numpy as np
import pyarrow as pa
import uvicorn

from engine import outlines, pictures, schema, synthesis, videos
from engine.browser.answers import Answers
from engine.browser.footage import Footage
from engine.browser.server import program
from engine.config import Config, FramesConfig, SelectionConfig, SynthesisConfig
from engine.frames import DecodeFrames
from engine.selection import Selection
from engine.store import PatchStore, WriteRows
from tests import rows

A, B = "a1" + "0" * 30, "b2" + "0" * 30
KEPT = {"content": [0, 0, 96, 128], "sharpness": 50.0, "brightness": 0.5, "glare": 0.01, "tissue": 0.9, "change": 0.3}


def scored(video_id, frames, patches):
    """Rows of a video as an ingest leaves them: the gate's numbers are there, and pictures larger than a thumbnail."""
    table = rows.scored(video_id, frames, patches).to_pylist()
    for number, row in enumerate(table):
        if row["frame_id"]:
            row |= KEPT | ({"brightness": 0.05, "detail": "Brightness 0.050 is below frames.min_brightness=0.08."} if row["reason"] else {})
        if row["patch_id"]:
            picture = np.full((96, 128, 3), (120 + number % 100, 60, 50), np.uint8)
            picture[20:60, 30 : 30 + number % 90 + 1] = 220
            jpeg = pictures.encode(picture, 90)
            row |= {"pixels": jpeg, "bytes": len(jpeg), "height": 96, "width": 128, "mask": mask(row["box"]) if number % 2 else None}
    return pa.Table.from_pylist(table, rows.wide())


def with_whole_frames(folder):
    """A store with a video of 24 patches, the last one of each frame being all of it, as patches.whole_frames keeps it."""
    store, table = PatchStore(str(folder / "whole")), scored(A, 6, 4).to_pylist()
    for row in table:
        row["proposer"] = schema.FRAME_PROPOSER if row["box"] and row["box"][0] == 3 else row["proposer"]
    store.create(rows.WIDTH)
    store.commit(pa.concat_tables(WriteRows(store.uri)(pa.Table.from_pylist(table, rows.wide()))), rows.videos(A), rows.STAMP)
    return store


def mask(box):
    """An ellipse that fills the box, packed."""
    (y0, x0, y1, x1), drawn = box, np.zeros((box[2] - box[0], box[3] - box[1]), np.uint8)
    cv2.ellipse(drawn, ((x1 - x0) // 2, (y1 - y0) // 2), ((x1 - x0) // 2, (y1 - y0) // 2), 0, 0, 360, 1, -1)
    return outlines.packed(drawn.astype(bool))


def take_in(store, video_id, frames=6, patches=4):
    written = pa.concat_tables(WriteRows(store.uri)(scored(video_id, frames, patches)))
    store.commit(written, rows.videos(video_id), rows.STAMP)


def refuse(store, folder):
    """Take in an empty file and one that is no video, as an ingest does; their ids."""
    files = [folder / "empty.mp4", folder / "letter.mp4"]
    for file, content in zip(files, (b"", b"no video"), strict=True):
        file.write_bytes(content)
    sources = [{"video_id": videos.content_hash(str(file)), "uri": str(file), "size": 1, "modified": "1"} for file in files]
    table = pa.Table.from_pylist(sources, schema.VIDEO)
    decoded = pa.concat_tables(DecodeFrames(FramesConfig(), lambda image, part: [])(table)).to_pylist()
    whole = [dict.fromkeys(schema.SCORED.names) | {name: row[name] for name in schema.SCORED.names if name in row} for row in decoded]
    store.commit(pa.concat_tables(WriteRows(store.uri)(pa.Table.from_pylist(whole, rows.wide()))), table, rows.STAMP)
    return table["video_id"].to_pylist()


def choose(store, name, ids):
    selection = Selection(name, ids, np.ones(len(ids), np.int32), 0.5).rows(SelectionConfig(), store.complete_version())
    store.save(selection, [synthesis.synthesise(store.patches(synthesis.READ.names), ids, name, 0, SynthesisConfig())])


def filled(folder):
    """A store with two videos of 24 and 16 patches, a dark frame in each, and two selections that share four."""
    store = PatchStore(str(folder / "store"))
    store.create(rows.WIDTH)
    take_in(store, A)
    take_in(store, B, 4)
    ids = store.sample(12, 1)["patch_id"].to_pylist()
    choose(store, "random-111", ids[:8])
    choose(store, "optidel-222", ids[4:])
    return store


@contextmanager
def serving(store, token="", write=False, config=None, runs=None, host=""):
    """The address at which a store is served."""
    config = config or Config()
    config = config.model_copy(update={"browse": config.browse.model_copy(update={"write": write})})
    answers = Answers(store, config, runs or dict, Footage(store, lambda video_id: config.frames))
    with listening(program(answers, token, host)) as base:
        yield base


@contextmanager
def listening(served):
    """The address at which a program answers."""
    held = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(served, log_level="critical", access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [held]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{held.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        held.close()


def get(base, path, headers=None, **words):
    """Status, headers and body of an answer, refusals too; redirections are not followed."""
    return sent(urllib.request.Request(f"{base}{path}" + (f"?{urlencode(words)}" if words else ""), headers=headers or {}))


def post(base, path, body, headers=None):
    kind = {"Content-Type": "application/json"} | (headers or {})
    return sent(urllib.request.Request(f"{base}{path}", json.dumps(body).encode(), kind))


class Straight(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def sent(request):
    try:
        with urllib.request.build_opener(Straight).open(request, timeout=60) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def told(base, path, **words):
    """The JSON of an answer that must be one."""
    status, _, body = get(base, path, **words)
    assert status == 200, body
    return json.loads(body)


def parts(content):
    """The rows and pictures of what /api/rows gives."""
    length = int.from_bytes(content[:4], "little")
    head, place, jpegs = json.loads(content[4 : 4 + length]), 4 + length, []
    for size in head["sizes"]:
        jpegs.append(content[place : place + size])
        place += size
    assert place == len(content)
    return head["rows"], jpegs
