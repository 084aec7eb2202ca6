"""The demo: the whole journey of fifty-one records on one machine, and an account of them that has to add up."""

from gateway.dev.demo.show import run

__all__ = ["run"]
