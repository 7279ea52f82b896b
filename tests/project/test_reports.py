"""The reports: made from records of real gradings, and from what such a record may look like on a bad day."""

import base64
import copy
import hashlib
import json
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import grading
import pytest
from jsonschema import Draft202012Validator, ValidationError
from markdown_it import MarkdownIt

from labkit import course, reports
from labkit.reports import files, pictures, text
from labkit.reports.view import View

LAB = course.lab(2)
REPORTS = Path(reports.__file__).parent
JSON_FILES = {
    "native": "grade.json",
    "gradescope": "results.json",
    "classroom50": "result.json",
    "prairielearn": "results.json",
    "check50": "results.json",
    "exercism": "results.json",
}
FOR_STUDENTS = [name for name in reports.FORMATS if name != "native"]
RUNNER = {
    "CLASSROOM": "queues",
    "ASSIGNMENT": "blocking",
    "ASSIGNMENT_TYPE": "individual",
    "OWNER": "anna",
    "USERNAME": "anna",
    "SUBMISSION_TAG": "submit/2026-11-22T15-00-00Z-a1b2c3d",
    "COMMIT_URL": "https://git.invalid/anna/blocking/commit/a1b2c3d",
    "RELEASE_URL": "https://git.invalid/anna/blocking/releases/1",
    "REVIEW_URL": "https://git.invalid/anna/blocking/compare/0...1",
}
LAST_ACT = (
    "alice computes without end: its last command was BRPOP reports 1.0 at +2.5 s, it is at worker.py line 34"
)
EVIL = "\n".join(
    [
        "\"'><script>alert(1)</script><img src=http://x.invalid/a.png onerror=alert(1)></pre></details>&amp;]]>",
        "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b1m \x1b]8;;http://x.invalid\x1b\\link \x00 \u202e \ud800",
        "\x85 \u2028 \ufffe",
        "::set-output name=points::100",
        "  ::error file=worker.py::evil",
        "\x1b[2K::stop-commands::x",
        "\u3000::add-mask::1",
        "\r::notice::after a carriage return",
        "no ##[error]evil and ##vso[task.setvariable variable=x]y nor ###[x]",
        "```",
        "~~~~~~ ````` <!-- `",
        "![picture](http://x.invalid/a.png) [link](javascript:alert(1)) <http://x.invalid> www.x.invalid",
        "@everyone @anna/team #12 GH-12 | a | b |",
        "# heading",
        "</details></summary><details open><h1>all passed</h1>",
        "{{7*7}} ${{ secrets.TOKEN }} %0A $(id)",
    ]
)
FAILURES = {"passed": 0, "failed": 1, "stub": 2}  # of the real gradings
SECRETS = ("Secret title", "secret_check", "secret story", "secret.json")


# ---- records --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Real gradings of lab 2: the solution, one wrong answer, the stub; each in a folder as `./lab grade` leaves it."""
    wrong = next(each for each in grading.wrong_ones(LAB) if each.name == "named_for_the_user")
    submissions = {
        "passed": grading.the_solution(LAB),
        "failed": grading.edited(LAB.solution, wrong.edits),
        "stub": grading.the_stub(LAB),
    }
    folders = {}
    for name, make in submissions.items():
        folder = folders[name] = tmp_path_factory.mktemp(name)
        (folder / "work").mkdir()
        make(folder / "work")
        result = grading.grade(LAB, folder / "work", folder / "lab02")
        ends = [check["outcome"] for check in result["checks"]]
        assert ends.count("failed") == FAILURES[name], f"the grader is wrong about {name}: {ends}"
    return folders


@pytest.fixture
def real(graded):
    """Makes a grade record from real gradings, and says in which folder it lies."""

    def make(*names):
        folder = graded[names[0]]
        results = [json.loads((graded[name] / "lab02" / "result.json").read_text()) for name in names]
        return record(results), folder

    return make


def record(results, **facts):
    """A grade record of these result records, as `./lab grade` makes it."""
    order = ("infrastructure", "timed out", "failed", "passed")
    outcomes = {result["outcome"] for result in results} or {"failed"}
    return {
        "schema": "task-queue-labs/grade",
        "version": 1,
        "name": "anna",
        "source": "handed-in/anna.zip",
        "digest": hashlib.sha256(b"anna").hexdigest(),
        "commit": "",
        "committed": "",
        "started": "2026-11-22T16:00:00+00:00",
        "seconds": 12.345,
        "isolation": "bubblewrap",
        "points": sum(result["points"] for result in results),
        "max_points": sum(result["max_points"] for result in results),
        "outcome": next(each for each in order if each in outcomes),
        "notes": [],
        "labs": [{"folder": result["lab"][:5]} | result for result in results],
        **facts,
    }


def again(grade, **facts):
    """The record with its sums and outcome made anew from its labs."""
    for lab in grade["labs"]:
        lab["points"] = sum(check["points"] for check in lab["checks"])
        lab["max_points"] = sum(check["max_points"] for check in lab["checks"])
    kept = {key: grade[key] for key in ("notes", "name", "source", "commit", "committed", "isolation")}
    return record(grade["labs"], **{**kept, **facts})


def ended(check, outcome, message=""):
    """This check with another end."""
    replay = f"failures/{check['id']}.json" if outcome in ("failed", "timed out") else ""
    points = check["max_points"] if outcome == "passed" else 0
    return check | {
        "outcome": outcome,
        "message": message,
        "points": points,
        "replay": replay,
        "waits_for": "",
    }


