"""The only package that speaks HTTP to providers.

Its one question: may the provider have the request?  So the moment of the first byte is not guessed from an exception's
class but known: before it everything that goes wrong is NotSent, after it MaybeSent, until a whole answer is read.
Answers are parsed by llhttp (httptools); what is written here is the connections, their pool, the way through a proxy
and the two outcomes.

One request at a time on a connection, which is used again only after a whole answer that allows it.  Nothing is ever
sent twice, redirected, decompressed or remembered.
"""

from gateway.dispatch.transport.outcomes import Answer, MaybeSent, NotSent, Timeouts, Wire
from gateway.dispatch.transport.pool import Transport
from gateway.dispatch.transport.tunnel import Proxy

__all__ = ["Answer", "MaybeSent", "NotSent", "Proxy", "Timeouts", "Transport", "Wire"]
