"""Requests to a web application of a submission: answers, silence, and an application that cannot answer."""

import socket

import pytest

from labkit.course import lab
from labkit.grader import submission
from labkit.grader.doors import reserve_port
from labkit.grader.failure import CheckFailed
from labkit.grader.run import Run

APP = """
import os, time
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

app = FastAPI()


@app.get("/gap")
def gap():
    raise NotImplementedError("TODO 2: ask the broker how many tasks wait in the queue")


@app.get("/bug")
def bug():
    return {}["depth"]


@app.get("/never")
def never():
    time.sleep(60)


@app.get("/endless")
def endless():
    def parts():
        while True:
            time.sleep(0.1)
            yield b"more"

    return StreamingResponse(parts())


@app.get("/huge")
def huge():
    return StreamingResponse(iter([b"x" * 2**20] * 3))


@app.post("/echo")
async def echo(request: Request):
    return await request.json()


uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("submission")
    (folder / "producer.py").write_text(APP)
    (folder / "worker.py").write_text("raise SystemExit('this one serves nothing')\n")
    (folder / "monitor.py").write_text("import threading\nthreading.Event().wait()\n")
    with Run(lab(1), submission.read(lab(1), folder)) as running:
        yield running


@pytest.fixture
def scene(run, request):
    playing = run.scene(request.node.name, 0)
    yield playing
    playing.close()


@pytest.fixture
def web(scene):
    return scene.serve("producer.py")


def story_of(web, *request, **more):
    with pytest.raises(CheckFailed) as failure:
        web.request(*request, **more)
    return str(failure.value)


def test_an_answer_has_its_status_and_what_it_says(web):
    answer = web.request("POST", "/echo", json={"waiting": 3})
    assert (answer.status, answer.json) == (200, {"waiting": 3})
    answer = web.request("GET", "/nowhere")
    assert answer.status == 404


def test_a_gap_in_the_application_is_named(web):
    story = story_of(web, "GET", "/gap")
    assert story.startswith("producer.py: TODO 2: ask the broker how many tasks wait in the queue")


def test_an_error_in_the_application_is_told_by_its_own_lines(web):
    story = story_of(web, "GET", "/bug")
    assert "producer.py line 17, in bug" in story and "KeyError: 'depth'" in story
    assert "site-packages" not in story and "starlette" not in story


def test_no_answer_in_time_is_said(web):
    assert "GET /never had no answer within 0.3 s." in story_of(web, "GET", "/never", within=0.3)


def test_an_application_that_has_gone_is_no_infrastructure(web):
    web.actor.process.excused = True
    web.actor.kill()
    assert "GET /docs was not answered" in story_of(web, "GET", "/docs")


def test_a_script_that_ends_instead_of_listening_is_a_failure(scene):
    with pytest.raises(CheckFailed, match="this one serves nothing"):
        scene.serve("worker.py")


def test_a_reserved_port_is_given_to_nobody_else_but_can_be_listened_on():
    with reserve_port() as held, socket.socket() as other, socket.socket() as server:
        with pytest.raises(OSError):
            other.bind(held.getsockname())
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(held.getsockname())
        server.listen()
        with socket.create_connection(held.getsockname(), timeout=5):
            pass


@pytest.mark.parametrize("path", ["/endless", "/huge"])
def test_an_answer_without_end_is_not_read_to_its_end(scene, path):
    web = scene.serve("producer.py")
    with pytest.raises(CheckFailed, match=r"The answer to GET .* has no end"):
        web.request("GET", path, within=1)
