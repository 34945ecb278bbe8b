"""The base class of the messages between the coordinator and its agents."""


class Message:
    """Base class of all messages."""
