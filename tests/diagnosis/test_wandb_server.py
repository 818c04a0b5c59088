"""Whether W&B can be reached is found in bounded time."""

import http.server
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from vqdist.diagnosis import wandb_server
from vqdist.diagnosis.wandb_server import find_obstacle, has_key, probe_server


class NotFound(http.server.BaseHTTPRequestHandler):
    """Answers every request with 404, as any living server may."""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), NotFound) as httpd:
        threading.Thread(target=httpd.serve_forever, args=[0.05], daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


@pytest.fixture
def hanging() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_any_status_is_an_answer(answering: str) -> None:
    assert probe_server(answering, 60.0) == ""


def test_a_server_that_hangs_is_given_up(hanging: str) -> None:
    assert "timed out" in probe_server(hanging, 0.3)


def test_a_server_that_speaks_no_http_is_no_server() -> None:
    def answer(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.recv(1000)
            connection.sendall(b"220 mail ready\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=[listener])
        thread.start()
        assert "220 mail ready" in probe_server(f"http://127.0.0.1:{listener.getsockname()[1]}", 60.0)
        thread.join()


def test_a_refused_connection_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert "refused" in probe_server(url, 60.0)


def test_a_key_is_found_where_wandb_looks(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine wandb.example login user password secret\n")
    assert has_key("https://wandb.example", {"NETRC": str(netrc)})
    assert not has_key("https://other.example", {"NETRC": str(netrc)})
    assert has_key("https://other.example", {"WANDB_API_KEY": "secret", "NETRC": str(netrc)})
    assert not has_key("https://wandb.example", {"NETRC": str(tmp_path / "none")})
    netrc.write_text("machine api.wandb.ai login user password secret\n")
    assert has_key("https://api.forge.coreweave.com", {"NETRC": str(netrc)})
    assert not has_key("https://wandb.example", {"NETRC": str(netrc)})


def test_the_obstacle_is_named(answering: str, hanging: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", answering)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert f"no API key for {answering}" in str(find_obstacle())
    assert "`wandb login`" in str(find_obstacle())
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert find_obstacle() is None
    monkeypatch.setenv("WANDB_BASE_URL", hanging)
    monkeypatch.setattr(wandb_server, "ANSWER_LIMIT_S", 0.3)
    assert f"no answer from {hanging}" in str(find_obstacle())
