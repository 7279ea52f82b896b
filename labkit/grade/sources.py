"""What was handed in, made a folder: a folder as it stands, an archive unpacked, a commit of a repository.

A source is one of these, in this order:

    anything with `://`, or HOST:PATH     a git repository; `@COMMIT` behind it names a commit, a branch or a tag
    a folder that is there                that folder as it stands, even if it is a repository
    a file that is there                  an archive: zip or tar, by what is in it and not by its name
    PATH@COMMIT, and PATH is a folder     a repository on this machine, at that commit (`PATH@HEAD`: the latest)

`@` counts only behind the last slash, so that `https://anna@host/repo` has no commit in it. Nothing of a source is run.
A folder is read where it is, and never written to.
"""

import errno
import hashlib
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labkit.course import Lab, labs
from labkit.grade import archives, repositories
from labkit.grade.refused import BadSource
from labkit.grader.failure import InfrastructureError
from labkit.grader.submission import LARGEST_FILE
from labkit.grader.words import clean
from labkit.stubs import originals

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(://|::)|[A-Za-z0-9._-]+(@[A-Za-z0-9._-]+)?:[^/\\]")
SECRET = re.compile(r"(?<=://)[^/]*@(?=[^/@]+(/|$))")
LONGEST_NAME = 64
DEEPEST = 100  # folders in folders
TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
ENDINGS = (*(f".tar.{kind}" for kind in ("gz", "xz", "bz2")), ".tgz", ".tar", ".zip", ".git")


@dataclass(frozen=True)
class Handed:
    """What was handed in, ready to be read.

    source: as it was given, but for a password in a URL.
    digest: sha256, hexadecimal: of an archive's bytes, of a commit's hash, or of a folder's names and contents.
    commit, committed: of a git source, its full hash and its committer date (ISO 8601, UTC).
    """

    source: str
    folder: Path
    digest: str
    commit: str = ""
    committed: str = ""
    notes: tuple[str, ...] = ()


def fetch(source: str, into: Path) -> Handed:
    """Make a source a folder that can be graded. What has to be written goes below `into`.

    into: an empty folder that is the caller's to remove.

    Raises:
        BadSource: it is not there, or refused; its text is one line for the instructor.
        InfrastructureError: the network or the disk; it says nothing about what was handed in. One line, too.
    """
    try:
        return _fetched(source, into)
    except BadSource as refused:
        raise BadSource(_line(source, str(refused))) from None
    except InfrastructureError as trouble:
        raise InfrastructureError(_line(source, str(trouble))) from None
    except OSError as error:
        kind = InfrastructureError if error.errno in TROUBLE else BadSource
        raise kind(_line(source, f"it cannot be read ({error.strerror or error})")) from None


def _fetched(source: str, into: Path) -> Handed:
    place, commit = _repository(source)
    if place:
        got = repositories.fetch(place, commit, into)
        return _handed(source, got.folder, _sha256(got.commit.encode()), got.commit, got.committed, got.notes)
    path = Path(source)
    if not os.path.lexists(path):
        raise BadSource("there is no such folder or archive")
    if path.is_symlink():
        raise BadSource("it is a link; name what it leads to")
    if path.is_dir():
        return _handed(source, path.resolve(), digest_of(path))
    if not path.is_file():
        raise BadSource("it is neither a folder nor an archive")
    return _handed(source, into, archives.unpack(path, into))


def _line(source: str, words: str) -> str:
    return clean(" ".join(told_as(f"{source}: {words}").split()))


def is_there(source: str) -> bool:
    """Whether it names something on this machine, or a repository elsewhere that may be there."""
    return os.path.lexists(source) or bool(_repository(source)[0])


def told_as(source: str) -> str:
    """The source as it may be shown: a password in its URL left out."""
    return SECRET.sub("…@", source)


def name_of(source: str) -> str:
    """A name for a source that can be a folder's: letters, digits, dots, dashes, and never a dot in front.

    Two sources may get the same one.
    """
    place, commit = _repository(source)
    path = place or source
    base = (
        re.split(r"[/:]", path.rstrip("/"))[-1] if place and URL.match(place) else Path(path).resolve().name
    )
    for ending in ENDINGS:
        if base.lower().endswith(ending) and len(base) > len(ending):
            base = base[: -len(ending)]
            break
    name = _plain(base)
    if not name:
        name = f"submission-{_sha256(source.encode('utf-8', 'surrogateescape'))[:8]}"
    if commit and commit != "HEAD":
        short = _plain(commit)[:12]
        name = f"{name[: LONGEST_NAME - 1 - len(short)]}-{short}"
    return name[:LONGEST_NAME].rstrip("-.")


def lab_folder(handed: Path, lab: Lab) -> Path | None:
    """Where the files of this lab are: labs/SLUG, SLUG, or the folder itself; None where they are not.

    The folder itself counts if it holds a script of the lab, is not called like another lab, and has no lab's folder
    in it. Links are not followed.
    """
    for folder in (handed / "labs" / lab.slug, handed / lab.slug):
        if folder.is_dir() and not folder.is_symlink() and not folder.parent.is_symlink():
            return folder
    others = {one.slug for one in labs()} - {lab.slug}
    if handed.name in others or any(True for _ in _folders_of_labs(handed)):
        return None
    return handed if any((handed / name).is_file() for name in scripts_of(lab)) else None


def labs_in(handed: Path) -> tuple[Lab, ...]:
    """The labs that were handed in, in order, where nobody has said which.

    A lab's folder that is not called like one is the lab that has most of its file names: `fair.py` is lab 5's.
    """
    found = [lab for lab in labs() if lab_folder(handed, lab)]
    if any(lab_folder(handed, lab) != handed for lab in found):
        return tuple(found)
    there = {path.name for path in handed.iterdir() if path.is_file()} if found else set()
    common = {lab: len(there & {name for name in originals(lab) if name.endswith(".py")}) for lab in found}
    return tuple(lab for lab in found if common[lab] == max(common.values()))


def scripts_of(lab: Lab) -> list[str]:
    """The names of the scripts that a student writes."""
    return [name for name in originals(lab) if name.endswith(".py") and name not in lab.given]


def digest_of(folder: Path) -> str:
    """The sha256 of a folder's names and contents, but for what grading never reads: hidden files, what links lead to,
    and the contents of files that are too large.

    Raises:
        BadSource: too many files.
    """
    digest = hashlib.sha256()
    for path in _files_of(folder):
        name = os.fsencode(path.relative_to(folder))
        size = path.lstat().st_size
        digest.update(b"%d %s %d\n" % (len(name), name, size))
        if path.is_symlink():
            digest.update(os.fsencode(os.readlink(path)))
        elif path.is_file() and size <= LARGEST_FILE:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _files_of(folder: Path) -> Iterator[Path]:
    count = 0
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if Path(parent, name).is_symlink()]
        folders[:] = sorted(name for name in folders if not _passed_over(name) and name not in links)
        if (
            folders and len(Path(parent).relative_to(folder).parts) >= DEEPEST
        ):  # os.walk ends with a RecursionError
            raise BadSource(f"it holds folders more than {DEEPEST} deep; name the folder of the labs")
        for name in sorted(files + links):
            if not _passed_over(name):
                count += 1
                if count > archives.MOST_FILES:
                    raise BadSource(
                        f"it holds more than {archives.MOST_FILES:,} files; name the folder of the labs"
                    )
                yield Path(parent, name)


