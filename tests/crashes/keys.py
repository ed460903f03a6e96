"""python -m tests.crashes.keys COUNT: an S3 server with a bucket of so many objects, made when they are asked for; it prints its port.

It answers two things: a page of a listing (ListObjectsV2, a thousand keys), and a GET of an object, whose bytes are no picture's.
"""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

PAGE = 1000
KEY = (
    "<Contents><Key>in/{0:08}.mp4</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;{0:032x}&quot;</ETag><Size>5</Size></Contents>"
)
LIST = (
    '<?xml version="1.0" encoding="UTF-8"?>'
    '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
    "<Prefix>in/</Prefix><KeyCount>{count}</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>{more}</IsTruncated>{token}{keys}</ListBucketResult>"
)


def listing(first: int, count: int, most: int) -> str:
    last = min(first + min(PAGE, most), count)
    token = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < count else ""
    keys = "".join(map(KEY.format, range(first, last)))
    return LIST.format(count=last - first, more=str(last < count).lower(), token=token, keys=keys)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        if "list-type" in asked:
            first, most = (int(asked.get(name, [usual])[0]) for name, usual in (("continuation-token", "0"), ("max-keys", "1000")))
            self.give(200, listing(first, self.count, most).encode())
        else:
            self.give(206 if "Range" in self.headers else 200, b"video")

    def do_HEAD(self) -> None:
        self.give(200 if self.path.endswith(".mp4") else 404, b"")

    def give(self, code: int, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


if __name__ == "__main__":
    Handler.count = int(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()
