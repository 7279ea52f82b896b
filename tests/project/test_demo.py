"""The demonstrations: they show what they say, and say what they cannot show."""

import json
import re
import shutil
import socket
import subprocess
import uuid
import xml.etree.ElementTree
from email import message_from_bytes

import pypdf
import pytest
from demonstration import SIZES, WITHIN_SECONDS, Demo, read_until
from PIL import Image
from rich.cells import cell_len
from typer.testing import CliRunner

from labkit import cli, course
from labkit import demo as demonstrations
from labkit.brokers import EmbeddedValkey
from labkit.demo import script


def expect_all_seen(demo, ended, *, left_out=0):
    """It ended well, and all its sights came; every line has its time, and a log can hold it."""
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not ended.stderr
    expected = sum(len(step.see) for step in script.read(demo.lab).steps) - left_out
    assert (ended.stdout.count("[seen]"), ended.stdout.count("[NOT SEEN]")) == (expected, 0), ended.stdout
    spoken, _, rest = ended.stdout.partition("verdict: ")
    assert all(re.match(r" *\d+\.\d s  ", line) for line in spoken.splitlines()), "a line without its time"
    assert not re.search(r"[^\n\x20-\x7e]", ended.stdout), "a control character, or one that ASCII has not"
    assert rest.splitlines()[3].startswith("Ask the class: "), "the question is the last that is said"
    assert not list(demo.temporary.iterdir())


def expect_screens_that_fit(demo, ended):
    """At every moment the live view filled the screen, line by line; what was said and seen was cut nowhere."""
    for size in SIZES:
        screens = demo.screens(size)
        assert screens
        for lines in screens:
            assert [cell_len(line) for line in lines] == [size[0]] * size[1], "\n".join(lines)
    whole = {line for lines in demo.screens(SIZES[0]) for line in lines}
    for mark, words in re.findall(r"^ *[\d.]+ s  (  \[seen\] )?(\w.*)$", ended.stdout, re.MULTILINE):
        told = f"  ✓ {words}" if mark else words
        assert any(line.removeprefix("│ ").startswith(f"{told} ") for line in whole), (
            f"cut, or never shown: {told}"
        )


def test_lab_3_loses_one_task_with_brpop_and_none_with_blmove(home):
    demo = Demo(home)
    demo.out.mkdir(parents=True)
    (demo.out / "of the last time.jpg").touch()
    ended = demo.run()
    expect_all_seen(demo, ended)
    expect_screens_that_fit(demo, ended)
    counts = "sent 15, done once 12, duplicated 2, lost 1, recovered 3, BRPOP lost 1, BLMOVE lost 0"
    assert f"verdict: {counts}\n" in ended.stdout
    own, popped = map(int, re.search(r"alice has task (\d+), popper task (\d+): ", ended.stdout).groups())
    assert (own, popped) == (4, 10), "twins: the same work, in the fourth place of each queue"
    assert f"task {popped} is in no list: its only copy was in popper's memory" in ended.stdout
    assert f"task {own} lies in images:processing:alice" in ended.stdout
    assert f"[seen] bob takes task {own}" in ended.stdout
    assert "[seen] done with BLMOVE: 6 of 6; with BRPOP: 5 of 6" in ended.stdout
    assert "[seen] carol has made the picture of task 13; not yet at the broker: LREM" in ended.stdout
    assert re.search(
        r"bob: task 13 done .*\[seen\] bob has made it once more: the same", ended.stdout, re.DOTALL
    )
    assert re.search(r"\[seen\] \d+ ms after his start bob is at work on task 14 again", ended.stdout)
    assert re.search(r"dave: task 15 done .*bob: task 15 done ", ended.stdout, re.DOTALL), "paused, and back"
    assert f"images: none of 9 tasks is lost; images:popped: one of 6, task {popped}\n" in ended.stdout
    assert "[seen] tasks 4, 13 and 14, in hand at a kill, were done all the same" in ended.stdout
    assert "[seen] tasks 13 and 15 were done twice, and no other" in ended.stdout

    moments = ["\n".join(lines) for lines in demo.screens(SIZES[0])]
    both = [moment for moment in moments if moment.count("✗ KILLED") == 2]
    where = rf"processing:alice +1 ✗{own} .*in no list +1 \?{popped} +0 "
    assert any(re.search(where, moment, re.DOTALL) for moment in both), (
        "side by side: here it is, there it is not"
    )
    assert any(re.search(r"carol +‖ held +13  done, the broker not told", moment) for moment in moments)
    assert any(re.search(r"bob +‖ PAUSED 15 .* EXPIRED ", moment) for moment in moments)

    pictures = sorted(path.name for path in demo.out.iterdir())
    made = [f"{number:02}-" for number in range(1, 16) if number != popped]
    assert [name[:3] for name in pictures] == made, pictures
    for name in pictures:
        Image.open(demo.out / name).load()
    timeline = xml.etree.ElementTree.parse(demo.out.parent / "timeline.svg")
    assert "alice" in "".join(timeline.getroot().itertext())
    assert any((demo.folder / "photos").iterdir()), "the photographs are drawn once, and kept"


