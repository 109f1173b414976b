"""Controllers: keys in, plans made, actions applied by one executor; a manager that starts and stops them."""
