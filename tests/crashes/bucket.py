"""python -m tests.crashes.bucket LIE: an S3 server on this machine; it prints its port.

LIE is a part of a key: the first PUT of such a key is done and then answered with an error, as a server does that is being replaced.
"""

import sys
from wsgiref.types import StartResponse, WSGIEnvironment

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server


class Lying:
    """A server that does what it is asked and, once, says that it could not."""

    def __init__(self, server: DomainDispatcherApplication, lie: str) -> None:
        self.server, self.lie = server, lie

    def __call__(self, environ: WSGIEnvironment, answer: StartResponse):
        lies = bool(self.lie) and environ["REQUEST_METHOD"] == "PUT" and self.lie in environ["PATH_INFO"]
        if not lies:
            return self.server(environ, answer)
        self.lie = ""
        list(self.server(environ, lambda *_: None))
        answer("503 Slow Down", [("Content-Length", "0")])
        return []


if __name__ == "__main__":
    application = Lying(DomainDispatcherApplication(create_backend_app), sys.argv[1] if len(sys.argv) > 1 else "")
    server = make_server("127.0.0.1", 0, application, threaded=True)
    print(server.server_port, flush=True)
    server.serve_forever()