def test_lab_1_loses_the_mail_in_hand_and_takes_what_anyone_posts(home):
    demo = Demo(home, lab=1)
    with demo.playing() as process:
        said = read_until(process.stdout, "came from a second terminal")
        port = int(re.search(r"listens on port (\d+)", said).group(1))
        typed = "\n".join(
            demo.screens(SIZES[0])[-1][-2:]
        )  # as one copies it, with the spaces at the line's end
        answer = subprocess.run(["sh", "-c", typed], capture_output=True, text=True, timeout=WITHIN_SECONDS)
        assert uuid.UUID(json.loads(answer.stdout)["id"]), typed
        rest, errors = process.communicate()
    ended = subprocess.CompletedProcess(process.args, process.returncode, said + rest, errors)
    expect_all_seen(demo, ended)
    expect_screens_that_fit(demo, ended)
    assert f"$ curl -X POST http://127.0.0.1:{port}/send-email -d " in said
    assert "the page still loads after" in said, "the shop without a queue"
    assert re.search(r"answered 202 after \d+ ms: task 1 is queued, and no worker runs", said)
    slow, quick = re.search(r"that page took ([\d.]+) s, the other (\d+) ms", said).groups()
    assert float(slow) > int(quick) / 1000
    assert re.search(r"answered 422, nothing is queued: body\.to: ", said)
    assert re.search(r"20 times 202, the slowest after \d+ ms\n", rest)
    assert re.search(r'the web application says: \{"waiting":\d+\}\n', rest)
    counts = r"verdict: sent (\d+), done once (\d+), duplicated 0, lost 1, recovered 0, set aside 3\n"
    sent, done = map(int, re.search(counts, rest).groups())
    assert done == sent - 4 >= 48
    alone, together = re.findall(r"mails in [\d.]+ s, one each ([\d.]+) s", rest)
    assert float(together) < float(alone), "three workers"
    killed = re.search(r"has task (\d+) in hand", rest).group(1)
    assert f"lost: task {killed}, in hand at the kill, as expected; and no other" in rest
    waited, pause = map(int, re.search(r"waited (\d+) ms, of a pause of (\d+) ms", rest).groups())
    bargain = re.search(r"a wait of (\d+) ms, not (\d+), costs (\d+) looks a second, not (\d+)\n", rest)
    quick, slow, many, few = map(int, bargain.groups())
    assert pause / 2 <= waited == slow > quick
    assert many > few, "a tenth of the pause, and many more looks in vain"
    assert "set aside: not JSON; no mail address: 'nobody'\n" in rest
    assert re.search(r"task \d+ is set aside: .*550.*no such mailbox", rest)
    stopped = re.search(r"alice was asked to stop, and stays for task (\d+)\n", rest).group(1)
    assert f"task {stopped} is in the inbox, from alice\n" in rest
    moments = ["\n".join(lines) for lines in demo.screens(SIZES[0])]
    costs = rf"0\.5 +{few} █+ +{slow} ms █+ .*\n.* 0\.2 +\d+ █+ .*\n.* 0\.05 +{many} █+ +{quick} ms █+ "
    assert any(re.search(costs, moment) for moment in moments), "what each pause costs, side by side"

    mails = [message_from_bytes(path.read_bytes()) for path in demo.out.iterdir()]
    assert len(mails) == done
    assert sum(mail["To"] == "you@example.com" for mail in mails) == 2, "the demonstration's own, and ours"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=1)


