"""A whole configuration for development: the gateway pointed at the simulator, every value explicit.

Used by the demo, the tests and the benchmark, so that all three run what the README describes.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from gateway.dev.host import free_port
from gateway.dev.simulator import Credentials, Simulator

LENDER: Final = "acme"
LENDER_THAT_ASKS: Final = "harbour"  # its calls ask who listens
LENDER_IN_CHINA: Final = "jinhe"  # its SMS go by Aliyun
ALIYUN_TEMPLATE: Final = "TTS_10001"
ALIYUN_SMS_TEMPLATE: Final = "SMS_154950909"


@dataclass(frozen=True, slots=True)
class Development:
    """A configuration file's content and the environment its secrets come from."""

    tree: dict[str, Any]
    environ: dict[str, str] = field(repr=False)

    def write(self, path: Path) -> Path:
        path.write_text(yaml.safe_dump(self.tree, sort_keys=False, allow_unicode=True))
        return path


def development(
    *,
    dsn: str,
    bootstrap: str,
    provider_url: str,
    token_url: str,
    credentials: Credentials,
    public_port: int,
    internal_port: int,
    overrides: Mapping[str, Any] | None = None,
) -> Development:
    """The tree and environment; `overrides` are merged into the tree, key by key."""
    callback_token = secrets.token_urlsafe(24)
    environ = {
        "GATEWAY_DATABASE_DSN": dsn,
        "GATEWAY_SEAL_KEY_1": base64.b64encode(secrets.token_bytes(32)).decode(),
        "GATEWAY_INDEX_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
        "GATEWAY_CALLBACK_TOKEN": callback_token,
        "GATEWAY_APP_TOKEN": credentials.app_events_token,
        "TWILIO_AUTH_TOKEN": credentials.twilio_auth_token,
        "FCM_PRIVATE_KEY": credentials.google_private_key,
        "ALIYUN_ACCESS_KEY_SECRET": credentials.aliyun_access_key_secret,
    }
    tree: dict[str, Any] = {
        "mode": "simulate",
        "database": {"dsn": "env:GATEWAY_DATABASE_DSN"},
        "kafka": {
            "bootstrap": bootstrap,
            # A young group is formed, and a dead member missed, after this long.
            "session_timeout_seconds": 6,
            "rebalance_timeout_seconds": 10,
        },
        "http": {
            "public_host": "127.0.0.1",
            "public_port": public_port,
            "internal_port": internal_port,
            "public_url": f"http://127.0.0.1:{public_port}",
            "app_tokens": ["env:GATEWAY_APP_TOKEN"],
        },
        "sealing": {"keys": {1: "env:GATEWAY_SEAL_KEY_1"}, "current": 1, "index_key": "env:GATEWAY_INDEX_KEY"},
        "lenders": {
            LENDER: {
                "name": "Acme Finance",
                "default_locale": "en",
                "routes": {"sms": "twilio", "push": "fcm", "voice": "aliyun"},
            },
            LENDER_THAT_ASKS: {
                "name": "Harbour Credit",
                "default_locale": "en",
                "routes": {"sms": "twilio", "push": "fcm", "voice": "twilio_voice"},
            },
            LENDER_IN_CHINA: {
                "name": "金禾金融",
                "default_locale": "zh-CN",
                "routes": {"sms": "aliyun_sms", "push": "fcm", "voice": "aliyun"},
            },
        },
        "providers": {
            "twilio": {
                "adapter": "twilio_sms",
                "settings": {
                    "base_url": provider_url,
                    "account_sid": credentials.twilio_account_sid,
                    "auth_tokens": ["env:TWILIO_AUTH_TOKEN"],
                    "sender": "+15005550006",
                },
                "callback_tokens": ["env:GATEWAY_CALLBACK_TOKEN"],
                **_speed(),
            },
            "fcm": {
                "adapter": "fcm",
                "settings": {
                    "base_url": provider_url,
                    "token_url": token_url,
                    "project_id": credentials.google_project_id,
                    "client_email": credentials.google_client_email,
                    "private_key_id": credentials.google_private_key_id,
                    "private_key": "env:FCM_PRIVATE_KEY",
                },
                **_speed(),
            },
            "twilio_voice": {
                "adapter": "twilio_voice",
                "settings": {
                    "base_url": provider_url,
                    "account_sid": credentials.twilio_account_sid,
                    "auth_tokens": ["env:TWILIO_AUTH_TOKEN"],
                    "sender": "+15005550006",
                },
                "callback_tokens": ["env:GATEWAY_CALLBACK_TOKEN"],
                **_speed(),
            },
            "aliyun": {
                "adapter": "aliyun_voice",
                "settings": {
                    "base_url": provider_url,
                    "access_key_id": credentials.aliyun_access_key_id,
                    "access_key_secret": "env:ALIYUN_ACCESS_KEY_SECRET",
                },
                "callback_tokens": ["env:GATEWAY_CALLBACK_TOKEN"],
                "templates": {
                    "repayment": {"*": {"*": {"code": ALIYUN_TEMPLATE, "params": {"name": "name", "ref": "reference"}}}}
                },
                **_speed(),
            },
            "aliyun_sms": {
                "adapter": "aliyun_sms",
                "settings": {
                    "base_url": provider_url,
                    "access_key_id": credentials.aliyun_access_key_id,
                    "access_key_secret": "env:ALIYUN_ACCESS_KEY_SECRET",
                },
                "callback_tokens": ["env:GATEWAY_CALLBACK_TOKEN"],
                "templates": {
                    "repayment": {
                        "*": {
                            "*": {
                                "code": ALIYUN_SMS_TEMPLATE,
                                "sign": "金禾金融",
                                "params": {
                                    "name": "name",
                                    "amount": "amount",
                                    "date": "due_date",
                                    "also": "also",
                                    "ref": "reference",
                                },
                            }
                        }
                    }
                },
                **_speed(),
            },
        },
        "dispatch": {"lease_seconds": 12, "heartbeat_seconds": 2, "poll_interval_seconds": 0.2},
        "shutdown": {"not_ready_seconds": 0.2, "drain_seconds": 8, "flush_seconds": 4, "leave_seconds": 2},
    }
    merge(tree, overrides or {})
    return Development(tree, environ)


