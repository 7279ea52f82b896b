"""A mail server to try things out with: it prints each mail, and delivers none.   Run: python inbox.py"""

import asyncio
import os
import urllib.parse
from email import message_from_bytes, policy

from aiosmtpd.smtp import SMTP

SMTP_URL = os.environ.get("SMTP_URL", "smtp://127.0.0.1:1025")
INBOX_SECONDS = float(os.environ.get("INBOX_SECONDS", "0"))  # how long it takes over each mail


class Inbox:
    """Told by aiosmtpd of each mail that has arrived."""

    count = 0

    async def handle_DATA(self, server, session, envelope):
        await asyncio.sleep(INBOX_SECONDS)
        self.count += 1
        mail = message_from_bytes(envelope.content, policy=policy.default)
        print(f"{self.count:4}  to {mail['To']}: {mail['Subject']}", flush=True)
        return "250 taken"


async def main():
    place = urllib.parse.urlsplit(SMTP_URL)
    inbox = Inbox()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: SMTP(inbox, hostname="inbox"), place.hostname, place.port)
    print(f"waiting for mail at {SMTP_URL}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except OSError as error:
        raise SystemExit(f"No inbox at {SMTP_URL}: {error}") from None
    except KeyboardInterrupt:
        pass