def ungraded(lab, outcome, why):
    """The result record of a lab that was not played."""
    of_each = "infrastructure" if outcome == "infrastructure" else "not run"
    unplayed = {"seconds": 0.0, "verdict": {}, "facts": {}, "timeline": ""}
    checks = [ended(check, of_each, why) | unplayed for check in lab["checks"]]
    empty = {"seconds": 0.0, "broker": {"kind": "", "version": ""}, "points": 0, "folder": ""}
    return lab | empty | {"outcome": outcome, "notes": [why], "checks": checks}


def passed(real):
    return real("passed")


def failed(real):
    return real("failed")


def stub(real):
    return real("stub")


def refused(real):
    grade, folder = real("passed")
    why = "anna.zip was refused: ../../etc/passwd would be written outside of its folder."
    return record([ungraded(grade["labs"][0], "failed", why)], notes=[why], isolation="", digest=""), folder


def timed_out(real):
    grade, folder = real("failed")
    checks = grade["labs"][0]["checks"]
    checks[5:] = [ended(check, "timed out", f"The time was over. {LAST_ACT}.") for check in checks[5:]]
    grade["labs"][0]["outcome"] = "timed out"
    return again(grade), folder


def infrastructure(real):
    grade, folder = real("passed")
    checks = grade["labs"][0]["checks"]
    why = "The broker did not start: no space left on the device."
    checks[3:] = [ended(check, "infrastructure", why) for check in checks[3:]]
    grade["labs"][0]["outcome"] = "infrastructure"
    return again(grade), folder


def hidden(real, outcome="failed"):
    """All that is shown has passed; of two hidden checks one ends so."""
    grade, folder = real("passed")
    checks = grade["labs"][0]["checks"]
    for place, end in ((4, "passed"), (9, outcome)):
        message = "" if end == "passed" else "a secret story"
        secret = ended(checks[place], end, message) | {"hidden": True, "title": "Secret title"}
        replay = "failures/secret.json" if secret["replay"] else ""
        checks[place] = secret | {
            "id": f"secret_check_{place}",
            "replay": replay,
            "facts": {"secret story": 3},
        }
    grade["labs"][0]["outcome"] = "passed" if outcome == "passed" else "failed"
    return again(grade), folder


def several(real):
    """Three labs: lab 2 failed, lab 3 is not there, lab 4 stands for one that passed."""
    grade, folder = real("failed", "passed", "passed")
    labs = grade["labs"]
    labs[1] = ungraded(labs[1], "failed", "lab03_reliable is not in what was handed in.") | {
        "lab": "lab03_reliable"
    }
    labs[2] |= {"lab": "lab04_dead_letters", "folder": ""}
    return again(grade), folder


def not_here(real):
    """One check cannot be made on this broker."""
    grade, folder = real("passed")
    checks = grade["labs"][0]["checks"]
    checks[11] = ended(checks[11], "not run", "A broker that is not ours is not killed.") | {"max_points": 0}
    return again(grade), folder


def nothing(real):
    _, folder = real("passed")
    return record([], notes=["anna.zip holds none of the labs."], isolation=""), folder


def nothing_of_ours(real):
    _, folder = real("passed")
    return record([], notes=["No space is left on the device."], outcome="infrastructure"), folder


CASES = {
    case.__name__: case
    for case in (
        passed, failed, stub, refused, timed_out, infrastructure, hidden, several, not_here, nothing, nothing_of_ours,
    )
}  # fmt: skip
OURS = ("infrastructure", "nothing_of_ours")  # their points say nothing, and no format has any
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    for name in RUNNER:
        monkeypatch.delenv(name, raising=False)


def made(grade, folder, name):
    """The files of one format as text."""
    found = reports.FORMATS[name](grade, folder)
    return {file: each.decode() if isinstance(each, bytes) else each for file, each in found.items()}


def content(grade, folder, name):
    return json.loads(made(grade, folder, name)[JSON_FILES[name]])


def hostile(real):
    """Everything that a submission, or who handed it in, may have had a hand in says what nobody wishes to read."""
    grade, folder = real("failed")
    grade |= {"source": EVIL, "notes": [EVIL, *["a note"] * 50]}
    lab = grade["labs"][0]
    lab |= {"notes": [EVIL], "submission": EVIL}
    lab["checks"][3] = ended(lab["checks"][3], "timed out", EVIL)
    lab["checks"][4] = ended(lab["checks"][4], "failed", EVIL) | {"facts": {EVIL: 3}}
    lab["checks"][6] = ended(lab["checks"][6], "not run", EVIL)
    return again(grade), folder


# ---- the forms --------------------------------------------------------------------------------------------------


