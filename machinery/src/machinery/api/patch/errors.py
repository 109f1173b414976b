"""What a patch that cannot be applied answers, in upstream's wording."""

from machinery.meta.errors import BadRequest, InternalError, Invalid, TooLarge

JSON_PATCH_OPERATIONS_MAX = 10_000
"""Operations of one JSON patch; the decoder may be fooled into much work by many copies."""
JSON_PATCH_COPY_BYTES_MAX = 3 * 1024 * 1024
"""Bytes that the `copy` operations of one JSON patch may add, as serialised JSON."""


def rejected() -> Invalid:
    """The patch does not fit the object: upstream hides why."""
    return Invalid("the server rejected our request due to an error in our request", details={})


def broken(message: str) -> InternalError:
    """A strategic merge patch that makes no sense: upstream lets the error through as a bare 500."""
    return InternalError(message, reason="")


def malformed(message: str) -> BadRequest:
    """The patch is not of its own format."""
    return BadRequest(message)


def too_many_operations(count: int) -> TooLarge:
    return TooLarge(
        "Request entity too large: The allowed maximum operations in a JSON patch is "
        f"{JSON_PATCH_OPERATIONS_MAX}, got {count}"
    )


def unfit_result(value: str, why: str) -> Invalid:
    """The patched object is not of its kind's types: `value` is the patch (strategic, as Go prints it) or the result."""
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    message = f"Invalid value: {quoted}: {why}"
    cause = {"reason": "FieldValueInvalid", "message": message, "field": "patch"}
    return Invalid(f' "" is invalid: patch: {message}', details={"causes": [cause]})
