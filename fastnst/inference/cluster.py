"""Many pictures, on one machine or on a cluster: Ray Data's tasks read them, a pool of actors restyles and writes them.

Sources and results lie here or at any address that fsspec knows. Each actor holds the style, on a GPU or a core of its own.
A picture is written whole or not at all, and always to the same place. What a lost worker had in hand is done again. What is
there when the same command runs again is skipped.

The tasks that read import this module, and no torch.
"""

import hashlib
import io
import itertools
import json
import logging
import os
import socket
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec

from fastnst.data.files import MOST_BYTES
from fastnst.errors import UserError, line_of
from fastnst.files import write_bytes

BLOCK = 2**23  # bytes that are read at a time, and that a lost worker's successor does again
READER, ACTOR = 0.25, 0.75  # of a core: readers find room beside as many actors as there are cores
FILES = 4  # loose files, or a zip's, that one task reads


def is_archive(address: str) -> bool:
    """Whether it is a zip or a tar file, whose pictures are taken."""
    return address.lower().endswith((".zip", ".tar"))


def located(address: str) -> tuple[Any, str]:
    """A file system of fsspec's, and the path there. Raises UserError for an address that it does not know."""
    if "://" not in address:
        return fsspec.filesystem("file"), os.path.abspath(os.path.expanduser(address))
    try:
        return fsspec.url_to_fs(address)
    except (ValueError, ImportError) as error:  # such as a package for this kind of address that is not there
        raise UserError(f"{address}: {line_of(error)}") from None


def opened(address: str) -> Any:
    system, path = located(address)
    return system.open(path, "rb")


def shown(system: Any, path: str) -> str:
    """The path as it is, if it lies here, or else its address."""
    return path if _is_local(system) else system.unstrip_protocol(path)


def find_sources(img: str, suffixes: Collection[str]) -> list[tuple[str, str]]:
    """The files that `img` names: a file, a folder (pictures below it, and no archives), a glob or {000..099} of archives.

    suffixes: of pictures. Returns each one's address and what it is called below their common folder.
    Raises UserError if there are none.
    """
    from braceexpand import braceexpand  # which webdataset brings

    system, path = located(img)
    try:
        if system.isfile(path):
            found = [path]
        elif system.isdir(path):
            found = [file for file in system.find(path) if file.lower().endswith(tuple(suffixes))]
            found = [file for file in found if "/." not in file[len(path) :]]
            return [(shown(system, file), file[len(path) :].lstrip("/")) for file in sorted(found)] or _none(img)
        else:
            try:
                patterns = list(itertools.islice(braceexpand(path), 100_000))
            except ValueError:  # brackets that do not pair
                patterns = [path]
            found = sorted({file for pattern in patterns for file in system.glob(pattern) if system.isfile(file)})
    except (OSError, ValueError) as error:
        raise UserError(f"img={img}: {line_of(error)}") from None
    if not found:
        return _none(img)
    root = os.path.commonpath([os.path.dirname(file) for file in found])
    return [(shown(system, file), file[len(root) :].lstrip("/")) for file in found]


def _none(img: str) -> Any:
    raise UserError(f"img={img}: no such picture, folder, zip or tar file, and no pictures in it")


def result_of(inside: str, name: str, suffixes: Collection[str]) -> str:
    """What a picture's result is called below `out`: as the picture, with `name` behind its own.

    A kind that is not written, whose suffix is none of `suffixes`, becomes PNG.
    """
    path = PurePosixPath(inside)
    if path.suffix.lower() in suffixes:
        return str(path.with_name(f"{path.stem}_{name}{path.suffix}"))
    return str(path.with_name(f"{path.name}_{name}.png"))


def plan(
    sources: Sequence[tuple[str, str]], name: str, suffixes: Collection[str], done: Collection[str]
) -> tuple[list[dict], int | None, int]:
    """The tasks that read, how many pictures they have (None, if tar files must tell), and how many are done already.

    done: results that are there. Raises UserError for an archive that cannot be read, and for two of one name.
    """
    tasks: list[dict] = []
    files: list[list[str]] = []
    stems: dict[str, str] = {}
    skipped = count = 0
    for address, inside in sources:
        if not is_archive(inside):
            files.append([address, result_of(inside, name, suffixes)])
            continue
        folder = str(PurePosixPath(inside).with_suffix(""))
        if stems.setdefault(folder, address) != address:
            raise UserError(f"{address}, {stems[folder]}: their results would lie in one folder; rename one")
        task = {"archive": address, "folder": folder, "name": name, "suffixes": [*suffixes]}
        if inside.lower().endswith(".tar"):
            there = [result for result in done if result.startswith(f"{folder}/")]
            tasks.append(task | {"done": there})
            skipped += len(there)
            continue
        try:
            with opened(address) as file, zipfile.ZipFile(file) as archive:
                members = [member for member in archive.namelist() if is_picture(member, suffixes)]
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise UserError(f"{address}: not a whole zip ({line_of(error)})") from None
        left = [m for m in members if f"{folder}/{result_of(m, name, suffixes)}" not in done]
        skipped, count = skipped + len(members) - len(left), count + len(left)
        tasks += [task | {"members": left[i : i + FILES]} for i in range(0, len(left), FILES)]
    new = [file for file in files if file[1] not in done]
    skipped, count = skipped + len(files) - len(new), count + len(new)
    tasks += [{"files": new[i : i + FILES]} for i in range(0, len(new), FILES)]
    return tasks, None if any("done" in task for task in tasks) else count, skipped


