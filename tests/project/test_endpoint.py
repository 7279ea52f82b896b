"""The grader's HTTP endpoint, asked over real connections: each answer that it can give, and what it counts."""

import http.client
import threading
import urllib.parse

import pytest

from labkit.course import lab
from labkit.grader import submission
from labkit.grader.history import REQUESTED
from labkit.grader.run import Run

KEY = "00000000-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def run():
    with Run(lab(4), submission.read(lab(4), lab(4).solution)) as running:
        yield running


@pytest.fixture
def scene(run, request):
    playing = run.scene(request.node.name, 0)
    yield playing
    playing.close()


def post(url, key=KEY, timeout=5.0):
    """POST something; return the status and the headers of the answer, read to its end."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    try:
        connection.request("POST", parts.path, b"{}", {"Idempotency-Key": key})
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.headers
    finally:
        connection.close()


def test_the_nth_request_with_a_key_gets_the_nth_answer(scene):
    url = scene.endpoint.url("503,410,200")
    assert [post(url)[0] for _ in range(4)] == [503, 410, 200, 200]
    assert post(url, key="another")[0] == 503


def test_429_asks_for_patience(scene):
    status, headers = post(scene.endpoint.url("429"))
    assert (status, headers["Retry-After"]) == (429, "1")


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("cut", http.client.IncompleteRead),
        ("garbage", http.client.BadStatusLine),
        ("never", TimeoutError),
    ],
)
def test_an_answer_that_is_none(scene, answer, error):
    with pytest.raises(error):
        post(scene.endpoint.url(answer), timeout=0.5)


def test_an_address_where_nobody_listens(scene):
    with pytest.raises(ConnectionRefusedError):
        post(scene.endpoint.refused_url)


def test_while_there_is_an_override_all_get_it(scene):
    scene.endpoint.override = "503"
    assert post(scene.endpoint.url("200"))[0] == 503
    scene.endpoint.override = ""
    assert post(scene.endpoint.url("200"))[0] == 200


def test_requests_are_counted_by_task(scene):
    task = scene.tasks.add(b'{"id": "%s"}' % KEY.encode())
    for key in (KEY, "somebody else's", KEY.upper()):
        post(scene.endpoint.url("200"), key)
    assert [request.answer for request in scene.endpoint.requests_for(task.number)] == ["200", "200"]
    assert [event.tasks for event in scene.history.events(REQUESTED)] == [(1,), (), (1,)]


def test_an_endpoint_that_closes_hangs_up(scene):
    failed = []

    def wait_for_an_answer():
        try:
            post(scene.endpoint.url("never"), timeout=20)
        except (OSError, http.client.HTTPException) as error:
            failed.append(error)

    client = threading.Thread(target=wait_for_an_answer)
    client.start()
    assert scene.wait(lambda: scene.endpoint.requests)
    scene.close()
    client.join(5)
    assert failed and not isinstance(failed[0], TimeoutError)
