"""RabbitMQ's HTTP management API, as far as a run needs it. https://www.rabbitmq.com/docs/http-api-reference"""

import base64
import http.client
import json
import urllib.parse

from labkit.brokers.base import InfrastructureError


class ManagementApi:
    """A connection for each call: calls of several threads do not meet."""

    def __init__(self, host: str, port: int, user: str, password: str, answer_within_seconds: float) -> None:
        self._host, self._port, self._timeout = host, port, answer_within_seconds
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def listens_on(self, port: int) -> bool:
        """Tell whether this server answers, lets this user in, and listens on that port as well."""
        try:
            return self._call("GET", f"/api/health/checks/port-listener/{port}")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def get(self, *path: str, **options: object) -> object:
        """Return what lies under /api/…; each part of the path is percent-encoded here."""
        return self._done("GET", path, None, options)

    def put(self, *path: str, **facts: object) -> None:
        """Create or change what lies there."""
        self._done("PUT", path, facts)

    def delete(self, *path: str) -> None:
        """Remove what lies there, with all that belongs to it. To remove what is not there does no harm."""
        self._done("DELETE", path, None)

    def _done(self, method: str, path: tuple[str, ...], facts: object, options: dict | None = None) -> object:
        where = "/api/" + "/".join(urllib.parse.quote(part, safe="") for part in path)
        if options:
            where += "?" + urllib.parse.urlencode(options)
        try:
            status, body = self._call(method, where, facts)
        except (OSError, http.client.HTTPException) as problem:
            raise InfrastructureError(f"RabbitMQ's management does not answer: {problem}") from None
        if status >= 300 and not (method == "DELETE" and status == 404):
            raise InfrastructureError(f"RabbitMQ refused {method} {where}: {status} {body[:200].decode()}")
        return json.loads(body) if body else None

    def _call(self, method: str, where: str, facts: object = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(method, where, json.dumps(facts) if facts is not None else None, self._headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()