def test_lab_2_compares_both_and_survives_its_broker(home):
    demo = Demo(home, lab=2)
    ended = demo.run()
    expect_all_seen(demo, ended)
    expect_screens_that_fit(demo, ended)
    assert "verdict: sent 37, done once 36, duplicated 0, lost 1, recovered 3\n" in ended.stdout
    polled, blocked = map(int, re.search(r"polling sent (\d+) commands, alice (\d+)", ended.stdout).groups())
    assert polled > blocked
    blocked, longer = map(int, re.search(r"alice sent (\d+) commands?, bob (\d+)", ended.stdout).groups())
    assert blocked > longer, "a longer wait, and fewer commands"
    alice, polling = map(int, re.search(r"average: alice (\d+) ms, polling (\d+) ms", ended.stdout).groups())
    assert alice < polling
    moments = ["\n".join(lines) for lines in demo.screens(SIZES[0])]
    assert any("broker: KILLED" in moment and moment.count("✗ no broker") == 3 for moment in moments)
    numbers = r"(\d+ +){6}"
    side_by_side = rf"│ polling +{numbers}{polling} +│\n│ alice +{numbers}{alice} +│"
    assert any(re.search(side_by_side, moment) for moment in moments), "six pairs, and their means"
    assert re.search(r"alice ended [\d.]+ s after SIGTERM, with status 0\n", ended.stdout)
    assert "[seen] bob waits on: the signal has come, and the command goes on\n" in ended.stdout
    assert "[seen] task 14 woke carol, first in line; alice and bob heard nothing of it\n" in ended.stdout
    assert "[seen] 15 woke alice, 16 woke bob and 17 woke carol: in turn\n" in ended.stdout
    turns = r"in line +alice, bob, carol .*\n.* woken +14 carol 15 alice 16 bob 17 carol "
    assert any(re.search(turns, moment) for moment in moments), "who waits, and who was woken"
    assert "[seen] the broker gave task 18 to alice, who knows nothing of it\n" in ended.stdout
    frozen = [moment for moment in moments if re.search(r"alice +‖ PAUSED", moment)]
    assert any(re.search(r"only in memory +1 +18 ", moment) for moment in frozen)
    assert re.search(r"\w+ is still at task 22; meanwhile \d by \w+ and \d by \w+\n", ended.stdout)
    assert "[seen] tasks 32, 33 and 34 are done, and nobody needed the broker for that\n" in ended.stdout
    assert re.search(r"its file: \w+ has task 35 and \w+ has task 36\n", ended.stdout)
    dead = [moment for moment in moments if "broker: KILLED" in moment]
    assert any(re.search(r"reports +\? +nobody can look", moment) for moment in dead)
    assert "lost: task 37, in hand at the kill, as expected; and no other" in ended.stdout
    assert any(re.search(r"in no list +1 \?37 ", moment) for moment in moments)
    reports = sorted(demo.out.iterdir())
    assert [path.name[:3] for path in reports] == [f"{number:02}-" for number in range(1, 37)]
    assert all(len(pypdf.PdfReader(path).pages) == 1 for path in reports)


