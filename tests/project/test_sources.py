"""What is handed in becomes a folder: folders, archives and repositories, and the archives that are refused."""

import contextlib
import gzip
import hashlib
import io
import lzma
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest

from labkit.course import lab, labs
from labkit.grade import archives, repositories, sources
from labkit.grade.sources import BadSource, digest_of, fetch, lab_folder, labs_in, name_of, told_as
from labkit.grader.failure import InfrastructureError

WORKER = b"print('a worker')\n"
MEGABYTE = 1_000_000
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def into(tmp_path):
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


def make_zip(path, *members, **settings):
    """A zip of (name or ZipInfo, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **settings) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def make_tar(path, *members, mode="w:gz"):
    """A tar of (name or TarInfo, content)."""
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = info.size or len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def of_kind(name, kind, leads_to=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, leads_to
    return info


def in_zip(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- what is graded --------------------------------------------------------------------------------------------


def test_a_folder_is_graded_where_it_is(tmp_path, into):
    (tmp_path / "anna" / "lab03_reliable").mkdir(parents=True)
    handed = fetch(str(tmp_path / "anna"), into)
    assert handed.folder == (tmp_path / "anna").resolve()
    assert not any(into.iterdir())
    assert lab_folder(handed.folder, lab(3)) == handed.folder / "lab03_reliable"
    assert lab_folder(handed.folder, lab(2)) is None


ARCHIVES = ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.tar.xz", "a.tar.bz2", "no-ending"]


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_unpacked(tmp_path, into, name):
    members = [("labs/lab02_blocking/worker.py", WORKER), ("labs/lab02_blocking/big.txt", b"x" * 300_000)]
    if name.endswith(".zip"):
        make_zip(tmp_path / name, *members)
    else:
        kind = name.rpartition(".")[2] if "." in name else "gz"
        make_tar(tmp_path / name, *members, mode=f"w:{ {'tar': '', 'tgz': 'gz'}.get(kind, kind) }")
    handed = fetch(str(tmp_path / name), into)
    assert files_in(lab_folder(handed.folder, lab(2))) == {"worker.py": WORKER, "big.txt": b"x" * 300_000}
    assert len(handed.digest) == 64 and handed.commit == ""


@pytest.mark.parametrize("wrapped", ["", "queue-course-main/", "a/b/", "anna/labs/"])
def test_one_folder_around_everything_is_looked_into(tmp_path, into, wrapped):
    members = [
        ("__MACOSX/._x", b""),
        (f"{wrapped}.git/config", b""),
        (f"{wrapped}lab02_blocking/worker.py", WORKER),
    ]
    handed = fetch(str(make_zip(tmp_path / "a.zip", *members)), into)
    assert files_in(lab_folder(handed.folder, lab(2))) == {"worker.py": WORKER}


def test_a_labs_own_folder_is_that_labs(tmp_path):
    folder = tmp_path / "lab03_reliable"
    folder.mkdir()
    (folder / "worker.py").write_bytes(WORKER)
    assert [one.number for one in labs() if lab_folder(folder, one)] == [3]
    assert [one.number for one in labs_in(folder)] == [3]


def test_scripts_without_a_folder_are_those_of_the_lab_that_is_asked_for(tmp_path):
    (tmp_path / "worker.py").write_bytes(WORKER)
    assert all(
        lab_folder(tmp_path, one) == tmp_path for one in labs() if "worker.py" in sources.scripts_of(one)
    )
    (tmp_path / "fair.py").write_bytes(b"")
    assert [one.number for one in labs_in(tmp_path)] == [5]
    (tmp_path / "lab03_reliable").mkdir()
    assert [one.number for one in labs_in(tmp_path)] == [3]


def test_labs_that_are_links_are_not_followed(tmp_path, into):
    (tmp_path / "theirs" / "lab03_reliable").mkdir(parents=True)
    for name, there in {"labs": "theirs", "lab03_reliable": "theirs/lab03_reliable"}.items():
        folder = tmp_path / name.partition("_")[0]
        folder.mkdir()
        (folder / name).symlink_to(tmp_path / there)
        (folder / "readme.txt").touch()
        handed = fetch(str(folder), into)
        assert lab_folder(handed.folder, lab(3)) is None
        assert f"{name} is a link; it was not followed." in handed.notes


def test_nothing_of_a_labs_scripts_is_no_lab(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert lab_folder(tmp_path, lab(1)) is None and labs_in(tmp_path) == ()


# ---- what is refused -------------------------------------------------------------------------------------------

OUTSIDE = "would be written outside"
NAMES = {
    "../evil.py": OUTSIDE,
    "labs/../../evil.py": OUTSIDE,
    "/tmp/evil.py": OUTSIDE,
    "C:evil.py": OUTSIDE,
    "c:/evil.py": OUTSIDE,
    "..\\evil.py": OUTSIDE,
    "labs\\lab02\\worker.py": OUTSIDE,
    "a\nb.py": "not text",
    "a\x1b[31m.py": "not text",
    "x" * 201: "too long",
    "x/" * 250 + "y": "too long",
}
HOSTILE_TARS = {
    "symlink": ([(of_kind("labs/worker.py", tarfile.SYMTYPE, "/etc/passwd"), b"")], "is a link"),
    "through a symlink": (
        [(of_kind("labs", tarfile.SYMTYPE, "/tmp"), b""), ("labs/evil.py", b"")],
        "is a link",
    ),
    "hard link": ([(of_kind("worker.py", tarfile.LNKTYPE, "/etc/passwd"), b"")], "is a link"),
    "device": ([(of_kind("worker.py", tarfile.CHRTYPE), b"")], "a device"),
    "pipe": ([(of_kind("worker.py", tarfile.FIFOTYPE), b"")], "a device"),
    "twice": ([("worker.py", b"1"), ("./worker.py", b"2")], "in it twice"),
    "a file and a folder": ([("labs", b"1"), ("labs/worker.py", b"2")], "a file and a folder"),
    "a folder and a file": ([("labs/worker.py", b"2"), ("labs", b"1")], "in it twice"),
    "not UTF-8": ([("caf\udce9.py", b"")], "not text"),
    "nothing but a dot": ([(".", b"1")], "in it twice"),
}
HOSTILE_ZIPS = {
    "symlink": ([(in_zip("labs/worker.py", stat.S_IFLNK | 0o777), "/etc/passwd")], "is a link"),
    "device": ([(in_zip("worker.py", stat.S_IFCHR | 0o666), "")], "a device"),
    "twice": ([("worker.py", "1"), ("./worker.py", "2")], "in it twice"),
    "a file and a folder": ([("labs", "1"), ("labs/worker.py", "2")], "a file and a folder"),
}


def refused(source, into, why):
    with pytest.raises(BadSource) as caught:
        fetch(str(source), into)
    words = str(caught.value)
    assert why in words and "\n" not in words and len(words) < 500 + len(str(source))
    assert words.isprintable()


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path, into, make, name):
    refused(make(tmp_path / "a", ("worker.py", WORKER), (name, b"evil")), into, NAMES[name])
    assert "evil" not in "".join(files_in(tmp_path))


@pytest.mark.parametrize("members, why", HOSTILE_TARS.values(), ids=HOSTILE_TARS)
def test_a_hostile_tar_is_refused(tmp_path, into, members, why):
    refused(make_tar(tmp_path / "a.tar", *members), into, why)
    assert not any(path.is_symlink() for path in into.rglob("*"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("members, why", HOSTILE_ZIPS.values(), ids=HOSTILE_ZIPS)
def test_a_hostile_zip_is_refused(tmp_path, into, members, why):
    refused(make_zip(tmp_path / "a.zip", *members), into, why)
    assert not any(path.is_symlink() for path in into.rglob("*"))


def deflated_zeros():
    """A gigabyte of zeros: the same megabyte again and again."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    piece = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return piece * 1000 + packer.flush()


