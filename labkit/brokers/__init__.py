"""Brokers for the labs: an embedded Valkey, a server found on the PATH, or somebody's server by its URL."""

from labkit.brokers.base import Broker, InfrastructureError, Login
from labkit.brokers.by_url import BrokerByUrl
from labkit.brokers.embedded import EmbeddedValkey
from labkit.brokers.on_path import ServerOnPath
from labkit.brokers.server import free_port

__all__ = [
    "Broker",
    "BrokerByUrl",
    "EmbeddedValkey",
    "InfrastructureError",
    "Login",
    "ServerOnPath",
    "choose",
    "free_port",
]


def choose(name: str, appendonly: str = "always") -> Broker:
    """Return the broker of this name: "embedded", "path", or a redis://, rediss:// or valkey:// URL.

    ValueError, with a line for the user, for anything else. It is not started yet.
    """
    if name == "embedded":
        return EmbeddedValkey(appendonly=appendonly)
    if name == "path":
        return ServerOnPath(appendonly=appendonly)
    if name.startswith(("redis://", "rediss://", "valkey://")):
        return BrokerByUrl(name)
    raise ValueError(f"no broker {name!r}: say embedded, path, or a redis://, rediss:// or valkey:// URL")
