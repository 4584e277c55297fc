"""Weights of types of rain from how the loss of each converges: pure functions of the losses so far, in float64.

`printed` and `released` are UniRain's (CVPR 2026), which are CoBa's (Gong et al., EMNLP 2024); `steady` is this
package's: how much is left to learn, cut where it gets worse.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Form = Literal["steady", "released", "printed", "off"]
WARM_UP = 10  # evaluations with equal weights
TEMPERATURE = 5.0  # of the printed balance between both scores
LEAST_RELEASED = 0.1  # share that the released code leaves to every type
_DOUBT = 8  # power of the cut where a loss has left its best


def type_weights(
    losses: np.ndarray, form: Form = "steady", window: int = 10, floor: float = 0.1, average: float = 0.7
) -> np.ndarray:
    """Weights by type after so many evaluations; their sum is the number of types, so that equal ones change nothing.

    Args:
        losses: [evaluations, types], each above 0, oldest first.
        form: `steady`, `released`, `printed`, or `off`: all 1.
        window: evaluations of which means and slopes are taken.
        floor: least share of a type, for `steady`.
        average: of earlier weights in the moving average, for `steady`.

    Returns:
        [types], float64.
    """
    losses = np.asarray(losses, np.float64)
    evaluations, types = losses.shape
    if form == "off" or evaluations <= WARM_UP or types < 2:
        return np.ones(types)
    relative = losses / losses[:WARM_UP].mean(0)
    if form == "steady":
        return types * _steady(relative, window, min(floor, 1 / types), average)
    return types * _by_slopes(relative, window, form)


def _steady(relative: np.ndarray, window: int, floor: float, average: float) -> np.ndarray:
    """w_i ~ b_i (b_i / m_i)^8 with m_i the mean of the last losses and b_i the least of these means so far."""
    types = relative.shape[1]
    weights, best = np.full(types, 1 / types), np.full(types, np.inf)
    for now in range(WARM_UP, len(relative) + 1):
        mean = relative[max(now - window, 0) : now].mean(0)
        best = np.minimum(best, mean)
        share = best * (best / mean) ** _DOUBT
        weights = average * weights + (1 - average) * _with_floor(share / share.sum(), floor)
    return weights


def _with_floor(share: np.ndarray, floor: float) -> np.ndarray:
    """Lift shares to a floor; the others give what that takes in proportion."""
    low = np.zeros(len(share), bool)
    while (more := ~low & (share < floor)).any():
        low |= more
        rest = 1 - floor * low.sum()
        share = np.where(low, floor, share * rest / max(share[~low].sum(), 1e-300))
    return share


def _by_slopes(relative: np.ndarray, window: int, form: Form) -> np.ndarray:
    """AF TBS + (1 - AF) TSS: between types by their slopes, and for each type by its own past.

    TBS = softmax_i(K a_i / sum |a|), TSS = softmax_i(-N a_i(t) / sum_k |a_i(k)|), and, with the largest slope A(t),
    AF = min(t softmax_t(-tau t A / sum A), 1). The released code takes for A the slope of the largest loss, divides by
    sum |A| over the window, leaves out the factor t, and sharpens the result by softmax_i(K w) twice, then 0.6 w + 0.1.
    """
    types, ends = relative.shape[1], range(WARM_UP, len(relative) + 1)
    parts = [relative[max(now - window, 0) : now] for now in ends]
    slopes = np.stack([_slopes(part) for part in parts])
    past = slopes[-window:]
    between = _softmax(types * slopes[-1] / _apart(np.abs(slopes[-1]).sum()))
    own = _softmax(-len(past) * slopes[-1] / _apart(np.abs(past).sum(0)))
    if form == "released":
        worst = np.concatenate([_slopes(part.max(1, keepdims=True)) for part in parts[-window:]])
        balance = _softmax(-TEMPERATURE * len(worst) * worst / _apart(np.abs(worst).sum()))[-1]
        weights = balance * between + (1 - balance) * own
        weights = _softmax(types * _softmax(types * weights))
        return (1 - LEAST_RELEASED * types) * weights + LEAST_RELEASED
    largest = slopes.max(1)
    now = len(largest)
    balance = min(now * _softmax(-TEMPERATURE * now * largest / _apart(largest.sum()))[-1], 1.0)
    return balance * between + (1 - balance) * own


def _slopes(losses: np.ndarray) -> np.ndarray:
    """Slope of the least-squares line through each column."""
    time = np.arange(len(losses)) - (len(losses) - 1) / 2
    return time @ losses / (time @ time)


def _apart(number: np.ndarray | float) -> np.ndarray:
    """Keep a divisor away from 0, with its sign."""
    return np.where(np.abs(number) < 1e-12, 1e-12, number)


def _softmax(values: np.ndarray) -> np.ndarray:
    raised = np.exp(values - values.max())
    return raised / raised.sum()
