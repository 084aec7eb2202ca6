"""Adapters for sms: one module, one provider, ending in ADAPTER."""
