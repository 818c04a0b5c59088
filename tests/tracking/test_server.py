"""Whether W&B is within reach is found out in bounded time, and said."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vqdist.tracking import server
from vqdist.tracking.server import decide_mode, has_key, probe_server, propose_sync


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


def test_any_answer_will_do(answering: str) -> None:
    assert probe_server(answering, 5.0) == ""


def test_a_server_that_hangs_is_given_up(hanging: str) -> None:
    before = time.perf_counter()
    assert probe_server(hanging, 0.3)
    assert time.perf_counter() - before < 2.0


def test_no_server_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert "refused" in probe_server(url, 5.0)


def test_a_key_is_found_where_wandb_looks(tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine wandb.example login user password secret\n")
    assert has_key("https://wandb.example", {"NETRC": str(netrc)})
    assert not has_key("https://other.example", {"NETRC": str(netrc)})
    assert has_key("https://other.example", {"WANDB_API_KEY": "secret", "NETRC": str(netrc)})
    assert not has_key("https://wandb.example", {"NETRC": str(tmp_path / "none")})


@pytest.mark.parametrize("asked", ["auto", "online"])
def test_offline_without_a_key_is_said(asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    said: list[str] = []
    assert decide_mode(asked, "runs/demo", said.append) == "offline"
    assert len(said) == 1
    assert "no API key" in said[0]
    assert "`wandb login`" in said[0]
    assert "wandb_sync.sh runs/demo" in said[0]


def test_a_command_is_named_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(server.SYNC_SCRIPT.parents[1])
    assert propose_sync("runs/my run") == "bash launch/wandb_sync.sh 'runs/my run'"
    monkeypatch.chdir(tmp_path)
    assert propose_sync("runs/demo") == f"bash {server.SYNC_SCRIPT} runs/demo"
    monkeypatch.setattr(server, "SYNC_SCRIPT", tmp_path / "wandb_sync.sh")
    assert propose_sync("runs/demo") == "wandb sync --include-online runs/demo/wandb/*run-*"


def test_online_with_key_and_server(answering: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setenv("WANDB_BASE_URL", answering)
    assert decide_mode("auto", "runs/demo", pytest.fail) == "online"


def test_offline_when_the_server_hangs(hanging: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    monkeypatch.setenv("WANDB_BASE_URL", hanging)
    monkeypatch.setattr(server, "ANSWER_LIMIT_S", 0.3)
    said: list[str] = []
    assert decide_mode("auto", "runs/demo", said.append) == "offline"
    assert "does not answer" in said[0]


def test_offline_as_asked_says_nothing() -> None:
    assert decide_mode("offline", "runs/demo", pytest.fail) == "offline"
