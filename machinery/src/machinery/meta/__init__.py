"""What every object has: metadata, owners, conditions, selectors, quantities, and the errors of the API."""
