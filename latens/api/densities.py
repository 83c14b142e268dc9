"""The densities of an estimator: fitted to codes of rows, drawn from by ``sample``, saved with the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from latens import densities
from latens.densities import Fitted
from latens.errors import InputError, is_whole
from latens.training import Bar


class WithDensities:
    """What ``fit_density`` and ``sample(density=…)`` need of an estimator."""

    run_: Any
    model_: Any
    verbose: int
    _rows: Any

    def fit_density(self, X: Any, kind: str = "mixture", *, random_state: Any = 0, **options: Any) -> Fitted:
        """Fit a density to codes of the rows, one posterior draw each, for ``sample(density=kind)``: "mixture", "kde",
        "maf", "iaf", "spline", "vae", "metric", or of whole-number codes "autoregressive" and "pixelcnn";
        ``options`` are the kind's.
        """
        rows, bar = self._rows(X), Bar(kind) if self.verbose else None
        fitted = densities.fit(
            self.model_, rows.inside, kind, options, c=rows.c, seed=seed_from(random_state), progress=bar
        )
        self._densities()[kind] = fitted
        return fitted

    def _densities(self) -> dict[str, Fitted]:
        """The densities fitted to codes of this fit's model, by kind."""
        if getattr(self, "_dense", (None, None))[0] is not self.run_:
            self._dense: tuple[Any, dict[str, Fitted]] = (self.run_, {})
        return self._dense[1]

    def _density(self, density: Any) -> Fitted:
        if isinstance(density, Fitted):
            return density
        found = self._densities().get(density)
        if found is None and self.run_.folder is not None:
            found = densities.load(self.run_.folder, density, self.model_)
        if found is None:
            densities.options(density)
            raise InputError(f"no density {density!r} has been fitted: call fit_density(X, {density!r}) first")
        return found

    def _save_densities(self, folder: str | Path) -> None:
        for fitted in self._densities().values():
            densities.save(folder, fitted, self.model_)


def seed_from(random_state: Any) -> int:
    """One seed from None (a fresh one), a whole number or a ``RandomState``."""
    if random_state is None:
        return int(np.random.default_rng().integers(2**62))
    return int(random_state) if is_whole(random_state) else int(check_random_state(random_state).randint(2**31 - 1))
