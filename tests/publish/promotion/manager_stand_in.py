"""A small real endpoint manager: ``python manager_stand_in.py HOME PORT MODEL VERSION BENTO``.

It listens on PORT and hands every request on to a server of its own for each Bento, which answers
with the Bento's name. A Bento with a file ``broken`` cannot be started, one with ``hangs`` never
gets ready, one with ``stuck`` gets ready and then cannot be switched to.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import urllib.request
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from components.core.settings import Settings
from components.publish.bento_folders import bentos_folder
from components.publish.promotion.endpoint_swap import (
    EndpointStatus,
    EndpointSwap,
    ServedModel,
    SwapRequest,
)


class Answering(BaseHTTPRequestHandler):
    """Answers with the text its server holds, or with what the server behind it says."""

    def do_GET(self) -> None:
        text = self.server.answer()  # type: ignore[attr-defined]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def listen(port: int, answer: object) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", port), Answering)
    server.answer = answer  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class StandInManager:
    """One proxy, and a server for each Bento that is prepared or served."""

    def __init__(self, home: Path, port: int, served: ServedModel) -> None:
        self.folder = bentos_folder(Settings(home=home, reference_data=home))
        self.swap = EndpointSwap(Settings(home=home, reference_data=home))
        self.behind: dict[str, ThreadingHTTPServer] = {}
        me = psutil.Process(os.getpid())
        self.start(served)
        self.status = EndpointStatus(me.pid, me.create_time(), serving=served)
        self.proxy = listen(port, self.forward)
        self.swap.report_status(self.status)

    def forward(self) -> bytes:
        assert self.status.serving is not None
        port = self.behind[self.status.serving.bento].server_port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as reply:
            return bytes(reply.read())

    def start(self, served: ServedModel) -> None:
        if (self.folder / served.bento / "broken").exists():
            raise OSError("it is broken")
        while (self.folder / served.bento / "hangs").exists():
            time.sleep(0.05)
        if served.bento not in self.behind:
            self.behind[served.bento] = listen(0, served.bento.encode)

    def do(self, wanted: SwapRequest) -> EndpointStatus:
        served, now = wanted.served, self.status
        if wanted.phase == "drop":
            if now.prepared == served and now.serving != served:
                self.behind.pop(served.bento).shutdown()
            return replace(now, prepared=None)
        self.start(served)
        if wanted.phase == "prepare":
            return replace(now, prepared=served)
        if (self.folder / served.bento / "stuck").exists():
            raise OSError("it is stuck")
        return replace(now, serving=served, prepared=None)

    def follow(self) -> None:
        wanted = self.swap.read_request()
        if wanted is None or wanted.token == self.status.token:
            return
        try:
            self.status = replace(self.do(wanted), error=None)
        except OSError as error:
            self.status = replace(self.status, error=str(error))
        self.status = replace(self.status, token=wanted.token)
        self.swap.report_status(self.status)


if __name__ == "__main__":
    home, port, model, version, bento = sys.argv[1:]
    manager = StandInManager(Path(home), int(port), ServedModel(model, version, bento))
    while True:
        manager.follow()
        time.sleep(0.02)
