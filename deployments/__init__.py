"""How the four stages are served: the Ray Serve application."""

__version__ = "0.2.0"