def zip_of_zeros(path, size=1000 * MEGABYTE):
    packed = deflated_zeros()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("zeros.py", packed)
    content = bytearray(path.read_bytes())
    for mark, method, sizes in (b"PK\x03\x04", 8, 18), (b"PK\x01\x02", 10, 20):
        start = content.rindex(mark)
        struct.pack_into("<H", content, start + method, zipfile.ZIP_DEFLATED)
        struct.pack_into("<II", content, start + sizes, len(packed), size)
    path.write_bytes(content)


def zip_that_says_it_is_small(path):
    zip_of_zeros(path, size=10)


def tar_of_zeros(path):
    info = tarfile.TarInfo("zeros.py")
    info.size = 1000 * MEGABYTE
    path.write_bytes(gzip.compress(info.tobuf()) + gzip.compress(bytes(MEGABYTE)) * 1000)


def sparse_tar(path):
    """A terabyte that is nowhere, as GNU tar writes it."""
    info = tarfile.TarInfo("holes.py")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 0
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = tarfile.itn(10**12, 12, tarfile.GNU_FORMAT)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path.write_bytes(bytes(header) + bytes(1024))


def tar_with_a_huge_header(path):
    info = tarfile.TarInfo("worker.py")
    info.pax_headers = {"comment": "x" * (archives.LARGEST_HEADER + 1000)}
    make_tar(path, (info, WORKER), mode="w:xz")