def is_picture(member: str, suffixes: Collection[str]) -> bool:
    """Whether a name in an archive is a picture's, and leads to nowhere outside of it."""
    parts = PurePosixPath(member).parts
    hidden = any(part.startswith(".") for part in parts)
    return member.lower().endswith(tuple(suffixes)) and not hidden and not member.startswith("/") and "\\" not in member


def read(row: dict) -> Iterator[dict]:
    """The pictures of a task of `plan`: where each is from, its bytes (none, with what is wrong) and its result's name."""
    task = json.loads(row["task"])
    if "files" in task:
        for address, result in task["files"]:
            yield _picture(address, result, opened, address)
    elif "members" in task:
        with opened(task["archive"]) as file, zipfile.ZipFile(file) as archive:
            for member in task["members"]:
                yield _picture(f"{task['archive']}/{member}", _inside(task, member), archive.open, member)
    else:
        yield from _read_tar(task)


def _inside(task: dict, member: str) -> str:
    return f"{task['folder']}/{result_of(member, task['name'], task['suffixes'])}"


def _read_tar(task: dict) -> Iterator[dict]:
    """Those of a tar file that are not done, from front to back."""
    address, done = task["archive"], set(task["done"])
    try:
        with opened(address) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in archive:
                result = _inside(task, member.name)
                if not member.isfile() or not is_picture(member.name, task["suffixes"]) or result in done:
                    continue
                done.add(result)  # of two with one name the first is taken
                yield _picture(f"{address}/{member.name}", result, archive.extractfile, member)
            # At a damaged header tarfile stops as at the end, where there are zeros alone.
            file.seek(archive.offset)
            if file.read(1 << 16).strip(b"\0"):
                raise tarfile.ReadError("damaged")
    except (OSError, tarfile.TarError, EOFError) as error:
        yield {"source": f"{address}, the rest of it", "result": "", "data": b"", "error": line_of(error)}


def _picture(source: str, result: str, open_it: Callable[[Any], Any], what: Any) -> dict:
    data, error = b"", ""
    try:
        with open_it(what) as file:
            data = file.read(MOST_BYTES + 1)  # a few bytes in a zip can unpack to gigabytes
        if len(data) > MOST_BYTES:
            data, error = b"", f"is larger than {MOST_BYTES / 1e6:.0f} MB"
    except Exception as failure:  # of any file system, and of damaged archives
        error = line_of(failure)
    return {"source": source, "result": result, "data": data, "error": error}


class Restyle:
    """An actor: restyles one row of `read` after another, and writes what becomes of it below `out`.

    loaded: what `fastnst.checkpoint.load_style` gives, of each checkpoint. Gives rows with `source`, `target` and `error`,
    which is empty if all is well.
    """

    def __init__(self, loaded: Sequence[tuple], weights: Sequence[float] | None, size: int | None, controls: Any, out: str):
        import torch
        from PIL import Image

        from fastnst.inference.stylizer import Stylizer
        from fastnst.memory import free_memory, keep_freed_memory

        keep_freed_memory()
        torch.set_num_threads(1)
        Image.MAX_IMAGE_PIXELS = free_memory(torch.device("cpu")) // 8
        self.stylizer, self.size, self.controls = Stylizer(*loaded, weights=weights), size, controls
        self.system, self.folder = located(out)

    def __call__(self, row: dict) -> dict:
        target, error = f"{self.folder}/{row['result']}", row["error"]
        if not error:
            try:
                self._write(self._restyled(row["data"]), target)
            except Exception as failure:  # whatever one picture raises, the others are restyled
                error = line_of(failure)
        return {"source": row["source"], "target": shown(self.system, target), "error": error}

    def _restyled(self, data: bytes) -> Any:
        from PIL import Image, UnidentifiedImageError

        from fastnst.inference.stylizer import check_memory

        try:
            opened = Image.open(io.BytesIO(data))
        except UnidentifiedImageError:
            raise UserError("not a picture") from None
        with opened as image:
            check_memory(self.stylizer, image.size, self.size, self.controls.style_scale)
            image.load()
            return self.stylizer(image, self.size, self.controls)

    def _write(self, image: Any, target: str) -> None:
        from fastnst.images import save

        extras = {key: value for key, value in image.info.items() if key in ("icc_profile", "exif")}
        if _is_local(self.system):
            return save(image, target, **extras)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, PurePosixPath(target).name)
            save(image, file, **extras)
            self.system.makedirs(self.system._parent(target), exist_ok=True)
            self.system.put_file(str(file), target)