def schema_of(name):
    path = REPORTS.parent / "grade/grade.schema.json"
    path = path if name == "native" else REPORTS / f"schemas/{name}.schema.json"
    schema = json.loads(path.read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@every_case
@pytest.mark.parametrize("name", JSON_FILES)
def test_a_report_in_json_has_the_form_of_its_system(real, case, name):
    grade, folder = CASES[case](real)
    if name == "classroom50" and grade["outcome"] == "infrastructure":
        assert "result.json" not in made(grade, folder, name)
    else:
        schema_of(name).validate(content(grade, folder, name))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("gradescope", lambda found: found["tests"][0].update(score=2.5)),
        ("gradescope", lambda found: found["tests"][0].update(visibility="secret")),
        ("gradescope", lambda found: found.pop("tests")),
        ("classroom50", lambda found: found.update({"score": 1.5})),
        ("classroom50", lambda found: found.update(datetime="2026-11-22T16:00:00+01:00")),
        ("classroom50", lambda found: found.update(extra=1)),
        ("prairielearn", lambda found: found.update(score=1.01)),
        ("prairielearn", lambda found: found.update(gradable=False)),
        ("check50", lambda found: found.update(error="no")),
        ("check50", lambda found: found["results"][0].update(passed="yes")),
        ("exercism", lambda found: found["tests"][0].update(output="x" * 501)),
        ("exercism", lambda found: found["tests"][0].update(status="fail", message="")),
        ("native", lambda found: found.update(points="3")),
    ],
)
def test_a_schema_refuses_what_its_system_would_refuse(real, name, spoil):
    found = content(*passed(real), name)
    spoil(found)
    with pytest.raises(ValidationError):
        schema_of(name).validate(found)


def check_junit(xml):
    """The rules that the schemas of JUnit XML in use have in common, and counts that are right."""
    attributes = {
        "testsuites": ("name", "tests", "failures", "errors", "time"),
        "testsuite": (
            "name", "id", "package", "hostname", "timestamp", "time", "tests", "failures", "errors", "skipped",
        ),
        "testcase": ("classname", "name", "time"),
        "failure": ("type", "message"),
        "error": ("type", "message"),
        "skipped": ("message",),
        "property": ("name", "value"),
        "properties": (), "system-out": (), "system-err": (),
    }  # fmt: skip
    root = ET.fromstring(xml)
    assert root.tag == "testsuites"
    for element in root.iter():
        assert sorted(element.attrib) == sorted(attributes[element.tag]), element.tag
        for name in ("tests", "failures", "errors", "skipped", "id"):
            assert re.fullmatch(r"\d+", element.get(name, "0"))
        assert re.fullmatch(r"\d+\.\d{3}", element.get("time", "0.000"))
    totals = dict.fromkeys(("tests", "failures", "errors"), 0)
    for place, suite in enumerate(root):
        assert suite.tag == "testsuite" and suite.get("id") == str(place) and suite.get("name")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp"))
        kinds = [child.tag for child in suite]
        assert kinds == [
            "properties",
            *["testcase"] * len(suite.findall("testcase")),
            "system-out",
            "system-err",
        ]
        for what, found in (("tests", "testcase"), ("failures", "*/failure"), ("errors", "*/error")):
            assert int(suite.get(what)) == len(suite.findall(found)), what
            totals[what] += len(suite.findall(found))
        assert int(suite.get("skipped")) == len(suite.findall("*/skipped"))
        for case in suite.findall("testcase"):
            assert case.get("name") and case.get("classname")
            assert [child.tag for child in case] in ([], ["failure"], ["error"], ["skipped"])
    assert {what: int(root.get(what)) for what in totals} == totals
    return root


@every_case
def test_the_xml_keeps_the_rules_of_junit(real, case):
    check_junit(made(*CASES[case](real), "junit")["junit.xml"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('failures="', 'failures="1'),
        ("<skipped ", "<ignored "),
        (' hostname="localhost"', ""),
        ("T16:", " 16:"),
    ],
)
def test_the_rules_of_junit_refuse_what_is_wrong(real, before, after):
    grade, folder = several(real)
    for lab in grade["labs"]:
        lab["started"] = "2026-11-22T16:00:00+00:00"
    xml = made(grade, folder, "junit")["junit.xml"]
    assert before in xml
    with pytest.raises((AssertionError, KeyError)):
        check_junit(xml.replace(before, after, 1))


def test_every_format_has_a_schema_or_rules_of_its_own():
    without = {"junit", "markdown", "html", "native"}
    assert {path.name for path in REPORTS.glob("schemas/*")} == {
        f"{name}.schema.json" for name in reports.FORMATS.keys() - without
    }


# ---- the same in all of them --------------------------------------------------------------------------------------


def totals(grade, folder):
    """Points and most points as each format has them; for Gradescope, what a student can add up."""
    seen = [test for test in content(grade, folder, "gradescope")["tests"] if test["visibility"] == "visible"]
    room = content(grade, folder, "classroom50")
    prairie = content(grade, folder, "prairielearn")
    fifty = content(grade, folder, "check50")["results"]
    root = check_junit(made(grade, folder, "junit")["junit.xml"])
    kept = {name: [int(each.get("value")) for each in root.iter("property") if each.get("name") == name]
            for name in ("points", "max_points")}  # fmt: skip
    markdown = re.search(
        r"^## .*: (\d+) of (\d+) points$", made(grade, folder, "markdown")["report.md"], re.M
    )
    page = re.search(r"<b>(\d+)</b> of (\d+) points", made(grade, folder, "html")["report.html"])
    return {
        "gradescope": (sum(test["score"] for test in seen), sum(test["max_score"] for test in seen)),
        "classroom50": (room["score"], room["max-score"]),
        "its tests": tuple(sum(test[each] for test in room["tests"]) for each in ("score", "max-score")),
        "prairielearn": tuple(
            sum(test[each] for test in prairie["tests"]) for each in ("points", "max_points")
        ),
        "its score": (round(prairie["score"] * room["max-score"], 9), room["max-score"]),
        "check50": tuple(
            sum(each["data"].get(what, 0) for each in fifty) for what in ("points", "max_points")
        ),
        "junit": (sum(kept["points"]), sum(kept["max_points"])),
        "markdown": tuple(map(int, markdown.groups())),
        "html": tuple(map(int, page.groups())),
    }


