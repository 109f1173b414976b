"""The federation's controllers, one module each: docstring, plan(), reconciler, setup()."""
