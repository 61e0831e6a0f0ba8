"""The launcher `hydra/launcher=ray`: the jobs of a sweep as tasks of Ray.

Hydra takes launchers from the namespace package `hydra_plugins` alone and imports all that is in it at each start, of
every application in the environment. So this module imports none of ours and nothing heavy, until it was chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.plugins.launcher import Launcher

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn
    from hydra.types import HydraContext, TaskFunction
    from omegaconf import DictConfig


class RayLauncher(Launcher):
    """Runs jobs as tasks of Ray; the fields of `eval.cluster.terms.Terms` are its keys."""

    def __init__(self, **terms: Any) -> None:
        self._given = terms

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Check what is asked for, before anything is written.

        Raises:
            eval.errors.InputError: a value is not allowed, Ray is not installed, or this machine has no room for a job.
        """
        from torch.cuda import device_count

        from eval.cluster.terms import Terms, installed, room_here

        installed("hydra.launcher")
        self._terms = Terms(**self._given)
        room_here(self._terms, device_count())
        self._sweep = (hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Do the jobs; what each came to, in their order.

        Raises:
            eval.errors.InputError: Ray cannot be reached, or has no room for a job.
        """
        from eval.cluster.sweep import launch

        return launch(*self._sweep, job_overrides, initial_job_idx, self._terms)
