"""Kubernetes' own functions of expressions, beyond CEL's standard and the extensions that the library brings."""

from typing import Final

from machinery.api.expressions.functions import (
    addresses,
    authorizing,
    collections,
    pairs,
    quantities,
    texts,
    urls,
    variables,
    versions,
)
from machinery.api.expressions.functions.shape import Function

FUNCTIONS: Final[tuple[Function, ...]] = (
    *collections.FUNCTIONS, *quantities.FUNCTIONS, *addresses.FUNCTIONS, *urls.FUNCTIONS, *versions.FUNCTIONS,
    *texts.FUNCTIONS, *authorizing.FUNCTIONS, *pairs.FUNCTIONS, *variables.FUNCTIONS,
)  # fmt: skip
