"""Moves bring their trace."""

from gateway.ledger.schema import run_script

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    run_script("0006_moves.sql")
