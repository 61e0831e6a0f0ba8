"""What varied between the jobs of a sweep, with the value of each job, those without a configuration among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from reports.sweep_jobs import Job
from reports.varied import apart, text, varied


def of_jobs(jobs: Sequence[Job]) -> dict[str, list[str]]:
    """What varied, once each, with the value of each job: of its configuration, else of its overrides, else nothing."""
    begun = [(job, job.run) for job in jobs if job.run is not None]
    if len(begun) < 2:
        said = [_said(job) for job in jobs]
        keys = dict.fromkeys(key for mine in said for key in mine)
        by_said = {key: [text(mine[key]) if key in mine else "" for mine in said] for key in keys}
        return {key: values for key, values in by_said.items() if len(set(values) - {""}) > 1}
    by_run = varied([run.config for _, run in begun], [job.folder for job, _ in begun])
    said = [_said(job) if job.run is None else {} for job in jobs]
    result = {}
    for key in apart(by_run):
        known, nodes = iter(by_run[key]), isinstance(begun[0][1].config.get(key), Mapping)
        result[key] = [
            next(known) if job.run is not None else _text(mine[key], nodes) if key in mine else ""
            for job, mine in zip(jobs, said, strict=True)
        ]
    return result


def _text(value: Any, nodes: bool) -> str:
    """A value of the command line as that of a configuration reads, where it may choose several `nodes`."""
    return ", ".join(map(str, value)) if nodes and isinstance(value, list) else text(value)


def _said(job: Job) -> dict[str, Any]:
    """The values that the command line gave."""
    return dict(_pair(override) for override in job.overrides if "=" in override)


@cache
def _pair(override: str) -> tuple[str, Any]:
    r"""The key and the value of an override, without what Hydra's grammar puts around a text.

    >>> _pair(r"model.path=nets.py\:a"), _pair("+seed='0'"), _pair("model=[mlp,cnn]")
    (('model.path', 'nets.py:a'), ('seed', '0'), ('model', ['mlp', 'cnn']))
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
    except HydraException:  # it is not Hydra's any more, as where a value of the environment was hidden
        key, _, value = override.partition("=")
        return key, value
    return parsed.key_or_group, parsed.value()
