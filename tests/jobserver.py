"""A job server as Ray's, with one job, that says what a test wants, and where it wants nothing: it takes every connection."""

import asyncio
import threading
from collections import Counter

from aiohttp import web

HANGS = "hangs"
CUTS = "cuts"


class JobServer:
    """`says` has what is answered at a place, by its name: a status code, data, HANGS, or CUTS: no answer, and no connection any more.

    Like Ray's it never reads from a log's socket.

    `logs` are what is told to each who listens, in their order, the last to all others: letters, seconds of silence, or HANGS.
    """

    def __init__(self, logs=(), **says):
        self.says = {"version": {"version": "4", "ray_version": "2.60.0"}, "nodes": nodes(), "begin": {"job_id": "", "submission_id": "x"}}
        self.says |= says
        self.logs, self.asked = list(logs), Counter()

    def __enter__(self):
        self.loop, up = asyncio.new_event_loop(), threading.Event()
        self.thread = threading.Thread(target=self.serve, args=[up], daemon=True)
        self.thread.start()
        up.wait()
        return self

    def __exit__(self, *_):
        self.loop.call_soon_threadsafe(self.over.set)
        self.thread.join()

    def serve(self, up):
        self.loop.run_until_complete(self.answer_until_over(up))
        self.loop.close()

    async def answer_until_over(self, up):
        self.over = asyncio.Event()
        places = {"/api/version": "version", "/api/v0/nodes": "nodes", "/api/jobs/{id}": "job"}
        routes = [web.get(path, self.answering(name)) for path, name in places.items()]
        app = web.Application()
        app.add_routes([*routes, web.post("/api/jobs/", self.answering("begin")), web.get("/api/jobs/{id}/logs/tail", self.tail)])
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
        up.set()
        await self.over.wait()
        await runner.cleanup()

    def answering(self, name):
        async def answer(request):
            said = self.says[name]
            self.asked[name] += 1
            said = said.pop(0) if isinstance(said, list) and len(said) > 1 else said[0] if isinstance(said, list) else said
            if said == HANGS:
                await self.over.wait()
            if said == CUTS:
                request.transport.abort()
            return web.Response(status=said) if isinstance(said, int) else web.json_response(said)

        return answer

    async def tail(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.asked["tail"] += 1
        for part in self.logs.pop(0) if len(self.logs) > 1 else self.logs[0]:
            if isinstance(part, float):
                await asyncio.sleep(part)
            elif part == HANGS:
                await self.over.wait()
            else:
                await socket.send_str(part)
        return socket


def nodes(**resources):
    return {"data": {"result": {"result": [{"resources_total": resources or {"CPU": 64.0, "GPU": 8.0}}]}}}


def job(status, code=None):
    """What the server tells of its job."""
    return {"type": "SUBMISSION", "status": status, "entrypoint": "", "driver_exit_code": code}
