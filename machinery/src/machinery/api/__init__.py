"""The kinds of the API: views, schemas, defaults, validation, columns, wire tables. Pure."""
