"""What validation found wrong, in the shape of metav1.StatusCause and in the words of k8s.io/apimachinery's field errors."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import orjson

from machinery.meta.resource import Document

CAUSES_MAX: Final = 1000
"""How many complaints are kept; a hostile object has no end of them."""
_ESCAPES: Final = {
    '"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r", "\a": "\\a", "\b": "\\b",
    "\f": "\\f", "\v": "\\v",
}  # fmt: skip


def go_quote(text: str) -> str:
    """Go's %q."""
    out = []
    for letter in text:
        if letter in _ESCAPES:
            out.append(_ESCAPES[letter])
        elif letter.isprintable():
            out.append(letter)
        elif ord(letter) < 0x80:
            out.append(f"\\x{ord(letter):02x}")
        elif ord(letter) < 0x10000:
            out.append(f"\\u{ord(letter):04x}")
        else:
            out.append(f"\\U{ord(letter):08x}")
    return '"' + "".join(out) + '"'


def shown(value: Any) -> str:
    """A value as messages show it: text quoted, everything else as compact JSON."""
    if type(value) is str:
        return go_quote(value)
    return orjson.dumps(value).decode()


class Causes(list[Document]):
    """The complaints about one object, in the order in which they were found."""

    def _add(self, reason: str, field: str, message: str) -> None:
        if len(self) < CAUSES_MAX:
            self.append({"reason": reason, "message": message, "field": field})

    def required(self, field: str, detail: str = "") -> None:
        self._add("FieldValueRequired", field, _with("Required value", detail))

    def invalid(self, field: str, value: Any, detail: str) -> None:
        self._add("FieldValueInvalid", field, f"Invalid value: {shown(value)}: {detail}")

    def invalid_each(self, field: str, value: Any, complaints: Iterable[str]) -> None:
        """One complaint each."""
        for detail in complaints:
            self.invalid(field, value, detail)

    def duplicate(self, field: str, value: Any) -> None:
        self._add("FieldValueDuplicate", field, f"Duplicate value: {shown(value)}")

    def forbidden(self, field: str, detail: str) -> None:
        self._add("FieldValueForbidden", field, _with("Forbidden", detail))

    def not_found(self, field: str, value: Any, detail: str = "") -> None:
        self._add("FieldValueNotFound", field, _with(f"Not found: {shown(value)}", detail))

    def unsupported(self, field: str, value: Any, valid: Sequence[str]) -> None:
        text = ", ".join(go_quote(one) for one in valid)
        self._add(
            "FieldValueNotSupported",
            field,
            f"Unsupported value: {shown(value)}: supported values: {text}",
        )

    def one_of(self, field: str, value: Any, valid: Sequence[str]) -> None:
        """`value` must be one of `valid`."""
        if value not in valid:
            self.unsupported(field, value, valid)

    def too_long(self, field: str, limit: int) -> None:
        self._add("FieldValueTooLong", field, f"Too long: may not be more than {limit} bytes")

    def too_many(self, field: str, actual: int, limit: int) -> None:
        items = "item" if limit == 1 else "items"
        self._add(
            "FieldValueTooMany", field, f"Too many: {actual}: must have at most {limit} {items}"
        )

    def type_invalid(self, field: str, value: Any, detail: str) -> None:
        self._add("FieldValueTypeInvalid", field, f"Invalid value: {shown(value)}: {detail}")

    def not_negative(self, field: str, value: int | None) -> None:
        if value is not None and value < 0:
            self.invalid(field, value, "must be greater than or equal to 0")


def _with(head: str, detail: str) -> str:
    return f"{head}: {detail}" if detail else head
