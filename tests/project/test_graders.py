"""The graders are graded: stubs fail, solutions and variants pass, wrong submissions are caught as was meant.

Every submission is graded in a process of its own. All gradings that the selected tests need are queued when
the first of them runs, and AT_ONCE of them go on at a time; a test waits for its own.

A wrong answer about time can be right by luck. One that slips through is graded once more, so that a run of 700
gradings does not fail for one such play; the warnings at the end of the run name it, and SLIPS bounds how many
there may be.
"""

import warnings
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from grading import (
    CAUGHT,
    Edit,
    EditDoesNotFit,
    Submission,
    a_solution_without,
    a_variant,
    checks,
    edited,
    mistakes_in_the_wild,
    the_solution,
    the_stub,
    told,
    variants,
    with_those_before,
    wrong_ones,
)

from labkit.course import labs

SLIPS = 2  # wrong submissions, of the 700 of a whole run, that only a second grading catches
AT_ONCE = 2  # a grading keeps the cores busy, but for the ends of its waits
LABS = [lab for lab in labs() if lab.grader.exists()]


def each_lab():
    return pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.slug)


def each(cases):
    """One test for each pair of a submission and what is expected of it."""
    cases = list(cases)
    return pytest.mark.parametrize("submission, expected", cases, ids=[case[0].name for case in cases])


@pytest.fixture(scope="session")
def gradings(request, tmp_path_factory):
    """The gradings of all submissions that the selected tests are about: name -> future of the result."""
    wanted = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    submissions = {each["submission"].name: each["submission"] for each in wanted if "submission" in each}
    folders = {name: tmp_path_factory.mktemp("grading") for name in submissions}
    brokers = request.config.getoption("--brokers")  # as `./lab test --brokers docker` gives it
    pool = ThreadPoolExecutor(AT_ONCE)
    yield {name: pool.submit(one.grade, folders[name], brokers) for name, one in submissions.items()}
    pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def slipped():
    """The names of the wrong submissions that their check let pass at the first grading."""
    return []


@pytest.fixture
def graded_again(request, submission, tmp_path, slipped):
    """A function that grades the submission of this test a second time, and says so."""

    def grade():
        slipped.append(submission.name)
        warnings.warn(f"{submission.name} slipped through its check, and was graded again", stacklevel=2)
        return submission.grade(tmp_path, request.config.getoption("--brokers"))

    return grade


@pytest.fixture
def result(gradings: dict[str, Future], submission: Submission) -> dict:
    misfit = gradings[submission.name].exception()
    if isinstance(misfit, EditDoesNotFit):
        pytest.fail(f"An edit of {submission.name} no longer fits.\n{misfit}", pytrace=False)
    return gradings[submission.name].result()


def expect(condition, message: str) -> None:
    """Fail with the message alone: no traceback of this file says more."""
    if not condition:
        pytest.fail(message, pytrace=False)


def expect_caught(result: dict, check: str, says: tuple[str, ...]) -> None:
    found = result["checks"][check]
    expect(found["outcome"] in CAUGHT, f"{check} was to catch it.\n{told(result) or 'Everything passed.'}")
    missing = [words for words in says if words not in found["message"]]
    expect(not missing, f"{check} caught it without saying {missing}.\n{told(result, check)}")


# ---- stubs and solutions -----------------------------------------------------------------------------------


@each((Submission(lab, f"{lab.slug}-stub", the_stub(lab)), lab) for lab in LABS)
def test_nothing_passes_on_the_stub_and_its_first_failures_name_a_todo(result, submission, expected):
    outcomes = {check["id"]: check["outcome"] for check in result["checks"].values()}
    expect("failed" in outcomes.values(), "No check failed.")
    expect(set(outcomes.values()) <= {"failed", "not run"}, f"On a stub: {outcomes}")
    silent = [
        check["id"]
        for check in result["checks"].values()
        if check["outcome"] == "failed" and "TODO " not in check["message"]
    ]
    expect(not silent, f"These name no TODO.\n{told(result, *silent)}")