def _is_local(system: Any) -> bool:
    return "file" in ((system.protocol,) if isinstance(system.protocol, str) else system.protocol)


def _record(name: str) -> str:
    return f".fastnst_{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"


def finished(out: str, name: str, options: dict) -> set[str]:
    """The results of the same command that are in the folder `out`, by their names below it.

    options: what its results depend on, plain values; see `note`. Raises UserError if the folder holds results under this
    name that other options have made, or another command.
    """
    system, folder = located(out)
    record = f"{folder}/{_record(name)}"
    try:
        system.invalidate_cache()
        there = {path[len(folder) :].lstrip("/") for path in system.find(folder)}
        # A name may end like another: great_wave's results are not wave's.
        notes = [json.loads(system.cat_file(f"{folder}/{path}")) for path in there if path.startswith(".fastnst_")]
        longer = tuple(f"_{note['name']}" for note in notes if note.get("name", "").endswith(f"_{name}"))
        stems = {path: PurePosixPath(path).stem for path in there if "/." not in f"/{path}"}
        results = {path for path, stem in stems.items() if stem.endswith(f"_{name}") and not stem.endswith(longer)}
        if system.isfile(record):
            before = json.loads(system.cat_file(record))
            differ = sorted(key for key in options if options[key] != before.get(key))
            if differ and results:
                raise UserError(f"out={out}: holds results of another {', '.join(differ)}; give another folder")
        elif results:
            raise UserError(f"out={out}: holds {min(results)}, which is another command's; give another folder")
        return results
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(f"out={out}: cannot be read ({line_of(error)})") from None


def note(out: str, name: str, options: dict) -> None:
    """Writes down in the folder `out`, which is made if need be, what options its results are made with."""
    system, folder = located(out)
    try:
        system.makedirs(folder, exist_ok=True)
        data, path = json.dumps({"name": name} | options, indent=1).encode(), f"{folder}/{_record(name)}"
        write_bytes(path, data) if _is_local(system) else system.pipe_file(path, data)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written to ({line_of(error)})") from None


@contextmanager
def _silent() -> Iterator[None]:
    """Within it nothing reaches stderr, not even from Ray's C++. What goes wrong is raised."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def installed() -> Any:
    """The ray package. Raises UserError without it."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what goes wrong is told by Python
    try:
        import braceexpand  # noqa: F401
        import ray
        import ray.data
    except ImportError:
        raise UserError("engine=ray needs more packages: pip install 'fastnst[cluster]'") from None
    return ray


def start(address: str | None) -> Any:
    """Ray, started on this machine, or joined at `address`. Raises UserError if it is not there."""
    ray = installed()
    options: dict[str, Any] = {}
    if address is None:  # workers import this very package
        path = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])
        options = {"include_dashboard": False, "runtime_env": {"env_vars": {"PYTHONPATH": path}}}
    try:
        with _silent():
            ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UserError(f"ray_address={address}: {line_of(error)}") from None
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    return ray


def check_reached(address: str) -> None:
    """Raises UserError if nobody answers at host:port, which Ray would try for minutes."""
    host, _, port = address.rpartition("//")[2].rpartition(":")
    try:
        if port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"ray_address={address}: nobody answers there ({line_of(error)})") from None


def restyle_all(
    tasks: Sequence[dict],
    style: Sequence[Any],
    workers: int | None,
    address: str | None,
    tell: Callable[[dict], object],
) -> None:
    """Does the tasks of `plan`, and calls `tell` with each row of `Restyle`, whose arguments are `style`.

    workers: how many actors; None: one for each GPU, or, where there is none, for each core. address: see `start`.
    Raises UserError if Ray cannot be had, or gives up.
    """
    ray = start(address)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        context.target_max_block_size = BLOCK
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        share = {"num_gpus": 1} if gpus else {"num_cpus": ACTOR}
        count = workers or gpus or int(there.get("CPU", 1))
        rows = ray.data.from_items([{"task": json.dumps(task)} for task in tasks], override_num_blocks=len(tasks))
        rows = rows.flat_map(read, num_cpus=READER)
        pool = ray.data.ActorPoolStrategy(size=min(count, len(tasks), gpus or count))
        for row in rows.map(Restyle, fn_constructor_args=style, compute=pool, **share).iter_rows():
            tell(row)
    except ray.exceptions.RayError as error:
        raise UserError(f"engine=ray: {line_of(error)[-300:]}") from None
    finally:
        ray.shutdown()
