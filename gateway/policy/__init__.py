"""May this contact be made now?  Pure: values in, a verdict out."""

from gateway.policy.decide import Defer, Expire, Facts, Hold, Send, Suppress, Verdict, decide

__all__ = ["Defer", "Expire", "Facts", "Hold", "Send", "Suppress", "Verdict", "decide"]
