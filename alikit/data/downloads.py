"""Files that others publish: fetched only when asked, checked before they are opened, in place whole or not at all."""

import contextlib
import errno
import os
import shutil
import socket
import stat
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import AlikitError

LARGEST = 2**31  # bytes: CelebA's archive has 1.4 GB
PATIENCE = 30  # seconds without a byte before a server is given up


@dataclass(frozen=True)
class Published:
    """One file of a data set.

    title     the data set's name for people
    stand_in  the data set that alikit draws in its place
    file      where the file belongs
    url       where it is published
    md5       its checksum, as torchvision or its publisher states it
    drive     its key on Google Drive, where it can only be fetched from there (with the package gdown)
    within    the folder it was unpacked to with others, to be made again as a whole
    """

    title: str
    stand_in: str
    file: Path
    url: str
    md5: str
    drive: str | None = None
    within: Path | None = None

    def check(self) -> None:
        """Raises AlikitError where the file is missing or is not the published one, before anybody opens it."""
        again = f"delete {self.within or self.file} and fetch {self.url} again"
        if not self.file.is_file():
            raise AlikitError(f"{self.title} is incomplete: {self.file} is missing; {again}")
        if (found := md5(self.file)) != self.md5:
            raise AlikitError(
                f"{self.file} is damaged or not the published file (its MD5 is {found}, not {self.md5}), so it was not "
                f"opened: {again}"
            )

    def unpack(self, produced: Path) -> None:
        """The archive, checked, becomes the folder `produced`. AlikitError where something in it would end elsewhere or
        is neither a file nor a folder, and where the disk has no room for what it says it holds."""
        self.check()
        try:
            with staging(produced) as folder:
                _extract(self.file, folder)
                os.replace(folder / produced.name, produced)
        except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
            raise AlikitError(f"cannot unpack {self.file} ({error}): delete it and fetch {self.url} again") from None
        except OSError as error:
            raise AlikitError(
                f"cannot unpack {self.file} beside it ({error.strerror or error}): make room, or put it in another "
                f"folder and name that, as in --data NAME:FOLDER"
            ) from None

    def download(self) -> None:
        """Fetches the file and checks it on the way: it is there whole and true, or not at all."""
        from torchvision.datasets.utils import download_file_from_google_drive, download_url

        patience = socket.getdefaulttimeout()
        socket.setdefaulttimeout(PATIENCE)  # torchvision waits for ever
        try:
            with staging(self.file) as folder, contextlib.redirect_stdout(sys.stderr):
                arrived = folder / self.file.name
                if self.drive:
                    download_file_from_google_drive(self.drive, folder, arrived.name)
                else:
                    download_url(self.url, folder, arrived.name)
                if (found := md5(arrived)) != self.md5:
                    raise RuntimeError(f"what came is damaged or another file: its MD5 is {found}, not {self.md5}")
                os.replace(arrived, self.file)
        finally:
            socket.setdefaulttimeout(patience)


def _extract(archive: Path, folder: Path) -> None:
    """Unpacks a zip or a tar. Its checksum was right; nothing rests on that alone."""
    free = shutil.disk_usage(folder).free
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as parts:
            _check_room(sum(part.file_size for part in parts.infolist()), free)
            for part in parts.infolist():
                if stat.S_ISLNK(part.external_attr >> 16) or not _is_within(part.filename):
                    raise zipfile.BadZipFile(f"{part.filename} would end elsewhere")
            parts.extractall(folder)
        return
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}  # Python has it since 3.11.4
    with tarfile.open(archive) as parts:
        # One by one, for the list of all is only known when all is read, a bomb too.
        total = 0
        for part in parts:
            if not (part.isreg() or part.isdir()) or not _is_within(part.name):
                raise tarfile.ExtractError(f"{part.name} is neither a file nor a folder, or would end elsewhere")
            total += part.size
            _check_room(total, free)
            parts.extract(part, folder, **safely)


def _is_within(name: str) -> bool:
    """Whether a name in an archive stays below the folder that it is unpacked to, on any system."""
    parts = name.replace("\\", "/").split("/")
    return ".." not in parts and parts[0] != "" and ":" not in parts[0]


def _check_room(wanted: int, free: int) -> None:
    if wanted > free:
        raise OSError(errno.ENOSPC, f"it holds {wanted / 1e9:.1f} GB and more, and {free / 1e9:.1f} GB are free")


def fetch(files: list[Published], download: bool) -> None:
    """Sees to it that the files of one data set are there, and fetches those that are not if `download` allows.

    Raises AlikitError where files are not there and cannot be had: the message says which to fetch, where to put them,
    and what runs without them.
    """
    missing = [published for published in files if not published.file.exists()]
    if not missing:
        return
    first, names = missing[0], ", ".join(published.file.name for published in missing)
    by_hand = f"fetch {names} from {first.url} and put {'them' if len(missing) > 1 else 'it'} in {first.file.parent}"
    meanwhile = f"until then, --data stand-in:{first.stand_in} runs without"
    if not download:
        raise AlikitError(f"{first.title} is not there: {by_hand}, or use --download (download=True); {meanwhile}")
    try:
        for published in missing:
            published.download()
    except Exception as error:  # name resolution, HTTP, Google Drive, the disk: each fails in ways of its own
        reason = str(getattr(error, "reason", None) or error).strip().partition("\n")[0].rstrip(".")
        raise AlikitError(
            f"{first.title} could not be fetched ({reason or type(error).__name__}): {by_hand} by hand; {meanwhile}"
        ) from None


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A folder on the target's own disk to make it in, gone afterwards with whatever was left half-made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".partial", dir=target.parent) as folder:
        yield Path(folder)


def md5(file: Path) -> str:
    """The checksum by which these data sets are published; nobody has yet made a second file for a given MD5. None is
    made of a file that is larger than all of them: that would take as long as it is large."""
    if (size := file.stat().st_size) > LARGEST:
        return f"not that of {size:,} bytes"
    from torchvision.datasets.utils import calculate_md5

    return calculate_md5(file)