def zip_of_many(path):
    make_zip(path, *((f"{number}.py", "") for number in range(archives.MOST_FILES + 1)))


def zip_of_very_many(path):
    """Its directory alone would take hundreds of megabytes of memory to read."""
    entry = b"PK\x01\x02" + bytes(24) + b"\x01" + bytes(17) + b"x"
    directory = entry * 1_000_000
    path.write_bytes(directory + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(directory), 0, 0))


def tar_of_many(path):
    make_tar(path, *((f"{number}.py", b"") for number in range(archives.MOST_FILES + 1)))


def larger_than_allowed(path):
    with path.open("wb") as file:
        file.write(b"PK\x03\x04")
        file.truncate(archives.MOST_BYTES + 1)


LARGE = {
    zip_of_zeros: "larger than 100 MB",
    zip_that_says_it_is_small: "larger than 100 MB|broken",
    tar_of_zeros: "larger than 100 MB",
    sparse_tar: "a sparse file",
    tar_with_a_huge_header: "headers are too large",
    zip_of_many: "more than 10,000 files",
    zip_of_very_many: "10,000 files",
    tar_of_many: "more than 10,000 files",
    larger_than_allowed: "larger than 100 MB",
}


FETCH = """
import pathlib, resource, sys
from labkit.grade.sources import BadSource, fetch
if sys.platform == "linux":
    resource.setrlimit(resource.RLIMIT_AS, (600_000_000, 600_000_000))
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
try:
    fetch(sys.argv[1], pathlib.Path(sys.argv[2]))
except BadSource as refused:
    sys.exit(str(refused))
"""


@pytest.mark.parametrize("make", LARGE, ids=lambda make: make.__name__)
def test_what_is_too_large_is_refused_early(tmp_path, into, make):
    """With little memory and computing, which FETCH limits, and little on the disk."""
    make(tmp_path / "a")
    fetching = subprocess.run(
        [sys.executable, "-c", FETCH, str(tmp_path / "a"), str(into)], capture_output=True, text=True
    )
    said = fetching.stderr
    assert fetching.returncode == 1 and said.count("\n") == 1, said
    assert any(words in said for words in LARGE[make].split("|")), said
    assert sum(len(content) for content in files_in(into).values()) <= archives.MOST_BYTES


def test_an_archive_that_asks_for_too_much_memory_is_refused(tmp_path, into):
    content = bytearray(lzma.compress(bytes(1024)))
    content[16] = 40  # the size of the dictionary, as xz writes it: 4 GB less a byte
    struct.pack_into("<I", content, 20, zlib.crc32(content[12:20]))
    (tmp_path / "a.tar.xz").write_bytes(content)
    refused(tmp_path / "a.tar.xz", into, "Memory usage limit")


def encrypted(path):
    make_zip(path, ("worker.py", WORKER))
    content = bytearray(path.read_bytes())
    for mark, place in (b"PK\x03\x04", 6), (b"PK\x01\x02", 8):
        content[content.index(mark) + place] |= 1
    path.write_bytes(content)


def test_an_encrypted_zip_is_refused(tmp_path, into):
    encrypted(tmp_path / "a.zip")
    refused(tmp_path / "a.zip", into, "encrypted")


def test_an_unusual_zip_is_refused(tmp_path, into):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("worker.py", WORKER)
    refused(tmp_path / "a.zip", into, "deflate")


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_an_archive_within_is_just_a_file(tmp_path, into, make):
    inner = make_zip(tmp_path / "inner.zip", ("../evil.py", b"")).read_bytes()
    handed = fetch(str(make(tmp_path / "a", ("lab02_blocking/inner.zip", inner))), into)
    assert files_in(handed.folder) == {"lab02_blocking/inner.zip": inner}