def before(
    simulator: Simulator, *, dsn: str, bootstrap: str, overrides: Mapping[str, Any] | None = None
) -> Development:
    """The same on free ports, with all its providers played by this simulator, whose reports go there."""
    settings = development(
        dsn=dsn,
        bootstrap=bootstrap,
        provider_url=simulator.urls.base,
        token_url=simulator.urls.token,
        credentials=simulator.credentials,
        public_port=free_port(),
        internal_port=free_port(),
        overrides=overrides,
    )
    simulator.console(**console_urls(settings))
    return settings


def console_urls(settings: Development) -> dict[str, str]:
    """What the vendors' consoles would be told: where reports go, by the names of the simulator's console."""
    url, token = settings.tree["http"]["public_url"], settings.environ["GATEWAY_CALLBACK_TOKEN"]
    return {
        "aliyun_url": f"{url}/callbacks/aliyun/{token}",
        "aliyun_sms_url": f"{url}/callbacks/aliyun_sms/{token}",
        "app_events_url": f"{url}/events/push",
        "twilio_sms_url": f"{url}/callbacks/twilio/{token}",
    }


def _speed() -> dict[str, Any]:
    """Windows of seconds where production has days, so that what nobody confirms ends while we watch."""
    return {
        "concurrency": 256,
        "connect_timeout_seconds": 1,
        "read_timeout_seconds": 2,
        "total_timeout_seconds": 4,
        "receipt_window_hours": 20 / 3600,
    }


def merge(tree: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        if isinstance(value, Mapping) and isinstance(tree.get(key), dict):
            merge(tree[key], value)
        else:
            tree[key] = value