@pytest.mark.parametrize("case", [case for case in CASES if case not in OURS])
def test_the_points_are_the_same_in_all_formats(real, case):
    grade, folder = CASES[case](real)
    found = totals(grade, folder)
    shown = [check for lab in grade["labs"] for check in lab["checks"] if not check["hidden"]]
    assert set(found.values()) == {
        tuple(sum(check[what] for check in shown) for what in ("points", "max_points"))
    }
    if case != "hidden":
        assert found["html"] == (grade["points"], grade["max_points"])


@pytest.mark.parametrize("case", ["stub", "several"])
def test_the_checks_come_in_the_order_of_their_file(real, case):
    grade, folder = CASES[case](real)
    prefixes = [f"Lab {int(lab['lab'][3:5])}: " if case == "several" else "" for lab in grade["labs"]]
    wanted = [
        prefix + check["title"]
        for prefix, lab in zip(prefixes, grade["labs"], strict=True)
        for check in lab["checks"]
    ]
    root = check_junit(made(grade, folder, "junit")["junit.xml"])
    assert [test["name"] for test in content(grade, folder, "gradescope")["tests"]] == wanted
    assert [test["test-name"] for test in content(grade, folder, "classroom50")["tests"]] == wanted
    assert [test["name"] for test in content(grade, folder, "prairielearn")["tests"]] == wanted
    assert [test["description"] for test in content(grade, folder, "check50")["results"]] == wanted
    assert [test["name"] for test in content(grade, folder, "exercism")["tests"]] == wanted
    assert [each.get("name") for each in root.iter("testcase")] == wanted
    names = [test["name"] for test in content(grade, folder, "check50")["results"]]
    assert len(set(names)) == len(names)
    page = Page(made(grade, folder, "html")["report.html"])
    short = [title.partition(": ")[2] if case == "several" else title for title in wanted]
    assert page.texts("title") == short
    places = [
        made(grade, folder, "markdown")["report.md"].find(f"| {text.prose(title)} |") for title in short
    ]
    assert case == "several" or (-1 not in places and places == sorted(places))


@every_case
def test_a_record_gives_the_same_report_each_time(real, case):
    grade, folder = CASES[case](real)
    for name in reports.FORMATS:
        assert made(grade, folder, name) == made(copy.deepcopy(grade), folder, name)


def test_a_failure_tells_its_story_in_every_format(real):
    grade, folder = failed(real)
    check = next(check for check in grade["labs"][0]["checks"] if check["outcome"] == "failed")
    first, *_, question = check["message"].splitlines()
    for name in reports.FORMATS:
        told = Page(found).all_text() if (found := made(grade, folder, name).get("report.html")) else ""
        told = told or "\n".join(made(grade, folder, name).values()).replace("\\u0023", "#").replace(
            '\\"', '"'
        )
        told = told.replace("&gt;", ">").replace("&amp;", "&")
        assert first in told and question in told, name
        if name not in ("native", "classroom50"):
            assert f"--replay lab02/failures/{check['id']}.json" in told, name


def test_what_waits_for_another_check_names_it(real):
    grade, folder = stub(real)
    check = grade["labs"][0]["checks"][2]
    words = "Not run until “Every task is done once, oldest first” passes."
    assert check["waits_for"] == "tasks_are_done"
    fifty = content(grade, folder, "check50")["results"]
    assert fifty[2]["passed"] is None and fifty[2]["dependency"] == fifty[1]["name"] == "tasks_are_done"
    assert fifty[2]["cause"]["rationale"] == words
    assert content(grade, folder, "prairielearn")["tests"][2]["message"] == words
    assert content(grade, folder, "exercism")["tests"][2] | {"test_code": ""} == {
        "name": check["title"], "status": "error", "message": words, "test_code": "", "task_id": check["task"],
    }  # fmt: skip
    root = check_junit(made(grade, folder, "junit")["junit.xml"])
    assert root.findall(".//testcase")[2].find("skipped").get("message") == words
    assert words in Page(made(grade, folder, "html")["report.html"]).all_text()


def test_exercism_cuts_a_long_output_and_says_so(real):
    grade, folder = failed(real)
    check = next(check for check in grade["labs"][0]["checks"] if check["outcome"] == "failed")
    check |= {"replay": f"failures/{'x' * 600}.json"}
    told = next(test for test in content(grade, folder, "exercism")["tests"] if test["status"] == "fail")
    assert len(told["output"]) <= 500 and "cut here" in told["output"]


def test_exercism_shows_the_code_of_each_check(real):
    for test in content(*stub(real), "exercism")["tests"]:
        assert test["test_code"].startswith("def test_") and test["name"] in test["test_code"]


# ---- nothing that is wrong, and nothing that misleads ----------------------------------------------------------------


@pytest.mark.parametrize("outcome", ["failed", "timed out", "not run"])
def test_whether_a_hidden_check_passed_changes_nothing_that_a_student_sees(real, outcome):
    for name in FOR_STUDENTS:
        one, other = (made(*hidden(real, each), name) for each in ("passed", outcome))
        if name == "gradescope":
            one, other = ({name: visible(found)} for found in (one["results.json"], other["results.json"]))
        assert one == other, name
        for secret in SECRETS:
            assert not any(secret.lower() in each.lower() for each in one.values()), name


