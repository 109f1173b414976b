"""The row printers of admissionregistration.k8s.io."""

import datetime as dt
from typing import Any, Final

from machinery.api.table.cells import AGE, NAME, Printer, TableColumn, age_of, name_of
from machinery.api.webhook_kinds import MUTATING, VALIDATING
from machinery.meta.resource import Document

_ABOUT: Final = "Webhooks indicates the number of webhooks registered in this configuration"


def _webhooks(document: Document, now: dt.datetime) -> list[Any]:
    return [name_of(document), len(document.get("webhooks") or ()), age_of(document, now)]


_WEBHOOKS: Final = Printer((NAME, TableColumn("Webhooks", _ABOUT, type="integer"), AGE), _webhooks)
PRINTERS: Final = {kind.group_kind: _WEBHOOKS for kind in (MUTATING, VALIDATING)}