def _passed_over(name: str) -> bool:
    return name.startswith((".", "__pycache__", "__MACOSX"))


def _handed(
    source: str, folder: Path, digest: str, commit: str = "", committed: str = "", notes=()
) -> Handed:
    """Look into the one folder that everything is wrapped in, if so it is; speak of links where a lab should be."""
    while (inner := _only_folder(folder)) is not None:
        folder = inner
    places = [folder / "labs", *(folder / part / lab.slug for part in ("labs", ".") for lab in labs())]
    links = [
        f"{path.relative_to(folder)} is a link; it was not followed." for path in places if path.is_symlink()
    ]
    return Handed(told_as(source), folder, digest, commit, committed, (*notes, *links))


def _only_folder(folder: Path) -> Path | None:
    there = [path for path in folder.iterdir() if not _passed_over(path.name)]
    if len(there) != 1 or there[0].is_symlink() or not there[0].is_dir() or there[0].name == "labs":
        return None
    return None if there[0].name in {lab.slug for lab in labs()} else there[0]


def _folders_of_labs(folder: Path) -> Iterator[Path]:
    for lab in labs():
        for path in (folder / "labs" / lab.slug, folder / lab.slug):
            if path.is_dir():
                yield path


def _repository(source: str) -> tuple[str, str]:
    """The repository and the commit that a source names ("" for the latest); ("", "") if it names none."""
    head, slash, tail = source.rpartition("/")
    if URL.match(source) and not os.path.lexists(source):
        if not slash:  # git@host:repo@COMMIT
            head, slash, tail = source.partition(":")
        name, at, commit = tail.rpartition("@")
        return (head + slash + name, commit) if at else (source, "")
    name, at, commit = tail.rpartition("@")
    place = head + slash + name
    if at and place and not os.path.lexists(source) and os.path.isdir(place):
        return place, commit or "HEAD"
    return "", ""


def _plain(text: str) -> str:
    ascii_only = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", ascii_only).strip("-.")[:LONGEST_NAME]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
