"""The files and the environment of a RabbitMQ node that has nothing to do with any other on this machine.

It needs no epmd and listens for no other node: that is one process less to end, two ports less to guard, and half
a second less to wait. (Erlang's options -start_epmd, -erl_epmd_port and -dist_listen:
https://www.erlang.org/doc/apps/erts/erl_cmd.html.) The price is that rabbitmqctl cannot reach it; the management
API can.
"""

import os
import pathlib

from labkit.brokers.rabbitmq_program import link_needed_plugins
from labkit.brokers.server import HOST

# Read by the node and by every Erlang that it starts itself.
ALONE = "-start_epmd false -erl_epmd_port 1 -dist_listen false -kernel inet_dist_use_interface {127,0,0,1}"

ONLY_LOCALHOST = '{lookup, [file]}.\n{host, {127,0,0,1}, ["localhost"]}.\n'  # nobody waits for a name server
STATISTICS_EVERY_MS = 500


class NodeFiles:
    """One node's folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "rabbitmq.log"
        self.output = folder / "output.log"  # what comes before the log is open
        self._settings = folder / "advanced.config"
        self._plugins = folder / "enabled_plugins"
        self._names = folder / "inetrc"

    def write(
        self,
        port: int,
        management_port: int,
        administrator: tuple[str, str] | None,
        *,
        statistics: bool = False,
    ) -> None:
        """Write the settings, for one start.

        administrator: name and password of the user to make, for a node without data; once made, RabbitMQ itself
        knows him, by a hash.
        statistics: for the charts of the management pages.
        """
        self.data.mkdir(parents=True, exist_ok=True)
        self._plugins.write_text("[rabbitmq_management].\n")
        self._names.write_text(ONLY_LOCALHOST)
        first = ""
        if administrator is not None:
            user, password = administrator
            first = f'{{default_user, <<"{user}">>}}, {{default_pass, <<"{password}">>}},'
        self._settings.unlink(missing_ok=True)
        self._settings.touch(mode=0o600)
        self._settings.write_text(f"""\
%% Written anew at each start.
[{{rabbit, [
  {first}
  {{tcp_listeners, [{{"{HOST}", {port}}}]}},
  {{vm_memory_high_watermark, 0.8}}, %% by default a small or a full machine
  {{disk_free_limit, 1000000}},      %% holds up who publishes
  {{collect_statistics_interval, {STATISTICS_EVERY_MS}}}]}},
 {{rabbitmq_management, [{{tcp_config, [{{ip, "{HOST}"}}, {{port, {management_port}}}]}}]}},
 {{rabbitmq_management_agent, [{{disable_metrics_collector, {str(not statistics).lower()}}}]}}].
""")

    def environment(self, program: str, node: str) -> dict[str, str]:
        """Return all that the node sees of the world. Nothing of the system's own RabbitMQ is among it.

        node: its name, which its data are kept under.
        """
        sought = link_needed_plugins(program, self.folder / "plugins")
        words = [f"-sname {node}"]
        if sought and not any(" " in str(each) for each in sought):  # the words are split at spaces
            words += ["-pa", *map(str, reversed(sought))]  # each is put in front of those before it
        kept = {name: os.environ[name] for name in ("PATH", "TMPDIR", "TZ") if name in os.environ}
        return {
            **kept,
            **({"RABBITMQ_PLUGINS_DIR": str(self.folder / "plugins")} if sought else {}),
            "HOME": str(self.folder),  # for the cookie
            "LANG": "C.UTF-8",
            "ERL_AFLAGS": ALONE,
            "ERL_INETRC": str(self._names),
            "ERL_CRASH_DUMP_SECONDS": "0",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": node,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": " ".join(words),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(self._settings),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "no.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._plugins),
            "RABBITMQ_MNESIA_BASE": str(self.data),
            "RABBITMQ_LOG_BASE": str(self.folder),
            "RABBITMQ_LOGS": str(self.log),
            "RABBITMQ_PID_FILE": str(self.folder / "node.pid"),
            "RABBITMQ_ALLOW_INPUT": "1",  # the script becomes the node: its process is the node's
        }

    def command(self, program: str) -> list[str]:
        return [program, "-noinput"]

    def mark(self) -> tuple[int, int]:
        """Where what is said from now on will begin, in the two logs."""
        return tuple(file.stat().st_size if file.exists() else 0 for file in (self.output, self.log))
