"""POST a JSON body to a web application, for a machine without curl.   Run: python labkit/demo/post.py URL BODY"""

import http.client
import sys
import time
import urllib.parse
from dataclasses import dataclass

ANSWER_WITHIN_SECONDS = 5.0
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Answer:
    """What came back, and after how many milliseconds. Status 0: nothing; the text says why."""

    status: int
    text: str
    milliseconds: float


def post(url: str, body: str, within: float = ANSWER_WITHIN_SECONDS) -> Answer:
    """Send one request, and wait for its answer, so many seconds at most."""
    place = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=within)
    began = time.monotonic()
    try:
        connection.request("POST", place.path, body.encode(), HEADERS)
        reply = connection.getresponse()
        status, text = reply.status, reply.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        status, text = 0, str(error) or type(error).__name__
    finally:
        connection.close()
    return Answer(status, text, 1000 * (time.monotonic() - began))


if __name__ == "__main__":
    answer = post(*sys.argv[1:])
    print(answer.text)
    sys.exit(0 if answer.status == 202 else 1)
