"""The gateway, killed at its worst moments, and a judge that shares no code with it."""
