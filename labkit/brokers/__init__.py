"""Brokers for the labs: an embedded Valkey, a server found on the PATH or in a container, or somebody's by its URL."""

import os

from labkit.brokers.base import Broker, InfrastructureError, Login
from labkit.brokers.by_url import BrokerByUrl
from labkit.brokers.containers import ContainerBroker
from labkit.brokers.embedded import EmbeddedValkey
from labkit.brokers.on_path import ServerOnPath
from labkit.brokers.server import free_port

__all__ = [
    "Broker",
    "BrokerByUrl",
    "ContainerBroker",
    "EmbeddedValkey",
    "InfrastructureError",
    "Login",
    "ServerOnPath",
    "choose",
    "choose_rabbitmq",
    "free_port",
]


def choose(name: str, appendonly: str = "always") -> Broker:
    """Return the broker of this name: "embedded", "path", "docker" (Valkey), "docker-redis", or a URL.

    A URL begins with redis://, rediss:// or valkey://. ValueError, with a line for the user, for anything else.
    It is not started yet.
    """
    if name == "embedded":
        return EmbeddedValkey(appendonly=appendonly)
    if name == "path":
        return ServerOnPath(appendonly=appendonly)
    if name in ("docker", "docker-redis"):
        return ContainerBroker("redis" if name == "docker-redis" else "valkey", appendonly=appendonly)
    if name.startswith(("redis://", "rediss://", "valkey://")):
        return BrokerByUrl(name)
    raise ValueError(
        f"no broker {name!r}: say embedded, docker, docker-redis, path, or a redis://, rediss:// or valkey:// URL"
    )


def choose_rabbitmq(name: str, *, install: bool = True) -> Broker:
    """Return the RabbitMQ of this name: "embedded", "path", "docker", or an amqp:// or amqps:// URL. Not started yet.

    "embedded" is the one that AMQP_URL names, unless that is the one of `./lab broker up`, which the checks would
    have to leave alone. Without AMQP_URL it is a node of our own, like "path"; and where no RabbitMQ is on this
    machine, one in a container, if it has containers. What is not here is installed when it is started, if it may be:
    see rabbitmq_install.py; with install=False it never is.
    ValueError, with a line for the user, for any other name.
    """
    from labkit.brokers.amqp_by_url import AmqpByUrl  # here: the other labs have no need of all this
    from labkit.brokers.rabbitmq import RabbitMQ
    from labkit.brokers.rabbitmq_container import RabbitMQContainer
    from labkit.brokers.rabbitmq_program import find_program
    from labkit.standing_rabbitmq import is_its_url

    given = os.environ.get("AMQP_URL", "")
    if name == "embedded" and given and not is_its_url(given):
        name = given
    if name == "docker" or (
        name == "embedded" and find_program() is None and RabbitMQContainer.can_be_made()
    ):
        return RabbitMQContainer()
    if name in ("embedded", "path"):
        return RabbitMQ(install=install)
    if name.startswith(("amqp://", "amqps://")):
        return AmqpByUrl(name)
    raise ValueError(f"no RabbitMQ {name!r}: say embedded, docker, path, or an amqp:// or amqps:// URL")
