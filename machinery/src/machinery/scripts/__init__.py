"""Users' scripts that say what a kind means: Lua as Karmada publishes it, in a sandbox with bounds."""