def test_lab_4_waits_longer_each_time_and_brings_a_dead_letter_back(home):
    demo = Demo(home, lab=4)
    ended = demo.run()
    expect_all_seen(demo, ended)
    expect_screens_that_fit(demo, ended)
    counts = r"sent 31, done once 29, duplicated 1, lost 0, recovered 2, dead 1, requests (\d+), buried 7, replayed 6\n"
    requests = int(re.search(rf"verdict: {counts}", ended.stdout).group(1))
    assert "[seen] tasks 4, 5 and 6 are dead: 18 requests, all within " in ended.stdout
    assert "[seen] each of the 8 was told to wait " in ended.stdout
    waits = r"task (\d+) was told to wait (?:[\d.]+, ){2,}[\d.]+ and then [\d.]+ s"
    assert int(re.search(waits, ended.stdout).group(1)) in range(15, 23)
    patience = re.search(r"task 23: 429 asked for 1 s, and it came again after ([\d.]+) s", ended.stdout)
    assert float(patience.group(1)) >= 1
    killed = re.search(r"(\w+) has sent task 25, and waits for an answer", ended.stdout).group(1)
    assert f"task 25 lies in webhooks:processing:{killed}" in ended.stdout
    assert "[seen] 22 tasks are delivered, task 25 with request 2" in ended.stdout
    first, second = re.findall(r"(\w+) has task 26 in hand", ended.stdout)
    assert {first, second} == {"alice", "bob"}
    assert "[seen] task 26 is dead, and no endpoint heard of it" in ended.stdout
    late = re.search(r"(\w+) has task 27 in hand", ended.stdout).group(1)
    assert f"[seen] {late} sends task 27: request 2, with the key of the first" in ended.stdout
    assert f"[seen] {late} may not acknowledge it any more: still 23 are counted as done" in ended.stdout
    assert "[seen] task 28 is dead after 1 request: 410" in ended.stdout
    assert "[seen] task 29 is dead after 3 requests: 503" in ended.stdout
    assert "[seen] task 30 is dead, and no endpoint heard of it" in ended.stdout
    assert "[seen] 25 tasks are delivered, task 28 with request 2" in ended.stdout
    assert "[seen] dlq.py replays tasks 4, 5, 6, 26 and 29, not task 30: it would die again" in ended.stdout

    moments = ["\n".join(lines) for lines in demo.screens(SIZES[0])]
    together = r"1st, up to 0.15 s +·+7-14 .*3rd, up to 0.6 s +·+7-14 "
    assert any(re.search(together, moment, re.DOTALL) for moment in moments), "without dice all wait as long"
    lines = r"without dice +\S*\d\S* +3rd in \d\.\d s .*\n.*with dice +\S*\d\S* +3rd in \d\.\d s "
    assert any(re.search(lines, moment) for moment in moments), "the two storms stand side by side"
    assert any(re.search(rf"{late} +‖ PAUSED 27 .* ENDED ", moment) for moment in moments)
    reason = r"28 +1 PermanentError: 127.0.0.1 answered 410 Gone .*29 +3 TemporaryError: .* 503 Service Unavailable "
    assert any(re.search(reason, moment, re.DOTALL) for moment in moments), (
        "the dead letters and their reasons"
    )
    shown = (
        r"dlq.py show: task 28 .*reason +PermanentError.*died_at +\d{4}-.*body +\{\"id\".*where +webhooks.py"
    )
    assert any(re.search(shown, moment, re.DOTALL) for moment in moments), "all about one letter"

    kept = [json.loads(path.read_text()) for path in demo.out.iterdir()]
    assert sum(len(task["requests"]) for task in kept) == requests
    assert sum(request["answer"] == "200" for task in kept for request in task["requests"]) == 30 + 1


def test_lab_5_lets_the_urgent_go_first_and_starves_the_rest_or_not(home):
    demo = Demo(home, lab=5)
    ended = demo.run()
    expect_all_seen(demo, ended)
    expect_screens_that_fit(demo, ended)
    counts = r"sent 10301, done once (\d+), duplicated 0, lost 1, recovered 1, waiting (\d+), "
    done, waiting = map(int, re.search(f"verdict: {counts}", ended.stdout).groups())
    assert done + waiting + 1 == 10_301
    before, later = re.search(
        r"task 10001, a reset, is queued behind (\d,\d+) newsletters.*task 10001 still waits, behind (\d,\d+) ",
        ended.stdout,
        re.DOTALL,
    ).groups()
    assert 9_900 < int(later.replace(",", "")) < int(before.replace(",", "")) < 10_000
    assert re.search(r"task 10002, a reset, is queued behind \d,\d+ newsletters and task 10001", ended.stdout)
    assert "[seen] task 10003, queued as high, is the next mail; " in ended.stdout
    assert "[seen] of 20 mails high 20, normal 0, low 0: the newsletters starve" in ended.stdout
    assert re.search(r"\[seen\] monitor.py: high 2\d\d, normal 40, low 9,9\d\d wait", ended.stdout)
    assert "[seen] order-10 is before order-2: equal scores go by their bytes" in ended.stdout
    assert "[seen] by their scores: H3 H4 H7 N5 N6 L1 L2 L8" in ended.stdout
    assert "[seen] HHHNNLLL: in each level the oldest first" in ended.stdout
    assert "[seen] of 20 mails high 12, normal 6, low 2: each has its share" in ended.stdout
    assert "[seen] of 9 mails high 3, normal 3, low 3: as TURNS says" in ended.stdout
    first, second = re.findall(r"alice has task (\d+) in hand: high", ended.stdout)
    assert f"[seen] task {first} is in no list at all: that mail is lost" in ended.stdout
    assert f"[seen] bob sends task {second}" in ended.stdout
    moments = ["\n".join(lines) for lines in demo.screens(SIZES[0])]
    order = "by their scores +H3 +H4 +H7 +N5 +N6 +L1 +L2 +L8 "
    assert any(re.search(order, moment) for moment in moments), "as they lie in the sorted set"
    assert any("fair: high 12, normal 6, low 2 " in moment for moment in moments), (
        "they are counted in sight of all"
    )
    mails = [message_from_bytes(path.read_bytes()) for path in demo.out.iterdir()]
    assert len(mails) == done
    assert sum(mail["Subject"] == "News of the month" for mail in mails) < 50 < done


