"""Makes the topics of compose.yaml where they are missing: `python topics.py BOOTSTRAP`."""

import asyncio
import sys

from gateway.dev.topics import create_topics
from schemas.messages import DEADLETTERS_TOPIC, EVENTS_TOPIC, REQUESTS_TOPIC
from schemas.repayments import REPAYMENTS_TOPIC

if __name__ == "__main__":
    topics = {REQUESTS_TOPIC: 6, REPAYMENTS_TOPIC: 6, EVENTS_TOPIC: 6, DEADLETTERS_TOPIC: 1}
    asyncio.run(create_topics(sys.argv[1], topics))
