"""OUT of a run: what is done, who works on what, what failed; in a folder or on an object store.

    with open_out(place_of("features/"), models, fmt="npy") as out:
        out.is_done(id)   out.claim(id)   out.put(id, ...)   out.fail(failure)   out.release(id)

                folder                      object store
    rows        store.folder.Folder         store.remote.spool.StoreFolder
    failures    store.failures.Failures     store.remote.spool.StoreFailures
    claims      claims.disk.Claims          claims.objects.StoreClaims

This file alone tells the two apart. Another kind of place is three such classes, a case of
`place_of`, and a branch of `Out.__init__` and of `_claims_of`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from numpy import float64
from numpy.typing import NDArray

from tubelet.config import stable_hash
from tubelet.errors import RecipeMismatch, StoreError, UsageError
from tubelet.machine.atomic import sweep
from tubelet.machine.timing import Works
from tubelet.run.claims.disk import Claims
from tubelet.run.claims.objects import StoreClaims
from tubelet.store.failures import Failure, Failures
from tubelet.store.folder import (
    RECIPE,
    Folder,
    check_same,
    check_writable,
    codec_of,
    open_folder,
    read_record,
)
from tubelet.store.formats.rows import Rows
from tubelet.store.remote.objects import ObjectFolder, object_scheme
from tubelet.store.remote.spool import StoreFailures, StoreFolder, open_spooled, spool_of

Place = Path | ObjectFolder
"""Where OUT is."""


def place_of(text: str | Path) -> Place:
    """A folder of this machine, or one of an object store. UsageError for a bad URL."""
    if isinstance(text, str) and object_scheme(text):
        return ObjectFolder.of(text)
    return Path(text)


@dataclass(frozen=True)
class Target:
    """What is written for one model. name: its folder below OUT, "" where it is the only model.
    facts: of this run, recorded beside the recipe."""

    name: str
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]


class FeatureFolder(Protocol):
    """The features of one model. path: where they are made on this machine."""

    @property
    def path(self) -> Path: ...
    @property
    def recipe_hash(self) -> str: ...
    def is_done(self, identity: str, expected: Mapping[str, Any] | None = None) -> bool: ...
    def put(
        self,
        identity: str,
        arrays: Mapping[str, Rows],
        times: Mapping[str, NDArray[float64]],
        provenance: Mapping[str, Any],
    ) -> None: ...
    def unsent(self) -> Sequence[str]: ...
    def resume(self, identity: str) -> None: ...
    def send_sheets(self, identity: str) -> None: ...


class FailureLog(Protocol):
    """failures.jsonl of one folder."""

    def line(self, identity: str) -> dict[str, Any] | None: ...
    def read(self) -> dict[str, dict[str, Any]]: ...
    def add(self, failure: Failure) -> None: ...
    def forget(self, identity: str) -> None: ...
    def finish(self) -> None: ...


class ClaimSet(Protocol):
    """Who works on what; the claims of this process."""

    def take(self, identity: str) -> bool: ...
    def release(self, identity: str) -> None: ...
    def holds(self, identity: str) -> bool: ...
    def holder(self, identity: str) -> str: ...
    def others(self) -> list[dict[str, Any]]: ...
    def expect(self, total: int) -> None: ...


class Out:
    """OUT of a run, for all of its models. Lanes count the models, in the order of the run.

    It travels: what another process or machine unpickles is the same OUT, without the claims,
    which stay with the process that opened it.
    """

    def __init__(self, place: Place, hashes: Mapping[str, str], fmt: str) -> None:
        """hashes: folder below OUT ("" for OUT itself) -> hash of its recipe."""
        self.place, self._hashes, self._fmt = place, dict(hashes), fmt
        self.claims: ClaimSet | None = None
        self.path: Path
        self.folders: list[FeatureFolder]
        names = list(hashes)
        if isinstance(place, ObjectFolder):
            self.path = spool_of(place)  # each machine has its own
            self.folders = [
                StoreFolder(Folder(self.path / n, hashes[n], fmt), below(place, n)) for n in names
            ]
            self._logs: dict[str, FailureLog] = {
                n: StoreFailures(below(place, n)) for n in dict.fromkeys(["", *names])
            }
        else:
            self.path = place
            self.folders = [Folder(place / n, hashes[n], fmt) for n in names]
            self._logs = {n: Failures(place / n) for n in dict.fromkeys(["", *names])}

    def __reduce__(self) -> tuple[Any, ...]:
        return Out, (self.place, self._hashes, self._fmt)

    def shown(self, name: str = "") -> str:
        """OUT, or a folder below it, in messages."""
        if isinstance(self.place, ObjectFolder):
            return below(self.place, name).url
        return str(self.place / name)

    @property
    def store_hint(self) -> str:
        """What to do when `path` cannot be written."""
        if isinstance(self.place, ObjectFolder):
            return f"where {self.place.url} is prepared; name another place with TUBELET_CACHE"
        return "name a folder of yours with -o"

    @property
    def is_local(self) -> bool:
        """Whether all workers see the same `path`, where parts of a video can meet."""
        return isinstance(self.place, Path)

    def is_done(
        self, identity: str, expected: Mapping[str, Any] | None = None, *, lane: int = 0
    ) -> bool:
        """Whether the features of a video are complete, of this recipe and as expected."""
        return self.folders[lane].is_done(identity, expected)

    def put(
        self,
        identity: str,
        arrays: Mapping[str, Rows],
        times: Mapping[str, NDArray[float64]],
        facts: Mapping[str, Any],
        *,
        lane: int = 0,
    ) -> None:
        """Store the features of a video. StoreError when that cannot be done."""
        self.folders[lane].put(identity, arrays, times, facts)

    def claim(self, identity: str) -> bool:
        """Whether this process may work on a video now; False while another one does."""
        assert self.claims is not None
        return self.claims.holds(identity) or self.claims.take(identity)

    def release(self, identity: str) -> None:
        """Let a video go."""
        assert self.claims is not None
        self.claims.release(identity)

    def fail(self, failure: Failure, lanes: Mapping[int, Failure] | None = None) -> None:
        """Record why a video has no features. lanes: of the models that failed; all as `failure`
        where it is None."""
        for lane, name in enumerate(self._hashes):
            own = failure if lanes is None else lanes.get(lane)
            if own is None:
                self._logs[name].forget(failure.id)
            else:
                self._logs[name].add(own)
                self.folders[lane].send_sheets(failure.id)
        if "" not in self._hashes:
            self._logs[""].add(failure)

    def forget(self, identity: str) -> None:
        """This video has its features."""
        for log in self._logs.values():
            log.forget(identity)

    def failure(self, identity: str) -> dict[str, Any] | None:
        """The line of a video in failures.jsonl."""
        return self._logs[""].line(identity)

    def failures(self) -> dict[str, dict[str, Any]]:
        """id -> line, of OUT and of the folders of its models."""
        found: dict[str, dict[str, Any]] = {}
        for log in reversed(self._logs.values()):
            found |= log.read()
        return found

    def attempts(self) -> dict[str, int]:
        """How often each video has failed so far."""
        return {k: int(line.get("attempts", 1)) for k, line in self._logs[""].read().items()}

    def expect(self, total: int) -> None:
        """So many inputs are this run's."""
        assert self.claims is not None
        self.claims.expect(total)

    def resume(self) -> None:
        """Finish what an earlier run of this machine left half sent."""
        for folder in self.folders:
            for identity in folder.unsent():
                if self.claim(identity):
                    folder.resume(identity)
                    self.release(identity)

    def finish(self) -> None:
        """A run ends."""
        for log in self._logs.values():
            log.finish()


