"""The image without an engine: the Dockerfile's own steps, replayed in a directory."""
