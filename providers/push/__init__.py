"""Adapters for push: one module, one provider, ending in ADAPTER."""