@pytest.mark.parametrize(
    "content", [b"", b"PK", b"PK\x03\x04" + b"x" * 100, b"\x1f\x8bnothing", b"BZhello world"]
)
def test_what_is_no_archive_is_refused(tmp_path, into, content):
    (tmp_path / "worker.py").write_bytes(content)
    refused(tmp_path / "worker.py", into, "a broken archive, or none")


@pytest.mark.parametrize("mode", ["zip", "w:", "w:gz", "w:bz2", "w:xz"])
def test_a_broken_archive_is_refused_and_never_a_traceback(tmp_path, into, mode):
    """Cut off, and with a byte changed, at many places. What is not noticed must at least be a part of the whole."""
    members = [(f"lab02_blocking/{number}.py", WORKER * 100 * number) for number in range(1, 4)]
    path = tmp_path / "a"
    make_zip(path, *members) if mode == "zip" else make_tar(path, *members, mode=mode)
    whole = path.read_bytes()
    step = max(1, len(whole) // 50)
    noticed = 0
    for place in range(0, len(whole), step):
        for content in (whole[:place], whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]):
            path.write_bytes(content)
            shutil.rmtree(into)
            into.mkdir()
            try:
                fetch(str(path), into)
            except BadSource as error:
                assert str(error).isprintable()
                noticed += 1
    assert noticed > 30


def test_what_is_not_there_is_refused(tmp_path, into):
    refused(tmp_path / "nobody.zip", into, "no such folder or archive")
    (tmp_path / "link").symlink_to(tmp_path)
    refused(tmp_path / "link", into, "it is a link")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", into, "neither a folder nor an archive")


def test_a_folder_of_very_many_files_is_refused(tmp_path, into, monkeypatch):
    monkeypatch.setattr(archives, "MOST_FILES", 20)
    for number in range(21):
        (tmp_path / "into" / f"{number}").touch()
    refused(into, into, "more than 20 files")


def test_folders_in_folders_without_end_are_refused(tmp_path, into):
    (tmp_path / "into" / "worker.py").touch()
    (tmp_path / "into" / "/".join(["d"] * 110)).mkdir(parents=True)
    refused(into, into, "more than 100 deep")


# ---- digests and names -----------------------------------------------------------------------------------------


def test_a_folders_digest_is_of_its_names_and_contents(tmp_path):
    def digest(name="worker.py", content=b"1", hidden=b""):
        shutil.rmtree(tmp_path / "anna", ignore_errors=True)
        (tmp_path / "anna" / ".git").mkdir(parents=True)
        (tmp_path / "anna" / ".git" / "index").write_bytes(hidden)
        (tmp_path / "anna" / name).write_bytes(content)
        return digest_of(tmp_path / "anna")

    assert digest() == digest() == digest(hidden=b"2")
    assert (
        len({digest(), digest(content=b"2"), digest(name="w.py"), digest(name="1", content=b"worker.py")})
        == 4
    )


def test_an_archives_digest_is_of_its_bytes(tmp_path, into):

    path = make_zip(tmp_path / "a.zip", ("worker.py", WORKER))
    assert fetch(str(path), into).digest == hashlib.sha256(path.read_bytes()).hexdigest()


SOURCES = {
    "handed-in/anna.zip": "anna",
    "handed-in/anna.tar.gz": "anna",
    "handed in/Zoë Müller (2).zip": "Zoe-Muller-2",
    "handed-in/.hidden": "hidden",
    "handed-in/anna/": "anna",
    "https://host/course/anna.git": "anna",
    "https://anna:secret@host/course/anna-queue.git@0123456789abcdef": "anna-queue-0123456789ab",
    "git@host:anna/queue.git": "queue",
    "git@host:queue.git@main": "queue-main",
    "handed-in/" + "x" * 200: "x" * 64,
    "handed-in/.zip": "zip",
}


@pytest.mark.parametrize("source", SOURCES, ids=ascii)
def test_a_source_gets_the_name_of_a_folder(source):
    assert name_of(source) == SOURCES[source]


SHOWN = {
    "https://anna:secret@host/x.git": "https://…@host/x.git",
    "https://anna:se@cret@host/x.git@v1": "https://…@host/x.git@v1",
    "https://host/a@b": "https://host/a@b",
    "git@host:anna/queue.git": "git@host:anna/queue.git",
}


@pytest.mark.parametrize("source", SHOWN)
def test_no_password_is_shown(source):
    assert told_as(source) == SHOWN[source]


