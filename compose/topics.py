"""Makes the three topics of compose.yaml where they are missing: `python topics.py BOOTSTRAP`."""

import asyncio
import sys

from gateway.dev.topics import create_topics
from schemas.messages import DEADLETTERS_TOPIC, EVENTS_TOPIC, REQUESTS_TOPIC

if __name__ == "__main__":
    asyncio.run(create_topics(sys.argv[1], {REQUESTS_TOPIC: 6, EVENTS_TOPIC: 6, DEADLETTERS_TOPIC: 1}))
