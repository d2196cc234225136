"""A small HTTP server beside the working loop: /metrics for Prometheus, /healthz and /readyz for Kubernetes,
and, where rules are at work, POST /-/reload as Prometheus has it.

It runs in threads of its own, so it answers while a batch is being worked on, and says so when the loop stands still.
"""

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

import msgspec
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

CONNECTIONS_MAX = 16
REQUEST_S = 10.0  # a connection is cut after this, however slowly it speaks
RELOAD_S = 8.0  # a reload that takes longer is answered with 202 and goes on
_JSON = "application/json; charset=utf-8"


class Reloaded(Protocol):
    """What came of a reload, within the seconds that its caller waits."""

    @property
    def outcome(self) -> str: ...


class Health:
    """What the loop tells about itself. Live: it turned within `live_within_s`. Ready: nothing is waited for."""

    def __init__(
        self,
        *,
        waiting: dict[str, str] | None = None,
        live_within_s: float = 120.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._live_within_s = live_within_s
        self._clock = clock
        self._turned = clock()
        self._waiting = dict(waiting or {})
        self._lock = threading.Lock()
        self.reload: Callable[[float], Reloaded | None] | None = None  # where there is something to reload

    def turned(self) -> None:
        """The loop has come around once more."""
        self._turned = self._clock()

    def wait_for(self, part: str, reason: str) -> None:
        """Not ready until `ready(part)`."""
        with self._lock:
            self._waiting[part] = reason

    def ready(self, part: str) -> None:
        with self._lock:
            self._waiting.pop(part, None)

    def unready(self) -> dict[str, str]:
        """Why not ready: part -> reason."""
        with self._lock:
            return dict(self._waiting)

    def still_s(self) -> float:
        """Seconds since the loop last turned."""
        return self._clock() - self._turned

    @property
    def live(self) -> bool:
        return self.still_s() <= self._live_within_s


class HealthServer:
    """Serves until closed. `port` 0 takes a free one; raises OSError when the address cannot be bound."""

    def __init__(self, health: Health, registry: CollectorRegistry, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._server = _server(health, registry, host, port)
        self.host: str = host
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, name="health", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server(health: Health, registry: CollectorRegistry, host: str, port: int) -> ThreadingHTTPServer:
    slots = threading.BoundedSemaphore(CONNECTIONS_MAX)

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 2 * CONNECTIONS_MAX
        block_on_close = False
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def process_request(self, request: Any, client_address: Any) -> None:
            if slots.acquire(blocking=False):
                super().process_request(request, client_address)
            else:
                self.shutdown_request(request)

        def process_request_thread(self, request: Any, client_address: Any) -> None:
            cut = threading.Timer(REQUEST_S, _cut, (request,))
            cut.daemon = True
            cut.start()
            try:
                super().process_request_thread(request, client_address)
            finally:
                cut.cancel()
                slots.release()

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that went away is no news."""

    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_S
        disable_nagle_algorithm = True  # head and body are two writes
        server_version = "shield"
        sys_version = ""

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                encode, content_type = choose_encoder(self.headers.get("Accept", ""))
                self._answer(200, content_type, encode(registry))
            elif path == "/healthz":
                live = health.live
                body: dict[str, Any] = {"live": live, "still_s": round(health.still_s(), 1)}
                self._answer(200 if live else 503, _JSON, json.dumps(body).encode())
            elif path == "/readyz":
                reasons = health.unready()
                body = {"ready": not reasons, "reasons": reasons}
                self._answer(503 if reasons else 200, _JSON, json.dumps(body, ensure_ascii=False).encode())
            else:
                self._answer(404, _JSON, b'{"error":"there are /metrics, /healthz and /readyz"}')

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_POST(self) -> None:
            if self.path != "/-/reload":
                self._answer(501, _JSON, b'{"error":"the only thing to post is /-/reload"}')
                return
            if health.reload is None:
                self._answer(404, _JSON, b'{"error":"there is nothing to reload in this role"}')
                return
            found = health.reload(RELOAD_S)
            if found is None:
                self._answer(202, _JSON, b'{"outcome":"running"}')
            else:
                self._answer(200 if found.outcome == "loaded" else 500, _JSON, msgspec.json.encode(found))

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is the standard library's
            """Probes come every few seconds; they are not logged."""

    return Server((host, port), Handler)


def _cut(request: socket.socket) -> None:
    try:
        request.shutdown(socket.SHUT_RDWR)
    except OSError:
        return  # closed already
