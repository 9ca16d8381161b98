"""How the flow is integrated from noise to image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from deepgen.config.checks import check_within
from deepgen.errors import shown

Solver = Literal["euler", "ab2"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
Cache = Literal["none", "first-block", "taylor"]
CACHES: tuple[Cache, ...] = get_args(Cache)
MAX_CACHE_INTERVAL = 100
WHOLE_INTERVAL = (0.0, 1.0)
CACHE_THRESHOLD = 0.1
CACHE_INTERVAL = 2
OF_GUIDANCE = ("guidance_interval", "guidance_rescale")


@dataclass(frozen=True, kw_only=True, slots=True)
class SolverOptions:
    """How the flow is integrated; the defaults are how the model was evaluated."""

    solver: str = "euler"
    guidance_interval: tuple[float, float] = WHOLE_INTERVAL
    """Noise levels, lowest and highest, of the steps with guidance; the others cost half
    (Kynkaanniemi et al., arXiv 2404.07724)."""
    guidance_rescale: float = 0.0
    """See :func:`deepgen.flow.guidance.rescale`."""
    cache: str = "none"
    """``first-block`` reuses what the other blocks added where the first changes little, see
    :mod:`deepgen.dit.reuse`; ``taylor`` runs the DiT at some steps and extrapolates the velocity
    at the others (TaylorSeer of order 1, arXiv 2503.06923, at the output)."""
    cache_threshold: float = CACHE_THRESHOLD
    """Of ``first-block``: relative change of the first block below which the rest is reused."""
    cache_interval: int = CACHE_INTERVAL
    """Of ``taylor``: every how many steps the DiT runs, after the first two."""

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"solver must be one of {', '.join(SOLVERS)}, got {self.solver!r}")
        check_within("guidance_rescale", self.guidance_rescale, 0, 1)
        if self.cache not in CACHES:
            raise ValueError(f"cache must be one of {', '.join(CACHES)}, got {self.cache!r}")
        check_within("cache_threshold", self.cache_threshold, 0, 1)
        if (
            type(self.cache_interval) is not int
            or not 2 <= self.cache_interval <= MAX_CACHE_INTERVAL
        ):
            raise ValueError(
                f"cache_interval must be a whole number from 2 to {MAX_CACHE_INTERVAL}, "
                f"got {shown(self.cache_interval)}"
            )
        for name, usual, cache in (
            ("cache_threshold", CACHE_THRESHOLD, "first-block"),
            ("cache_interval", CACHE_INTERVAL, "taylor"),
        ):
            if getattr(self, name) != usual and self.cache != cache:
                raise ValueError(f"{name} is of cache {cache}, but cache is {self.cache}")
        try:
            low, high = map(float, self.guidance_interval)
        except (TypeError, ValueError):
            low, high = 1.0, 0.0
        if not 0 <= low <= high <= 1:
            raise ValueError(
                "guidance_interval must be two noise levels LOW <= HIGH from 0 to 1, "
                f"got {shown(self.guidance_interval)}"
            )
        object.__setattr__(self, "guidance_interval", (low, high))

    @property
    def changed(self) -> dict[str, Any]:
        """Settings that are not the default, by name."""
        named = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {name: value for name, (value, default) in named.items() if value != default}

    def at(self, guidance_scale: float) -> tuple[SolverOptions, list[str]]:
        """Those that have an effect at a guidance scale, and the names of others that were set."""
        if guidance_scale > 1:
            return self, []
        unused = [name for name in OF_GUIDANCE if name in self.changed]
        return replace(self, **{name: getattr(DEFAULT_SOLVER, name) for name in unused}), unused

    def covers(self, sigma: float) -> bool:
        """Whether a step at this noise level has guidance."""
        low, high = self.guidance_interval
        return low <= sigma <= high


DEFAULT_SOLVER = SolverOptions()


def solver_from_json(values: Mapping[str, Any]) -> SolverOptions:
    """Options of an object in JSON, which has lists only; what it lacks is the default.

    Raises:
        ValueError: As :class:`SolverOptions`.
    """
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }
    return SolverOptions(**given)
