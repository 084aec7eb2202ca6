"""May this contact be made now?  Pure: values in, a verdict out."""

from gateway.policy.decide import Cancel, Defer, Expire, Facts, Hold, Send, Skip, Suppress, Verdict, decide

__all__ = ["Cancel", "Defer", "Expire", "Facts", "Hold", "Send", "Skip", "Suppress", "Verdict", "decide"]