def below(store: ObjectFolder, name: str) -> ObjectFolder:
    """A folder of a store, itself for the name ""."""
    return store.below(name) if name else store


@contextmanager
def open_out(
    place: Place, targets: Sequence[Target], *, fmt: str = "npy", overwrite: bool = False,
    total: int = 0, shard: str | None = None, works: Works | None = None,
) -> Iterator[Out]:  # fmt: skip
    """OUT for a run of `total` inputs; its claims last as long as the block.

    RecipeMismatch when another recipe made it (but for overwrite), and, overwrite or not, while a
    living run writes it with another recipe. UsageError when it cannot be written.
    """
    place = place.absolute() if isinstance(place, Path) else place
    hashes = {target.name: stable_hash(target.recipe) for target in targets}
    out = Out(place, hashes, fmt)
    with ExitStack() as stack:
        try:
            _check(out, targets, fmt, overwrite=overwrite)
            claims = stack.enter_context(
                _claims_of(out, hashes, total=total, shard=shard, works=works)
            )
        except StoreError as error:  # nothing was tried yet
            raise UsageError(str(error)) from error
        out.claims = claims
        _refuse_other_writers(out, claims, hashes)
        _open_folders(out, targets, fmt, overwrite=overwrite)
        sweep(out.path)
        out.resume()
        try:
            yield out
        except KeyboardInterrupt:
            with suppress(StoreError):
                out.finish()
            raise
        out.finish()