@each(
    (Submission(lab, f"{lab.slug}-without-todo-{todo.number}", a_solution_without(lab, todo.number)), todo)
    for lab in LABS
    for todo in lab.todos
)
def test_a_gap_is_named(result, submission, expected):
    named = [
        check
        for check in result["checks"].values()
        if check["outcome"] == "failed" and f"TODO {expected.number}: {expected.say}" in check["message"]
    ]
    expect(named, f"No check says TODO {expected.number} ({expected.function}).\n{told(result)}")
    others = [
        check
        for check in result["checks"].values()
        if check["outcome"] not in ("passed", "not run") and check not in named
    ]
    expect(
        not others,
        f"Other checks fail for other reasons.\n{told(result, *(check['id'] for check in others))}",
    )


@each((Submission(lab, f"{lab.slug}-solution", the_solution(lab)), lab) for lab in LABS)
def test_the_solution_passes(result, submission, expected):
    expect(result["outcome"] == "passed", told(result))
    expect(
        result["points"] == result["max_points"] > 0, f"{result['points']} of {result['max_points']} points"
    )
    expect(result["checks"].keys() == checks(expected).keys(), "The result is not about all checks.")


@each(
    (Submission(lab, f"{lab.slug}-{path.name}", a_variant(lab, path)), path)
    for lab in LABS
    for path in variants(lab)
)
def test_a_variant_passes(result, submission, expected):
    expect(result["outcome"] == "passed", f"{expected.name} is right and was rejected.\n{told(result)}")
    expect(result["points"] == result["max_points"], f"{result['points']} of {result['max_points']} points")


# ---- wrong submissions -------------------------------------------------------------------------------------


@each(
    (
        Submission(
            lab,
            f"{lab.slug}-{wrong.name}",
            edited(lab.solution, wrong.edits),
            with_those_before(lab, wrong.check),
        ),
        wrong,
    )
    for lab in LABS
    for wrong in wrong_ones(lab)
)
def test_a_wrong_submission_is_caught(result, submission, expected, graded_again):
    if result["checks"][expected.check]["outcome"] not in CAUGHT:  # or one before it has caught it, by luck
        result = graded_again()
    expect_caught(result, expected.check, expected.says)


def test_hardly_any_wrong_submission_slips_through(slipped):
    expect(len(slipped) <= SLIPS, f"These were caught at the second grading only: {', '.join(slipped)}.")


@each_lab()
def test_every_check_catches_a_wrong_submission(lab):
    meant = {wrong.check for wrong in wrong_ones(lab)}
    idle = [check for check in checks(lab) if check not in meant]
    expect(not idle, f"No wrong submission is meant for {', '.join(idle)}.")
    unknown = meant - checks(lab).keys()
    expect(not unknown, f"There is no check called {', '.join(unknown)}.")


@each_lab()
def test_wrong_submissions_have_names_of_their_own(lab):
    names = [wrong.name for wrong in wrong_ones(lab)]
    expect(len(names) == len(set(names)), "Two wrong submissions have the same name.")


def test_an_edit_that_no_longer_fits_is_an_error(tmp_path):
    (tmp_path / "worker.py").write_text("take()\ntake()\n")
    for text in ("give()", "take()"):
        with pytest.raises(EditDoesNotFit):
            Edit("worker.py", text, "").apply(tmp_path)


# ---- found in the wild -------------------------------------------------------------------------------------


def wild_submissions(lab):
    """The program as it was found, then with one mistake after the other mended; the last has none left."""
    mistakes, mended = mistakes_in_the_wild(lab), []
    for number, mistake in enumerate([*mistakes, None]):
        shown = with_those_before(lab, (mistake or mistakes[-1]).check)
        make = edited(lab.folder / "wild", mended, over=lab.solution)
        yield Submission(lab, f"{lab.slug}-wild-{number}", make, shown), mistake
        mended = [*mended, *(mistake.edits if mistake else ())]


@each(case for lab in LABS for case in wild_submissions(lab))
def test_the_program_found_in_the_wild_shows_its_mistakes(result, submission, expected):
    if expected is None:
        expect(result["outcome"] == "passed", f"With all its mistakes mended it is to pass.\n{told(result)}")
    else:
        expect_caught(result, expected.check, expected.says)
