"""The shop before there was a queue: its page sends the mail, and answers when the mail server has.

Run: python mail_in_request.py
"""

import os
import uuid

import uvicorn
from fastapi import FastAPI
from mailer import send
from pydantic import BaseModel

PORT = int(os.environ.get("PORT", "8000"))

app = FastAPI(title="Mail, at once")


class Mail(BaseModel):
    """What a request must say."""

    to: str
    subject: str
    body: str


@app.post("/send-email")
def send_email(mail: Mail):
    """Send a mail. Whoever asked waits as long as the mail server does."""
    send({"id": str(uuid.uuid4()), **mail.model_dump()})
    return {"sent": mail.to}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="warning")
