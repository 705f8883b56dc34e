"""`Job`: one training of one student on one set, and its test."""

from collections.abc import Callable
from dataclasses import dataclass

from accelerate import Accelerator

from latentdc.data.dataset import Dataset
from latentdc.evaluate.accuracy import Accuracy, accuracy
from latentdc.evaluate.protocol import EvalProtocol
from latentdc.evaluate.rows import Row
from latentdc.evaluate.sets import protocol_for
from latentdc.evaluate.soft import Fixed
from latentdc.evaluate.teaching import Teaching
from latentdc.evaluate.training import SoftLabels, train_student
from latentdc.images import Preprocessing
from latentdc.synthetic.synthetic_set import SyntheticSet

# One set, real or synthetic, or one that is drawn for each seed.
Candidate = SyntheticSet | Dataset | Callable[[int], SyntheticSet | Dataset]


def drawn(candidate: Candidate, seed: int) -> SyntheticSet:
    """The set that a training of this seed sees."""
    one = candidate(seed) if callable(candidate) else candidate
    return one if isinstance(one, SyntheticSet) else SyntheticSet.from_real(one)


@dataclass(frozen=True)
class Job:
    """One training and its test."""

    candidate: Candidate
    student: str
    seed: int

    def labelled(self) -> SyntheticSet:
        """The set to train on."""
        return drawn(self.candidate, self.seed)

    def run(
        self,
        row: Row,
        test: Dataset,
        protocol: EvalProtocol,
        normalization: Preprocessing,
        teaching: Teaching | None,
        accelerator: Accelerator,
    ) -> Accuracy:
        """Of the student after its last step."""
        labelled = self.labelled()
        protocol, device = protocol_for(protocol, labelled), accelerator.device
        soft: SoftLabels | None = None
        if teaching is not None:
            soft = teaching.soft_labels(labelled, row.images)
        elif labelled.soft_labels is not None:
            soft = Fixed(labelled.soft_labels.to(device), protocol.labels)
        network = train_student(
            labelled,
            self.student,
            protocol,
            seed=self.seed,
            normalization=normalization,
            accelerator=accelerator,
            soft=soft,
        )
        return accuracy(
            network,
            test.images,
            test.labels,
            normalization=normalization,
            accelerator=accelerator,
            crop=protocol.test_crop,
        )
