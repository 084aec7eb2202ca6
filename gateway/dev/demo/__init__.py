"""The demo: the whole journey of some forty records on one machine, and an account of them that adds up."""

from gateway.dev.demo.show import run

__all__ = ["run"]
