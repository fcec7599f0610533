"""What an association is asked for."""

from __future__ import annotations

import attrs


@attrs.frozen
class Proposal:
    """A presentation context to propose."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
