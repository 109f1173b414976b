"""ResourceQuotas: what objects count for, which quota counts them, and whether there is room for one more. Pure.

`amounts` adds resources up, `usage` says what an object uses, `scopes` which objects a quota looks at, `check` judges a
write against the quotas of its namespace in upstream's words.
"""
