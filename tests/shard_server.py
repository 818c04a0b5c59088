"""An HTTP server on the loopback interface that serves a folder, with configurable network faults."""

import threading
import time
from collections import Counter, defaultdict, deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self


class ShardServer:
    """Serves a folder inside a `with` block.

    Attributes:
        faults: path -> faults of the next requests for it, in order: `drop` (the connection ends halfway), `short` (a
            complete response with half the content), `long`, `flip` (one bit), `reset` (no response), `hang` (half a
            response, then nothing), a status such as `503`, or `redirect URL`.
        always: path -> fault of every request for it.
        requests: number of requests per path.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: dict[str, deque[str]] = defaultdict(deque)
        self.always: dict[str, str] = {}
        self.requests: Counter[str] = Counter()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/data"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.partition("?")[0].removeprefix("/data/")
        self.requests[name] += 1
        path = self.folder / name
        fault = self.faults[name].popleft() if self.faults[name] else self.always.get(name, "")
        if fault == "reset":
            request.close_connection = True
            return
        if fault.isdecimal() or not path.is_file():
            request.send_error(int(fault) if fault.isdecimal() else 404)
            return
        if fault.startswith("redirect"):
            request.send_response(302)
            request.send_header("Location", fault.split()[1])
            request.end_headers()
            return
        data = path.read_bytes()
        if fault == "short":
            data = data[: len(data) // 2]
        elif fault == "long":
            data += bytes(1000)
        elif fault == "flip":
            data = data[:-2] + bytes([data[-2] ^ 1]) + data[-1:]
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        if fault in ("drop", "hang"):
            request.wfile.write(data[: len(data) // 2])
            if fault == "hang":
                request.wfile.flush()
                self._over.wait(60)
            request.close_connection = True
            return
        request.wfile.write(data)


def wait_for(condition: object, timeout_s: float = 30.0) -> None:
    """Wait until a function returns something true."""
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)
