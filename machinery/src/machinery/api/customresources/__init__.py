"""Custom resources: what a CustomResourceDefinition means, as pure functions of it and of its objects.

kinds       a definition as the kinds that are served
naming      which names it is given, and the conditions that tell
definition  whether a definition may be stored
structural  whether its schema is one by which objects can be pruned, filled and merged
pruning     what a schema knows of an object, and what it fills in
values      whether an object fits its schema
rules       whether it obeys the schema's CEL rules
conversion  objects between the stored and the served version
"""
