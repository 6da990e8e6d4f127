"""What all rules have in common: they judge only records that can be judged."""

import abc
import math
from typing import NamedTuple

from keras_fdr.record import Record
from keras_fdr.rules.config import Configured
from keras_fdr.rules.verdict import Status, Verdict, blocking_reason


class Finding(NamedTuple):
    """What a rule finds. Its fields are those of `Verdict`."""

    status: Status
    reason: str
    ratio_error: float = math.nan
    effective_sample_size: float = math.nan


class Rule(Configured, abc.ABC):
    """Base of the rules of this package, which are dataclasses.

    A rule defines `judge`, which is called only with a record that can be judged.
    """

    def __call__(self, record: Record) -> Verdict:
        """The verdict on `record` (see the class)."""
        why_not = blocking_reason(record)
        found = Finding("undecided", why_not) if why_not else self.judge(record)
        return Verdict(
            found.status,
            record.ratio,
            record.steps,
            found.reason,
            found.ratio_error,
            found.effective_sample_size,
        )

    @abc.abstractmethod
    def judge(self, record: Record) -> Finding:
        """What the rule finds in a record that `blocking_reason` accepts."""
