"""What becomes of a task that failed: another try after a while, or a dead letter. Used by worker.py and leases.py."""

import os
import random
import traceback
from datetime import UTC, datetime

from moves import bury, retry_later
from webhooks import PermanentError

BASE_SECONDS = float(os.environ.get("BASE_SECONDS", "1"))  # the first wait is up to this; then it doubles
CAP_SECONDS = float(os.environ.get("CAP_SECONDS", "300"))  # no wait is longer, but what an endpoint asks for


def retry_delay(attempts, retry_after=0):
    """Seconds to wait after so many attempts that failed: full jitter, on top of what the endpoint asked for."""
    longest = min(CAP_SECONDS, BASE_SECONDS * 2 ** (attempts - 1))
    return max(retry_after, random.random() * longest)


def failed(broker, name, body, task, error):
    """The task, in the list of worker `name`, did not work: try it again later, or bury it if that is of no use."""
    task = task | {"attempts": task["attempts"] + 1}
    if isinstance(error, PermanentError) or task["attempts"] > task["max_retries"]:
        letter = dead_letter(broker, body, error, task["attempts"])
        ours, outcome = bury(broker, name, body, letter), "is dead"
    else:
        wait = retry_delay(task["attempts"], getattr(error, "retry_after", 0))
        ours, outcome = retry_later(broker, name, body, task, wait), f"is tried again in {wait:.2f} s"
    print(f"{name}: {task['id']} {outcome if ours else 'was taken away'}: {error}", flush=True)


def dead_letter(broker, body, error, attempts):
    """All that somebody needs who looks at this task next week, as a dict."""
    seconds, _ = broker.time()  # the broker's clock
    return {
        "reason": f"{type(error).__name__}: {error}",
        "attempts": attempts,
        "died_at": datetime.fromtimestamp(seconds, UTC).isoformat(),
        "traceback": "".join(traceback.format_exception(error)),
        "body": body.decode("utf-8", "backslashreplace"),
    }
