"""Receipts: authenticated, stored, answered, then applied."""