def visible(results):
    found = json.loads(results)
    found["tests"] = [test for test in found["tests"] if test["visibility"] == "visible"]
    return json.dumps(found)


def test_gradescope_hides_a_hidden_check_and_the_instructor_sees_it_graded(real):
    grade, folder = hidden(real)
    tests = content(grade, folder, "gradescope")["tests"]
    secret = [test for test in tests if test["visibility"] == "hidden"]
    assert [test["status"] for test in secret] == ["passed", "failed"]
    assert "a secret story" in secret[1]["output"]
    assert sum(test["score"] for test in tests) == grade["points"]
    assert sum(test["max_score"] for test in tests) == grade["max_points"]


def test_no_report_says_that_all_passed_while_some_are_hidden(real):
    grade, folder = hidden(real, "passed")
    words = "2 more checks are hidden: they are not counted in the points shown here."
    for name in FOR_STUDENTS:
        assert words in "\n".join(made(grade, folder, name).values()).replace("\\", ""), name
    assert not all(test["passed"] for test in content(grade, folder, "classroom50")["tests"])
    assert not all(test["passed"] for test in content(grade, folder, "check50")["results"])
    assert content(grade, folder, "exercism")["status"] == "fail"
    assert content(grade, folder, "prairielearn")["tests"][-1]["max_points"] == 0
    assert check_junit(made(grade, folder, "junit")["junit.xml"]).find("testsuite").get("skipped") == "1"
    assert Page(made(grade, folder, "html")["report.html"]).texts("badge") == ["what is shown passed"]
    assert content(*passed(real), "exercism")["status"] == "pass"
    assert Page(made(*passed(real), "html")["report.html"]).texts("badge") == ["passed"]


def test_a_timeline_that_counts_hidden_points_is_not_handed_on(real):
    grade, folder = hidden(real)
    assert set(made(grade, folder, "classroom50")) == {"result.json", "release-body.md"}
    assert "timeline.html" not in made(grade, folder, "html")["report.html"]
    assert "lab02-timeline.html" in made(*passed(real), "classroom50")


def test_a_check_that_waits_for_a_hidden_one_does_not_say_so(real):
    grade, folder = hidden(real)
    waiting = ended(grade["labs"][0]["checks"][12], "not run") | {"waits_for": "secret_check_9"}
    grade["labs"][0]["checks"][12] = waiting
    assert content(again(grade), folder, "check50")["results"][10]["cause"]["rationale"] == "Not run."


@pytest.mark.parametrize("case", OURS)
def test_infrastructure_is_no_grade_and_says_what_to_do(real, case):
    grade, folder = CASES[case](real)
    scope = content(grade, folder, "gradescope")
    assert scope["tests"] == [] and "score" not in scope
    assert (
        "Not graded" in scope["output"] and "run the autograder on this submission again" in scope["output"]
    )
    assert "result.json" not in made(grade, folder, "classroom50")
    assert reports.exit_status(grade) == 3
    prairie = content(grade, folder, "prairielearn")
    assert prairie["gradable"] is False and prairie["format_errors"] and "score" not in prairie
    exercism = content(grade, folder, "exercism")
    assert exercism["status"] == "error" and exercism["tests"] == []
    root = check_junit(made(grade, folder, "junit")["junit.xml"])
    assert int(root.get("errors")) >= 1 and root.get("failures") == "0"
    assert root.find(".//property[@name='points']") is None
    fifty = content(grade, folder, "check50")
    broken = [each for each in fifty.get("results", []) if each["passed"] is None]
    assert all(each["cause"]["error"]["value"] for each in broken) and (broken or fifty["error"]["value"])
    for name in FOR_STUDENTS:
        told = "\n".join(made(grade, folder, name).values())
        assert "pace" in told and "left on the device" in told, name  # the reason
        assert not re.search(r"\b\d+ of \d+ points", told), name


def test_infrastructure_in_one_lab_does_not_hide_what_another_has(real):
    grade, folder = real("failed", "passed")
    labs = grade["labs"]
    labs[1] |= {"lab": "lab04_dead_letters", "folder": "", "outcome": "infrastructure"}
    labs[1]["checks"] = [ended(check, "infrastructure", "no space left") for check in labs[1]["checks"]]
    grade = again(grade)
    assert grade["outcome"] == "infrastructure"
    said = f"Lab 2 was graded all the same: {labs[0]['points']} of {labs[0]['max_points']} points."
    for name in ("gradescope", "prairielearn", "exercism", "markdown", "html"):
        told = "\n".join(made(grade, folder, name).values()).replace(
            "\\", ""
        )  # Markdown marks its own characters
        assert said in told and "Lab 4 was graded" not in told, name
    assert content(grade, folder, "gradescope")["tests"] == []


def test_a_class_without_trouble_ends_with_status_0(real):
    assert {
        reports.exit_status(CASES[case](real)[0]) for case in ("passed", "failed", "timed_out", "refused")
    } == {0}


def test_a_time_that_is_over_is_told_with_the_last_act(real):
    grade, folder = timed_out(real)
    for name in reports.FORMATS:
        assert LAST_ACT in "\n".join(made(grade, folder, name).values()), name
    page = Page(made(grade, folder, "html")["report.html"])
    assert page.texts("badge") == ["timed out"]
    assert [test["passed"] for test in content(grade, folder, "check50")["results"]][:5] == [True] * 5
    grade["labs"][0]["checks"][6]["message"] = ""
    assert "nothing is known of what the submission did last" in made(grade, folder, "markdown")["report.md"]


