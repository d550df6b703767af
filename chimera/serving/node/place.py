"""What every node has of its own: a directory that is locked, the cluster's token in a file, a reaper."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import NamedTuple

from chimera.errors import ConfigurationError, Conflict
from chimera.serving.local import reaper, remains
from chimera.serving.local.process import ProcessId
from chimera.serving.local.state import StateDir, write_private
from chimera.settings import Settings


class Place(NamedTuple):
    """A node's own.

    Attributes:
        state: its directory.
        spared: what is not swept with the node's processes: the reaper.
    """

    state: StateDir
    spared: frozenset[ProcessId]

    def sweep(self) -> int:
        """End what Ray left of this node; how many processes there were."""
        return remains.sweep(self.state, spare=self.spared)


def token(settings: Settings) -> str:
    """What nodes let each other in by.

    Raises:
        ConfigurationError: there is none, and without it whoever reaches Ray's ports could run code.
    """
    if settings.node_token is None:
        raise ConfigurationError(
            "the nodes of a cluster need a token to let each other in by, or whoever reaches Ray's ports "
            "could run code there: set CHIMERA_NODE_TOKEN (or CHIMERA_NODE_TOKEN_FILE), the same on all, for "
            "example to what `openssl rand -hex 32` prints"
        )
    return settings.node_token.get_secret_value()


def take(settings: Settings, held: ExitStack) -> Place:
    """Take the directory of CHIMERA_STATE_DIR; call it before any thread or event loop exists.

    Args:
        held: keeps it until it is closed.
    Raises:
        ConfigurationError: the directory cannot be used, or there is no token.
        Conflict: another node, or a local fleet, has it.
    """
    letting_in, state = token(settings), StateDir(settings.state_dir)
    if held.enter_context(state.locked()) is None:
        raise Conflict(
            f"{state.path} is another node's, or a local fleet's: give each its own CHIMERA_STATE_DIR"
        )
    os.environ[remains.MARKER] = state.id
    remains.sweep(state)
    state.forget()
    state.make_directories()
    state.progress.unlink(missing_ok=True)  # that of this container's life before
    write_private(state.ray_token, letting_in)
    spare = reaper.fork(state)
    return Place(state, frozenset({spare} if spare else ()))
