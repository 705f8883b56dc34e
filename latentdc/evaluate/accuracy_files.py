"""Finished trainings, one small file each, so that a restarted evaluation trains only the rest."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from accelerate import Accelerator
from torch import distributed

from latentdc import io, ranks
from latentdc.evaluate.setting import Accuracy
from latentdc.results.result import share

Machine = Mapping[str, Any]  # its facts, as of `Result`
_PATIENCE = timedelta(days=30)  # between the first process to finish and the last


@dataclass(frozen=True)
class TrainingKey:
    """What the accuracy of one training depends on, and so the name of its file.

    Attributes:
        images: hash of the training set.
        protocol: hash of the protocol, its budget in steps.
        setting: hash of test set, normalisation, precision and teachers.
        student: name of the network.
        seed: of the training.
    """

    images: str
    protocol: str
    setting: str
    student: str
    seed: int

    @property
    def file(self) -> str:
        """Name of its file."""
        student = self.student.replace("/", "-")  # torchvision/resnet18
        return f"{self.images}-{self.protocol}-{self.setting}-{student}-{self.seed}.json"

    def read(self, path: Path) -> Accuracy:
        """The training's accuracy, from a file that says whose it is.

        Raises:
            OSError: there is no such file.
            ValueError: it is another training's, or not as it was written.
        """
        content = io.read_json(path)
        if not isinstance(content, dict):
            raise ValueError("it holds no mapping")
        top5, machine = content.get("top5"), content.get("machine")
        if not isinstance(machine, dict | None):
            raise ValueError("its machine is no mapping")
        found = Accuracy(share(content.get("accuracy")), None if top5 is None else share(top5))
        if content != self._content(found, machine):
            raise ValueError("it is of another training, or not as it was written")
        return found

    def write(self, path: Path, accuracy: Accuracy, machine: Machine | None = None) -> None:
        """Write its file, with the machine that it was done on, whole or not at all."""
        io.write_json(path, self._content(accuracy, machine))

    def _content(self, accuracy: Accuracy, machine: Machine | None) -> dict[str, object]:
        content = {**asdict(self), "accuracy": accuracy.top1, "top5": accuracy.top5}
        content |= {} if machine is None else {"machine": dict(machine)}
        return {**content, "checksum": io.fingerprint(content)}


Accuracies = dict[TrainingKey, Accuracy]


def cached_accuracy(
    key: TrainingKey,
    folder: Path | None,
    train: Callable[[], Accuracy],
    machine: Machine | None = None,
) -> Accuracy:
    """The accuracy of a training, read from a folder or found by `train` and kept there.

    Another command that does the same training is waited for.
    """

    def write(path: Path, accuracy: Accuracy) -> None:
        key.write(path, accuracy, machine)

    return io.cached(folder, asdict(key), train, key.read, write, name=key.file)


def cached_accuracies(
    keys: Sequence[TrainingKey],
    folder: Path | None,
    train: Callable[[Sequence[TrainingKey]], Sequence[Accuracy]],
    machine: Machine | None = None,
) -> Accuracies:
    """`cached_accuracy` of trainings of which `train` does the missing ones together."""
    done: Accuracies = {}

    def settle(place: int, missing: Sequence[TrainingKey]) -> None:
        if place == len(keys):
            if missing:
                done.update(zip(missing, train(missing), strict=True))
            return
        key = keys[place]

        def make() -> Accuracy:
            settle(place + 1, [*missing, key])  # so that all of them are locked
            return done[key]

        found = cached_accuracy(key, folder, make, machine)
        if key not in done:
            done[key] = found
            settle(place + 1, missing)

    settle(0, [])
    return done


def machine_of(keys: Sequence[TrainingKey], folder: Path | None, here: Machine) -> dict[str, Any]:
    """Facts of the machine that trainings were done on; one that differs between them names all.

    Those without a file, or whose file does not tell, were done `here`.
    """
    told = [here]
    if folder is not None:
        told = [_machine(folder / key.file) or here for key in keys]
    found = {}
    for name in dict.fromkeys(name for one in told for name in one):
        values = list(dict.fromkeys(str(one.get(name) or "unknown") for one in told))
        found[name] = told[0].get(name) if len(values) == 1 else " and ".join(values)
    return found


def _machine(path: Path) -> Machine | None:
    """What the file of a training tells."""
    try:
        return cast(Machine | None, io.read_json(path).get("machine"))
    except (OSError, ValueError, AttributeError):  # another command is just making it again
        return None


def groups_of(sets: Mapping[TrainingKey, object], size: int) -> list[list[TrainingKey]]:
    """Seeds of one student and one of the `sets`, so many at a time, in the order of the first."""
    keys, alike = list(sets), dict[tuple[int, str], list[TrainingKey]]()
    for key, of in sets.items():
        alike.setdefault((id(of), key.student), []).append(key)
    groups = [each[at : at + size] for each in alike.values() for at in range(0, len(each), size)]
    return sorted(groups, key=lambda group: keys.index(group[0]))


def read_accuracies(
    wanted: Sequence[TrainingKey], folder: Path | None, accelerator: Accelerator
) -> Accuracies:
    """Accuracies of the trainings whose files are in the folder, as the main process reads them.

    A damaged file is said, and removed.
    """
    found: Accuracies = {}
    for key in wanted if folder is not None and accelerator.is_main_process else ():
        assert folder is not None
        path = folder / key.file
        try:
            found[key] = key.read(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            ranks.warn(f"{path} is no finished training ({error}); it is trained again.")
            with suppress(OSError):
                path.unlink()
    return gather_accuracies(found, accelerator)[0]


def gather_accuracies(part: Accuracies, accelerator: Accelerator) -> list[Accuracies]:
    """The parts of all processes, waited for however long the slowest one trains."""
    if accelerator.num_processes == 1:
        return [part]
    group = cast(distributed.ProcessGroup, distributed.new_group(backend="gloo", timeout=_PATIENCE))
    parts: list[Accuracies] = [{} for _ in range(accelerator.num_processes)]
    distributed.all_gather_object(parts, part, group=group)
    distributed.destroy_process_group(group)
    return parts
