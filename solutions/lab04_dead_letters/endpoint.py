"""An endpoint to deliver to, that answers as the path says: /200, /503, /503,503,200 ...   Run: python endpoint.py"""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = int(os.environ.get("PORT", "8080"))
NEVER_SECONDS = 3600

requests = {}  # how many have come, by Idempotency-Key
lock = threading.Lock()


class Endpoint(BaseHTTPRequestHandler):
    """The nth request with the same Idempotency-Key gets the nth answer in the path; the last one repeats.

    Answers: a status, such as 200 or 410; 429 asks for a second of patience; cut ends in the middle; never does not
    come.
    """

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.headers.get("Idempotency-Key", "no key")
        with lock:
            requests[key] = count = requests.get(key, 0) + 1
        answers = self.path.strip("/").split(",")
        answer = answers[min(count, len(answers)) - 1]
        print(f"{key}  request {count}: {answer}", flush=True)
        if answer == "never":
            threading.Event().wait(NEVER_SECONDS)
        elif answer == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"as far as h")
        else:
            self.send_response(int(answer) if answer.isdecimal() else 404)
            if answer == "429":
                self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def log_message(self, *_):
        pass  # do_POST has said it


if __name__ == "__main__":
    try:
        print(f"waiting for webhooks at http://127.0.0.1:{PORT}", flush=True)
        ThreadingHTTPServer(("127.0.0.1", PORT), Endpoint).serve_forever()
    except OSError as error:
        raise SystemExit(f"No endpoint at port {PORT}: {error}") from None
    except KeyboardInterrupt:
        pass