def test_a_name_without_latin_letters_is_a_name_all_the_same():
    assert name_of("李明.zip").startswith("submission-") and name_of("李明.zip") != name_of("王芳.zip")


# ---- git -------------------------------------------------------------------------------------------------------


@pytest.fixture
def repository(tmp_path):
    """A repository with two commits on main, and a hook, a filter, a link and a submodule in it."""
    folder = tmp_path / "anna's queue"
    (folder / "labs" / "lab02_blocking").mkdir(parents=True)
    git = Repository(folder)
    git("init", "--quiet", "--initial-branch=main")
    (folder / "labs/lab02_blocking/worker.py").write_text("first\n")
    git.commit("2026-03-04T05:06:07+02:00")
    (folder / "labs/lab02_blocking/worker.py").write_text("second $Format:%H$\n")
    (folder / ".gitattributes").write_text(
        "worker.py filter=evil eol=crlf export-subst\nmonitor.py export-ignore\n"
    )
    (folder / "labs/lab02_blocking/monitor.py").write_text("monitor\n")
    (folder / "labs/lab02_blocking/producer.py").symlink_to("/etc/passwd")
    git("update-index", "--add", "--cacheinfo", f"160000,{git('rev-parse', 'HEAD')},module")
    git.commit("2026-03-05T05:06:07+02:00")
    (folder / "labs/lab02_blocking/worker.py").write_text("not committed\n")
    return git


class Repository:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self, *arguments, **more):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        environment |= {
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "Anna",
            "GIT_AUTHOR_EMAIL": "anna@example.org", "GIT_COMMITTER_NAME": "Anna",
            "GIT_COMMITTER_EMAIL": "anna@example.org",
        }  # fmt: skip
        command = ["git", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=environment | more, check=True, capture_output=True, text=True
        ).stdout.strip()

    def commit(self, when):
        self("add", "--all", ":!module")
        self("commit", "--quiet", "--message", "work", GIT_AUTHOR_DATE=when, GIT_COMMITTER_DATE=when)


@needs_git
def test_a_repository_without_a_commit_is_a_folder(repository, into):
    handed = fetch(str(repository.folder), into)
    assert (lab_folder(handed.folder, lab(2)) / "worker.py").read_text() == "not committed\n"
    assert handed.commit == ""


@needs_git
@pytest.mark.parametrize("commit", ["HEAD", "main", "whole", "short", "first", "first, short", "tag"])
@pytest.mark.parametrize("how", ["path", "url"])
def test_a_commit_is_graded_as_it_was_committed(repository, into, commit, how):
    latest, first = repository("rev-parse", "HEAD"), repository("rev-parse", "HEAD~1")
    repository("tag", "v1.0", "HEAD~1")
    name = {"whole": latest, "short": latest[:8], "first": first, "first, short": first[:8], "tag": "v1.0"}
    place = repository.folder if how == "path" else repository.folder.as_uri()
    handed = fetch(f"{place}@{name.get(commit, commit)}", into)
    is_first = commit in ("first", "first, short", "tag")
    assert handed.commit == (first if is_first else latest)
    assert handed.committed == ("2026-03-04" if is_first else "2026-03-05") + "T03:06:07+00:00"
    worker = lab_folder(handed.folder, lab(2)) / "worker.py"
    assert worker.read_bytes() == (b"first\n" if is_first else b"second $Format:%H$\n")
    if not is_first:
        assert (worker.parent / "monitor.py").exists() and not os.path.lexists(worker.parent / "producer.py")
        assert any("producer.py is a link" in note for note in handed.notes)
        assert any("module is a submodule" in note for note in handed.notes)
    assert len(handed.digest) == 64
    assert not (into / "git").exists()


@needs_git
def test_a_url_without_a_commit_is_the_latest(repository, into):
    assert fetch(repository.folder.as_uri(), into).commit == repository("rev-parse", "HEAD")


