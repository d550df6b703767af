"""Asyncio services over the store and the agents, without Ray: each has one duty."""