@pytest.mark.parametrize("case", ["refused", "nothing"])
def test_what_could_not_be_graded_at_all_is_no_pass_and_no_empty_page(real, case):
    grade, folder = CASES[case](real)
    assert content(grade, folder, "exercism")["status"] == "fail"
    assert content(grade, folder, "prairielearn")["score"] == 0
    assert not any(test["passed"] for test in content(grade, folder, "classroom50")["tests"])
    assert content(grade, folder, "classroom50")["tests"]  # none at all would be a pass
    assert all(test["passed"] is not True for test in content(grade, folder, "check50")["results"])
    why = grade["notes"][0]
    for name in FOR_STUDENTS:
        assert why in "\n".join(made(grade, folder, name).values()).replace("\\", ""), name
    assert made(grade, folder, "markdown")["report.md"].count("```text") <= 1  # once, not once for each check


def test_what_cannot_be_made_on_this_broker_counts_neither_way(real):
    grade, folder = not_here(real)
    assert content(grade, folder, "exercism")["status"] == "pass"
    assert content(grade, folder, "prairielearn")["score"] == 1
    assert all(test["passed"] for test in content(grade, folder, "classroom50")["tests"])
    assert "status" not in content(grade, folder, "gradescope")["tests"][11]
    assert "1 check could not be made on this broker" in made(grade, folder, "html")["report.html"]


# ---- what a submission says -------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What a browser finds in a page: elements with their attributes, and the text in them."""

    def __init__(self, page):
        super().__init__()
        self.found, self.heard, self.open = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "path", "rect", "use"):
            self.open.append((tag, dict(attributes)))

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        for tag, attributes in self.open[-1:]:
            self.heard.append((tag, attributes.get("class", ""), data))

    def texts(self, kind):
        """The texts of the elements of this class, in order."""
        return [data for _, classes, data in self.heard if kind in classes.split()]

    def all_text(self):
        return "\n".join(data for tag, _, data in self.heard if tag not in ("style", "title"))