def test_lab_6_hands_on_what_a_dead_worker_had_and_outlives_its_broker(home):
    demo = Demo(home, lab=6)
    ended = demo.run()
    expect_all_seen(demo, ended)
    expect_screens_that_fit(demo, ended)
    counts = r"sent 22, done once (\d+), duplicated (\d+), lost 0, recovered 4, dead 2, redelivered (\d+)\n"
    once, twice, redelivered = map(int, re.search(f"verdict: {counts}", ended.stdout).groups())
    assert once + twice == 20
    assert redelivered >= 2 + 5 + 2, "at the kills, at SIGTERM, and what was in hand when the broker died"
    hers = re.search(r"alice has task (\d) in hand", ended.stdout).group(1)
    assert re.search(
        rf"\[seen\] \d+ ms later bob has task {hers}, redelivered; lab 3 waited \d+ s", ended.stdout
    )
    assert re.search(r"bob does it, and prints: \.\.\..*\.jpg \(redelivered\)\n", ended.stdout)
    assert "[seen] alice holds 6 tasks and works on 1; bob has none" in ended.stdout
    assert "[seen] alice has ended task 8, and 5 tasks went back to the queue" in ended.stdout
    assert "[seen] alice and bob hold one task each; 3 wait in the queue" in ended.stdout
    assert re.search(r"\[seen\] alice is still at task \d+; bob has done the other 4\n", ended.stdout)
    assert re.search(r"\[seen\] in \d s of nothing bob sent 0 commands", ended.stdout)
    assert "[seen] alice has made the picture of task 7; not yet at the broker: basic.ack" in ended.stdout
    assert "[seen] task 7 is back in images, by itself" in ended.stdout
    assert "[seen] bob has made it once more: the same file, byte for byte" in ended.stdout
    assert "[seen] producer.py, status 1: No broker at amqp://" in ended.stdout
    waits = re.search(r"task 14 is done at attempt 3, after waits of ([\d.]+) and ([\d.]+) s", ended.stdout)
    first, second = map(float, waits.groups())
    assert first >= 0.3 and second >= 0.6, "played fast, RETRY_SECONDS is 0.3, and doubles"
    assert "[seen] task 15 is dead after 3 attempts: OSError: the disk is full" in ended.stdout
    assert "[seen] task 16 is dead at once: there is no image 'atlantis.jpg'" in ended.stdout
    back = r"it is back, with (\d+) tasks( \(4 were open\))? and 2 dead letters"
    assert int(re.search(back, ended.stdout).group(1)) >= 4, "two in hand, two that waited"
    assert "[seen] tasks 19, 20, 21 and 22 were confirmed, and outlived the broker" in ended.stdout
    assert "[seen] tasks 19 and 20 once more: in hand when the broker died" in ended.stdout

    moments = ["\n".join(lines) for lines in demo.screens(SIZES[0])]
    assert any("RabbitMQ starts ..." in moment for moment in moments)
    assert any("RabbitMQ KILLED" in moment for moment in moments)
    alone = [moment for moment in moments if moment.count("✗ no broker") == 2]
    assert any(re.search(r"images +\? ", moment) for moment in alone), "nobody knows what a dead broker has"
    assert any(re.search(r"unacked: alice +6  8   9  10  11  12  13 ", moment) for moment in moments)
    assert any(re.search(r"images\.retry\.[12] +[12] 1[45] ", moment) for moment in moments)
    reasons = r"15 +3 OSError: the disk is full .*16 +0 there is no image 'atlantis.jpg'"
    assert any(re.search(reasons, moment, re.DOTALL) for moment in moments), (
        "the dead letters and their reasons"
    )
    redelivery = rf"bob +basic.deliver images  → task {hers}, redelivered"
    assert any(re.search(redelivery, moment) for moment in moments), "as it came over the wire"

    pictures = sorted(path.name[:2] for path in demo.out.iterdir())
    assert pictures == [f"{number:02}" for number in range(1, 23) if number not in (15, 16)]


