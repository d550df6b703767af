"""Agents: the protocol, the registry, the built-in ones.

Importing this package stays light: an agent's module needs `agent`, `Context` and nothing that
talks to a model, to Redis or to Ray.
"""

from chimera.agents.context import Context
from chimera.agents.registry import AgentInfo, Registry, agent

__all__ = ["AgentInfo", "Context", "Registry", "agent"]
