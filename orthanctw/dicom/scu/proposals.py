"""What an association is asked for."""

from __future__ import annotations

import attrs


@attrs.frozen
class Proposal:
    """A presentation context to propose; `is_scp` when we provide the service on it (PS3.7 annex D.3.3.4)."""

    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]
    is_scp: bool = False
