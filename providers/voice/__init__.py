"""Adapters for voice: one module, one provider, ending in ADAPTER."""
