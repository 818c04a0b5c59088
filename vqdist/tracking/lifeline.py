"""What ties the reporter to the training process: its messages, and an end soon after that process has gone."""

import json
import os
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

ORPHAN_LIMIT_S = 30.0


def read_messages(stream: TextIO, parent_pid: int) -> Iterator[dict[str, Any]]:
    """Yield messages until the stream ends or the training process is gone.

    The stream alone does not tell: forked loader workers hold its other end open.
    """
    lines: queue.Queue[str] = queue.Queue(maxsize=1000)

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=1.0)
        except queue.Empty:
            if os.getppid() != parent_pid:
                return
            continue
        if not line:
            return
        try:
            message = json.loads(line)
        except ValueError:
            # Cut off by a kill: the training process is gone.
            return
        yield message


def end_soon(limit_s: float) -> None:
    """End this process after a time, whatever W&B is doing then."""
    timer = threading.Timer(limit_s, os._exit, [1])
    timer.daemon = True
    timer.start()


def watch_training(parent_pid: int) -> None:
    """End this process soon after the training process, even while a call to W&B hangs."""

    def watch() -> None:
        while os.getppid() == parent_pid:
            time.sleep(1.0)
        end_soon(ORPHAN_LIMIT_S)

    threading.Thread(target=watch, daemon=True).start()