def _check(out: Out, targets: Sequence[Target], fmt: str, *, overwrite: bool) -> None:
    """Whether OUT can be written and is of this recipe, before anything is."""
    codec_of(fmt)
    check_writable(out.path, hint=out.store_hint)
    for target in () if overwrite else targets:
        if isinstance(out.place, ObjectFolder):
            existing = below(out.place, target.name).record(RECIPE)
        else:
            existing = read_record(out.place / target.name / RECIPE)
        if existing is not None:
            digest = stable_hash(target.recipe)
            check_same(out.shown(target.name), existing, target.recipe, digest, fmt)


def _claims_of(out: Out, hashes: Mapping[str, str], **facts: Any) -> Claims | StoreClaims:
    if isinstance(out.place, ObjectFolder):
        return StoreClaims(out.path, out.place, recipes=hashes, **facts)
    return Claims(out.path, recipes=hashes, **facts)


def _open_folders(out: Out, targets: Sequence[Target], fmt: str, *, overwrite: bool) -> None:
    for target in targets:
        choices: dict[str, Any] = {
            "recipe": target.recipe, "run": target.facts, "fmt": fmt, "overwrite": overwrite
        }  # fmt: skip
        if isinstance(out.place, ObjectFolder):
            open_spooled(out.path / target.name, below(out.place, target.name), **choices)
        else:
            open_folder(out.place / target.name, **choices)


def _refuse_other_writers(out: Out, claims: ClaimSet, hashes: Mapping[str, str]) -> None:
    """Both of two runs that begin at once see the other one, so at most one goes on."""
    for run in claims.others():
        theirs = run.get("recipes") or {}
        if any(theirs.get(name, digest) != digest for name, digest in hashes.items()):
            raise RecipeMismatch(
                f"{out.shown()}: process {run.get('pid')} on {run.get('host')} is writing there "
                "with another recipe; wait for its end (120 s, if it was killed on another "
                "machine), or choose another -o"
            )


def targets_of(names: Sequence[str], recipes: Sequence[Any], facts: Sequence[Any]) -> list[Target]:
    """One model writes to OUT itself, several to OUT/<model>. UsageError for two of one name."""
    folders = [folder_name(name) for name in names]
    twice = next((name for name in folders if folders.count(name) > 1), None)
    if twice is not None:
        raise UsageError(f"two models share the folder name {twice!r}")
    if len(folders) == 1:
        folders = [""]
    return [Target(*one) for one in zip(folders, recipes, facts, strict=True)]


def folder_name(model: str) -> str:
    """A model's name as a folder: a path of a YAML gives its stem."""
    return Path(model).stem if model.endswith((".yaml", ".yml")) else model.replace("/", "_")
