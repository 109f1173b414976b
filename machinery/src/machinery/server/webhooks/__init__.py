"""Users' webhooks: where they listen, the one client that asks them, and what is said when they do not answer."""
