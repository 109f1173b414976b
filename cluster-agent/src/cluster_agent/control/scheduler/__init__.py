"""Which pod is tried next, and what follows from an answer. Pure; `control.binder` does the effects."""
