"""`chimera model`: the embedded model."""

from __future__ import annotations

from typing import Annotated

import typer

from chimera.cli import output
from chimera.cli.exits import Exit

app = output.group("model", "The embedded model: serve.")


@app.callback()
def model() -> None:
    """The embedded model: SmolLM2-135M-Instruct behind an OpenAI-compatible endpoint.

    \b
    Example:
      chimera model serve --port 8081
    """


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="TCP port; 0 chooses a free one.", min=0)] = 0,
    host: Annotated[
        str, typer.Option(help="Where it listens; beyond loopback callers need a key.")
    ] = "127.0.0.1",
) -> None:
    """Serve the embedded model in the foreground, until Ctrl-C.

    It prints one JSON line with its URL when it can answer. Who calls must show the key in
    CHIMERA_MODEL_API_KEY, if there is one.

    \b
    Examples:
      chimera model serve --port 8081
      CHIMERA_MODEL_API_KEY=… chimera model serve --host 0.0.0.0 --port 8081
    """
    from chimera.agents.models import embedded

    output.leave(Exit(embedded.main(["--host", host, "--port", str(port)])))
