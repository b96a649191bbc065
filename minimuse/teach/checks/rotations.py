"""What the check of the rotation trick, exercise 14.5, knows: the matrix written out, and the mistakes in value and
gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minimuse.teach.checks.formulas import floats
from minimuse.teach.checks.tracing import weights


def _matrix(z: np.ndarray, code: np.ndarray) -> np.ndarray:
    """Rotates z to the code in the plane of the two, by sine and cosine, and scales it."""
    size, a, b = np.linalg.norm(code) / np.linalg.norm(z), z / np.linalg.norm(z), code / np.linalg.norm(code)
    cosine, across = a @ b, b - (a @ b) * a
    if (sine := np.linalg.norm(across)) < 1e-6:
        return size * np.eye(len(z))
    u = across / sine
    turn = np.eye(len(z)) + (cosine - 1) * (np.outer(a, a) + np.outer(u, u)) + sine * (np.outer(u, a) - np.outer(a, u))
    return size * turn


def every_vector(f: Callable) -> Callable:
    """A function of z and code [..., C]: f(z, code, w) for each vector, w its weights."""

    def every(z: Any, code: Any) -> np.ndarray:
        z, code = floats(z), floats(code)
        result, w = np.zeros(z.shape), weights(z.shape)
        for at in np.ndindex(z.shape[:-1]):
            result[at] = f(z[at], code[at], w[at])
        return result

    return every


def value_by_hand(z: Any, code: Any) -> np.ndarray:
    """What the trick gives going forward."""
    return every_vector(lambda z, code, w: _matrix(z, code) @ z)(z, code)


def slope_by_hand(z: Any, code: Any) -> np.ndarray:
    """The gradient of the weighted sum with respect to z."""
    return every_vector(lambda z, code, w: _matrix(z, code).T @ w)(z, code)


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def _formula(
    unit: Callable = _unit, middle: Callable = _unit, one: float = 2.0, two: float = 2.0, turned: bool = False
) -> Callable:
    """The value of the formula with r, in which something is not as it should be."""

    def value(z: np.ndarray, code: np.ndarray, w: np.ndarray) -> np.ndarray:
        a, b = unit(z), unit(code)
        r, (first, last) = middle(a + b), (b, a) if turned else (a, b)
        scale = np.linalg.norm(code) / np.linalg.norm(z)
        return scale * (z - one * (r @ z) * r + two * (first @ z) * last)

    return every_vector(value)


def _as_one(z: Any, code: Any) -> np.ndarray:
    """Lengths of the whole array."""
    scale = np.linalg.norm(floats(code)) / np.linalg.norm(floats(z))
    return every_vector(lambda z, code, w: scale * np.linalg.norm(z) * _unit(code))(z, code)


def _by_norm(norm: Callable) -> Callable:
    """The value of the formula with this norm of an array in place of that of each vector."""

    def value(z: Any, code: Any) -> np.ndarray:
        z, code = floats(z), floats(code)
        a, b = z / norm(z), code / norm(code)
        r, dot = (a + b) / norm(a + b), lambda one, two: (one * two).sum(-1, keepdims=True)
        return norm(code) / norm(z) * (z - 2 * dot(r, z) * r + 2 * dot(a, z) * b)

    return value


as_is = lambda x: x
length = np.linalg.norm
VALUE_MISTAKES = {
    "The value is z. It should be the code: rotate z, and scale it.": every_vector(lambda z, code, w: z),
    "The value has the direction of the code, but the length of z. Multiply by |code| / |z|.": (
        every_vector(lambda z, code, w: length(z) * _unit(code))
    ),
    "The value has the length of the code, but the direction of z: it is scaled, and not rotated.": (
        every_vector(lambda z, code, w: length(code) * _unit(z))
    ),
    "The scale is upside down. It is |code| / |z|.": (
        every_vector(lambda z, code, w: length(z) ** 2 / length(code) * _unit(code))
    ),
    "z is rotated away from the code instead of to it: in the last term, the directions of z and the code are "
    "exchanged.": _formula(turned=True),
    "The value is minus the code: the last term of R v, 2 (ẑ·v) ĉ, is missing.": every_vector(lambda z, code, w: -code),
    "In r = (ẑ + ĉ) / |ẑ + ĉ| the length is missing: r is not of length 1.": _formula(middle=as_is),
    "z and the code themselves are in the formula of R. Their directions belong there, ẑ and ĉ, of length 1.": (
        _formula(unit=as_is)
    ),
    "The factor 2 of the first term, 2 (r·v) r, is missing.": _formula(one=1.0),
    "The factor 2 of the last term, 2 (ẑ·v) ĉ, is missing.": _formula(two=1.0),
    "The value is twice the code, as the first term, - 2 (r·v) r, and v itself are not there.": (
        every_vector(lambda z, code, w: 2 * code)
    ),
    "The value has length 1. Multiply by the length of the code.": every_vector(lambda z, code, w: _unit(code)),
    "The lengths in the scale are squared. It is |code| / |z|, with the roots of the sums of squares.": (
        every_vector(lambda z, code, w: length(code) ** 2 / length(z) * _unit(code))
    ),
    "The lengths in the scale are those of the whole array. Every vector has its own: the norm over axis -1, with "
    "`keepdims`.": _as_one,
    "The lengths are those of the whole array. Every vector has its own: the norm over axis -1, with `keepdims`.": (
        _by_norm(length)
    ),
    "The lengths are taken over the first axis. Vectors lie along the last: the norm over axis -1, with `keepdims`.": (
        _by_norm(lambda x: length(x, axis=0, keepdims=True))
    ),
}


def _back(f: Callable) -> Callable:
    """A gradient: f of R, the scale, z, the code and the gradient w that comes from the code."""

    def slope(z: np.ndarray, code: np.ndarray, w: np.ndarray) -> np.ndarray:
        scale = length(code) / length(z)
        return f(_matrix(z, code) / scale, scale, z, code, w)

    return every_vector(slope)


def _mirrored(turn: np.ndarray, scale: float, z: np.ndarray, code: np.ndarray, w: np.ndarray) -> np.ndarray:
    """By the mirror between z and the code."""
    across = _unit(z) - _unit(code)
    if length(across) < 1e-6:
        return scale * w
    return scale * (w - 2 * (_unit(across) @ w) * _unit(across))


def _as_one_vector(z: Any, code: Any) -> np.ndarray:
    w = weights(np.shape(z))
    return (_matrix(floats(z).ravel(), floats(code).ravel()).T @ w.ravel()).reshape(w.shape)


def _along(z: np.ndarray, w: np.ndarray) -> np.ndarray:
    return (_unit(z) @ w) * _unit(z)


RIGHT_VALUE = "The value is right, but "
SLOPE_MISTAKES = {
    f"{RIGHT_VALUE}the gradient is that of straight-through: z gets the code's gradient unchanged. It should be turned "
    "and scaled: Mᵀ g.": _back(lambda turn, scale, z, code, w: w),
    f"{RIGHT_VALUE}no gradient reaches z. If nothing is stopped, the result is the code, whatever z is. M must be a "
    "constant, and the z that it is applied to must not.": _back(lambda turn, scale, z, code, w: 0 * w),
    f"{RIGHT_VALUE}the gradient is turned the wrong way: M g instead of Mᵀ g.": (
        _back(lambda turn, scale, z, code, w: scale * turn @ w)
    ),
    f"{RIGHT_VALUE}the gradient is turned and not scaled: the factor |code| / |z| is missing.": (
        _back(lambda turn, scale, z, code, w: turn.T @ w)
    ),
    f"{RIGHT_VALUE}the gradient is scaled and not turned: R is missing.": (
        _back(lambda turn, scale, z, code, w: scale * w)
    ),
    f"{RIGHT_VALUE}the gradient is divided by |code| / |z|. It is multiplied by it.": (
        _back(lambda turn, scale, z, code, w: turn.T @ w / scale)
    ),
    f"{RIGHT_VALUE}the gradient also goes through the scale, |code| / |z|, which depends on z. Stop it there.": (
        _back(lambda turn, scale, z, code, w: scale * (turn.T @ w - _along(z, turn.T @ w)))
    ),
    f"{RIGHT_VALUE}the gradient also goes through the rotation R, which depends on z. Stop it there: ẑ, ĉ and r are "
    "constants.": _back(lambda turn, scale, z, code, w: scale * _along(z, turn.T @ w)),
    f"{RIGHT_VALUE}the gradient is mirrored. A mirror between z and the code also takes z to the code, but it turns "
    "left into right. Rotate: two mirrors, one after the other.": _back(_mirrored),
    f"{RIGHT_VALUE}all vectors are turned together, as one long vector. Every vector has its own M: take sums over "
    "axis -1.": _as_one_vector,
    f"{RIGHT_VALUE}the gradient is only turned into the direction of z.": (
        _back(lambda turn, scale, z, code, w: length(w) * _unit(z))
    ),
}
