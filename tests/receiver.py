"""A real HTTP receiver for webhook tests: answers what a function says and remembers what came."""

import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec


class Request(msgspec.Struct, frozen=True):
    path: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    status: int

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


Answer = tuple[int, dict[str, str]]


class Receiver:
    """`answer` gets each request (its status still 0) and says status and headers; None hangs up without an answer."""

    def __init__(self, answer: Callable[[Request], Answer | None], tls: ssl.SSLContext | None) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10
            disable_nagle_algorithm = True  # head and body are two writes

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                answered = receiver.answer(Request(self.path, headers, body, 0))
                receiver.requests.append(Request(self.path, headers, body, answered[0] if answered else 0))
                if answered is None:
                    self.close_connection = True
                    return
                self.send_response(answered[0])
                for name, value in ({"Content-Length": "2"} | answered[1]).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(b"ok")

            def do_GET(self) -> None:
                receiver.requests.append(Request(self.path, {}, b"", 200))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the standard library's
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self.server.server_address[1]
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/hook"

    @property
    def taken(self) -> list[Request]:
        """What was answered with success."""
        return [request for request in self.requests if 200 <= request.status < 300]


@contextmanager
def receiving(
    answer: Callable[[Request], Answer | None] = lambda _: (200, {}), tls: ssl.SSLContext | None = None
) -> Iterator[Receiver]:
    receiver = Receiver(answer, tls)
    thread = threading.Thread(target=receiver.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()
