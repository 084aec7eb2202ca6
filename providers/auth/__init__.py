"""Signing and verifying, one module per vendor."""
