"""Custom resources: what a CustomResourceDefinition means, as pure functions of it and of its objects.

kinds       a definition as the kinds that are served
naming      which names it is given, and the conditions that tell
pruning     what a schema knows of an object, and what it fills in
conversion  objects between the stored and the served version

Whether a definition may be stored, and whether an object fits its schema and obeys its rules, is validation's
(`definitions`, `definition_schemas`, `schema_values`, `rules`).
"""
