"""The public listener: what providers and the lender's app may call."""
