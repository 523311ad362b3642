"""Small server with the command line and the API of ``vllm serve``, as far as it is used.

Its folder holds ``behaviour.json``: ``{"start": "works" | "fails" | "never", "lives": N}``; it
dies at the N-th request. What a request asks for is in its prompt.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def read_command_line() -> argparse.Namespace:
    """As strict as vLLM's own: an unknown option ends it."""
    parser = argparse.ArgumentParser("vllm")
    serve = parser.add_subparsers(required=True).add_parser("serve")
    serve.add_argument("folder", type=Path)
    for name in ("host", "served-model-name", "load-format"):
        serve.add_argument(f"--{name}", required=True)
    for name in ("port", "max-model-len", "max-num-seqs"):
        serve.add_argument(f"--{name}", type=int, required=True)
    serve.add_argument("--disable-uvicorn-access-log", action="store_true")
    return parser.parse_args()


OPTIONS = read_command_line()
BEHAVIOUR = json.loads((OPTIONS.folder / "behaviour.json").read_text())
KEY = os.environ["VLLM_API_KEY"]
ANSWERED = 0


class Handler(BaseHTTPRequestHandler):
    """Answers in the words and shapes of vLLM."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """``/health`` alone."""
        self._answer(200 if self.path == "/health" else 404, b"")

    def do_POST(self) -> None:
        """Completions, which take their words from the prompt."""
        global ANSWERED
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != f"Bearer {KEY}":
            self._answer(401, b'{"error": "Unauthorized"}')
            return
        ANSWERED += 1
        if BEHAVIOUR.get("lives") == ANSWERED:
            sys.stderr.write(f"INFO 01-31 12:00:00 [x.py:1] key {KEY}\n")
            sys.stderr.write(
                "(EngineCore_0 pid=7) ERROR 01-31 12:00:01 [core.py:9] RuntimeError: CUDA error\n"
            )
            sys.stderr.flush()
            os._exit(9)
        prompt = body.get("prompt") or body["messages"][-1]["content"]
        if prompt == "too long":
            error = {
                "message": "This model's maximum context length is 64 tokens.",
                "type": "BadRequestError", "param": None, "code": 400,
            }  # fmt: skip
            self._answer(400, json.dumps({"error": error}).encode())
        elif prompt == "fail":
            self._answer(500, b'{"error": {"message": "/secret/path", "code": 500}}')
        elif body.get("stream"):
            self._stream(body, prompt)
        else:
            seen = {"path": self.path, "body": body, "headers": dict(self.headers)}
            self._answer(200, json.dumps(seen).encode())

    def _stream(self, body: dict[str, Any], prompt: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        count = 1_000_000 if prompt == "endless" else 3
        try:
            for index in range(count):
                event = f"data: {json.dumps({'index': index, 'model': body['model']})}\n\n"
                if prompt == "break" and index == 1:
                    self._chunk(event[:9].encode())
                    os._exit(7)
                self._chunk(event.encode())
                time.sleep(0.01 if prompt == "endless" else 0)
                while prompt == "slow" and not (OPTIONS.folder / "finish").exists():
                    time.sleep(0.02)
            self._chunk(b"data: [DONE]\n\n")
            self._chunk(b"")
        except OSError:
            (OPTIONS.folder / "aborted").write_text("yes")

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Upstream", "vllm")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


if BEHAVIOUR["start"] == "fails":
    prefix = "(EngineCore_0 pid=7) ERROR 01-31 12:00:00 [core.py:700] "
    sys.stderr.write(f"{prefix}Traceback (most recent call last):\n")
    sys.stderr.write(f'{prefix}  File "core.py", line 1, in run\n')
    sys.stderr.write(f"{prefix}ValueError: Free memory on device (1/80 GiB) is too little.\n")
    sys.stderr.write("RuntimeError: Engine core initialization failed. See root cause above.\n")
    sys.exit(1)
if BEHAVIOUR["start"] == "never":
    time.sleep(600)
(OPTIONS.folder / "command.json").write_text(json.dumps(sys.argv[1:]))
(OPTIONS.folder / "environment.json").write_text(json.dumps(dict(os.environ)))
ThreadingHTTPServer((OPTIONS.host, OPTIONS.port), Handler).serve_forever()
