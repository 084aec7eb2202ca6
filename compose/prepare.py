"""Makes every secret of compose.yaml, once: `python prepare.py DIRECTORY`.

They are random, good for simulated providers only, and readable by every container that mounts the directory: each
runs as another user.  What exists is left as it is, so that the ledger can still be opened after the next `up`.
"""

import base64
import json
import secrets
import sys
from pathlib import Path

from gateway.dev.simulator import Credentials

SIMULATOR = "http://127.0.0.1:8025"
GATEWAY = "http://127.0.0.1:8080"
# What is no secret is fixed: it stands in gateway.yaml, too.
PUBLIC = {
    "twilio_account_sid": "AC00000000000000000000000000000000",
    "aliyun_access_key_id": "LTAI00000000000000000000",
    "google_project_id": "reminders-compose",
    "google_client_email": "gateway@reminders-compose.iam.gserviceaccount.com",
    "google_private_key_id": "0123456789abcdef0123456789abcdef01234567",
}


def made() -> dict[str, str]:
    """By the name of its file."""
    credentials = Credentials.generate().model_copy(update=PUBLIC)
    callback_token = secrets.token_urlsafe(24)
    postgres_password = secrets.token_urlsafe(24)
    return {
        "postgres-password": postgres_password,
        "grafana-password": secrets.token_urlsafe(12),
        "dsn": f"postgresql://gateway:{postgres_password}@postgres:5432/reminders",
        "sealing-key-1": base64.b64encode(secrets.token_bytes(32)).decode(),
        "index-key": base64.b64encode(secrets.token_bytes(32)).decode(),
        "callback-tokens": callback_token,
        "app-tokens": credentials.app_events_token,
        "twilio-auth-tokens": credentials.twilio_auth_token,
        "aliyun-access-key-secret": credentials.aliyun_access_key_secret,
        "fcm-private-key": credentials.google_private_key,
        "simulator-credentials.json": credentials.model_dump_json(),
        "simulator.yaml": json.dumps(simulator(callback_token)),
    }


def simulator(callback_token: str) -> dict[str, object]:
    """JSON is YAML.  The receipts' URLs are what one would type into the vendors' consoles."""
    callbacks = f"{GATEWAY}/callbacks"
    return {
        "receipts": {
            "aliyun_url": f"{callbacks}/aliyun/{callback_token}",
            "aliyun_sms_url": f"{callbacks}/aliyun_sms/{callback_token}",
            "twilio_sms_url": f"{callbacks}/twilio/{callback_token}",
            "app_events_url": f"{GATEWAY}/events/push",
        }
    }


def main(directory: Path) -> None:
    """Writes the last file last: where it is, all are."""
    if (directory / "simulator.yaml").exists():
        return
    for name, content in made().items():
        path = directory / name
        path.write_text(content)
        path.chmod(0o444)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
