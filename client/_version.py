"""The version of the client, which is the project's."""

__version__ = "0.2.0"
