"""Configuration: one YAML file, overridden by environment variables; secrets by reference; all problems at once."""

from gateway.config.advice import advice
from gateway.config.allowlist import Allowlist
from gateway.config.brakes import DEFAULT, Brakes
from gateway.config.checks import LEASE_MARGIN_SECONDS
from gateway.config.connections import Database, Http, Kafka
from gateway.config.describe import describe, reach
from gateway.config.keys import Sealing
from gateway.config.loading import Rotated, load, rotate
from gateway.config.model import Config, Dispatch, Intake, Lender, Role, Shutdown
from gateway.config.outbound import Outbound
from gateway.config.problems import ConfigError, Problem, ProblemReason
from gateway.config.provider import OnUnknown, Provider, TemplateCode
from gateway.config.source import Source
from gateway.config.tracing import Tracing

__all__ = [
    "DEFAULT",
    "LEASE_MARGIN_SECONDS",
    "Allowlist",
    "Brakes",
    "Config",
    "ConfigError",
    "Database",
    "Dispatch",
    "Http",
    "Intake",
    "Kafka",
    "Lender",
    "OnUnknown",
    "Outbound",
    "Problem",
    "ProblemReason",
    "Provider",
    "Role",
    "Rotated",
    "Sealing",
    "Shutdown",
    "Source",
    "TemplateCode",
    "Tracing",
    "advice",
    "describe",
    "load",
    "reach",
    "rotate",
]
