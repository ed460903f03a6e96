"""What stands at which address: each answer is one call of what knows it. Ids are words of a query, since they may hold anything."""

import json
from collections.abc import Callable
from functools import wraps
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from engine.browser import asking, exports, overlay, plane, stories, thumbs, writes
from engine.browser.cells import plain
from engine.browser.footage import Footage
from engine.browser.imagined import Scorers
from engine.browser.looks import Looks, View
from engine.browser.questions import Questions
from engine.config import Config
from engine.explain import Runs
from engine.refusals import RefusedError
from engine.store import PatchStore, tags

Answer = Callable[..., Response]


def word(request: Request, name: str) -> str:
    """One word of the query; RefusedError where it is missing or too long."""
    value = request.query_params.get(name, "")
    if not 0 < len(value) <= asking.LONGEST:
        raise RefusedError(f"the address lacks {name}=, or it is longer than {asking.LONGEST} letters")
    return value


def whole(request: Request, name: str) -> int:
    """A word of the query as a whole number from 0; RefusedError where it is none, or has more than 12 digits."""
    value = word(request, name)
    if not (value.isascii() and value.isdecimal()) or len(value) > 12:
        raise RefusedError(f"{name}={value[:40]!r} is no whole number")
    return int(value)


class Answers:
    """All that the page may ask of one store; `runs` tells what MLflow has of the jobs, `write` whether anything may be changed."""

    def __init__(self, store: PatchStore, config: Config, runs: Callable[[], Runs], footage: Footage) -> None:
        self.store, self.runs, self.footage = store, runs, footage
        self.write, self.synthesis = config.browse.write, config.synthesis
        self.questions = Questions(store.uri)
        self.looks, self.scorers = Looks(store, self.questions), Scorers(store, config.difficulty, runs)

    def routes(self) -> list[Route]:
        """What the program listens to: GET for what is read, POST for what changes the store."""
        asked: dict[str, Answer] = {
            "overview": self.overview, "state": self.state, "view": self.view, "rows": self.rows, "histogram": self.histogram,
            "patch": self.patch, "picture": self.picture, "mask": self.mask, "frame": self.frame, "clip": self.clip,
            "rebuilt": self.rebuilt, "video": self.video, "difference": self.difference, "sql": self.sql, "map": self.map,
            "export": self.export,
        }  # fmt: skip
        changed: dict[str, Any] = {"tag": self.tag, "select": self.select}
        found = [Route(f"/api/{name}", answer) for name, answer in asked.items()]
        return found + [Route(f"/api/{name}", writing(self, work), methods=["POST"]) for name, work in changed.items()]

    # -- views --------------------------------------------------------------------------------------------------------------

    def overview(self, request: Request) -> Response:
        """The store as a whole, and whether it may be changed; as JSON."""
        return JSONResponse(stories.overview(self.looks) | {"write": self.write})

    def state(self, request: Request) -> Response:
        """How large the store is by now, and what is said in it of patches, for a page that has been open for long."""
        sheet = self.looks.sheet()
        return JSONResponse({"version": sheet.version, "patches": len(sheet), "beside": stories.beside(self.store)})

    def view(self, request: Request) -> Response:
        """Make a view of what the query asks for: its key, its rows, and of how many of which version; as JSON."""
        made = self.looks.view(asking.read(dict(request.query_params)))
        return JSONResponse({"view": made.key, "rows": len(made.rows), "of": made.among, "version": made.sheet.version})

    def rows(self, request: Request) -> Response:
        """`count` rows from `first` on of the view, with their thumbnails, as thumbs.part packs them."""
        held = self.held(request)
        return Response(thumbs.part(held, whole(request, "first"), whole(request, "count")), media_type="application/octet-stream")

    def held(self, request: Request) -> View:
        """The view that the query names; GoneError where it is not held any more."""
        return self.looks.kept(word(request, "view"))

    def histogram(self, request: Request) -> Response:
        """How the number named by `number` is spread, in all rows and in those asked for; as JSON."""
        params = dict(request.query_params)
        name = params.pop("number", "")
        return JSONResponse(plain(self.looks.histogram(asking.read(params), name)))

    def map(self, request: Request) -> Response:
        """A sample of the view on the two main directions of the embeddings; as JSON."""
        return JSONResponse(plane.drawn(self.held(request)))

    # -- single things ------------------------------------------------------------------------------------------------------

    def patch(self, request: Request) -> Response:
        """All that is told of the patch `id`; as JSON."""
        return JSONResponse(stories.patch(self.store, word(request, "id"), self.runs))

    def picture(self, request: Request) -> Response:
        """The pixels of the patch `id` as they are stored; a JPEG."""
        return Response(self.store.image(word(request, "id")), media_type="image/jpeg")

    def mask(self, request: Request) -> Response:
        """The mask of the patch `id`, to lay over its picture; a PNG with alpha."""
        return Response(overlay.overlay(self.store, word(request, "id")), media_type="image/png")

    def frame(self, request: Request) -> Response:
        """The frame `id` from its video, as the store would have kept it; a JPEG."""
        return Response(self.footage.frame(word(request, "id")), media_type="image/jpeg")

    def clip(self, request: Request) -> Response:
        """The seconds around the frame `id`, as the store would have kept them; an MP4."""
        return Response(self.footage.clip(word(request, "id")), media_type="video/mp4")

    def rebuilt(self, request: Request) -> Response:
        """What the scorer of the patch `id` is shown of it and rebuilds from that, side by side; a JPEG."""
        return Response(self.scorers.sheet(word(request, "id")), media_type="image/jpeg")

    def video(self, request: Request) -> Response:
        """All that is told of the video `id`; as JSON."""
        return JSONResponse(stories.video(self.store, word(request, "id"), self.runs))

    def difference(self, request: Request) -> Response:
        """What came and went from the selection or version `older` to `newer`; as JSON."""
        return JSONResponse(stories.difference(self.store, word(request, "older"), word(request, "newer")))

    def sql(self, request: Request) -> Response:
        """The first rows of what `q` asks, and whether there are more; as JSON."""
        return JSONResponse(self.questions.shown(word(request, "q"))._asdict())

    # -- taken along --------------------------------------------------------------------------------------------------------

    def export(self, request: Request) -> Response:
        """The view as a zip in the layout `layout` of exports.LAYOUTS, sent while it is made."""
        said: dict[str, list[str]] = {}
        for row in tags.tags(self.store).to_pylist():
            said.setdefault(row["patch_id"], []).append(row["tag"])
        layout = word(request, "layout")
        parts = exports.zipped(self.held(request), layout, said)
        headers = {"Content-Disposition": f'attachment; filename="endocurate-{layout}.zip"'}
        return StreamingResponse(parts, media_type="application/zip", headers=headers)

    def tag(self, body: dict[str, Any]) -> dict[str, Any]:
        """Give a tag to patches or take it from them, as writes.tagged has it."""
        return writes.tagged(self.store, body)

    def select(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make a selection of a view, as writes.chosen has it; GoneError where the view is not held any more."""
        return writes.chosen(self.store, self.looks.kept(str(body.get("view"))), self.synthesis)


def writing(answers: Answers, work: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """An answer that changes the store; PermissionError where that was not allowed. RefusedError for a body that is no JSON object."""
    from starlette.concurrency import run_in_threadpool

    @wraps(work)
    async def answer(request: Request) -> Response:
        if not answers.write:
            raise PermissionError("the store is open to be looked at only: start the job browse with --write to change it")
        try:
            body = await request.json()
            json.dumps(body, ensure_ascii=False).encode()  # half a letter, as in "\\ud800", is none that a table can hold
        except (ValueError, RecursionError):
            raise RefusedError("a JSON object in UTF-8 was expected, with few levels") from None
        if not isinstance(body, dict):
            raise RefusedError("a JSON object was expected")
        return JSONResponse(await run_in_threadpool(work, body))

    return answer
