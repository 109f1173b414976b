"""The store on SQL: SQLite with one writer thread, PostgreSQL for several replicas."""

from machinery.store.sql.opening import open_store

__all__ = ["open_store"]