def strings(value):
    """All strings within JSON, keys too."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from (key, *strings(each))
    elif isinstance(value, list):
        for each in value:
            yield from strings(each)
    elif isinstance(value, str):
        yield value


def trouble_in(told):
    """What in a text would steer a terminal or a CI system, if any."""
    steering = [char for char in told if not char.isprintable() and char != "\n"]
    commands = [
        line for line in told.split("\n") if line.lstrip().startswith("::") or re.search(r"##\w*\[", line)
    ]
    return steering + commands


@pytest.mark.parametrize("name", reports.FORMATS)
def test_nothing_steers_a_terminal_or_a_log(real, name):
    assert trouble_in(EVIL)
    for file, found in made(*hostile(real), name).items():
        if file.endswith("-timeline.html"):
            continue
        found.encode()  # no half of a surrogate pair
        assert trouble_in(found.replace("\N{ZERO WIDTH SPACE}", "")) == [], file
        if file.endswith(".json") and name != "native":
            assert [each for told in strings(json.loads(found)) for each in trouble_in(told)] == []


def test_the_record_itself_is_kept_as_it_is(real):
    grade, folder = hostile(real)
    assert content(grade, folder, "native") == grade


@pytest.mark.parametrize("case", [*CASES, "hostile"])
def test_the_page_has_nothing_but_its_own_elements(real, case):
    grade, folder = hostile(real) if case == "hostile" else CASES[case](real)
    whole = made(grade, folder, "html")["report.html"]
    page = Page(whole)
    own = {
        *(
            "html",
            "head",
            "meta",
            "title",
            "style",
            "body",
            "header",
            "section",
            "footer",
            "h1",
            "h2",
            "p",
            "b",
            "dl",
        ),
        *(
            "div",
            "dt",
            "dd",
            "ul",
            "li",
            "span",
            "table",
            "thead",
            "tbody",
            "tfoot",
            "tr",
            "th",
            "td",
            "a",
            "details",
        ),
        *("summary", "pre", "svg", "defs", "g", "path", "rect", "text", "use", "pattern"),
    }
    assert {tag for tag, _ in page.found} <= own
    for tag, attributes in page.found:
        assert not any(each.startswith("on") or each in ("style", "src") for each in attributes), tag
        link = attributes.get("href", "#")
        assert link.startswith("#") or re.fullmatch(r"\.\./lab\d\d/timeline\.html", link)
    policy = next(each["content"] for tag, each in page.found if each.get("http-equiv"))
    style = re.search(r"<style>(.*?)</style>", whole, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; ") and f"style-src 'sha256-{digest}'" in policy
    assert not re.search(r"url\((?!#)|@import|https?:", style)
    assert "prefers-color-scheme: dark" in style
    ids = [attributes["id"] for _, attributes in page.found if "id" in attributes]
    assert len(set(ids)) == len(ids)


def test_a_failure_is_folded_open_and_drawn(real):
    page = Page(made(*failed(real), "html")["report.html"])
    folds = [attributes for tag, attributes in page.found if tag == "details"]
    opened = [fold for fold in folds if "open" in fold]
    assert [fold["class"] for fold in opened] == ["check failed"]
    assert [each for tag, each in page.found if tag == "svg" and "scene" in each.get("class", "")]


@pytest.mark.parametrize("case", [*CASES, "hostile"])
def test_markdown_shows_what_was_said_and_obeys_none_of_it(real, case):
    grade, folder = hostile(real) if case == "hostile" else CASES[case](real)
    whole = made(grade, folder, "markdown")["report.md"]
    assert len(whole) <= 65_536
    tokens = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(whole)
    flat = [inner for token in tokens for inner in (token, *(token.children or ()))]
    for token in flat:
        assert token.type not in ("image", "html_inline"), token.content
        if token.type == "html_block":
            assert re.fullmatch(r"(<details><summary>[^<>\n]*</summary>|</details>)\s*", token.content)
        if token.type == "link_open":
            assert re.fullmatch(r"\.\./lab\d\d/timeline\.html", token.attrs["href"])
        if token.type in ("text", "html_block"):
            assert not re.search(r"@\w|www\.|://|GH-\d", token.content), token.content
    headings = [token.tag for token in tokens if token.type == "heading_open"]
    assert headings == ["h2", *["h3"] * max(1, len(grade["labs"]))]
    folds = [token.content.strip()[:9] for token in flat if token.type == "html_block"]
    assert folds == ["<details>", "</details"] * (len(folds) // 2)
    if case == "hostile":
        fences = [token.content for token in tokens if token.type == "fence"]
        assert sum("</details></summary>" in each and "@everyone" in each for each in fences) >= 2
    for table in re.findall(r"(?:^\|.*\n)+", whole, re.M):
        assert {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()} == {4}


def test_markdown_in_gradescope_cannot_be_broken_out_of(real):
    tests = content(*hostile(real), "gradescope")["tests"]
    for test in tests:
        assert test["output_format"] == "md" and test["name_format"] == "text"
        tokens = MarkdownIt("commonmark").parse(test["output"])
        kinds = {token.type for token in tokens}
        assert kinds <= {"fence", "paragraph_open", "inline", "paragraph_close"}
        assert {inner.type for token in tokens for inner in token.children or ()} <= {"code_inline"}
    assert sum("</details></summary>" in test["output"] for test in tests) == 3


def test_xml_has_what_was_said_as_text(real):
    root = check_junit(made(*hostile(real), "junit")["junit.xml"])
    told = root.find(".//failure[@type='timed out']").text
    assert "<script>alert(1)</script>" in told and "]]>" in told and "set-output" in told
    assert "\ufffe" not in told and "red link" in " ".join(told.split())


def test_stories_are_told_line_by_line():
    said = "a\tb\r\nc\rd\x1b[1;31me\x1b[0m\n\n  - f"
    assert text.plain(said) == "a   b\nc\nde\n\n  - f"
    assert text.line(said) == "a b c de - f"
    for steers in (
        "::error::x",
        "a\n \x1b[2K::x",
        "a ##[error]",
        "##vso[x]",
        "###[x]",
        "\x9b31m",
        "\x1b]0;x\n::x",
    ):
        assert trouble_in(text.plain(steers)) == trouble_in(text.line(steers)) == []
    assert text.plain("redis::1 # [x] #[y] ## z") == "redis::1 # [x] #[y] ## z"


@pytest.mark.parametrize("longest", [40, 100, 1000])
@pytest.mark.parametrize("length", [30, 41, 99, 100, 101, 5_000, 2_000_000])
def test_what_is_cut_says_so(length, longest):
    told = text.plain("x" * length, longest)
    assert len(told) <= longest
    if length <= longest:
        assert told == "x" * length
    else:
        cut = int(re.search(r"cut here, (\d+) more", told).group(1))
        assert cut >= length - longest
        assert abs(told.count("x") + cut - length) <= 60  # the words themselves take some room


@pytest.mark.parametrize("letter", ["x", "é", "\U0001f600", "`", "<", "::\n", "\x1b]"])
def test_no_report_grows_without_end(real, letter):
    grade, folder = real("stub")
    lab = grade["labs"][0]
    most = 100_000 // len(letter)
    for place, check in enumerate(lab["checks"]):
        lab["checks"][place] = ended(check, "failed", letter * most)
    lab["notes"] = [letter * most] * 30
    grade["labs"] = [copy.deepcopy(lab) | {"lab": f"lab0{number}_x", "folder": ""} for number in (1, 2, 3)]
    grade = again(grade)
    limits = {"gradescope": 1e6, "classroom50": 5e5, "prairielearn": 1e6, "check50": 1e6, "exercism": 1e6,
              "junit": 2e6, "markdown": 65_536, "html": 2.5e6}  # fmt: skip
    for name, most_bytes in limits.items():
        for found in made(grade, folder, name).values():
            assert len(found.encode()) <= most_bytes, name
            assert "cut here" in found, name
    schema_of("exercism").validate(content(grade, folder, "exercism"))


# ---- pictures -----------------------------------------------------------------------------------------------------


def test_prairielearn_gets_a_picture_of_each_failure(real):
    grade, folder = failed(real)
    tests = content(grade, folder, "prairielearn")["tests"]
    drawn = [test for test in tests if "images" in test]
    assert [test["points"] < test["max_points"] for test in drawn] == [True]
    svg = base64.b64decode(drawn[0]["images"][0]["url"].partition(",")[2]).decode()
    root = ET.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg" and "task 1" in svg
    links = {each.get("href") for each in root.iter() if each.get("href")}
    assert links <= {f"#{each.get('id')}" for each in root.iter() if each.get("id")}


def test_pictures_that_do_not_fit_are_left_out_and_it_is_said(real, tmp_path):
    grade, _ = real("stub")
    lab = grade["labs"][0]
    lab["checks"] = [ended(check, "failed", f"story of {check['id']}") for check in lab["checks"]]
    drawn = (
        '<svg class="scene" viewBox="0 0 10 10" role="img">'
        + '<rect width="5" height="5"/>' * 4_000
        + "</svg>"
    )
    (tmp_path / "lab02").mkdir()
    (tmp_path / "lab02/timeline.html").write_text(
        "".join(
            f'<details class="check failed" id="{check["id"]}">{drawn}</details>' for check in lab["checks"]
        )
    )
    whole = made(again(grade), tmp_path, "prairielearn")["results.json"]
    assert len(whole.encode()) <= 1_000_000
    found = json.loads(whole)
    schema_of("prairielearn").validate(found)
    shown = sum("images" in test for test in found["tests"])
    assert 0 < shown < len(lab["checks"])
    assert f"{len(lab['checks']) - shown} pictures are left out" in found["output"]
    assert all(test["message"].startswith("story of") for test in found["tests"])


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>", '<rect onload="alert(1)"/>', '<image href="http://x.invalid"/>',
        '<use href="http://x.invalid#a"/>', '<rect style="x"/>',
        '<g xmlns:x="http://www.w3.org/1999/xlink" x:href="#"/>',
        "<foreignObject/>", "<rect>", "<a/>", "&undefined;",
    ],
)  # fmt: skip
def test_a_picture_that_is_none_of_ours_is_not_taken(inside):
    page = '<details class="check failed" id="one"><figure><svg class="scene" viewBox="0 0 9 9">{}</svg></figure>'
    assert pictures.first(page.format('<rect width="9"/>'), "one")
    assert pictures.first(page.format(inside), "one") == ""
    assert pictures.first(page.format('<rect width="9"/>'), "another") == ""


def test_a_record_without_its_files_still_makes_every_report(real, tmp_path):
    grade, _ = failed(real)
    for name in reports.FORMATS:
        assert made(grade, tmp_path / "gone", name)


# ---- files --------------------------------------------------------------------------------------------------------


def test_each_format_is_written_where_its_system_looks(real, tmp_path):
    grade, folder = failed(real)
    (tmp_path / "lab02").mkdir()
    (tmp_path / "lab02/timeline.html").write_bytes((folder / "lab02/timeline.html").read_bytes())
    (tmp_path / "junit").mkdir()
    (tmp_path / "junit/old.xml").write_text("of an earlier run")
    reports.write(grade, tmp_path, [*reports.FORMATS, "html"])
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        "lab02/timeline.html", "native/grade.json", "gradescope/results.json", "classroom50/result.json",
        "classroom50/release-body.md", "classroom50/lab02-timeline.html", "prairielearn/results.json",
        "check50/results.json", "exercism/results.json", "junit/junit.xml", "markdown/report.md", "html/report.html",
    }  # fmt: skip
    with pytest.raises(KeyError):
        reports.write(grade, tmp_path, ["pdf"])


def test_an_earlier_grade_does_not_outlive_a_grading_that_could_not_be_done(real, tmp_path):
    reports.write(*passed(real)[:1], tmp_path, ["classroom50"])
    assert (tmp_path / "classroom50/result.json").exists()
    reports.write(*infrastructure(real)[:1], tmp_path, ["classroom50"])
    assert not (tmp_path / "classroom50/result.json").exists()


def test_classroom_50_is_told_what_its_runner_said(real, monkeypatch):
    grade, folder = failed(real)
    grade |= {"commit": "a" * 40, "committed": "2026-11-22T16:30:00+02:00"}
    bare = content(grade, folder, "classroom50")
    assert (bare["owner"], bare["assignment"], bare["commit"]) == ("anna", "lab02_blocking", "a" * 40)
    for name, value in RUNNER.items():
        monkeypatch.setenv(name, value)
    found = content(grade, folder, "classroom50")
    assert found["datetime"] == "2026-11-22T14:30:00Z" and found["graded_at"] == "2026-11-22T16:00:00Z"
    assert [found[name] for name in ("classroom", "assignment", "assignment_type", "owner", "submission", "commit",
                                     "release", "review")] == [RUNNER[name] for name in (
        "CLASSROOM", "ASSIGNMENT", "ASSIGNMENT_TYPE", "OWNER", "SUBMISSION_TAG", "COMMIT_URL", "RELEASE_URL",
        "REVIEW_URL")]  # fmt: skip
    monkeypatch.delenv("REVIEW_URL")
    assert content(grade, folder, "classroom50")["review"] == RUNNER["COMMIT_URL"]


def test_the_files_of_a_release_have_names_that_it_takes(real):
    names = set(made(*several(real), "classroom50")) - {"result.json", "release-body.md"}
    assert names == {"lab02-timeline.html"}
    assert all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*[A-Za-z0-9]", name) for name in names)


def test_json_is_for_people_and_still_the_same():
    said = {"a": "“✗” é \ud800 \x1b \x9b \u202e ##[x] ###vso[y] \\##[z]"}
    written = files.to_json(said)
    assert json.loads(written) == said
    assert "“✗” é" in written and trouble_in(written) == []


def test_a_view_counts_only_what_it_shows(real):
    view = View(hidden(real)[0])
    assert len(view.checks) == 12 and view.hidden == 2
    assert view.points == sum(check.points for check in view.checks)
