"""Reference losses of several domains: a file of measured models in, a prediction for each domain out."""

import math
from pathlib import Path
from typing import Any

from fallow.accounting.reference_loss import Point, fit_reference
from fallow.errors import UserError
from fallow.files import read_json

_FORM = 'It should read {"models": [{"parameters": 6.74e9, "losses": {"web": 1.92}}, ...]}.'


def predict(path: Path, *, num_parameters: float, num_tokens: float = 0.0, noise: float = 0.005) -> dict[str, Any]:
    """The losses that a model of this size should reach in each domain.

    Args:
        path: JSON with the measured models; see `fallow reference --help`.
        num_parameters: of the model that is asked for, embeddings included.
        num_tokens: it will have seen; 0 where all models saw equally many.
        noise: standard deviation of the measured losses, nats.

    Returns:
        {"references": {domain: loss}, "domains": {domain: {"deviation", "low", "high", "exponent", "constant",
        "remarks"}}, "parameters", "models"}, plain JSON.

    Raises:
        UserError: the file is not such a file, or the losses of a domain fit no law.
    """
    if not num_parameters > 0:
        raise UserError(f"parameters is {num_parameters:g}, but it must be above 0.")
    models = _models(path)
    names = list(models[0][1])
    references, domains = {}, {}
    for name in names:
        points = [Point(num_parameters=n, num_tokens=t, loss=losses[name]) for (n, t), losses in models]
        try:
            found = fit_reference(points, [Point(num_parameters=num_parameters, num_tokens=num_tokens)], noise=noise)
        except UserError as error:
            raise UserError(f"domain {name}: {error}") from None
        prediction = found.predictions[0]
        references[name] = prediction.loss
        domains[name] = {
            "deviation": prediction.deviation,
            "low": prediction.low,
            "high": prediction.high,
            "exponent": found.law.exponent,
            "constant": found.law.constant,
            "remarks": list(found.remarks),
        }
    return {"references": references, "domains": domains, "parameters": num_parameters, "models": len(models)}


def _models(path: Path) -> list[tuple[tuple[float, float], dict[str, float]]]:
    listed = read_json(path, _FORM).get("models")
    if not isinstance(listed, list) or not listed:
        raise UserError(f"{path} holds no models. {_FORM}")
    found: list[tuple[tuple[float, float], dict[str, float]]] = []
    for number, model in enumerate(listed):
        losses = model.get("losses") if isinstance(model, dict) else None
        size = model.get("parameters") if isinstance(model, dict) else None
        if not isinstance(losses, dict) or not losses or not _is_number(size):
            raise UserError(f"{path}: models.{number} lacks parameters or losses. {_FORM}")
        for name, loss in losses.items():
            if not _is_number(loss):
                raise UserError(f"{path}: models.{number}.losses.{name} is {loss}, but it must be a finite number.")
        if found and set(losses) != set(found[0][1]):
            odd = min(set(losses) ^ set(found[0][1]))
            raise UserError(f"{path}: {odd} is measured for some of the models only. Every model needs every domain.")
        found.append(((float(size or 0), float(model.get("tokens", 0.0))), losses))
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
