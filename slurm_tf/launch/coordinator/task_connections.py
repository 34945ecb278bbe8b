"""Holds the connection of each registered task's agent, by the task's name."""

from typing import Dict, List, Set

from slurm_tf.launch.transport import connections, messages
from slurm_tf.launch.transport.connections import Connection
from slurm_tf.launch.transport.message import Message


class TaskConnections:
    """The agents that take part, and how to send to them."""

    def __init__(self, server: connections.Server) -> None:
        self._server = server
        self._by_name: Dict[str, Connection] = {}

    def add(self, name: str, connection: Connection) -> None:
        """Record that `connection` is that of task `name`."""
        connection.name = name
        self._by_name[name] = connection

    def remove(self, connection: Connection) -> bool:
        """Forget a connection; return whether it was that of a task."""
        if not self.is_task(connection):
            return False
        del self._by_name[connection.name]
        return True

    def rename(self, names: Dict[str, str]) -> None:
        """Give the tasks other names, new ones by the old ones."""
        by_name = self._by_name
        self._by_name = {}
        for old, new in names.items():
            self.add(new, by_name[old])

    def is_task(self, connection: Connection) -> bool:
        """Whether `connection` is that of a task: not of an agent that has not registered, or of a former step."""
        return self._by_name.get(connection.name) is connection

    @property
    def names(self) -> List[str]:
        """The tasks whose agents are connected."""
        return list(self._by_name)

    @property
    def hosts(self) -> Set[str]:
        """The addresses that the connections come from."""
        return {connection.host for connection in self._by_name.values()}

    def send(self, name: str, message: Message) -> None:
        """Send a message to the agent of task `name`, or nothing if that is gone."""
        self.send_encoded(name, messages.encode(message))

    def send_encoded(self, name: str, body: bytes) -> None:
        """Send what `messages.encode` made: once for a message that goes to many."""
        if name in self._by_name:
            self._server.send_encoded(self._by_name[name], body)

    def dismiss(self) -> None:
        """Have every agent exit once its program has ended, and forget them all."""
        for name in self.names:
            self.send(name, messages.Leave())
        self._by_name = {}
