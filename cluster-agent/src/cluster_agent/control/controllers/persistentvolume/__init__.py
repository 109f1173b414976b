"""Claims and volumes brought together, and local folders made into volumes."""
