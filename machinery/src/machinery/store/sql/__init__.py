"""The store on SQL: SQLite with one writer thread, PostgreSQL for several replicas."""
