"""Tools for a developer's machine: the embedded stack, the simulator and the demo. Production never imports them."""
