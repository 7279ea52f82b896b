"""RabbitMQ is no Python package: where it is missing, the system's package manager installs it, if it may."""

from labkit.brokers.rabbitmq_program import find_program
from labkit.installing import Package, install


def install_rabbitmq(*, may_install: bool) -> str:
    """Install RabbitMQ where it is missing and return the path of its program. A line on stderr says what is done.

    InfrastructureError, with what the user may do, where that cannot be or may not be done.
    """
    return install(RABBITMQ, may_install=may_install)


RABBITMQ = Package(
    "RabbitMQ",
    apt="rabbitmq-server",
    brew="rabbitmq",
    find=find_program,
    elsewhere="https://www.rabbitmq.com/docs/download",
    or_else="or set AMQP_URL to one that runs",
)
