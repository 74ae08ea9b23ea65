"""A real OpenAI-compatible server: llama.cpp on loopback."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def llama_cpp_server(gguf_file: Path, name: str) -> Iterator[str]:
    """A llama.cpp server on loopback that knows the file as model `name`; yields its base URL, `/v1` included."""
    import xllamacpp

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf_file)
    parameters.model_alias = {name}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = port
    parameters.n_parallel = 2
    parameters.n_ctx = 1024
    parameters.warmup = False
    parameters.cpuparams.n_threads = 2
    server = xllamacpp.Server(parameters)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        del server
