"""Borrowers of a lender that exists nowhere: who pay, forget, object, move and opt out, by a seed and virtual time.

Pure: facts come out at virtual moments, messages go in, and what follows from both is the same for the same seed.
"""

from gateway.dev.borrowers.people import Character, Person, people
from gateway.dev.borrowers.phones import script
from gateway.dev.borrowers.world import Letter, Message, Tell, World

__all__ = ["Character", "Letter", "Message", "Person", "Tell", "World", "people", "script"]
