"""How the four stages are served: the Ray Serve application."""

__version__ = "0.1.0"