def test_where_the_broker_is_not_ours_to_kill_that_is_left_out(home):
    with EmbeddedValkey() as broker:
        demo = Demo(home, lab=2, brokers=broker.url)
        ended = demo.run()
    steps = [step for step in script.read(demo.lab).steps if step.own_broker]
    expect_all_seen(demo, ended, left_out=sum(len(step.see) for step in steps))
    assert ended.stdout.count("(left out: the broker was given by URL") == len(steps)
    assert "verdict: sent 29, done once 28, duplicated 0, lost 1, recovered 0\n" in ended.stdout


def test_it_works_on_anyones_photographs_and_only_reads_them(home, photos):
    before = {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in (photos, *photos.iterdir())}
    demo = Demo(home, photos=photos)
    ended = demo.run()
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert {path: (path.lstat().st_mtime_ns, path.lstat().st_size) for path in before} == before
    assert set(photos.iterdir()) == before.keys() - {photos}
    worked_on = {name.split("-", 2)[2] for name in (path.name for path in demo.out.iterdir())}
    assert worked_on == {"-count.jpg", "[bold]a:heart:b.jpg", "Größe-{0}-日本.png"}
    assert not (demo.folder / "photos").exists(), "nothing is drawn when photographs are given"


@pytest.mark.parametrize("kind", ["missing", "empty", "without a photograph"])
def test_a_folder_without_photographs_is_refused_in_one_line(home, photos, kind):
    folder = home / "given"
    if kind != "missing":
        folder.mkdir()
    if kind == "without a photograph":
        shutil.copy(photos / "torn.jpg", folder)
    ended = Demo(home, photos=folder).run()
    assert ended.returncode == 2
    assert not ended.stdout
    assert re.fullmatch(
        rf"lab: {re.escape(str(folder))} (cannot be read|holds no JPEG or PNG).*\n", ended.stderr
    )


def test_photographs_are_for_lab_3(home, photos):
    ended = Demo(home, lab=1, photos=photos).run()
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"lab: .*lab 1 does not work on photographs\.\n", ended.stderr)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--speed", "0"], "--speed"),
        (["--speed", "-2"], "--speed"),
        (["--solution", "--submission", "labs"], "--submission"),
    ],
)
def test_a_wrong_command_is_status_2(words, says):
    ran = CliRunner().invoke(cli.app, ["demo", "2", "--plain", *words])
    assert ran.exit_code == 2
    assert says in ran.output and "Traceback" not in ran.output


def test_the_solution_can_be_asked_for_by_name(monkeypatch):
    asked = []
    monkeypatch.setattr(demonstrations, "play", lambda request: asked.append(request) or 0)
    assert CliRunner().invoke(cli.app, ["demo", "2", "--solution"]).exit_code == 0
    assert asked[0].submission == course.lab(2).solution


@pytest.mark.parametrize(
    ("asked", "environment", "status", "words"),
    [
        ({"brokers": "redis://127.0.0.1:1/0"}, {}, 3, "127.0.0.1:1"),
        ({"brokers": "dokcer"}, {}, 2, "'dokcer'"),
        ({"submission": "/nonexistent"}, {}, 2, "/nonexistent"),
        ({"speed": None}, {"LAB_DEMO_SPEED": "fast"}, 2, "LAB_DEMO_SPEED"),
    ],
)
def test_what_it_cannot_play_it_says_in_one_line(home, photos, asked, environment, status, words):
    ended = Demo(home, photos=photos, **asked).run(**environment)
    assert (ended.returncode, ended.stdout) == (status, "")
    assert re.fullmatch(r"lab: .+\n", ended.stderr)
    assert words in ended.stderr
    assert not list((home / "tmp").iterdir())
