"""llama.cpp's server: ``python`` this GGUF STREAMS CONTEXT.

Listens on a free loopback port, which it prints as ``{"port": …}`` when it is ready, and ends with
its standard input. One thread computes; the server's own threads for HTTP come beside it.
"""

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

import xllamacpp


def server_settings(model: Path, streams: int, context: int) -> xllamacpp.CommonParams:
    """Settings of a server of one thread.

    Args:
        model: GGUF file.
        streams: answers at a time.
        context: tokens of each.
    """
    settings = xllamacpp.CommonParams()
    settings.model.path = str(model)
    settings.model_alias = ["bench"]
    settings.n_parallel = streams
    settings.n_ctx = streams * context
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.hostnames = ["127.0.0.1"]
    settings.port = 0
    settings.n_gpu_layers = 0
    settings.fit_params = False
    settings.ui = False
    return settings


def main() -> None:
    model, streams, context = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    server = xllamacpp.Server(server_settings(model, streams, context))
    port = urlsplit(server.listening_address).port
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
