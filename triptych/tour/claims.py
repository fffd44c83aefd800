"""The table of the sixteen claims."""

from __future__ import annotations

from triptych.tour import claims_edits, claims_flows, claims_games, claims_table, claims_use, claims_vae
from triptych.tour.claim import Claim

CLAIMS: tuple[Claim, ...] = tuple(
    sorted(
        (
            *claims_vae.CLAIMS,
            *claims_edits.CLAIMS,
            *claims_games.CLAIMS,
            *claims_flows.CLAIMS,
            *claims_use.CLAIMS,
            *claims_table.CLAIMS,
        ),
        key=lambda claim: claim.number,
    )
)
"""In the report's order."""
