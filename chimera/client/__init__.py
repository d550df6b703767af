"""The Python client: without Ray, Redis or a model."""

from chimera.client.client import Client as Client
from chimera.client.problems import error_of as error_of
