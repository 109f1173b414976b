"""The shared floor of both programs: API machinery, store, client, controllers and API server."""

__version__ = "0.1.0"