@needs_git
def test_nothing_of_a_repository_or_its_user_is_run(repository, into, tmp_path, monkeypatch):
    marks = tmp_path / "marks"
    marks.mkdir()
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {marks}/$(basename $0)\ncat\n")
    evil.chmod(0o755)
    for hook in ("post-checkout", "reference-transaction", "pre-upload", "post-index-change"):
        shutil.copy(evil, repository.folder / ".git" / "hooks" / hook)
    settings = {
        "core.fsmonitor": evil, "core.sshCommand": evil, "uploadpack.packObjectsHook": evil,
        "filter.evil.smudge": evil, "core.hooksPath": repository.folder / ".git" / "hooks", "core.pager": evil,
    }  # fmt: skip
    for name, value in settings.items():
        repository("config", name, str(value))
    home = tmp_path / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "".join(f'[alias]\n\tfetch = "!{evil}"\n[core]\n\thooksPath = {tmp_path}\n')
    )
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(evil))
    assert fetch(f"{repository.folder}@HEAD", into).commit
    assert not any(marks.iterdir())


@needs_git
@pytest.mark.parametrize(
    "commit", ["nothing", "0" * 40, "beef", "--upload-pack=touch", "a..b", "main:labs", "refs"]
)
def test_a_commit_that_is_not_there_is_refused(repository, into, commit):
    with pytest.raises(BadSource) as caught:
        fetch(f"{repository.folder}@{commit}", into)
    assert "\n" not in str(caught.value)


@needs_git
@pytest.mark.parametrize(
    "source", ["ext::sh -c touch% evil", "--upload-pack=touch evil", "file:///there/is/no/such/repository"]
)
def test_a_url_that_is_no_repository_is_refused(into, source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadSource):
        fetch(source, into)
    assert not (tmp_path / "evil").exists()


@needs_git
def test_a_network_that_is_not_there_is_no_fault_of_the_submission(into):
    with pytest.raises(InfrastructureError) as caught:
        fetch("https://anna:secret@127.0.0.1:9/queue.git", into)
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


@needs_git
def test_a_repository_that_answers_nothing_is_given_up(into, monkeypatch):
    monkeypatch.setattr(repositories, "WITHIN_SECONDS", 1.0)
    with (
        contextlib.closing(socket.create_server(("127.0.0.1", 0))) as silent,
        pytest.raises(InfrastructureError, match="not done within"),
    ):
        fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/queue.git", into)
    assert not (into / "git").exists()


@needs_git
def test_without_git_one_line_says_so(repository, into, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InfrastructureError, match="git is not installed"):
        fetch(f"{repository.folder}@HEAD", into)


@needs_git
def test_a_commit_that_unfolds_without_end_is_refused(tmp_path, into):
    """Ten folders that each hold ten times the next: 10^10 files of one blob."""
    git = Repository(tmp_path)
    git("init", "--quiet")
    (tmp_path / "blob").write_bytes(b"x")
    entry, kind = git("hash-object", "-w", "blob"), "100644 blob"
    for _ in range(10):
        lines = "".join(f"{kind} {entry}\t{number}\n" for number in range(10))
        (tmp_path / "lines").write_text(lines)
        with (tmp_path / "lines").open() as file:
            made = subprocess.run(
                ["git", "mktree"], cwd=tmp_path, stdin=file, capture_output=True, check=True
            )
        entry, kind = made.stdout.decode().strip(), "040000 tree"
    git("update-ref", "HEAD", git("commit-tree", "-m", "bomb", entry))
    with pytest.raises(BadSource, match="too large"):
        fetch(f"{tmp_path}@HEAD", into)
    assert not files_in(into)


@needs_git
def test_a_commit_that_is_too_large_is_refused(tmp_path, into, monkeypatch):
    monkeypatch.setattr(repositories, "MOST_BYTES", 1000)
    git = Repository(tmp_path)
    git("init", "--quiet")
    for name in "ab":
        (tmp_path / name).write_bytes(b"x" * 600)
    git.commit("2026-03-04T05:06:07+02:00")
    refused(f"{tmp_path}@HEAD", into, "larger than")


def test_a_folder_with_an_at_in_its_name_is_a_folder(tmp_path, into):
    folder = Path(tmp_path / "anna@home")
    folder.mkdir()
    assert fetch(str(folder), into).folder == folder.resolve()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("fatal: repository '/srv/network-lab' does not exist", BadSource),
        ("fatal: '/srv/classlab' does not appear to be a git repository", BadSource),
        ("fatal: unable to access 'https://host/lab/': Could not resolve host: host", InfrastructureError),
    ],
)
def test_the_name_of_a_repository_is_no_trouble_of_the_network(tmp_path, said, kind):
    errors = tmp_path / "errors"
    errors.write_text(said)
    assert type(repositories._failure(errors)) is kind
